"""Statistics per picture: they say what the plain metrics say, of any set of pictures, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.benchmarks.accuracy.pose_and_landmarks import Portraits
from facedeploy.benchmarks.accuracy.tasks import Answers, BoxTask, Measure, Task, WiderFace
from facedeploy.benchmarks.accuracy.torch_parity import TorchParity
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.metrics.average_precision import average_precision
from facedeploy.metrics.box_matching import nearest
from facedeploy.metrics.labelled_images import Detections, LabelledImage, no_boxes
from facedeploy.metrics.landmark_schemes import five_of, scale_of
from facedeploy.metrics.landmarks import landmark_error
from facedeploy.metrics.pose import labelled_face, pose_error

Floats = NDArray[np.float64]
seeds = st.integers(0, 1 << 32)


def scene(seed: int, pictures: int = 6, points: int = 5) -> tuple[list[LabelledImage], list[Detections]]:
    """Faces with points and angles, some of which are found, with errors, some twice; and detections of nothing.

    The highest and the lowest score of all are in the first picture.
    """
    rng = np.random.default_rng(seed)
    labels, found = [], []
    for number in range(pictures):
        count = int(rng.integers(0 if number else 1, 4))
        corner = np.column_stack([np.arange(count) * 60.0, rng.uniform(0, 20, count)])
        boxes = np.hstack([corner, corner + rng.uniform(20, 40, (count, 2))])
        inside = corner[:, None] + rng.uniform(0, 30, (count, points, 2))
        angles = rng.uniform(-120, 120, (count, 3)) * rng.choice([1, 0.5], (count, 1))
        kept = {"easy": rng.random(count) < 0.5, "hard": np.ones(count, bool)}
        labels.append(
            LabelledImage(
                Path(f"{number}.jpg"),
                f"{number}.jpg",
                boxes,
                ignored=np.array([[200.0, 0, 230, 30]]),
                kept=kept,
                points=inside,
                scale=scale_of(inside, boxes, "box"),
                angles=angles,
            )
        )
        seen = np.repeat(np.flatnonzero(rng.random(count) < 0.7), rng.integers(1, 3))
        near = boxes[seen] + rng.normal(0, 2, (len(seen), 4))
        stray = np.array([[200.0, 1, 230, 30], [300, 0, 320, 20]])[rng.random(2) < 0.6]
        every = np.vstack([near, stray, *([[400, 0, 420, 20], [450, 0, 470, 20]] if number == 0 else [])])
        score = np.round(rng.uniform(0.1, 0.9, len(every)), 1)
        if number == 0:
            score[-2:] = 0.95, 0.05
        order = np.argsort(-score, kind="stable")
        spots = rng.uniform(0, 100, (len(every), points, 2))
        spots[: len(seen)] = inside[seen] + rng.normal(0, 1, (len(seen), points, 2))
        pose = rng.uniform(-90, 90, (len(every), 3))
        found.append(Detections(500, 100, every[order], score[order], spots[order], pose[order]))
    return labels, found


def faces_of(found: Detections) -> list[Face]:
    points = None if found.points is None else found.points.tolist()
    angles = found.angles.tolist() if found.angles is not None else [(None, None, None)] * len(found.scores)
    return [
        Face(
            tuple(box),
            score,
            None if points is None else tuple((x, y) for x, y in points[i]),
            *angles[i],
        )
        for i, (box, score) in enumerate(zip(found.boxes.tolist(), found.scores.tolist(), strict=True))
    ]


def by_name(task: Task, labels: Sequence[LabelledImage], answers: Answers) -> dict[str, Measure]:
    return {m.name: m for m in task.measures(labels, answers)}


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_the_plain_metrics_say_the_same(seed: int) -> None:
    labels, found = scene(seed)
    (ap,) = BoxTask().measures(labels, Answers(found))
    plain = average_precision(
        [(d.boxes, d.scores) for d in found], [p.boxes for p in labels], [p.ignored for p in labels]
    )
    assert ap.statistic.value(len(labels)) == pytest.approx(100 * plain.value, abs=1e-10)
    assert ap.faces == plain.truths

    measures = by_name(Portraits(), labels, Answers(found))
    matched = [
        (labelled_face(faces_of(d), box), angles, points, box)
        for p, d in zip(labels, found, strict=True)
        if p.angles is not None and p.points is not None
        for box, angles, points in zip(p.boxes, p.angles, p.points, strict=True)
    ]
    pose = pose_error([f for f, *_ in matched], [a for _, a, *_ in matched])
    seen = [(f.landmarks, p, b) for f, _, p, b in matched if f is not None and f.landmarks is not None]
    if seen:
        error = landmark_error(*(list(column) for column in zip(*seen, strict=True)))
        nme = measures["NME 5 (box)"].statistic.value(len(labels))
        assert nme == pytest.approx(100 * error.mean, abs=1e-10)
    assert measures["found"].statistic.value(len(labels)) == pytest.approx(100 * len(seen) / len(matched))
    if pose.faces:
        for name, value in {"yaw": pose.yaw, "pitch": pose.pitch, "roll": pose.roll, "pose": pose.mean}.items():
            assert measures[name].statistic.value(len(labels)) == pytest.approx(value, abs=1e-10, nan_ok=True)
            assert measures[name].faces == pose.faces


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_the_nearest_face_is_the_labelled_one(seed: int) -> None:
    for picture, answer in zip(*scene(seed), strict=True):
        faces = faces_of(answer)
        for row, box in zip(nearest(answer.boxes, picture.boxes).tolist(), picture.boxes, strict=True):
            assert (faces[row] if row >= 0 else None) == labelled_face(faces, box)


@pytest.mark.parametrize("task", [BoxTask(), WiderFace(), Portraits(), TorchParity()], ids=lambda t: type(t).__name__)
@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_weights_are_as_good_as_pictures_again(task: Task, seed: int) -> None:
    """A draw in which a picture is three times, measured from scratch on that list of pictures."""
    labels, found = scene(seed)
    reference = scene(seed + 1)[1]
    weights = np.random.default_rng(seed).integers(0, 4, len(labels))
    weights[0] += 1  # Else scores are stretched otherwise, which is left as it is for all of the set.
    rows = np.repeat(np.arange(len(labels)), weights)
    whole = by_name(task, labels, Answers(found, reference, 0.3))
    drawn = by_name(
        task, [labels[i] for i in rows], Answers([found[i] for i in rows], [reference[i] for i in rows], 0.3)
    )
    for name, measure in drawn.items():
        expected = measure.statistic.value(len(rows))
        (value,) = whole[name].statistic.values(weights[None].astype(np.float64)).tolist()
        assert value == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_without_detections_precision_is_nought() -> None:
    labels, found = scene(0)
    nothing = [d.where(np.zeros(0, np.intp)) for d in found]
    (ap,) = BoxTask().measures(labels, Answers(nothing))
    assert ap.statistic.values(np.ones((3, len(labels)))).tolist() == [0.0, 0.0, 0.0]


# --------------------------------------------------------------------------------- points


def test_five_points_are_taken_out_of_more() -> None:
    points = np.arange(68.0)[None, :, None].repeat(2, axis=2)
    assert five_of(points)[0, :, 0].tolist() == [38.5, 44.5, 30, 48, 54]
    more = np.arange(106.0)[None, :, None].repeat(2, axis=2)
    assert five_of(more)[0, :, 0].tolist() == [104, 105, 54, 84, 90]


def test_what_errors_are_divided_by() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(10, 50, (2, 68, 2))
    boxes = np.array([[0.0, 0, 4, 9], [0, 0, 10, 10]])
    span = points.max(axis=1) - points.min(axis=1)

    def scale(name: str) -> list[float]:
        found = scale_of(points, boxes, name)  # type: ignore[arg-type]
        assert found is not None
        return [float(v) for v in found]

    assert scale("box") == [6, 10]
    assert scale("hull") == pytest.approx(np.sqrt(span[:, 0] * span[:, 1]).tolist())
    assert scale("outer-eyes") == pytest.approx([math.dist(p[36], p[45]) for p in points.tolist()])
    eyes = [(p[36:42].mean(axis=0), p[42:48].mean(axis=0)) for p in points]
    assert scale("eyes") == pytest.approx([math.dist(a, b) for a, b in eyes])
    assert scale_of(points[:, :5], boxes, "outer-eyes") is None


def portrait(size: int, seed: int = 0) -> LabelledImage:
    points = np.random.default_rng(seed).uniform(0, 40, (1, size, 2))
    boxes = np.array([[0.0, 0, 40, 40]])
    return LabelledImage(Path("a.jpg"), "a.jpg", boxes, points=points, scale=scale_of(points, boxes, "box"))


def seen(picture: LabelledImage, points: Floats | None) -> Detections:
    return Detections(40, 40, picture.boxes, np.ones(1), points)


@pytest.mark.parametrize("size", [68, 106])
def test_points_of_an_artifact_are_compared_with_their_own(size: int) -> None:
    picture = portrait(size)
    assert picture.points is not None
    task = Portraits(required=True)
    moved = picture.points + (3, 4)
    (same, error) = task.measures([picture], Answers([seen(picture, moved)]))
    assert (same.name, error.name) == ("found", f"NME {size} (box)")
    assert error.statistic.value(1) == pytest.approx(100 * 5 / 40)
    (_, five) = task.measures([picture], Answers([seen(picture, five_of(picture.points) + (0, 8))]))
    assert five.name == "NME 5 (box)"
    assert five.statistic.value(1) == pytest.approx(100 * 8 / 40)


def test_points_that_are_not_labelled_do_not_count() -> None:
    picture = portrait(68)
    assert picture.points is not None
    moved = picture.points + (0, 4)
    moved[0, 0] += 1000
    hidden = replace(picture, points=np.where(np.arange(68)[None, :, None] == 0, np.nan, picture.points))
    (_, error) = Portraits(required=True).measures([hidden], Answers([seen(picture, moved)]))
    assert error.statistic.value(1) == pytest.approx(100 * 4 / 40)


@pytest.mark.parametrize(("given_", "said"), [(7, "7 landmarks"), (0, "no landmarks")])
def test_points_that_do_not_fit_are_refused_or_left_out(given_: int, said: str) -> None:
    picture = portrait(68)
    found = [seen(picture, np.zeros((1, given_, 2)) if given_ else None)]
    with pytest.raises(InputError, match=f"it gives {said}, and the labels have 68"):
        Portraits(required=True).measures([picture], Answers(found))
    assert [m.name for m in Portraits().measures([picture], Answers(found))] == ["found"]


# --------------------------------------------------------------------------------- parity


def test_faces_are_as_far_from_pytorch_as_they_were_moved() -> None:
    box = np.array([[0.0, 0, 40, 90]])
    picture = LabelledImage(Path("a.jpg"), "a.jpg", no_boxes())
    reference = Detections(100, 100, box, np.array([0.9]), np.zeros((1, 5, 2)), np.array([[179.0, 0, 0]]))
    found = Detections(
        100, 100, box + (0, 0, 0, 10), np.array([0.7]), np.full((1, 5, 2), 6.0), np.array([[-178.0, 3, 0]])
    )
    measures = by_name(TorchParity(), [picture], Answers([found], [reference], 0.5))
    values = {name: m.statistic.value(1) for name, m in measures.items()}
    assert values == {
        "AP to PyTorch": 100.0,
        "box 1-IoU to PyTorch": pytest.approx(100 * (1 - 0.9)),
        "score to PyTorch": pytest.approx(20),
        "landmarks (box) to PyTorch": pytest.approx(100 * math.sqrt(72) / 60),
        "angles to PyTorch": pytest.approx((3 + 3 + 0) / 3),
    }


def test_a_face_that_pytorch_doubts_is_neither_missed_nor_wrong() -> None:
    picture = LabelledImage(Path("a.jpg"), "a.jpg", no_boxes())
    reference = Detections(100, 100, np.array([[0.0, 0, 20, 20], [50, 50, 70, 70]]), np.array([0.9, 0.3]))
    only, both, other = (
        Detections(100, 100, np.array(b, float), np.linspace(0.9, 0.8, len(b)))
        for b in ([[0, 0, 20, 20]], [[50, 50, 70, 70], [0, 0, 20, 20]], [[80, 80, 99, 99], [0, 0, 20, 20]])
    )
    values = [
        by_name(TorchParity(), [picture], Answers([d], [reference], 0.5))["AP to PyTorch"].statistic.value(1)
        for d in (only, both, other)
    ]
    assert values == [100.0, 100.0, 50.0]


def test_without_a_face_there_is_no_parity() -> None:
    picture = LabelledImage(Path("a.jpg"), "a.jpg", no_boxes())
    low = Detections(100, 100, np.array([[0.0, 0, 20, 20]]), np.array([0.3]))
    with pytest.raises(InputError, match="PyTorch finds no face in any picture, of 1"):
        TorchParity().measures([picture], Answers([low], [low], 0.5))
