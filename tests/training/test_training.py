"""The training of MOS-tiny: what it computes against plain oracles, and that a killed run goes on as if nothing was."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import training
from facedeploy.core.synthetic_faces import group_photo, portrait
from facedeploy.models.mos_tiny import (
    SIDES,
    Detector,
    FoldedDetector,
    FoldedPose,
    MosTiny,
    Pose,
    PoseHeads,
    decode_fields,
)
from facedeploy.pipelines.mos import MosConfig
from facedeploy.pipelines.mos import gather as pipeline_gather
from tests.support.fill import fill
from training import augment, data, geometry, train
from training.assign import Assignment, assign, pairwise_iou
from training.config import Config, read
from training.data import Picture, Samples, collate
from training.losses import Labels, distance_loss, gather, losses

Floats = NDArray[np.float64]
NAN = math.nan
ROOT = Path(__file__).parents[2]
STEPS = (8, 16, 32)
MEAN = torch.tensor(MosConfig().preprocess.mean).reshape(3, 1, 1)
SMALL = Config(side=128, batch=2, steps=100, warmup=10, workers=0, bfloat16=False, keep_every=50)
PLAIN = settings(deadline=None, max_examples=60)


# --- drawn pictures with labels ---


def drawn(seed: int, cells: int, side: int = 80) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """A square picture of cells by cells drawn faces, and what a line of labels says of them."""
    rng = np.random.default_rng(seed)
    canvas = np.empty((cells * side, cells * side, 3), np.uint8)
    faces = []
    for row in range(cells):
        for column in range(cells):
            canvas[row * side : (row + 1) * side, column * side : (column + 1) * side] = portrait(rng, side)
            x, y, half = (column + 0.5) * side, (row + 0.5) * side, 0.41 * side
            places = [(-0.33, -0.15), (0.33, -0.15), (0, 0.37), (-0.25, 0.62), (0.25, 0.62)]
            faces.append(
                {
                    "box": [x - 0.78 * half, y - 0.95 * half, x + 0.78 * half, y + 1.05 * half],
                    "landmarks": [[x + u * half, y + v * half] for u, v in places],
                    "pose": rng.uniform(-10, 10, 3).tolist(),
                    "pose_from": "label",
                }
            )
    return canvas, faces


def write_dataset(folder: Path) -> Path:
    """Pictures and a file of labels: many faces, one face, no face, and faces of which little is known."""
    records: list[dict[str, Any]] = []
    many, many_faces = drawn(1, 2)
    for face in many_faces[2:]:
        face.update(landmarks=None, pose=None, pose_from=None)
    many_faces[1]["pose_from"] = "teacher"
    one, one_face = drawn(2, 1, 120)
    crowd, none = group_photo(np.random.default_rng(3), 100, 160, 3), np.full((90, 120, 3), 77, np.uint8)
    for source, split, image, faces, ignore in (
        ("face_counting", "train", many, many_faces, []),
        ("face_counting", "train", none, [], [[10.0, 10.0, 40.0, 50.0]]),
        ("aflw2000", "train", one, one_face, []),
        ("wider_face", "train", crowd, [], [[0.0, 0.0, 160.0, 100.0]]),
        ("aflw2000", "val", one, one_face, []),
    ):
        name = f"{len(records)}.png"
        assert cv2.imwrite(str(folder / name), image)
        records.append({"image": name, "source": source, "split": split, "faces": faces, "ignore": ignore})
    labels = folder / "labels.jsonl"
    labels.write_text("".join(json.dumps(r) + "\n" for r in records))
    return labels


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def pictures(labels: Path) -> dict[str, list[Picture]]:
    return data.read(labels, labels.parent, "train")


def labelled(faces: list[list[float]], pose: list[list[float]] | None = None, batch: int = 1) -> Labels:
    """Labels of as many pictures, with the same faces; nothing else is known of them."""
    count = len(faces)
    angles = [[NAN] * 3] * count if pose is None else pose
    return Labels(
        faces=torch.tensor(faces).repeat(batch, 1, 1),
        landmarks=torch.full((batch, count, 10), NAN),
        pose=torch.tensor(angles).repeat(batch, 1, 1),
        trust=torch.ones(batch, count),
        ignored=torch.zeros(batch, 1, 4),
    )


# --- reading ---


def test_reads_one_split_by_source(labels: Path, pictures: dict[str, list[Picture]]) -> None:
    assert {k: len(v) for k, v in pictures.items()} == {"face_counting": 2, "aflw2000": 1, "wider_face": 1}
    assert set(data.read(labels, labels.parent, "val")) == {"aflw2000"}
    assert data.read(labels, labels.parent, "test") == {}
    many, none = pictures["face_counting"]
    assert many.boxes.shape == (4, 4)
    assert np.isnan(many.landmarks).all((1, 2)).tolist() == [False, False, True, True]
    assert np.isnan(many.pose).all(1).tolist() == [False, False, True, True]
    assert many.trust[0] == 1 > many.trust[1] > 0
    assert (len(none.boxes), none.landmarks.shape, none.ignored.tolist()) == (0, (0, 5, 2), [[10, 10, 40, 50]])


def test_missing_picture_is_named(tmp_path: Path) -> None:
    path = write_dataset(tmp_path)
    (tmp_path / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.png"):
        data.read(path, tmp_path, "train")


@pytest.mark.parametrize("name", ["mos_tiny.toml", "mos_tiny_last.toml"])
def test_configs_of_the_shipped_weights_are_read(name: str) -> None:
    config = read(Path(training.__path__[0]) / name)
    assert config.side % 32 == 0
    assert config.steps > config.warmup


def test_config_takes_some_settings_and_refuses_unknown_ones(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("side = 96\n[shares]\naflw2000 = 1.0\n")
    assert read(path) == Config(side=96, shares={"aflw2000": 1.0})
    path.write_text("side = 96\nsteeps = 3\n")
    with pytest.raises(ValueError, match=r"steeps.*steps"):
        read(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("--config", "bad.toml"), "steeps"),
        (("--config", "none.toml"), "none.toml"),
        (("--labels", "none.jsonl"), "none.jsonl"),
        (("--images", "elsewhere"), "elsewhere"),
        (("--weights", "none.safetensors"), "none.safetensors"),
        (("--weights", "bad.toml"), "bad.toml is not a whole"),
    ],
    ids=lambda v: v[0] if isinstance(v, tuple) else v,
)
def test_command_says_what_is_wrong_and_writes_nothing(
    change: tuple[str, str],
    named: str,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.toml").write_text("steeps = 3\n")
    options = {
        "--labels": labels,
        "--images": labels.parent,
        "--out": tmp_path / "out",
        change[0]: tmp_path / change[1],
    }
    monkeypatch.setattr(sys, "argv", ["train", *(str(v) for pair in options.items() for v in pair)])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_collate_fills_with_nan_and_empty_regions(pictures: dict[str, list[Picture]]) -> None:
    many = pictures["face_counting"][0]
    none = dataclasses.replace(pictures["face_counting"][1], image=np.zeros_like(many.image))
    image, found = collate([none, many])
    assert image.dtype == torch.uint8
    np.testing.assert_array_equal(image[1], many.image.transpose(2, 0, 1))
    assert found.faces.shape == (2, 4, 4)
    assert found.faces[0].isnan().all()
    assert found.landmarks[0].isnan().all()
    assert found.pose[0].isnan().all()
    np.testing.assert_allclose(found.faces[1], many.boxes, rtol=1e-6)
    np.testing.assert_allclose(found.landmarks[1, :2], many.landmarks[:2].reshape(2, 10), rtol=1e-6)
    np.testing.assert_allclose(found.pose[1], many.pose, rtol=1e-6)
    assert found.ignored.tolist() == [[[10, 10, 40, 50]], [[0, 0, 0, 0]]]
    _, alone = collate([none])
    assert alone.faces.shape == (1, 1, 4)
    assert alone.faces.isnan().all()


# --- geometry ---

angles = st.floats(-180, 180)
places = st.tuples(st.floats(-300, 300), st.floats(-300, 300)).map(lambda v: np.array(v, float))
scales = st.floats(0.05, 4)


def poses(yaw: float = 88.9, pitch: float = 180, roll: float = 180) -> st.SearchStrategy[Floats]:
    return st.tuples(*(st.floats(-limit, limit) for limit in (yaw, pitch, roll))).map(lambda v: np.array([v], float))


def same_angles(a: Floats, b: Floats, atol: float = 1e-6) -> None:
    """Angles are the same a full turn on."""
    np.testing.assert_allclose((a - b + 180) % 360 - 180, 0, atol=atol)


@PLAIN
@given(poses())
def test_rotation_there_and_back(pose: Floats) -> None:
    rotation = geometry.to_rotation(pose)
    np.testing.assert_allclose(rotation[0] @ rotation[0].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation[0]) == pytest.approx(1)
    same_angles(geometry.from_rotation(rotation), pose)


@pytest.mark.parametrize(
    ("pose", "point", "goal"),
    [
        ((90, 0, 0), (0, 0, 1), (-1, 0, 0)),
        ((0, 90, 0), (0, 0, 1), (0, 1, 0)),
        ((0, 0, 90), (0, 1, 0), (1, 0, 0)),
        ((30, 0, 0), (0, 0, 1), (-0.5, 0, math.sqrt(0.75))),
    ],
    ids=["yaw turns the nose to the left", "pitch turns it up", "roll turns the crown to the right", "half"],
)
def test_sense_of_angles(pose: tuple[float, ...], point: tuple[float, ...], goal: tuple[float, ...]) -> None:
    """X to the right and y up as seen, the nose along z."""
    np.testing.assert_allclose(geometry.to_rotation(np.array([pose], float))[0] @ point, goal, atol=1e-12)


@PLAIN
@given(poses(), angles, st.booleans(), scales, places, places)
def test_turned_pose_is_that_of_the_turned_picture(
    pose: Floats, turn: float, mirrored: bool, scale: float, source: Floats, goal: Floats
) -> None:
    """Points of a head in space, seen from far away: moved in the picture, or turned in space and then seen."""
    head = np.random.default_rng(0).normal(size=(6, 3))
    flip = np.array([1, -1])  # y is up in space and down in the picture.

    def seen(points: Floats, pose: Floats) -> Floats:
        return np.array([(geometry.to_rotation(pose)[0] @ p)[:2] * flip for p in points])

    matrix = geometry.similarity(scale, turn, source, goal, mirrored)
    moved = geometry.move_points(matrix, seen(head, pose) + source)
    twin = head * (-1 if mirrored else 1, 1, 1)  # A mirrored head is its mirror image, with the ears exchanged.
    np.testing.assert_allclose(moved, scale * seen(twin, geometry.turn_pose(pose, turn, mirrored)) + goal, atol=1e-6)


@PLAIN
@given(poses(45, 45, 60), st.floats(-30, 30))
def test_turned_and_turned_back_has_the_same_angles(pose: Floats, turn: float) -> None:
    there = geometry.turn_pose(pose, turn, False)
    np.testing.assert_allclose(geometry.turn_pose(there, -turn, False), pose, atol=1e-6)


@PLAIN
@given(poses(), angles)
def test_turned_and_turned_back_is_the_same_head(pose: Floats, turn: float) -> None:
    back = geometry.turn_pose(geometry.turn_pose(pose, turn, False), -turn, False)
    np.testing.assert_allclose(geometry.to_rotation(back), geometry.to_rotation(pose), atol=1e-6)


@PLAIN
@given(poses(179, 179, 179))
@example(np.array([[95.0, 10.0, -5.0]]))
def test_pose_keeps_its_name_and_mirrored_twice_is_itself(pose: Floats) -> None:
    """Also past a profile, where the same head has a name of smaller yaw."""
    same_angles(geometry.turn_pose(pose, 0, False), pose)
    mirrored = geometry.turn_pose(pose, 0, True)
    same_angles(mirrored, pose * (-1, 1, -1))
    same_angles(geometry.turn_pose(mirrored, 0, True), pose)


def test_frontal_head_rolls_with_the_picture() -> None:
    heads = np.array([[0.0, 0, 0], [0, 0, 15], [NAN, NAN, NAN]])
    wanted = np.array([[0.0, 0, -20], [0, 0, -5], [NAN, NAN, NAN]])
    np.testing.assert_allclose(geometry.turn_pose(heads, 20, False), wanted, atol=1e-9)


@PLAIN
@given(scales, angles, places, places, st.booleans())
def test_similarity(scale: float, turn: float, source: Floats, goal: Floats, mirrored: bool) -> None:
    matrix = geometry.similarity(scale, turn, source, goal, mirrored)
    np.testing.assert_allclose(geometry.move_points(matrix, source), goal, atol=1e-9)
    points = np.random.default_rng(0).uniform(-100, 100, (5, 2))
    moved = geometry.move_points(matrix, points)
    before, after = (np.linalg.norm(p[:, None] - p, axis=-1) for p in (points, moved))
    np.testing.assert_allclose(after, scale * before, atol=1e-9)
    # Picture to complex plane with y up: counter-clockwise is a product with e^(i turn).
    start, end = ((p - q) @ (1, -1j) for p, q in ((points, source), (moved, goal)))
    turned = scale * np.exp(1j * math.radians(turn)) * (-start.conj() if mirrored else start)
    np.testing.assert_allclose(end, turned, atol=1e-9)


def test_quarter_turn_takes_right_to_up() -> None:
    matrix = geometry.similarity(2, 90, np.array([5.0, 5]), np.array([10.0, 10]), False)
    np.testing.assert_allclose(geometry.move_points(matrix, np.array([6.0, 5])), (10, 8), atol=1e-12)


@PLAIN
@given(scales, angles, places, places, st.booleans())
def test_box_moves_with_its_centre_and_keeps_its_shape(
    scale: float, turn: float, source: Floats, goal: Floats, mirrored: bool
) -> None:
    matrix = geometry.similarity(scale, turn, source, goal, mirrored)
    box = np.array([*(source - (10, 15)), *(source + (10, 15))])
    (moved,) = geometry.move_boxes(matrix, box[None])
    np.testing.assert_allclose(moved, np.r_[goal - scale * np.array([10, 15]), goal + scale * np.array([10, 15])])


@PLAIN
@given(scales, st.floats(-40, 40), places, places, st.booleans())
def test_left_stays_left(scale: float, turn: float, source: Floats, goal: Floats, mirrored: bool) -> None:
    face = np.array([[-1.0, -1], [1, -1], [0, 0], [-0.8, 1], [0.8, 1]]) * 20 + source
    matrix = geometry.similarity(scale, turn, source, goal, mirrored)
    (moved,) = geometry.move_landmarks(matrix, face[None])
    assert moved[0, 0] < moved[1, 0]
    assert moved[3, 0] < moved[4, 0]
    by_hand = geometry.move_points(matrix, face)
    np.testing.assert_array_equal(moved, by_hand[[1, 0, 2, 4, 3]] if mirrored else by_hand)


# --- which prior answers for which face ---


def grid(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (P, 2), step and side (P,) of the priors of a picture, cell by cell, in float64."""
    rows = [
        ((x + 0.5) * step, (y + 0.5) * step, step, sides[0])
        for step, sides in zip(STEPS, SIDES, strict=True)
        for y in range(-(-height // step))
        for x in range(-(-width // step))
    ]
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, :2], table[:, 2], table[:, 3]


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / max(total, 1e-6)


def costs(
    boxes: list[list[float]], logits: list[float], cells: list[tuple[float, float, float, float]], face: list[float]
) -> dict[int, tuple[float, float]]:
    """Of one face: cost and IoU of each prior that may answer for it."""
    found = {}
    for prior, (x, y, step, side) in enumerate(cells):
        inside = face[0] < x < face[2] and face[1] < y < face[3]
        reach = max(abs(x - (face[0] + face[2]) / 2), abs(y - (face[1] + face[3]) / 2))
        near = reach < 1.5 * step
        if not (inside or near):
            continue
        overlap = iou(face, boxes[prior])
        size = math.sqrt(max((face[2] - face[0]) * (face[3] - face[1]), 1))
        cost = math.log1p(math.exp(-logits[prior])) - 3 * math.log(max(overlap, 1e-6))
        cost += max(abs(math.log2(size) - math.log2(side)) - 1, 0) + (0 if inside and near else 100)
        found[prior] = cost, overlap
    return found


def slow_assign(tables: list[dict[int, tuple[float, float]]]) -> dict[int, tuple[int, float]]:
    """Prior -> face and IoU, from the `costs` of every face."""
    wanted: dict[int, list[tuple[float, int, float]]] = {}
    for face, table in enumerate(tables):
        best = sorted((overlap for _, overlap in table.values()), reverse=True)[:10]
        count = min(max(int(sum(best)), 1), 10)
        for prior in sorted(table, key=lambda p: table[p][0])[:count]:
            wanted.setdefault(prior, []).append((table[prior][0], face, table[prior][1]))
    return {prior: min(rivals)[1:] for prior, rivals in wanted.items()}


Scene = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor], Tensor]


def scene(seed: int, batch: int = 2, faces: int = 6) -> Scene:
    """Boxes (some close to a face), logits, priors, and faces of which some are NaN and some not in the picture."""
    rng = np.random.default_rng(seed)
    priors = grid(64, 96)
    size = np.exp(rng.uniform(math.log(3), math.log(90), (batch, faces, 1))) * rng.uniform(0.8, 1.25, (batch, faces, 2))
    middle = rng.uniform(-8, 104, (batch, faces, 2))
    middle[:, 1:2] = middle[:, :1] + rng.normal(0, 4, (batch, 1, 2))  # Two that fight for priors.
    truth = np.concatenate([middle - size / 2, middle + size / 2], -1)
    count = len(priors[0])
    centre = priors[0].numpy() + rng.normal(0, 6, (batch, count, 2))
    half = priors[2].numpy()[:, None] / 2 * np.exp(rng.normal(0, 0.4, (batch, count, 2)))
    boxes = np.concatenate([centre - half, centre + half], -1)
    for row in range(batch):
        close = rng.random(count) < 0.3
        boxes[row, close] = truth[row, rng.integers(0, faces, close.sum())] + rng.normal(0, 1.0, (close.sum(), 4))
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 0.5)
    truth[rng.random((batch, faces)) < 0.3] = NAN
    logits = torch.from_numpy(rng.normal(-1, 3, (batch, count)))
    return torch.from_numpy(boxes), logits, priors, torch.from_numpy(truth)


