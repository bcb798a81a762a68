"""What img2pose's host computes: proposals, where RoIAlign samples, poses and the boxes around them, aligned crops."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import fsolve
from scipy.spatial.transform import Rotation

from facedeploy import pipelines
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.serialization import from_plain
from facedeploy.models import registry
from facedeploy.models.img2pose_networks import atlas, sampled
from facedeploy.pipelines import pose6d
from facedeploy.pipelines.align import align, similarities
from facedeploy.pipelines.img2pose import Img2PoseConfig, Img2PosePipeline, resized
from facedeploy.pipelines.nms import nms
from facedeploy.pipelines.proposals import pick
from facedeploy.pipelines.roi_align import sample_grid
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from tests.models.test_img2pose import head_points
from tests.pipelines.test_nms import greedy

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "img2pose.json").read_text())
PICTURE = (64, 96)  # Height and width; its maps are 16x24, 8x12, 4x6 and 2x3.
LARGE = (608, 800)
POINTS68, POINTS5 = (v.astype(np.float64) for v in head_points())
MEAN, STD = np.array(GOLDEN["project"]["pose_mean"]), np.array(GOLDEN["project"]["pose_std"])
HOW: dict[str, pose6d.Rotation] = {"project": "nearest", "project_markley": "markley"}


# RoIAlign


def canonical_level(box: Box, side: float = 224.0) -> int:
    area = (box[2] - box[0]) * (box[3] - box[1])
    return min(max(math.floor(2 + math.log2(math.sqrt(area) / side) + 1e-6), 0), 3) if area else 0


def roi_align(maps: list[Floats], box: Box, level: int) -> Floats:
    """(C, 7, 7) of one box, as torchvision's roi_align of maps (C, h, w) with 2x2 samples and aligned=False."""
    values = maps[level]
    channels, height, width = values.shape
    x1, y1, x2, y2 = (v / (4 * 2**level) for v in box)
    bin_width, bin_height = max(x2 - x1, 1.0) / 7, max(y2 - y1, 1.0) / 7
    out = np.zeros((channels, 7, 7))
    for row in range(7):
        for column in range(7):
            for i in range(2):
                for j in range(2):
                    y = y1 + row * bin_height + (i + 0.5) * bin_height / 2
                    x = x1 + column * bin_width + (j + 0.5) * bin_width / 2
                    out[:, row, column] += bilinear(values, y, x, height, width) / 4
    return out


def bilinear(values: Floats, y: float, x: float, height: int, width: int) -> Any:
    if y < -1 or y > height + 1e-9 or x < -1 or x > width + 1e-9:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = (y - top if top < height - 1 else 0.0), (x - left if left < width - 1 else 0.0)
    upper = values[:, top, left] * (1 - across) + values[:, top, right] * across
    lower = values[:, bottom, left] * (1 - across) + values[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def pyramid(size: tuple[int, int]) -> list[Floats]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, size[0] >> k, size[1] >> k)) for k in (2, 3, 4, 5)]


