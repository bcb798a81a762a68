"""The protocol of WIDER FACE against the official program written out as plain loops, and the reader of its lists."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.benchmarks.accuracy.datasets import parse_dataset
from facedeploy.benchmarks.accuracy.matfile import read_mats
from facedeploy.benchmarks.accuracy.readers.widerface import SETTINGS
from facedeploy.benchmarks.accuracy.tasks import Answers, WiderFace
from facedeploy.core.errors import InputError
from facedeploy.metrics.labelled_images import Detections, LabelledImage
from facedeploy.metrics.widerface_ap import widerface_precision
from tests.support.mat_files import write_mat

Floats = NDArray[np.float64]
# As the program holds them: x, y, w, h, score of each detection; x, y, w, h of each face; numbers of those that count.
Row = Sequence[float]


# --------------------------------------------------------------------------------- the official program, as loops


@dataclass(frozen=True)
class Rules:
    """What the official program does; with any of it turned off it is a broken one.

    pixel: the last pixel belongs to a box. neutral: detections of faces that do not count are left out. own: a
    detection belongs to the face that it overlaps most, even if that is taken. stretch: scores span 0..1. skip: nothing
    in pictures without faces counts. envelope: precision is made monotonous.
    """

    pixel: bool = True
    neutral: bool = True
    own: bool = True
    stretch: bool = True
    skip: bool = True
    envelope: bool = True
    thresholds: int = 1000


def overlap(a: Row, b: Row, extra: float) -> float:
    ax2, ay2, bx2, by2 = a[0] + a[2], a[1] + a[3], b[0] + b[2], b[1] + b[3]
    width = min(ax2, bx2) - max(a[0], b[0]) + extra
    height = min(ay2, by2) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (ax2 - a[0] + extra) * (ay2 - a[1] + extra)
    area_b = (bx2 - b[0] + extra) * (by2 - b[1] + extra)
    return width * height / (area_a + area_b - width * height)


def picture_counts(
    found: list[Row], faces: list[Row], counting: list[int], thresholds: list[float], rules: Rules
) -> list[tuple[int, int]]:
    """Proposals and recalled faces of one picture at each threshold."""
    found = sorted(found, key=lambda row: -row[4])
    state = [0] * len(faces)
    proposals, recalled = [], []
    for row in found:
        best, most = -1, 0.0
        for i, face in enumerate(faces):
            value = overlap(row, face, 1.0 if rules.pixel else 0.0)
            if value > most and (rules.own or state[i] == 0):
                best, most = i, value
        proposal = 1
        if most >= 0.5:
            if best + 1 not in counting:
                state[best] = -1
                proposal = -1 if rules.neutral else 1
            elif state[best] == 0:
                state[best] = 1
        proposals.append(proposal)
        recalled.append(sum(s == 1 for s in state))
    counts = []
    for threshold in thresholds:
        last = max((i for i, row in enumerate(found) if row[4] >= threshold), default=None)
        if last is None:
            counts.append((0, 0))
        else:
            counts.append((sum(p == 1 for p in proposals[: last + 1]), recalled[last]))
    return counts


def official(
    found: list[list[Row]], faces: list[list[Row]], counting: list[list[int]], rules: Rules | None = None
) -> float:
    rules = rules or Rules()
    scores = [row[4] for rows in found for row in rows]
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    if rules.stretch:
        found = [[(*r[:4], (r[4] - low) / (high - low) if high > low else 1.0) for r in rows] for rows in found]
    thresholds = [1 - (t + 1) / rules.thresholds for t in range(rules.thresholds)]
    total = [[0, 0] for _ in thresholds]
    count_face = 0
    for rows, boxes, kept in zip(found, faces, counting, strict=True):
        count_face += len(kept)
        if not rows or (not boxes and rules.skip):
            continue
        for t, (proposed, recalled) in enumerate(picture_counts(rows, boxes, kept, thresholds, rules)):
            total[t][0] += proposed
            total[t][1] += recalled
    recall = [0.0, *(r / count_face for _, r in total), 1.0]
    precision = [0.0, *(r / p if p else 0.0 for p, r in total), 0.0]
    if rules.envelope:
        for i in range(len(precision) - 1, 0, -1):
            precision[i - 1] = max(precision[i - 1], precision[i])
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))


# --------------------------------------------------------------------------------- cases


def rows_of(boxes: Floats) -> list[Row]:
    return [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes.tolist()]


def ours(pictures: Sequence[LabelledImage], found: Sequence[Detections], setting: str) -> float:
    return widerface_precision(pictures, found, setting).value(len(pictures)) / 100


def by_loops(
    pictures: Sequence[LabelledImage], found: Sequence[Detections], setting: str, rules: Rules | None = None
) -> float:
    detections: list[list[Row]] = [
        [(*row, score) for row, score in zip(rows_of(d.boxes), d.scores.tolist(), strict=True)] for d in found
    ]
    counting = [(np.flatnonzero(p.kept[setting]) + 1).tolist() for p in pictures]
    return official(detections, [rows_of(p.boxes) for p in pictures], counting, rules)


def scene(seed: int, pictures: int = 6, *, ties: bool = False) -> tuple[list[LabelledImage], list[Detections]]:
    """Crowded pictures, some without a face: detections are shifted faces, several of some, and boxes of nothing."""
    rng = np.random.default_rng(seed)
    made: list[LabelledImage] = []
    found: list[Detections] = []
    for number in range(pictures):
        count = 0 if number == 1 else int(rng.integers(1, 9))
        corner, size = rng.integers(0, 60, (count, 2)), rng.integers(4, 30, (count, 2))
        boxes = np.hstack([corner, corner + size]).astype(float)
        hard = rng.random(count) < 0.8
        medium = hard & (rng.random(count) < 0.6)
        kept = {"easy": medium & (rng.random(count) < 0.6), "medium": medium, "hard": hard}
        made.append(LabelledImage(Path(f"{number}.jpg"), f"{number}.jpg", boxes, kept=kept))
        near = np.repeat(boxes, rng.integers(0, 4, count), axis=0)
        near = near + rng.normal(0, 2.5, near.shape)
        stray = rng.uniform(0, 60, (int(rng.integers(0, 6)), 2))
        every = np.vstack([near, np.hstack([stray, stray + 10])])
        scores = rng.uniform(0.05, 0.9, len(every))
        scores = np.round(scores, 1) if ties else scores
        order = np.argsort(-scores, kind="stable")
        found.append(Detections(100, 100, every[order], scores[order]))
    for mask in made[0].kept.values():
        mask[0] = True
    return made, found


def truth_itself(pictures: Sequence[LabelledImage], seed: int = 0) -> list[Detections]:
    rng = np.random.default_rng(seed)
    return [Detections(100, 100, p.boxes, np.sort(rng.uniform(0, 1, len(p.boxes)))[::-1]) for p in pictures]


@given(seed=st.integers(0, 1 << 32), ties=st.booleans())
@settings(max_examples=60, deadline=None)
def test_as_the_official_program(seed: int, ties: bool) -> None:
    pictures, found = scene(seed, ties=ties)
    for setting in SETTINGS:
        assert ours(pictures, found, setting) == pytest.approx(by_loops(pictures, found, setting), abs=1e-9)


@pytest.mark.parametrize(
    "rules",
    [
        Rules(pixel=False),
        Rules(neutral=False),
        Rules(own=False),
        Rules(stretch=False),
        Rules(skip=False),
        Rules(envelope=False),
        Rules(thresholds=20),
    ],
    ids=lambda r: next(k for k, v in vars(r).items() if v != getattr(Rules(), k)),
)
def test_the_loops_tell_a_broken_program(rules: Rules) -> None:
    """Whatever part of the protocol is left out, some case shows it."""
    scenes = [scene(seed) for seed in range(12)]
    differences = [abs(ours(p, f, s) - by_loops(p, f, s, rules)) for p, f in scenes for s in SETTINGS]
    assert max(differences) > 1e-3


def test_a_case_worked_by_hand() -> None:
    """Three faces, of which the third does not count. Scores 1.0 right, 0.8 on the third: left out, 0.6 a second time
    on the first: wrong, 0.2 right: precision 1 up to recall 1/2, then 2/3.
    """
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], float)
    kept = {"easy": np.array([True, True, False])}
    found = Detections(60, 60, boxes[[0, 2, 0, 1]], np.array([1.0, 0.8, 0.6, 0.2]))
    pictures = [LabelledImage(Path("a.jpg"), "a.jpg", boxes, kept=kept)]
    assert ours(pictures, [found], "easy") == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_truth_as_detections_is_perfect(seed: int) -> None:
    pictures, _ = scene(seed)
    found = truth_itself(pictures, seed)
    measures = WiderFace().measures(pictures, Answers(found))
    assert [m.name for m in measures] == ["AP easy", "AP medium", "AP hard"]
    assert [m.statistic.value(len(pictures)) for m in measures] == [100.0, 100.0, 100.0]
    assert [m.faces for m in measures] == [sum(int(p.kept[s].sum()) for p in pictures) for s in SETTINGS]


def test_the_order_of_pictures_and_faces_does_not_matter() -> None:
    pictures, found = scene(3)
    backwards = [Detections(100, 100, d.boxes[::-1], d.scores[::-1]) for d in found[::-1]]
    assert ours(pictures[::-1], backwards, "hard") == ours(pictures, found, "hard")


def test_equal_scores_are_all_the_highest() -> None:
    """The program divides by nought there."""
    pictures, _ = scene(0)
    found = [Detections(100, 100, p.boxes, np.full(len(p.boxes), 0.7)) for p in pictures]
    assert ours(pictures, found, "hard") == 1.0


def test_without_detections() -> None:
    pictures, _ = scene(0)
    empty = [Detections(100, 100, np.zeros((0, 4)), np.zeros(0)) for _ in pictures]
    assert ours(pictures, empty, "easy") == 0.0


def test_on_the_official_lists(assets: Path, tmp_path: Path) -> None:
    """The published lists, and empty files for pictures. Of the truth itself nearly all is found: some faces share
    a place or have no size.
    """
    gt = assets / "images" / "wider_face" / "gt"
    shutil.copytree(gt, tmp_path / "eval_tools" / "ground_truth")
    images = tmp_path / "WIDER_val" / "images"
    for line in (gt / "wider_face_val_bbx_gt.txt").read_text().splitlines():
        if line.endswith(".jpg"):
            (images / line).parent.mkdir(parents=True, exist_ok=True)
            (images / line).touch()
    dataset = parse_dataset(f"widerface:{tmp_path}")
    assert len(dataset.pictures) == 3226
    counts = [sum(int(p.kept[s].sum()) for p in dataset.pictures) for s in SETTINGS]
    assert counts == [7211, 13319, 31958]
    assert dataset.pictures[0].name == "0--Parade/0_Parade_marchingband_1_465.jpg"
    text = parse_dataset(f"widerface:{gt / 'wider_face_val_bbx_gt.txt'},images={images}")
    boxes = {p.name: p.boxes for p in text.pictures}
    assert all(np.array_equal(p.boxes, boxes[p.name]) for p in dataset.pictures)
    for setting in SETTINGS:
        assert ours(dataset.pictures, truth_itself(dataset.pictures), setting) == pytest.approx(1, abs=5e-4)
    rng = np.random.default_rng(0)
    some = dataset.limited(150).pictures
    found = []
    for picture in some:
        sides = np.tile(picture.boxes[:, 2:] - picture.boxes[:, :2], 2)
        near = np.repeat(
            picture.boxes + sides * rng.normal(0, 0.1, sides.shape), rng.integers(0, 3, len(sides)), axis=0
        )
        found.append(Detections(1024, 1024, near, np.sort(rng.uniform(0.02, 1, len(near)))[::-1]))
    for setting in SETTINGS:
        assert ours(some, found, setting) == pytest.approx(by_loops(some, found, setting), abs=1e-9)


# --------------------------------------------------------------------------------- the reader


def folder(home: Path, pictures: Sequence[LabelledImage], *, labels: str = "eval_tools/ground_truth") -> Path:
    """Two events, in the layout of the published archives. The pictures are empty files: nobody looks at them here."""
    half = len(pictures) // 2
    events = {"0--Parade": pictures[:half], "1--Handshaking": pictures[half:]}
    common = {
        "event_list": list(events),
        "file_list": [[Path(p.name).stem for p in mine] for mine in events.values()],
        "face_bbx_list": [[np.array(rows_of(p.boxes), "i4").reshape(-1, 4) for p in mine] for mine in events.values()],
    }
    write_mat(home / labels / "wider_face_val.mat", common)
    for setting in SETTINGS:
        lists = [[np.flatnonzero(p.kept[setting])[:, None].astype("u2") + 1 for p in mine] for mine in events.values()]
        write_mat(home / labels / f"wider_{setting}_val.mat", {**common, "gt_list": lists})
    text = []
    for event, mine in events.items():
        for picture in mine:
            (home / "WIDER_val" / "images" / event).mkdir(parents=True, exist_ok=True)
            (home / "WIDER_val" / "images" / event / picture.name).touch()
            text += [f"{event}/{picture.name}", str(len(picture.boxes))]
            for row, hard in zip(rows_of(picture.boxes), picture.kept["hard"].tolist(), strict=True):
                text.append(" ".join(f"{v:.0f}" for v in row) + f" 0 0 0 {0 if hard else 1} 0 0 ")
            if not len(picture.boxes):
                text.append("0 0 0 0 0 0 0 0 0 0 ")
    (home / "wider_face_split").mkdir()
    (home / "wider_face_split" / "wider_face_val_bbx_gt.txt").write_text("\n".join(text) + "\n")
    return home


@pytest.mark.parametrize("labels", ["eval_tools/ground_truth", "ground_truth", ""])
def test_a_folder_of_lists(labels: str, tmp_path: Path) -> None:
    pictures, found = scene(1)
    dataset = parse_dataset(f"widerface:{folder(tmp_path, pictures, labels=labels)}")
    assert dataset.name == f"widerface:{tmp_path.name}"
    assert [p.name for p in dataset.pictures][:4] == [
        "0--Parade/0.jpg",
        "0--Parade/1.jpg",
        "0--Parade/2.jpg",
        "1--Handshaking/3.jpg",
    ]
    for read, made in zip(dataset.pictures, pictures, strict=True):
        np.testing.assert_array_equal(read.boxes, made.boxes)
        assert {k: v.tolist() for k, v in read.kept.items()} == {k: v.tolist() for k, v in made.kept.items()}
    measures = dataset.task.measures(dataset.pictures, Answers(found))
    assert [m.statistic.value(len(pictures)) for m in measures] == pytest.approx(
        [100 * by_loops(pictures, found, s) for s in SETTINGS], abs=1e-7
    )


def test_the_text_alone_knows_no_settings(tmp_path: Path) -> None:
    pictures, found = scene(1)
    folder(tmp_path, pictures)
    shutil.rmtree(tmp_path / "eval_tools")
    dataset = parse_dataset(f"widerface:{tmp_path}")
    (measure,) = dataset.task.measures(dataset.pictures, Answers(found))
    assert measure.name == "AP all"
    assert measure.statistic.value(len(pictures)) == pytest.approx(100 * by_loops(pictures, found, "hard"), abs=1e-7)


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    pictures, _ = scene(1)
    folder(tmp_path, pictures)
    (tmp_path / "WIDER_val").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"6 of 6 pictures .* are missing, such as .*images=.*its project page"):
        parse_dataset(f"widerface:{tmp_path}")
    dataset = parse_dataset(f"widerface:{tmp_path},images={tmp_path / 'moved' / 'images'}")
    assert all(p.path.is_file() for p in dataset.pictures)


def remove_pictures(home: Path) -> None:
    (home / "WIDER_val/images/0--Parade/0.jpg").unlink()


def remove_list(home: Path) -> None:
    (home / "eval_tools/ground_truth/wider_hard_val.mat").unlink()


def remove_labels(home: Path) -> None:
    shutil.rmtree(home / "eval_tools")
    shutil.rmtree(home / "wider_face_split")


def tear_text(home: Path) -> None:
    shutil.rmtree(home / "eval_tools")
    text = home / "wider_face_split/wider_face_val_bbx_gt.txt"
    text.write_text(text.read_text().replace("0--Parade/2.jpg\n", "0--Parade/2.jpg\nmany\n"))


def swap_list(home: Path) -> None:
    write_mat(home / "eval_tools/ground_truth/wider_easy_val.mat", {"gt_list": [[]], "file_list": [["other"]]})


def number_too_high(home: Path) -> None:
    path = home / "eval_tools/ground_truth/wider_easy_val.mat"
    (names,) = (found["file_list"] for found in read_mats([(path, ("file_list",))]))
    lists = [[np.array([[99]], "u1") for _ in event] for event in names]
    write_mat(path, {"gt_list": lists, "file_list": names})


def leave_folder(home: Path) -> None:
    shutil.rmtree(home / "eval_tools")
    text = home / "wider_face_split/wider_face_val_bbx_gt.txt"
    text.write_text(text.read_text().replace("0--Parade/2.jpg", "../../2.jpg"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_pictures, r"a picture that .* names is missing: .*0\.jpg: .*its project page"),
        (remove_list, r"cannot read .*wider_hard_val\.mat"),
        (remove_labels, r"holds neither wider_face_val\.mat nor .*: WIDER FACE is had from its project page"),
        (tear_text, r"wider_face_val_bbx_gt\.txt, line \d+: the block of '0--Parade/2\.jpg'"),
        (swap_list, r"wider_easy_val\.mat is of other pictures"),
        (number_too_high, r"are not those of WIDER FACE"),
        (leave_folder, r"names the picture '\.\./\.\./2\.jpg', which is not a path inside"),
    ],
)
def test_what_is_wrong_is_said(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder(tmp_path, scene(1)[0])
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as said:
        parse_dataset(f"widerface:{tmp_path}")
    assert "\n" not in str(said.value)


def test_a_missing_folder_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file or folder .*project page: unpack WIDER_val\.zip"):
        parse_dataset(f"widerface:{tmp_path / 'none'}")