@PLAIN
@given(st.integers(0, 100_000))
def test_assignment_is_that_of_plain_loops(seed: int) -> None:
    boxes, logits, (centre, step, side), faces = scene(seed)
    found = assign(boxes, logits, centre, step, side, faces)
    cells = list(zip(*centre.T.tolist(), step.tolist(), side.tolist(), strict=True))
    for row in range(len(faces)):
        real = (~faces[row, :, 0].isnan()).nonzero().flatten().tolist()
        tables = [costs(boxes[row].tolist(), logits[row].tolist(), cells, f) for f in faces[row, real].tolist()]
        wanted = slow_assign(tables)
        have = matches(found, row)
        assert {p: f for p, (f, _) in have.items()} == {p: real[f] for p, (f, _) in wanted.items()}
        assert [have[p][1] for p in have] == pytest.approx([wanted[p][1] for p in have])
        assert (found.iou[row, ~found.positive[row]] == 0).all()
        # A face whose best prior is not its own lost it to a face that had it cheaper.
        for own, table in zip(real, tables, strict=True):
            if table:
                cheapest = min(table, key=lambda p: table[p][0])
                winner = have[cheapest][0]
                assert winner == own or tables[real.index(winner)][cheapest][0] <= table[cheapest][0]


def matches(found: Assignment, row: int) -> dict[int, tuple[int, float]]:
    priors = found.positive[row].nonzero().flatten().tolist()
    return {p: (int(found.face[row, p]), float(found.iou[row, p])) for p in priors}