def by_grid(maps: list[Floats], grid: NDArray[np.float32]) -> Floats:
    """(N, C, 7, 7), as the exported network samples."""
    features = atlas([torch.from_numpy(v[None]).float() for v in maps])
    samples = sampled(features, torch.from_numpy(grid)).numpy()[0]
    return np.stack(np.split(samples.astype(np.float64), samples.shape[2] // 7, axis=2))


@st.composite
def boxes_in(draw: st.DrawFn, size: tuple[int, int]) -> Box:
    """Corners at quarter pixels, at the borders too, down to no side at all."""
    xs = sorted(draw(st.tuples(*[st.integers(0, 4 * size[1]) | st.sampled_from([0, 4 * size[1]])] * 2)))
    ys = sorted(draw(st.tuples(*[st.integers(0, 4 * size[0]) | st.sampled_from([0, 4 * size[0]])] * 2)))
    return xs[0] / 4, ys[0] / 4, xs[1] / 4, ys[1] / 4


@settings(deadline=None, max_examples=60)
@given(st.lists(boxes_in(PICTURE), min_size=1, max_size=4))
@example([(0, 0, 96, 64), (95.75, 63.75, 96, 64), (0, 0, 0, 0), (96, 64, 96, 64)])
def test_sampling_equals_roi_align(boxes: list[Box]) -> None:
    maps = pyramid(PICTURE)
    have = by_grid(maps, sample_grid(np.array(boxes), PICTURE, 5))
    for values, box in zip(have, boxes, strict=False):
        np.testing.assert_allclose(values, roi_align(maps, box, canonical_level(box)), atol=1e-4)
    assert not have[len(boxes) :].any()  # Places without a box.


@settings(deadline=None, max_examples=25)
@given(boxes_in(LARGE))
@example((100, 100, 324, 324))
@example((0, 100, 448, 548))
@example((0, 0, 800, 608))
def test_sampling_equals_roi_align_on_every_level(box: Box) -> None:
    maps = pyramid(LARGE)
    (have,) = by_grid(maps, sample_grid(np.array([box]), LARGE, 1))
    np.testing.assert_allclose(have, roi_align(maps, box, canonical_level(box)), atol=1e-3)


def test_another_level_or_axes_in_another_order_give_other_samples() -> None:
    maps, box = pyramid(LARGE), (100.0, 120.0, 300.0, 280.0)
    grid = sample_grid(np.array([box]), LARGE, 1)
    right = by_grid(maps, grid)[0]
    for wrong in (by_grid(maps, grid[..., ::-1].copy())[0], roi_align(maps, box, canonical_level(box, side=112))):
        assert np.abs(right - wrong).max() > 0.1


# Proposals


@pytest.mark.parametrize(("top", "keep"), [(6000, 10), (20, 10), (6000, 3), (6000, 5000)])
@pytest.mark.parametrize("seed", range(4))
def test_proposals_are_those_of_the_plain_loop(seed: int, top: int, keep: int) -> None:
    rng = np.random.default_rng(seed)
    levels = (200, 70, 1, 0, 5)
    logits = rng.permutation(sum(levels)).astype(np.float32) / 100
    centre = rng.uniform(-10, 110, (sum(levels), 2))
    boxes = np.hstack([centre, centre + rng.uniform(0, 60, (sum(levels), 2))]).astype(np.float32)
    found = []
    for level in np.split(np.arange(sum(levels)), np.cumsum(levels)[:-1]):
        mine = level[np.argsort(-logits[level])][:top]
        clipped = boxes[mine].astype(float).clip(0, [100, 80, 100, 80])
        mine, clipped = (v[(clipped[:, 2:] - clipped[:, :2] >= 1e-3).all(axis=1)] for v in (mine, clipped))
        kept = greedy(clipped, logits[mine], 0.4, "union", pixel=0.0)
        found += [(logits[mine[k]], clipped[k].tolist()) for k in kept]
    want = [box for _, box in sorted(found, reverse=True)][:keep]
    have = pick(logits, boxes, levels, (80, 100), top=top, threshold=0.4, keep=keep)
    assert len(want) > 2
    np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("count", [3, 200])
def test_corners_between_pixels_suppress_without_a_pixel_more(count: int) -> None:
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 8, (count, 2))
    boxes = np.hstack([corner, corner + rng.integers(0, 3, (count, 2))]).astype(np.float64)  # Some have no area.
    scores = rng.permutation(count) / count
    have = nms(boxes, scores, 0.3, pixel=0.0).tolist()
    assert have == greedy(boxes, scores, 0.3, "union", pixel=0.0)
    assert count < 10 or have != nms(boxes, scores, 0.3).tolist()


# Poses


@pytest.mark.parametrize("key", HOW)
def test_poses_and_boxes_are_the_published_ones(key: str, assets: Path) -> None:
    file = assets.parent / "golden" / "reference_3d_68_points_trans.npy"
    if not file.is_file():
        pytest.skip("the published head model is not shipped")
    golden = GOLDEN[key]
    size = golden["image_hw"][0], golden["image_hw"][1]
    poses = pose6d.in_picture(np.array(golden["dofs"]) * STD + MEAN, np.array(golden["boxes"]), size, HOW[key])
    np.testing.assert_allclose(poses, golden["global_dofs"], atol=1e-3)
    points = pose6d.project(poses, np.load(file).astype(np.float64), size)
    np.testing.assert_array_equal(pose6d.boxes_around(points, poses[:, 2], size), golden["projected_boxes"])


def test_a_sheared_rotation_depends_on_how_it_becomes_one() -> None:
    golden = GOLDEN["project"]
    wrong = pose6d.in_picture(np.array(golden["dofs"]) * STD + MEAN, np.array(golden["boxes"]), (480, 640), "markley")
    assert np.abs(wrong - golden["global_dofs"]).max() > 0.05


vectors = st.tuples(*[st.floats(-3, 3)] * 3).filter(lambda v: np.linalg.norm(v) < 3.1)


@settings(deadline=None, max_examples=100)
@given(vectors)
@example((0.0, 0.0, 0.0))
@example((1e-9, 0.0, -1e-9))
@example((0.0, 3.09, 0.0))
def test_rotations_are_those_of_scipy(vector: tuple[float, float, float]) -> None:
    rows = np.array([vector])
    rotation = Rotation.from_rotvec(rows)
    matrices = rotation.as_matrix()
    np.testing.assert_allclose(pose6d.matrices(rows), matrices, atol=1e-9)
    for how in HOW.values():
        np.testing.assert_allclose(pose6d.vectors(matrices, how), rows, atol=1e-6)
    if abs(abs(np.degrees(np.arcsin(matrices[0, 0, 2].clip(-1, 1)))) - 90) > 1:  # Else pitch and roll are the same.
        first, second, third = rotation.inv().as_euler("xyz", degrees=True)[0]
        have = pose6d.angles(rows)[0] - (-second, first, -third)
        np.testing.assert_allclose((have + 180) % 360 - 180, 0, atol=1e-5)


@pytest.mark.parametrize(("vector", "angle"), [((0, 0.3, 0), "left"), ((-0.3, 0, 0), "up"), ((0, 0, 0.3), "clockwise")])
def test_angles_have_the_signs_of_the_other_models(vector: tuple[float, float, float], angle: str) -> None:
    pose = np.array([[*vector, 0, 0, 4]], np.float64)
    turned, straight = (pose6d.project(p, POINTS5, (480, 640))[0] for p in (pose, pose * [0, 0, 0, 1, 1, 1]))
    moved = turned - straight
    value = pose6d.angles(pose[:, :3])[0, ["left", "up", "clockwise"].index(angle)]
    assert value == pytest.approx(math.degrees(0.3))
    if angle == "clockwise":
        assert moved[0, 1] < 0 < moved[1, 1]  # The left eye rises.
    else:
        assert moved[2, 0 if angle == "left" else 1] < -10  # Where the nose goes.


@pytest.mark.parametrize(
    ("roll", "side"), [(0.0, "top"), (0.9, "top"), (1.2, "right"), (-1.2, "left"), (2.6, "bottom"), (-2.6, "bottom")]
)
def test_the_forehead_is_where_the_top_of_the_head_is(roll: float, side: str) -> None:
    points = np.array([[[100.0, 100.0], [200.0, 180.0]]])
    box = pose6d.boxes_around(points, np.array([roll]), (480, 640))[0]
    want = [95.0, 96.0, 205.0, 184.0]
    want[["left", "top", "right", "bottom"].index(side)] += {"left": -30, "top": -24, "right": 30, "bottom": 24}[side]
    assert box.tolist() == want


# Known faces through the pipeline


class Played(Runtime):
    """A network whose answers are known."""

    backend = "played"
    concurrent = True

    def __init__(self, spec: NetworkSpec, answers: Mapping[str, Array]) -> None:
        super().__init__(spec, RuntimeOptions(threads=1))
        self.answers = dict(answers)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self.answers

    def _close(self) -> None: ...


def known_pipeline(boxes: Floats, dofs: Floats, scores: Floats, how: pose6d.Rotation) -> Img2PosePipeline:
    """The pipeline at 608x800 over networks that answer with these proposals, poses and scores, best first."""
    proposer, head = registry.get("img2pose").network_specs(LARGE)
    features, objectness, proposals = map(zeros, proposer.outputs)
    objectness[0] = -10
    objectness[0, 500 : 500 + len(boxes)] = -np.arange(len(boxes))
    proposals[0, 500 : 500 + len(boxes)] = boxes
    values = {"scores": np.zeros((1, 100), np.float32), "dofs": np.zeros((1, 6, 100), np.float32)}
    values["scores"][0, : len(boxes)] = scores
    values["dofs"][0, :, : len(boxes)] = dofs.T
    runtimes = {
        "proposer": Played(proposer, {"features": features, "objectness": objectness, "proposals": proposals}),
        "head": Played(head, values),
    }
    made = pipelines.make(pipelines.configure("img2pose", {"rotation": how}, constants()), runtimes)
    assert isinstance(made, Img2PosePipeline)
    return made


def zeros(tensor: TensorSpec) -> NDArray[np.float32]:
    return np.zeros([int(d) for d in tensor.shape], np.float32)


def constants() -> dict[str, Any]:
    return {
        "pose_mean": MEAN.tolist(),
        "pose_std": STD.tolist(),
        "points68": POINTS68.tolist(),
        "points5": POINTS5.tolist(),
    }


def local(pose: Floats, box: Floats, size: tuple[int, int], how: pose6d.Rotation) -> Floats:
    """What the head must answer for a face whose pose in the picture is known."""
    focal = sum(size)
    centre = box[:2] + np.floor((box[2:] - box[:2]) / 2)
    change = np.eye(3)
    change[:2, 2] = (centre - (size[1] // 2, size[0] // 2)) / focal
    translation = np.linalg.solve(change, pose[3:])
    translation[2] *= (box[2:] - box[:2]).sum() / focal

    def off(vector: Floats) -> Floats:
        whole = pose6d.in_picture(np.hstack([vector, translation])[None], box[None], size, how)
        result: Floats = whole[0, :3] - pose[:3]
        return result

    answer: Floats = (np.hstack([fsolve(off, pose[:3], xtol=1e-12), translation]) - MEAN) / STD
    return answer


@pytest.mark.parametrize("how", HOW.values())
def test_known_faces_come_back(how: pose6d.Rotation) -> None:
    poses = np.array([[0.1, 0.3, -0.2, -2, -1, 14], [-0.3, -0.5, 0.4, 3, 2, 17.0], [0.0, 0.8, 1.3, 4, -2, 20]])
    boxes = np.array([[150.0, 180, 260, 300], [560, 380, 660, 500], [590, 120, 660, 220]])
    size = (600, 800)  # What a picture of 480x640 is resized to.
    dofs = np.stack([local(p, b, size, how) for p, b in zip(poses, boxes, strict=True)])
    dofs, boxes = np.vstack([dofs, dofs[:1]]), np.vstack([boxes, [[400, 400, 500, 500]]])
    image = np.zeros((480, 640, 3), np.uint8)
    faces = known_pipeline(boxes, dofs, np.array([0.97, 0.99, 0.95, 0.5]), how).detect(image)
    assert [f.score for f in faces] == pytest.approx([0.99, 0.97, 0.95])
    for face, pose in zip(faces, poses[[1, 0, 2]], strict=True):
        rotation = Rotation.from_rotvec(pose[:3])
        first, second, third = rotation.inv().as_euler("xyz", degrees=True)
        assert (face.yaw, face.pitch, face.roll) == pytest.approx((-second, first, -third), abs=0.1)
        seen = {n: rotation.apply(p) + pose[3:] for n, p in (("box", POINTS68), ("landmarks", POINTS5))}
        pixels = {n: 1400 * v[:, :2] / v[:, 2:] + (400, 300) for n, v in seen.items()}
        low, high = pixels["box"].min(axis=0), pixels["box"].max(axis=0)
        half = np.floor((high - low) * 1.1) / 2
        want = np.hstack([(low + high) / 2 - half, (low + high) / 2 + half])
        want[2 if pose[2] > 1 else 1] += (0.3 if pose[2] > 1 else -0.3) * (high - low)[0 if pose[2] > 1 else 1]
        # Sides are cut to whole pixels of the resized picture, which is 1.25 times as large.
        assert (np.array(face.box) * 1.25 - np.trunc(want)).tolist() == pytest.approx([0] * 4, abs=0.5)
        assert face.landmarks is not None
        np.testing.assert_allclose(np.array(face.landmarks) * 1.25, pixels["landmarks"], atol=0.01)


def test_a_head_behind_the_camera_or_outside_of_the_picture_is_no_face() -> None:
    behind, outside = np.array([0, 0, 0, 0, 0, -9.0]), np.array([0, 0, 0, 40.0, 0, 14])
    boxes = np.array([[150.0, 180, 260, 300], [560, 380, 660, 500]])
    dofs = np.stack([local(p, b, (600, 800), "nearest") for p, b in zip((behind, outside), boxes, strict=True)])
    pipeline = known_pipeline(boxes, dofs, np.array([0.99, 0.98]), "nearest")
    assert pipeline.detect(np.zeros((480, 640, 3), np.uint8)) == []


def test_more_proposals_than_the_head_takes_at_once_are_all_looked_at() -> None:
    pipeline = known_pipeline(np.zeros((0, 4)), np.zeros((0, 6)), np.zeros(0), "markley")
    boxes = np.tile([[10.0, 10, 60, 60]], (230, 1))
    scores, dofs = pipeline.look(zeros(pipeline.runtimes["head"].spec.inputs[0]), boxes)
    assert scores.shape == (230,)
    assert dofs.shape == (230, 6)


def made(changes: Mapping[str, int]) -> Img2PoseConfig:
    return from_plain(Img2PoseConfig, {**constants(), **changes})


@pytest.mark.parametrize(
    ("original", "changes", "want"),
    [
        ((480, 640), {}, (600, 800)),
        ((720, 1280), {}, (450, 800)),
        ((450, 450), {}, (600, 600)),
        ((640, 480), {}, (608, 456)),
        ((480, 640), {"min_size": 400}, (400, 533)),
        ((480, 640), {"max_size": 400}, (300, 400)),
        ((1, 2000), {}, (1, 800)),
    ],
)
def test_pictures_are_resized_as_published_and_never_beyond_the_network(
    original: tuple[int, int], changes: dict[str, int], want: tuple[int, int]
) -> None:
    assert resized(original, LARGE, made(changes)) == want


@pytest.mark.parametrize(
    "changes",
    [
        {"pose_mean": [0.0] * 5},
        {"pose_std": [1.0] * 5 + [0.0]},
        {"points68": [[0.0, 0.0, 0.0]] * 5},
        {"points5": [[0.0, 0.0]] * 5},
        {"points5": [[0.0], [0.0, 1.0]]},
        {"score_threshold": 1.5},
        {"rotation": "newest"},
        {"proposals": 0},
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        pipelines.configure("img2pose", changes, constants())


# Aligned crops


def test_landmarks_at_a_template_come_to_it_from_anywhere() -> None:
    rng = np.random.default_rng(0)
    template = np.array([[39.730, 51.138], [72.270, 51.138], [56.0, 68.493], [42.463, 87.010], [69.537, 87.010]])
    angle, scale, shift = rng.uniform(-3, 3, 20), rng.uniform(0.2, 5, 20), rng.uniform(-300, 300, (20, 1, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    landmarks = scale[:, None, None] * (template @ turn.transpose(0, 2, 1)) + shift
    for size in (112, 224):
        found = similarities(landmarks, size)
        moved = landmarks @ found[:, :, :2].transpose(0, 2, 1) + found[:, None, :, 2]
        np.testing.assert_allclose(moved, np.tile(template * size / 112, (20, 1, 1)), atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_similarities_are_the_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frontal = np.array([[39.730, 51.138], [72.270, 51.138], [56.0, 68.493], [42.463, 87.010], [69.537, 87.010]])
    points = frontal * 2 + rng.normal(0, 2, (5, 2))
    (found,) = similarities(points[None], 112)
    one, zero = np.ones(5), np.zeros(5)
    across = np.stack([points[:, 0], -points[:, 1], one, zero], axis=1)
    down = np.stack([points[:, 1], points[:, 0], zero, one], axis=1)
    a, b, x, y = np.linalg.lstsq(np.vstack([across, down]), frontal.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(found, [[a, -b, x], [b, a, y]], atol=1e-8)


def test_crops_show_the_landmarks_where_the_template_has_them() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    landmarks = np.array([[150.0, 120], [214, 118], [183, 152], [156, 190], [210, 188]])
    for i, (x, y) in enumerate(landmarks.astype(int).tolist()):
        cv2.circle(image, (x, y), 4, (40 * i + 60,) * 3, -1)
    crops = align(image, [landmarks, landmarks + 1], 112)
    assert crops.shape == (2, 112, 112, 3)
    template = np.array([[39.730, 51.138], [72.270, 51.138], [56.0, 68.493], [42.463, 87.010], [69.537, 87.010]])
    for i, (x, y) in enumerate(template.round().astype(int).tolist()):
        assert abs(int(crops[0, y, x, 0]) - (40 * i + 60)) < 20
    assert align(image, [], 224).shape == (0, 224, 224, 3)


@pytest.mark.parametrize(
    ("landmarks", "size"), [(np.zeros((1, 4, 2)), 112), (np.full((1, 5, 2), np.nan), 112), ([], 96)]
)
def test_impossible_crops_are_refused(landmarks: Any, size: Any) -> None:
    with pytest.raises(InputError):
        align(np.zeros((9, 9, 3), np.uint8), landmarks, size)
