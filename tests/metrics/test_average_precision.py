"""The metrics against plain loops of their definitions, and the evaluation of the training on real pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.metrics.average_precision import AveragePrecision, average_precision, boxes_and_scores
from facedeploy.metrics.landmarks import landmark_error
from facedeploy.metrics.pose import countable, labelled_face, pose_error
from training.baselines import Ulfd, YuNet
from training.evaluate import FACELESS, LOW, boxes_of, evaluate_detection
from training.faceless import faceless

Box = Sequence[float]
Scene = tuple[list[list[Box]], list[list[float]], list[list[Box]], list[list[Box]]]

UNIT: Box = (0, 0, 10, 10)
FAR: Box = (100, 100, 110, 110)


def overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [max(v[2] - v[0], 0.0) * max(v[3] - v[1], 0.0) for v in (a, b)]
    return common / (sum(areas) - common) if sum(areas) - common > 0 else 0.0


def by_loops(
    boxes: list[list[Box]],
    scores: list[list[float]],
    truths: list[list[Box]],
    ignored: list[list[Box]],
    iou: float,
    *,
    once: bool = True,
    best: bool = True,
) -> float:
    """Greedy matching over the whole set, and the area by its definition: for each share of the truths that is reached,
    the highest precision at that recall or above. once, best: turned off, it is a broken scorer.
    """
    order = sorted((-s, picture, i) for picture, own in enumerate(scores) for i, s in enumerate(own))
    taken: set[tuple[int, int]] = set()
    verdicts: list[tuple[float, bool]] = []
    for negative, picture, i in order:
        chosen, most = None, iou
        for t, truth in enumerate(truths[picture]):
            value = overlap(boxes[picture][i], truth)
            if (picture, t) in taken or (value < most if chosen is None else value <= most or not best):
                continue
            chosen, most = t, value
        if chosen is not None:
            if once:
                taken.add((picture, chosen))
            verdicts.append((-negative, True))
        elif all(overlap(boxes[picture][i], b) < iou for b in ignored[picture]):
            verdicts.append((-negative, False))
    total = sum(map(len, truths))
    points = []
    for threshold in {s for s, _ in verdicts}:
        above = [right for s, right in verdicts if s >= threshold]
        points.append((sum(above) / total, sum(above) / len(above)))
    area, reached = 0.0, 0.0
    for recall in sorted({r for r, _ in points}):
        area += (recall - reached) * max(p for r, p in points if r >= recall)
        reached = recall
    return area


def measure(scene: Scene, iou: float = 0.5) -> AveragePrecision:
    boxes, scores, truths, ignored = scene
    return average_precision(zip(boxes, scores, strict=True), truths, ignored, iou=iou)


def crowd(seed: int, *, ties: bool) -> Scene:
    """Pictures in which several detections fight for each truth, some truths overlap, and some boxes are ignored."""
    rng = np.random.default_rng(seed)

    def scatter(centres: NDArray[np.float64], count: int, spread: float) -> list[Box]:
        chosen = centres[rng.integers(0, len(centres), count)] + rng.normal(0, spread, (count, 2))
        half = rng.uniform(8, 14, (count, 2))
        return [tuple(row) for row in np.hstack([chosen - half, chosen + half]).tolist()]

    scene: Scene = ([], [], [], [])
    for _ in range(int(rng.integers(1, 5))):
        centres = rng.uniform(0, 80, (4, 2))
        count = int(rng.integers(0, 14))
        scores = np.round(rng.uniform(0, 1, count), 1 if ties else 12)
        scene[0].append(scatter(centres, count, 4))
        scene[1].append(scores.tolist())
        scene[2].append(scatter(centres, int(rng.integers(0, 7)), 4))
        scene[3].append(scatter(centres, int(rng.integers(0, 2)), 4))
    if not any(scene[2]):
        scene[2][0].append(UNIT)
    return scene


@given(seed=st.integers(0, 1 << 32), iou=st.sampled_from([0.1, 0.3, 0.5, 0.75]), ties=st.booleans())
@example(seed=0, iou=0.5, ties=True)
@settings(max_examples=200, deadline=None)
def test_as_by_loops(seed: int, iou: float, ties: bool) -> None:
    scene = crowd(seed, ties=ties)
    assert measure(scene, iou).value == pytest.approx(by_loops(*scene, iou), abs=1e-12)


@pytest.mark.parametrize(("once", "best"), [(False, True), (True, False)])
def test_the_loops_tell_a_broken_scorer(once: bool, best: bool) -> None:
    scenes = [crowd(seed, ties=False) for seed in range(40)]
    differences = [abs(measure(s, 0.3).value - by_loops(*s, 0.3, once=once, best=best)) for s in scenes]
    assert max(differences) > 0.05


def test_the_truth_as_detections_is_perfect() -> None:
    _, _, truths, ignored = crowd(3, ties=False)
    scores = [[0.9 - 0.01 * i for i in range(len(t))] for t in truths]
    found = measure((truths, scores, truths, ignored))
    assert found.value == 1.0
    assert found.best is not None
    assert (found.best.precision, found.best.recall, found.best.f1) == (1.0, 1.0, 1.0)


def test_a_case_worked_by_hand() -> None:
    """Two truths. Right at 0.9, wrong at 0.8, right at 0.7: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    found = measure(([[UNIT, FAR, (20, 0, 30, 10)]], [[0.9, 0.8, 0.7]], [[UNIT, (20, 0, 30, 10)]], [[]]))
    assert found.value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert [(p.threshold, p.precision, p.recall) for p in found.curve] == [
        (0.9, 1.0, 0.5),
        (0.8, 0.5, 0.5),
        (0.7, pytest.approx(2 / 3), 1.0),
    ]
    assert found.best == found.curve[2]
    assert (found.truths, found.detections, found.ignored) == (2, 3, 0)