def test_rows_without_faces_have_no_positives() -> None:
    boxes, logits, (centre, step, side), faces = scene(0)
    faces[0] = NAN
    found = assign(boxes, logits, centre, step, side, faces)
    assert not found.positive[0].any()
    assert found.positive[1].any()
    assert (found.iou[0] == 0).all()
    nobody = assign(boxes, logits, centre, step, side, torch.full((2, 1, 4), NAN, dtype=torch.float64))
    assert not nobody.positive.any()
    assert torch.isfinite(nobody.iou).all()


def test_overlap_of_all_pairs() -> None:
    boxes, _, _, faces = scene(3)
    truth = faces.nan_to_num()
    have = pairwise_iou(truth, boxes)
    for row, first, second in np.ndindex(have.shape[0], have.shape[1], 40):
        assert float(have[row, first, second]) == pytest.approx(
            iou(truth[row, first].tolist(), boxes[row, second].tolist())
        )


# --- losses ---


class Fixed(MosTiny):
    """Answers with given fields and maps, so that a loss is a function of these."""

    def __init__(self, size: tuple[int, int], batch: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = [(-(-size[0] // s), -(-size[1] // s)) for s in STEPS]
        self.fields = nn.Parameter(torch.randn(batch, sum(h * w for h, w in sizes), 15))
        self.maps = [torch.randn(batch, 48, h, w) for h, w in sizes]

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.fields, self.maps


def float_grid(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    centre, step, side = grid(height, width)
    return centre.float(), step.float(), side.float()


def matched(model: Fixed, found: Labels, size: tuple[int, int]) -> tuple[Tensor, Tensor, Assignment]:
    """Boxes, landmarks and assignment as of `losses`."""
    centre, step, side = float_grid(*size)
    boxes, points = decode_fields(model.fields, centre, side[:, None])
    return boxes, points, assign(boxes, model.fields[..., 4], centre, step, side, found.faces)


IMAGE = torch.zeros(1, 3, 64, 96)


def test_distance_loss_by_hand() -> None:
    box = torch.tensor([[10.0, 20, 30, 60]])
    assert distance_loss(box, box).item() == 0
    # Shifted by (10, 0): IoU 400 / 1200, centres 10 apart, hull 30 by 40.
    assert distance_loss(box + torch.tensor([10, 0, 10, 0]), box).item() == pytest.approx(1 - 1 / 3 + 100 / 2500)
    # Apart: no overlap, centres 100 apart, hull 120 by 40.
    far = distance_loss(box + torch.tensor([100, 0, 100, 0]), box)
    assert far.item() == pytest.approx(1 + 100**2 / (120**2 + 40**2))
    moved = torch.tensor([[110.0, 20, 130, 60]], requires_grad=True)
    distance_loss(moved, box).sum().backward()  # type: ignore[no-untyped-call]
    assert moved.grad is not None
    assert moved.grad[0, [0, 2]].sum() > 0


def test_score_loss_by_hand() -> None:
    model, found = Fixed((64, 96)), labelled([[20.0, 20, 50, 55], [70, 10, 80, 22]])
    match = matched(model, found, (64, 96))[2]
    total, weight = 0.0, 0.0
    for logit, quality in zip(model.fields[0, :, 4].tolist(), match.iou[0].tolist(), strict=True):
        score, goal = 1 / (1 + math.exp(-logit)), math.sqrt(quality)
        total -= (goal - score) ** 2 * (goal * math.log(score) + (1 - goal) * math.log(1 - score))
        weight += goal
    assert losses(model, IMAGE, found)["score"].item() == pytest.approx(total / max(weight, 1), rel=1e-4)


@pytest.mark.parametrize("face", [[20.0, 20, 60, 56], [26.0, 28, 44, 48]], ids=["large", "small"])
def test_box_and_landmark_loss_by_hand(face: list[float]) -> None:
    """The points of faces under 32 pixels count less."""
    model = Fixed((64, 96))
    goal = torch.tensor([28.0, 30, 42, 30, 35, 38, 30, 46, 40, 46])
    found = dataclasses.replace(labelled([face]), landmarks=goal[None, None])
    boxes, points, match = matched(model, found, (64, 96))
    mine = match.positive[0].nonzero().flatten().tolist()
    size = math.sqrt((face[2] - face[0]) * (face[3] - face[1]))
    box, off = 0.0, 0.0
    for prior in mine:
        box += distance_loss(boxes[0, prior][None], torch.tensor([face])).item()
        for difference in (points[0, prior] - goal).abs().tolist():
            scaled = 100 * difference / size
            off += (scaled**2 / 4 if scaled < 2 else scaled - 1) / 100 * min(size / 32, 1)
    have = losses(model, IMAGE, found)
    assert have["box"].item() == pytest.approx(box / len(mine), rel=1e-4)
    assert have["landmarks"].item() == pytest.approx(off / len(mine), rel=1e-4)


def test_ignored_regions_are_no_background_and_faces_in_them_are_faces() -> None:
    model = Fixed((64, 96))
    region = torch.tensor([[[0.0, 0, 60, 64]]])
    found = dataclasses.replace(labelled([[20.0, 20, 50, 55]]), ignored=region)
    positive = matched(model, found, (64, 96))[2].positive[0]
    centre = float_grid(64, 96)[0]
    inside = (centre[:, 0] < 60) & (centre[:, 1] < 64)
    assert (positive & inside).any()
    assert (inside & ~positive).any()
    assert (~inside).any()

    def gradient(found: Labels) -> Tensor:
        (slope,) = torch.autograd.grad(losses(model, IMAGE, found)["score"], model.fields)
        return slope[0, :, 4]

    assert torch.equal(gradient(found) != 0, positive | ~inside)
    assert (gradient(labelled([[20.0, 20, 50, 55]])) != 0).all()


def flat_bins(model: MosTiny, level: float = 0.0, bins: tuple[int, ...] = ()) -> None:
    """Pose heads that say the same of every face: bins of equal chance, but for some of each angle."""
    model.pose.bins.weight.data.zero_()
    assert model.pose.bins.bias is not None
    logits = torch.zeros(3, 66)
    logits[:, list(bins)] = level
    model.pose.bins.bias.data = logits.flatten()


def test_pose_loss_by_hand() -> None:
    model, found = Fixed((64, 96)), labelled([[20.0, 20, 50, 55]], [[0.0, 0, 0]])
    model.eval()
    flat_bins(model)
    # The expectation of flat bins is -1.5 degrees.
    assert losses(model, IMAGE, found)["pose"].item() == pytest.approx(3 * (1.5 / 15 + 0.1 * math.log(66)), rel=1e-4)


@pytest.mark.parametrize(
    ("angle", "right"), [(0.0, (33,)), (31.0, (43, 44)), (-99.0, (0,)), (99.0, (65,)), (98.0, (65,)), (130.0, (65,))]
)
def test_pose_loss_falls_with_the_right_bins(angle: float, right: tuple[int, ...]) -> None:
    model, found = Fixed((64, 96)), labelled([[20.0, 20, 50, 55]], [[angle] * 3])
    model.eval()

    def loss(level: float, bins: tuple[int, ...]) -> float:
        flat_bins(model, level, bins)
        return losses(model, IMAGE, found)["pose"].item()

    falling = [loss(level, right) for level in (-4, 0, 2, 4, 6)]
    assert falling == sorted(falling, reverse=True)
    wrong = (65 if angle < 0 else 0,)
    assert loss(6, wrong) > loss(0, wrong) > falling[-1]


def test_pose_of_a_teacher_counts_less() -> None:
    model = Fixed((64, 96))
    model.eval()
    found = labelled([[10.0, 20, 40, 55], [55, 20, 85, 55]], [[0.0] * 3, [60.0] * 3])
    flat_bins(model, 8.0, (33,))
    even = losses(model, IMAGE, found)["pose"].item()
    doubted = dataclasses.replace(found, trust=torch.tensor([[1.0, 0.3]]))
    assert losses(model, IMAGE, doubted)["pose"].item() < 0.8 * even


def test_what_is_not_known_pulls_at_nothing() -> None:
    torch.manual_seed(0)
    model = MosTiny()
    image = torch.randn(2, 3, 64, 64)
    for found in (labelled([[20.0, 20, 50, 55]], batch=2), labelled([[NAN] * 4], batch=2)):
        model.zero_grad()
        parts = losses(model, image, found)
        assert parts["landmarks"].item() == parts["pose"].item() == 0
        torch.autograd.backward(torch.stack(list(parts.values())).sum())
        slopes = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(torch.isfinite(g).all() for g in slopes)
        assert any((g != 0).any() for g in slopes)
        assert all(torch.isfinite(v).all() for v in model.state_dict().values())
    assert parts["box"].item() == 0


def test_batch_with_one_prior_of_known_pose_trains() -> None:
    """A tiny face in the middle of a cell has one prior."""
    found = labelled([[18.0, 18, 22, 22]], [[1.0, 2, 3]], batch=2)
    found.faces[1:] = found.pose[1:] = NAN
    torch.manual_seed(0)
    parts = losses(MosTiny(), torch.randn(2, 3, 64, 64), found)
    assert all(torch.isfinite(v) for v in parts.values())


# --- patches ---


def test_patches_are_slices_of_the_padded_maps() -> None:
    torch.manual_seed(0)
    sizes = [(4, 6), (2, 3), (1, 2)]
    maps = [torch.randn(2, 48, h, w) for h, w in sizes]
    count = sum(h * w for h, w in sizes)
    batch, prior = torch.arange(2).repeat_interleave(count), torch.arange(count).repeat(2)
    shuffled = torch.randperm(2 * count)
    batch, prior = batch[shuffled], prior[shuffled]
    have = gather(maps, batch, prior)
    cells = [(k, y, x) for k, (h, w) in enumerate(sizes) for y in range(h) for x in range(w)]
    padded = [np.pad(m.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1))) for m in maps]
    for patch, row, index in zip(have, batch.tolist(), prior.tolist(), strict=True):
        level, y, x = cells[index]
        np.testing.assert_array_equal(patch, padded[level][row, :, y : y + 3, x : x + 3])
    for row in range(2):
        mine = batch == row
        deployed = pipeline_gather([m[row : row + 1].numpy() for m in maps], prior[mine].numpy(), 1)["patches"]
        np.testing.assert_array_equal(have[mine], deployed[:, :48])
    assert gather(maps, batch[:0], prior[:0]).shape == (0, 48, 3, 3)


# --- altered pictures ---


def made(pictures: dict[str, list[Picture]], count: int = 150, config: Config = SMALL) -> list[Picture]:
    samples = Samples(pictures, config)
    return [samples[number] for number in range(count)]


def test_altered_faces_lie_in_the_picture(pictures: dict[str, list[Picture]]) -> None:
    inside, faces = [], 0
    for picture in made(pictures):
        assert picture.image.shape == (128, 128, 3)
        assert picture.image.dtype == np.uint8
        count = len(picture.boxes)
        assert (picture.landmarks.shape, picture.pose.shape, picture.trust.shape) == (
            (count, 5, 2),
            (count, 3),
            (count,),
        )
        assert (picture.boxes >= 0).all()
        assert (picture.boxes <= 128).all()
        assert (picture.boxes[:, 2:] - picture.boxes[:, :2] >= 3.999).all()
        assert not (np.abs(picture.pose) > 99).any()
        assert (np.isnan(picture.pose).all(1) == np.isnan(picture.pose).any(1)).all()
        known = ~np.isnan(picture.landmarks[:, 0, 0])
        low, high = picture.boxes[known, None, :2], picture.boxes[known, None, 2:]
        inside.append(((picture.landmarks[known] > low) & (picture.landmarks[known] < high)).all(-1).ravel())
        faces += count
    assert faces > 150
    assert np.concatenate(inside).mean() > 0.97


def test_altered_picture_is_a_function_of_seed_and_number(pictures: dict[str, list[Picture]]) -> None:
    """In any order; a mosaic with a piece left out would hold what was in memory before."""
    samples, again = Samples(pictures, SMALL), Samples(pictures, SMALL)
    first = [samples[i] for i in range(60)]
    second = [again[i] for i in reversed(range(60))][::-1]
    for a, b in zip(first, second, strict=True):
        for field in dataclasses.fields(Picture):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    other = Samples(pictures, dataclasses.replace(SMALL, seed=2))
    assert sum(np.array_equal(a.image, other[i].image) for i, a in enumerate(first)) == 0
    assert len({a.image.tobytes() for a in first}) == 60


def test_shares_say_what_is_drawn(pictures: dict[str, list[Picture]]) -> None:
    """Of the pictures of WIDER FACE nothing is known here, so there are no faces."""
    only = dataclasses.replace(SMALL, shares={"wider_face": 1.0, "aflw2000": 0.0})
    assert not any(len(p.boxes) for p in made(pictures, 40, only))
    assert any(len(p.ignored) for p in made(pictures, 40, only))


def test_batches_from_a_step_on_are_those_of_the_whole_run(pictures: dict[str, list[Picture]]) -> None:
    config = dataclasses.replace(SMALL, steps=5)
    whole = list(data.batches(Samples(pictures, config), 0))
    rest = list(data.batches(Samples(pictures, config), 3))
    assert (len(whole), len(rest)) == (5, 2)
    for (image, found), (wanted, truth) in zip(rest, whole[3:], strict=True):
        assert torch.equal(image, wanted)
        for field in dataclasses.fields(Labels):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(truth, field.name))


def scenery(boxes: list[list[float]], landmarks: list[list[float]] | None = None) -> Picture:
    """A large picture of noise with faces that are green discs; with landmarks, a red left and a blue right eye."""
    image = np.random.default_rng(0).integers(60, 120, (480, 480, 3), np.uint8)
    for x, y, right, bottom in boxes:
        centre = np.round([(x + right) / 2 * 16 - 8, (y + bottom) / 2 * 16 - 8]).astype(int).tolist()
        cv2.circle(image, centre, round((right - x) / 2 * 16), (0, 255, 0), -1, cv2.LINE_AA, 4)
    for place, colour in zip(landmarks or [], [(0, 0, 255), (255, 0, 0)], strict=False):
        cv2.circle(image, [round(v) for v in place], 9, colour, -1)
    points = [[NAN] * 2] * 5 if landmarks is None else landmarks
    count = len(boxes)
    return Picture(
        image,
        np.array(boxes, float).reshape(-1, 4),
        np.array([points] * count, float).reshape(-1, 5, 2),
        np.full((count, 3), NAN),
        np.ones(count),
        np.zeros((0, 4)),
    )


def looks(picture: Picture, count: int, source: str = "aflw2000", side: int = 128) -> Iterator[Picture]:
    for seed in range(count):
        yield augment.look(np.random.default_rng(seed), source, picture, side, side)


def displacements() -> Floats:
    """Of green discs, in altered pictures, from the middle of their boxes (N, 2), in pixels."""
    off = []
    y, x = np.mgrid[:128, :128] + 0.5
    for look in looks(scenery([[190.0, 180, 290, 280]]), 120):
        for box in look.boxes[(look.boxes > 1).all(1) & (look.boxes < 127).all(1)]:
            middle, size = (box[:2] + box[2:]) / 2, box[2] - box[0]
            blue, green, red = look.image.astype(float).transpose(2, 0, 1)
            near = np.maximum(abs(x - middle[0]), abs(y - middle[1])) < 0.8 * size
            weight = ((green - np.maximum(blue, red) - 20) / 235).clip(0, 1) * near
            assert weight.sum() == pytest.approx(math.pi / 4 * size**2, rel=0.15)
            off.append([(x * weight).sum() / weight.sum() - middle[0], (y * weight).sum() / weight.sum() - middle[1]])
    assert len(off) > 40
    return np.array(off)


def test_pixels_go_exactly_where_the_labels_say() -> None:
    """A pixel's middle is half a pixel from its corner, also in a mirrored and in a shrunk picture."""
    assert np.abs(displacements()).max() < 0.1


EYES = [[210.0, 215.0], [270.0, 215.0], [240.0, 240.0], [215.0, 265.0], [265.0, 265.0]]


def test_left_eye_is_on_the_left_whichever_it_was() -> None:
    """And a head that looked to the left looks to the right in a mirrored picture."""
    picture = dataclasses.replace(scenery([[190.0, 180, 290, 280]], EYES), pose=np.array([[40.0, 0, 0]]))
    mirrored = []
    for look in looks(picture, 80):
        if len(look.boxes) == 0 or np.isnan(look.landmarks).any() or np.ptp(look.boxes[0, ::2]) < 40:
            continue
        left, right = look.landmarks[0, :2]
        if min(*left, *right) < 0 or max(*left, *right) >= 128:
            continue
        assert left[0] < right[0]
        colours = [look.image[int(y), int(x)].argmax() for x, y in (left, right)]
        assert colours in ([2, 0], [0, 2])
        mirrored.append(colours == [0, 2])
        assert (look.pose[0, 0] < 0) == mirrored[-1]
    assert 5 < sum(mirrored) < len(mirrored) - 5


def test_roll_is_that_of_the_line_between_the_eyes() -> None:
    picture = dataclasses.replace(scenery([[190.0, 180, 290, 280]], EYES), pose=np.zeros((1, 3)))
    rolls = []
    for look in looks(picture, 60):
        for pose, points in zip(look.pose, look.landmarks, strict=True):
            if np.isnan(pose).any():
                continue
            x, y = points[1] - points[0]
            np.testing.assert_allclose(pose, [0, 0, math.degrees(math.atan2(y, x))], atol=1e-9)
            rolls.append(pose[2])
    assert min(rolls) < -10
    assert max(rolls) > 10


def test_points_and_pose_of_cut_faces_are_not_known() -> None:
    picture = dataclasses.replace(scenery([[190.0, 180, 290, 280]], EYES), pose=np.zeros((1, 3)))
    cut, whole = 0, 0
    for look in looks(picture, 120):
        for (width, height), points, pose in zip(
            look.boxes[:, 2:] - look.boxes[:, :2], look.landmarks, look.pose, strict=True
        ):
            known = not np.isnan(points).any()
            assert known != bool(np.isnan(pose).any())
            if width * height < 0.79 * max(width, height) ** 2:  # The box was a square.
                assert not known
                cut += 1
            whole += known
    assert cut > 10
    assert whole > 10


def test_cut_and_tiny_faces_are_neither_faces_nor_background() -> None:
    corner = scenery([[-30.0, -30, 34, 34], [200, 200, 203, 203], [300, 300, 360, 360]])
    kept, ignored = 0, 0
    for look in looks(corner, 60, "face_counting"):
        kept += len(look.boxes)
        ignored += len(look.ignored)
        assert (look.boxes[:, 2:] - look.boxes[:, :2] >= 3.999).all()
    assert kept > 20
    assert ignored > 20


def test_ignored_regions_lie_in_the_picture() -> None:
    """Else the faces' surroundings in the next look of a mosaic are no background."""
    picture = dataclasses.replace(scenery([[20.0, 20, 80, 80]]), ignored=np.array([[300.0, 10, 470, 470]]))
    for look in looks(picture, 60, "face_counting", 64):
        assert (look.ignored >= 0).all()
        assert (look.ignored <= 64).all()


@pytest.mark.parametrize("side", [32, 64, 96])
def test_any_side_works(side: int, pictures: dict[str, list[Picture]]) -> None:
    for picture in made(pictures, 150, dataclasses.replace(SMALL, side=side)):
        assert picture.image.shape == (side, side, 3)


def test_pictures_without_faces_work() -> None:
    empty = scenery([])
    rng = np.random.default_rng(0)
    for _ in range(40):
        picture = augment.compose(rng, lambda: ("face_counting", empty), 64)
        assert picture.image.shape == (64, 64, 3)
        assert len(picture.boxes) == len(picture.pose) == 0
        assert len(np.unique(picture.image)) > 1


# --- steps ---


def test_rate_warms_up_then_falls_to_a_hundredth() -> None:
    config = Config(steps=1000, warmup=100, rate=0.5)
    rates = [train.rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.005)
    assert np.diff(rates[:101]).min() >= 0
    assert rates[99] == rates[100] == pytest.approx(0.5)
    assert np.diff(rates[100:]).max() < 0
    assert rates[550] == pytest.approx(0.5 * 0.505)
    assert rates[1000] == pytest.approx(0.005)
    assert train.rate(dataclasses.replace(config, warmup=0), 0) == pytest.approx(0.5)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_two_steps_change_the_weights(bfloat16: bool, pictures: dict[str, list[Picture]]) -> None:
    config = dataclasses.replace(SMALL, batch=3, steps=2, bfloat16=bfloat16)
    state = train.start(config)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    found = list(train.run(state, data.batches(Samples(pictures, config), 0)))
    assert [set(f) for f in found] == [{"total", "score", "box", "landmarks", "pose"}] * 2
    assert all(math.isfinite(v) for f in found for v in f.values())
    changed = {k: not torch.equal(v, before[k]) for k, v in state.model.state_dict().items()}
    assert all(changed.values()), [k for k, v in changed.items() if not v]
    assert all(torch.isfinite(v).all() for v in state.average.state_dict().values())
    assert all(v.dtype == torch.float32 for v in state.model.parameters())


def test_same_seed_starts_the_same_and_another_does_not() -> None:
    first, second, other = (train.start(dataclasses.replace(SMALL, seed=s)).model.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(v, second[k]) for k, v in first.items())
    assert not all(torch.equal(v, other[k]) for k, v in first.items())


def test_learns_a_repeated_batch(pictures: dict[str, list[Picture]]) -> None:
    config = dataclasses.replace(SMALL, batch=4, steps=30, warmup=5)
    state = train.start(config)
    batch = collate([Samples(pictures, config)[i] for i in range(4)])
    assert not batch[1].faces.isnan().all()
    assert not batch[1].pose.isnan().all()

    def repeated() -> Iterator[tuple[Tensor, Labels]]:
        while True:
            yield batch

    found = list(train.run(state, repeated()))
    for name, part in {"total": 0.6, "score": 0.8, "box": 0.8, "landmarks": 0.8}.items():
        assert np.mean([f[name] for f in found[-3:]]) < part * np.mean([f[name] for f in found[:3]]), name


# --- going on after a kill ---


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run that nothing disturbs: its losses, step by step, and what it ends with."""

    losses: list[dict[str, float]]
    state: train.State

    def records(self, config: Config) -> list[dict[str, float]]:
        """What its log should say: a mean of every 50 steps, and of what is left."""
        ends = [*range(50, config.steps, 50), config.steps]
        means = [
            {k: float(np.mean([f[k] for f in self.losses[start:end]])) for k in self.losses[0]}
            for start, end in zip([0, *ends], ends, strict=False)
        ]
        return [{"step": end, **mean} for end, mean in zip(ends, means, strict=True)]


TINY = dataclasses.replace(SMALL, side=64, warmup=5, shares={"face_counting": 1.0})
SHORT = dataclasses.replace(TINY, steps=7, keep_every=3)


def undisturbed(pictures: dict[str, list[Picture]], config: Config) -> Whole:
    state = train.start(config)
    return Whole(list(train.run(state, data.batches(Samples(pictures, config), 0))), state)


@pytest.fixture(scope="module")
def short(pictures: dict[str, list[Picture]]) -> Whole:
    return undisturbed(pictures, SHORT)


def read_log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def same_log(have: list[dict[str, float]], wanted: list[dict[str, float]]) -> None:
    assert [r["step"] for r in have] == [r["step"] for r in wanted]
    for a, b in zip(have, wanted, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(b, abs=3e-4)


def weights(state: train.State) -> dict[str, Tensor]:
    return {k: v for k, v in state.average.state_dict().items() if not k.endswith("num_batches_tracked")}


def distance(have: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert have.keys() == wanted.keys()
    return max(float((have[k] - v).abs().max()) for k, v in wanted.items())


class Crash(Exception):
    pass


def crash(pictures: dict[str, list[Picture]], config: Config, step: int, out: Path) -> None:
    """Train to a step, and no further."""
    batches = data.batches

    def some(samples: Samples, first: int) -> Iterator[tuple[Tensor, Labels]]:
        whole = batches(samples, first)
        for _ in range(first, step):
            yield next(whole)
        raise Crash

    out.mkdir()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(data, "batches", some)
        train.train(train.start(config), pictures, out)


def command(labels: Path, config: Path, out: Path) -> list[str]:
    options = {"--labels": labels, "--images": labels.parent, "--config": config, "--out": out}
    return [sys.executable, "-m", "training.train", *(str(v) for pair in options.items() for v in pair)]


@pytest.mark.slow
def test_killed_run_ends_as_if_it_had_not_been(
    labels: Path, pictures: dict[str, list[Picture]], tmp_path: Path
) -> None:
    """Its pictures come from another process, as in a real run. The run beside it has none: threads are alive here by
    now, and a fork would copy the locks that they hold.
    """
    config, out = tmp_path / "config.toml", tmp_path / "out"
    settings = {k: v for k, v in dataclasses.asdict(TINY).items() if k != "shares"} | {"workers": 1}
    lines = [*(f"{k} = {json.dumps(v)}" for k, v in settings.items()), "[shares]", "face_counting = 1.0"]
    config.write_text("\n".join(lines))
    assert read(config) == dataclasses.replace(TINY, workers=1)
    # As many threads as here: sums in another order are other sums.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    start = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    killed = subprocess.Popen(command(labels, config, out), **start)  # type: ignore[call-overload]
    try:
        patience = time.monotonic() + 300
        while not (out / "checkpoint.pt").exists():
            assert killed.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
    finally:
        killed.kill()
        code = killed.wait()
    assert code == -signal.SIGKILL
    assert not (out / "mos-tiny.safetensors").exists()
    assert train.resume(out / "checkpoint.pt").step == 50
    (out / "checkpoint.part").write_bytes(b"half of a checkpoint")

    subprocess.run(command(labels, config, out), check=True, timeout=300, **start)  # type: ignore[call-overload]
    whole = undisturbed(pictures, TINY)
    same_log(read_log(out), whole.records(TINY))
    assert distance(load_file(out / "mos-tiny.safetensors"), weights(whole.state)) < 1e-4
    assert {p.name for p in out.iterdir()} == {"checkpoint.pt", "log.jsonl", "mos-tiny.safetensors"}


@pytest.mark.parametrize("step", [3, 5, 6])
def test_resumed_run_takes_the_same_steps(
    step: int, pictures: dict[str, list[Picture]], short: Whole, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    crash(pictures, SHORT, step, out)
    state = train.resume(out / "checkpoint.pt")
    assert state.step == step - step % 3
    assert state.config == SHORT
    train.train(state, pictures, out)
    assert distance(load_file(out / "mos-tiny.safetensors"), weights(short.state)) < 1e-6
    assert [r["step"] for r in read_log(out)] == [7]


@pytest.mark.slow
def test_comparison_sees_a_run_that_forgot_something(
    pictures: dict[str, list[Picture]], short: Whole, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    crash(pictures, SHORT, 3, out)
    path = out / "checkpoint.pt"
    whole = torch.load(path, weights_only=True)

    def ends(first: int = 3, **changes: Any) -> float:
        torch.save({**whole, **changes}, path)
        state = train.resume(path)
        list(train.run(state, data.batches(Samples(pictures, SHORT), first)))
        return distance(weights(state), weights(short.state))

    assert ends() < 1e-6
    assert ends(optimizer={**whole["optimizer"], "state": {}}) > 1e-4
    assert ends(average=whole["model"]) > 1e-4
    assert ends(first=0) > 1e-4


def test_log_after_a_resume_has_each_step_once(pictures: dict[str, list[Picture]], tmp_path: Path) -> None:
    """What was logged after the last checkpoint is logged again, and only once."""
    out = tmp_path / "out"
    crash(pictures, SHORT, 5, out)
    (out / "log.jsonl").write_text('{"step": 2, "total": 1.0}\n{"step": 5, "total": 2.0}\n')
    train.train(train.resume(out / "checkpoint.pt"), pictures, out)
    log = read_log(out)
    assert [r["step"] for r in log] == [2, 7]
    assert log[0]["total"] == 1


def test_finished_run_is_left_as_it_is(pictures: dict[str, list[Picture]], tmp_path: Path) -> None:
    train.train(train.start(dataclasses.replace(SHORT, steps=2)), pictures, tmp_path)
    before = (tmp_path / "log.jsonl").read_text(), load_file(tmp_path / "mos-tiny.safetensors")
    train.train(train.resume(tmp_path / "checkpoint.pt"), pictures, tmp_path)
    assert (tmp_path / "log.jsonl").read_text() == before[0]
    assert distance(load_file(tmp_path / "mos-tiny.safetensors"), before[1]) == 0


def test_log_is_of_means(pictures: dict[str, list[Picture]], short: Whole, tmp_path: Path) -> None:
    train.train(train.start(SHORT), pictures, tmp_path)
    same_log(read_log(tmp_path), short.records(SHORT))


def test_log_of_a_resumed_run_is_that_of_the_whole(pictures: dict[str, list[Picture]], tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    train.train(train.start(SHORT), pictures, whole)
    crash(pictures, SHORT, 5, resumed)
    train.train(train.resume(resumed / "checkpoint.pt"), pictures, resumed)
    same_log(read_log(resumed), [{k: v for k, v in r.items() if k != "seconds"} for r in read_log(whole)])


@pytest.mark.slow
def test_half_a_line_in_the_log_does_no_harm(pictures: dict[str, list[Picture]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    crash(pictures, SHORT, 5, out)
    (out / "log.jsonl").write_text('{"step": 2, "total": 1.0}\n{"step": 5, "to')
    train.train(train.resume(out / "checkpoint.pt"), pictures, out)
    assert [r["step"] for r in read_log(out)] == [2, 7]


def test_checkpoint_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = train.start(SHORT)
    path = tmp_path / "checkpoint.pt"
    state.step = 3
    train.keep(state, path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    written: list[Path] = []

    def half(_: Any, target: Path) -> None:
        written.append(target)
        target.write_bytes(b"half of a checkpoint")
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        state.step = 6
        patch.setattr(torch, "save", half)
        train.keep(state, path)
    assert [p.name for p in written] == ["checkpoint.part"]
    assert train.resume(path).step == 3
    train.keep(state, path)
    assert train.resume(path).step == 6
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_run_starts_from_given_weights(tmp_path: Path) -> None:
    first = train.start(SHORT)
    path = tmp_path / "tiny.safetensors"
    train.save(first.average, path)
    other = dataclasses.replace(SHORT, seed=SHORT.seed + 1)
    assert distance(weights(train.start(other)), weights(first)) > 0.01
    assert distance(weights(train.start(other, path)), weights(first)) == 0


@pytest.mark.parametrize("change", [{"stem.nothing": torch.zeros(1)}, {"pose.bins.bias": torch.zeros(1)}], ids=str)
def test_weights_of_another_network_are_refused(change: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({k: v.contiguous() for k, v in (weights(train.start(SHORT)) | change).items()}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors does not hold the weights of MOS-tiny"):
        train.start(SHORT, path)


@pytest.mark.parametrize("name", ["score", "box", "landmarks", "pose"])
def test_settings_weigh_the_losses(name: str, pictures: dict[str, list[Picture]]) -> None:
    def total(weight: float) -> dict[str, float]:
        changed: dict[str, Any] = {name: weight}
        config = dataclasses.replace(SMALL, **changed)
        return next(train.run(train.start(config), data.batches(Samples(pictures, config), 0)))

    light, heavy = total(1.0), total(3.0)
    assert heavy["total"] - light["total"] == pytest.approx(2 * light[name], rel=1e-4)


def test_saved_weights_are_those_of_the_network(tmp_path: Path) -> None:
    state = train.start(SHORT)
    train.save(state.average, tmp_path / "tiny.safetensors")
    missing, unexpected = MosTiny().load_state_dict(load_file(tmp_path / "tiny.safetensors"), strict=False)
    assert unexpected == []
    assert all(k.endswith("num_batches_tracked") for k in missing)


# --- the network ---


@pytest.fixture(scope="module")
def filled() -> MosTiny:
    """Deterministic weights, also of BatchNorm's statistics."""
    model = MosTiny()
    model.load_state_dict(fill(model.state_dict(), 1.0))
    return model.eval()


def picture_of(height: int, width: int) -> Tensor:
    image = group_photo(np.random.default_rng(0), height, width, 3)
    return (torch.from_numpy(image).permute(2, 0, 1)[None].float() - MEAN).double()


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (96, 32)])
def test_any_multiple_of_32_trains(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = MosTiny()
    face = [4.0, 4, 22, 24]
    found = labelled([face], [[1.0, 2, 3]], batch=2)
    parts = losses(model, torch.randn(2, 3, *size), found)
    torch.autograd.backward(torch.stack(list(parts.values())).sum())
    assert all(math.isfinite(v.item()) for v in parts.values())
    slopes = {k: p.grad for k, p in model.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in slopes.values())


def test_is_small() -> None:
    model = MosTiny().eval()
    assert sum(p.numel() for p in model.parameters()) <= 350_000
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 240, 320))
    assert 50e6 < counter.get_total_flops() / 2 <= 150e6
    counted = {str(op) for op in counter.get_flop_counts()["Global"]}
    assert any("deform_conv2d" in op for op in counted), counted


@pytest.mark.parametrize("size", [(64, 96), (240, 320), (100, 72)])
def test_folded_networks_answer_as_the_trained_ones(size: tuple[int, int], filled: MosTiny) -> None:
    image = picture_of(*size)
    with torch.no_grad():
        wanted, have = Detector(deepcopy(filled)).double()(image), FoldedDetector(filled).double()(image)
    boxes, scores, *_ = wanted
    assert scores.std() > 0.01
    assert boxes.shape[1] == sum(-(-size[0] // s) * -(-size[1] // s) for s in STEPS)
    # The folded weights are rounded to float32, and a hundred pixels come of them.
    for a, b, atol in zip(have, wanted, (1e-3, 1e-6, 1e-3, 1e-5, 1e-5, 1e-5), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=atol)


def test_folded_pose_answers_as_the_trained_one() -> None:
    heads = PoseHeads()
    heads.load_state_dict(fill(heads.state_dict(), 3.0))
    heads.eval().double()
    torch.manual_seed(0)
    patches = torch.randn(20, 48, 3, 3, dtype=torch.float64).abs()
    (wanted,), (have,) = Pose(heads)(patches), FoldedPose(heads).double()(patches)
    assert wanted.shape == (20, 3, 1)
    assert wanted.std() > 1
    torch.testing.assert_close(have, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(64, 96), (240, 320)])
def test_boxes_are_those_of_the_fields(size: tuple[int, int], filled: MosTiny) -> None:
    image = picture_of(*size).float()
    with torch.no_grad():
        fields, maps = filled(image)
        boxes, scores, landmarks, *features = Detector(filled)(image)
    assert [x.shape[1:] for x in maps] == [(48, -(-size[0] // s), -(-size[1] // s)) for s in STEPS]
    assert all(torch.equal(a, b) for a, b in zip(maps, features, strict=True))
    torch.testing.assert_close(scores, fields[..., 4].sigmoid())
    centre, _, side = grid(*size)
    table = fields[0].double()
    middle = centre + 0.1 * side[:, None] * table[:, :2]
    half = side[:, None] / 2 * (0.2 * table[:, 2:4]).exp()
    by_hand = torch.cat([middle - half, middle + half], 1)
    points = (centre[:, None] + 0.1 * side[:, None, None] * table[:, 5:].reshape(-1, 5, 2)).flatten(1)
    for have in (boxes, decode_fields(fields, centre.float(), side.float()[:, None])[0]):
        torch.testing.assert_close(have[0].double(), by_hand, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(landmarks[0].double(), points, rtol=1e-5, atol=1e-3)


def test_training_pictures_are_what_the_pipeline_feeds(pictures: dict[str, list[Picture]]) -> None:
    """BGR minus the same means, so that a frame means the same to the network before and after it is deployed."""
    config = dataclasses.replace(SHORT, steps=1)
    state = train.start(config)
    (batch,) = data.batches(Samples(pictures, config), 0)
    seen: list[Tensor] = []
    handle = state.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    list(train.run(state, iter([batch])))
    handle.remove()
    np.testing.assert_allclose(seen[0], batch[0].float() - MEAN, atol=1e-4)