def test_a_detection_falls_back_on_a_truth_that_is_free() -> None:
    """Both overlap the first truth more; the lower score gets the second one, as COCO has it and VOC has not."""
    truths: list[Box] = [(0, 0, 10, 10), (4, 0, 14, 10)]
    assert measure(([[(0, 0, 10, 10), (1, 0, 11, 10)]], [[0.9, 0.8]], [truths], [[]])).value == 1.0


def test_overlap_has_no_extra_pixel() -> None:
    """Half of the box: exactly 0.5, and the detections of 4.99 of 10 are none."""
    assert measure(([[(0, 0, 5, 10)]], [[0.9]], [[UNIT]], [[]])).value == 1.0
    assert measure(([[(0, 0, 4.99, 10)]], [[0.9]], [[UNIT]], [[]])).value == 0.0


def test_equal_scores_are_one_point_whatever_the_order_of_the_pictures() -> None:
    right, wrong = ([UNIT], [0.5]), ([FAR], [0.5])
    one = average_precision([right, wrong], [[UNIT], []])
    other = average_precision([wrong, right], [[], [UNIT]])
    assert one.value == other.value == 0.5
    assert len(one.curve) == len(other.curve) == 1


def test_of_two_detections_of_a_truth_one_is_wrong() -> None:
    found = measure(([[UNIT, UNIT]], [[0.9, 0.9]], [[UNIT]], [[]]))
    assert found.curve[0].precision == 0.5


def test_ignored_boxes_count_as_neither() -> None:
    boxes: list[Box] = [FAR, FAR, UNIT]
    with_ignored = measure(([boxes], [[0.9, 0.8, 0.7]], [[UNIT]], [[FAR]]))
    assert with_ignored.value == 1.0
    assert with_ignored.ignored == 2
    assert measure(([boxes], [[0.9, 0.8, 0.7]], [[UNIT]], [[]])).value == pytest.approx(1 / 3)
    assert measure(([boxes], [[0.9, 0.8, 0.7]], [[UNIT]], [[UNIT]])).ignored == 0  # A truth comes first.


def test_an_ignored_box_is_of_its_own_picture() -> None:
    found = measure(([[FAR], [UNIT]], [[0.9], [0.8]], [[], [UNIT]], [[], [FAR]]))
    assert found.ignored == 0
    assert found.value == 0.5


def test_without_detections() -> None:
    found = measure(([[], []], [[], []], [[UNIT], []], [[], []]))
    assert (found.value, found.curve, found.best) == (0.0, (), None)


def test_without_truths_there_is_no_precision() -> None:
    found = measure(([[UNIT]], [[0.9]], [[]], [[]]))
    assert math.isnan(found.value)
    assert found.best is None
    assert math.isnan(average_precision([], []).value)


def test_an_empty_box_matches_nothing() -> None:
    assert measure(([[(3, 3, 3, 3)]], [[0.9]], [[(3, 3, 3, 3)]], [[]])).value == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: average_precision([([UNIT], [0.5])], []),
        lambda: average_precision([([UNIT], [0.5, 0.4])], [[UNIT]]),
        lambda: average_precision([([UNIT], [math.nan])], [[UNIT]]),
        lambda: average_precision([([UNIT[:3]], [0.5])], [[UNIT]]),
        lambda: average_precision([([UNIT], [0.5])], [[UNIT]], iou=0),
        lambda: pose_error([None], [[0, 0, 0], [0, 0, 0]]),
        lambda: landmark_error(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)), []),
        lambda: landmark_error(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)), [[5, 5, 5, 9]]),
    ],
)
def test_input_that_does_not_fit_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        wrong()


def test_landmarks_are_measured_in_sides_of_the_box() -> None:
    """Box 4x9, so a side of 6; one point is off by 3-4-5, the same point of the second face by 6 of a side of 10."""
    truth = np.arange(20, dtype=float).reshape(2, 5, 2)
    found = truth.copy()
    found[0, 2] += (3, 4)
    found[1, 2] += (0, 6)
    error = landmark_error(found, truth, [[1, 1, 5, 10], [0, 0, 10, 10]])
    assert error.faces == 2
    assert error.mean == pytest.approx((5 / 6 + 6 / 10) / 10)
    assert error.points == pytest.approx((0, 0, (5 / 6 + 6 / 10) / 2, 0, 0))


def test_unlabelled_landmarks_are_left_out() -> None:
    truth = np.zeros((2, 5, 2))
    truth[1] = math.nan
    error = landmark_error(np.ones((2, 5, 2)), truth, [[0, 0, 10, 10]] * 2)
    assert error.faces == 1
    assert error.mean == pytest.approx(math.sqrt(2) / 10)
    assert math.isnan(landmark_error([], [], []).mean)


def face(box: Box, *angles: float) -> Face:
    yaw, pitch, roll = angles or (None, None, None)
    return Face((box[0], box[1], box[2], box[3]), 0.9, None, yaw, pitch, roll)


def test_pose_errors() -> None:
    """Two found, one missed, and one whose label is beyond 99 degrees."""
    found = [face(UNIT, 10, 0, -5), face(UNIT, -20, 30, 5), None, face(UNIT, 0, 0, 0)]
    error = pose_error(found, np.array([[12, -1, -5], [-24, 27, 4], [0, 0, 0], [0, 0, 99.1]]))
    assert (error.yaw, error.pitch, error.roll) == (3, 2, 0.5)
    assert error.mean == pytest.approx(5.5 / 3)
    assert (error.faces, error.detected) == (3, 2)
    assert error.detection_rate == pytest.approx(2 / 3)


def test_a_detector_without_pose_still_has_a_detection_rate() -> None:
    error = pose_error([face(UNIT), None], np.zeros((2, 3)))
    assert math.isnan(error.yaw)
    assert error.detection_rate == 0.5
    assert math.isnan(pose_error([], []).detection_rate)


def test_labels_that_count() -> None:
    assert countable([99, -99, 0])
    assert not countable([0, 0, -99.5])
    assert not countable([math.nan] * 3)


def test_the_labelled_face_is_the_one_that_overlaps_most() -> None:
    near, nearer = face((0, 0, 10, 6)), face((0, 0, 10, 8))
    assert labelled_face([near, nearer, face(FAR)], UNIT) is nearer
    assert labelled_face([face((0, 0, 10, 3))], UNIT) is not None  # 0.3 is enough.
    assert labelled_face([face((0, 0, 10, 2.9))], UNIT) is None
    assert labelled_face([], UNIT) is None


def test_pictures_without_faces_are_the_same_every_time() -> None:
    images = [faceless(number) for number in range(FACELESS)]
    assert all(i.dtype == np.uint8 and i.ndim == 3 and i.std() > 1 for i in images)
    assert len({i.tobytes() for i in images}) == len(images)
    assert all(np.array_equal(i, faceless(n)) for n, i in enumerate(images[:7]))


def test_yunet_on_photos_of_groups(assets: Path) -> None:
    """0.877 is what another scorer found for YuNet-n in 320x320 on the same pictures."""
    counting = assets / "images" / "face_counting"
    pictures = boxes_of(counting / "test", counting / "test_bbox.csv")
    yunet = YuNet(assets, (240, 320), LOW, threads=1)
    found = evaluate_detection(yunet.detect, pictures)
    assert (len(pictures), found.truths) == (200, 878)
    assert found.value == pytest.approx(0.877, abs=0.01)


def test_the_decoding_of_ulfd_is_the_one_in_its_graph(assets: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    ulfd = Ulfd(assets, (240, 320), 0.0, threads=1)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    published = ort.InferenceSession(str(assets / "weights" / "ulfd" / "version-RFB-320.onnx"), options)
    scores, boxes = published.run(["scores", "boxes"], {"input": ulfd.preprocess.tensor(image[None])})
    found, values = boxes_and_scores(ulfd.detect(image))
    corners = boxes[0] * (320, 240, 320, 240)
    distance = np.abs(found[:, None] - corners[None]).max(axis=2)
    assert len(found) > 0
    assert distance.min(axis=1).max() < 1e-3
    np.testing.assert_allclose(values, scores[0, distance.argmin(axis=1), 1], atol=1e-5)
