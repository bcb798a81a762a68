"""img2pose: proposals, the pose of each in six degrees of freedom, and from that box, landmarks and angles of a face.

The steps and constants are those of the published code (vitoralbiero/img2pose: models.py, generalized_rcnn.py, rpn.py
and utils/pose_operations.py); `docs/explanation/img2pose.md` says what is different on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image, Pixels, Preprocess
from facedeploy.pipelines import pose6d
from facedeploy.pipelines.base import Pipeline, check_fractions
from facedeploy.pipelines.nms import nms
from facedeploy.pipelines.pose6d import Rotation
from facedeploy.pipelines.proposals import pick
from facedeploy.pipelines.resize import picture
from facedeploy.pipelines.roi_align import SAMPLES, STRIDES, sample_grid
from facedeploy.runtimes.base import Array, Arrays, Runtime

Floats = NDArray[np.float64]
Size = tuple[int, int]

_RATIOS = 3  # Anchors of a cell.
_SMALLEST = 1e-2  # Sides of proposals that are no faces.


@dataclass(frozen=True)
class Img2PoseConfig:
    """Settings of img2pose. The defaults are those of the published notebooks for one's own pictures.

    Attributes:
        pose_mean: Mean of the six numbers of a pose; a file of the published code has it.
        pose_std: Standard deviation of the six numbers of a pose, likewise.
        points68: (68, 3) points of the head model, likewise.
        points5: (5, 3) points of the head model, likewise.
        min_size: What the shorter side of a picture becomes, pixels, but not more than the network takes.
        max_size: What the longer side becomes at most, pixels, but not more than the network takes.
        score_threshold: Scores must exceed it, 0..1.
        rotation: How a sheared rotation becomes one again; see `pose6d`.
        proposals: How many boxes are looked at.
        proposal_top: How many boxes of a level go into the suppression of proposals.
        proposal_nms: Overlap (IoU) above which the worse of two proposals is dropped, 0..1.
        nms: A face is dropped when its overlap (IoU) with a better one exceeds this, 0..1.
        preprocess: How pixels become the network's input.
    """

    pose_mean: tuple[float, ...]
    pose_std: tuple[float, ...]
    points68: tuple[tuple[float, ...], ...]
    points5: tuple[tuple[float, ...], ...]
    min_size: int = 600
    max_size: int = 1400
    score_threshold: float = 0.9
    rotation: Rotation = "markley"
    proposals: int = 100
    proposal_top: int = 6000
    proposal_nms: float = 0.4
    nms: float = 0.5
    # ImageNet's statistics, as torchvision's models have them.
    preprocess: Preprocess = Preprocess(
        colours="rgb",
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
    )

    def __post_init__(self) -> None:
        shapes = {"pose_mean": (6,), "pose_std": (6,), "points68": (68, 3), "points5": (5, 3)}
        for name, shape in shapes.items():
            if not _is_table(getattr(self, name), shape):
                msg = f"{name} must hold {' x '.join(map(str, shape))} finite numbers: use the published file"
                raise InputError(msg)
        if min(self.pose_std) <= 0:
            msg = f"pose_std must be positive, not {self.pose_std}: use the published file"
            raise InputError(msg)
        check_fractions(self, "score_threshold", "proposal_nms", "nms")
        if min(self.min_size, self.max_size, self.proposals, self.proposal_top) < 1:
            msg = "min_size, max_size, proposals and proposal_top must be positive"
            raise InputError(msg)


class Img2PosePipeline(Pipeline):
    """Finds faces with five landmarks and yaw, pitch and roll."""

    pictures = frozenset({"proposer"})

    def __init__(self, runtimes: Mapping[str, Runtime], config: Img2PoseConfig) -> None:
        super().__init__(runtimes)
        self.config = config
        size = runtimes["proposer"].spec.picture_size
        assert size is not None
        self._size = size
        self._levels = anchors_of_levels(self._size)
        self._mean, self._std = np.array(config.pose_mean), np.array(config.pose_std)
        self._points = np.array(config.points68), np.array(config.points5)

    def _detect(self, image: Image) -> list[Face]:
        size = resized(image.shape[:2], self._size, self.config)
        found = self.runtimes["proposer"].run_pictures([self._padded(picture(image, *size))])[0]
        proposals = self.propose(found, size)
        scores, dofs = self.look(found["features"], proposals)
        large = ((proposals[:, 2:] - proposals[:, :2]) >= _SMALLEST).all(axis=1)
        likely = np.flatnonzero((scores > self.config.score_threshold) & large)
        poses = pose6d.in_picture(dofs[likely], proposals[likely], size, self.config.rotation)
        return self._faces(poses, scores[likely], size, image.shape[:2])

    def propose(self, found: Arrays, size: Size) -> Floats:
        """Boxes (N, 4) of the resized picture, of `size`, that may hold a face."""
        return pick(
            found["objectness"][0],
            found["proposals"][0],
            self._levels,
            size,
            top=self.config.proposal_top,
            threshold=self.config.proposal_nms,
            keep=self.config.proposals,
        )

    def look(self, features: Array, proposals: Floats) -> tuple[NDArray[np.float32], Floats]:
        """Scores (N,) and poses (N, 6), as seen by a camera that looks at each proposal (N, 4)."""
        runtime = self.runtimes["head"]
        columns = runtime.spec.inputs[1].shape[2]
        assert isinstance(columns, int)
        count = columns // SAMPLES
        batches = [proposals[i : i + count] for i in range(0, len(proposals), count)]
        feeds = ({"features": features, "grid": sample_grid(batch, self._size, count)} for batch in batches)
        outputs = runtime.run_many(feeds)
        scores = [o["scores"][0, : len(b)] for o, b in zip(outputs, batches, strict=True)]
        dofs = [o["dofs"][0, :, : len(b)].T for o, b in zip(outputs, batches, strict=True)]
        if not batches:
            return np.zeros(0, np.float32), np.zeros((0, 6))
        return np.concatenate(scores), np.concatenate(dofs) * self._std + self._mean

    def _faces(self, poses: Floats, scores: NDArray[np.float32], size: Size, original: Size) -> list[Face]:
        """Faces of the picture of size `original`, from poses (N, 6) and scores (N,) in the resized one, of `size`."""
        boxes = pose6d.boxes_around(pose6d.project(poses, self._points[0], size), poses[:, 2], size)
        # A head behind the camera has no box, and one outside of the picture none with an area.
        seen = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        kept = seen[nms(boxes[seen], scores[seen], self.config.nms, pixel=0.0)]
        scale = np.array([original[1] / size[1], original[0] / size[0]])
        landmarks = (pose6d.project(poses[kept], self._points[1], size) * scale).tolist()
        rows = zip(
            (boxes[kept] * np.tile(scale, 2)).tolist(),
            scores[kept].tolist(),
            landmarks,
            pose6d.angles(poses[kept, :3]).tolist(),
            strict=True,
        )
        return [Face(tuple(box), score, tuple(map(tuple, points)), *angles) for box, score, points, angles in rows]

    def _padded(self, pixels: Pixels) -> Pixels:
        """The picture in the top left corner of the network's, the rest as close to zero as pixels come."""
        if pixels.shape[1:3] == self._size:
            return pixels
        canvas = np.empty((1, *self._size, 3), np.uint8)
        _, height, width, _ = pixels.shape
        canvas[:, :height, :width] = pixels
        canvas[:, height:] = canvas[:, :height, width:] = self.config.preprocess.blank
        return canvas


def resized(original: Size, largest: Size, config: Img2PoseConfig) -> Size:
    """Height and width that a picture is resized to: as published, and at most `largest`."""
    scale = min(
        config.min_size / min(original),
        config.max_size / max(original),
        largest[0] / original[0],
        largest[1] / original[1],
    )
    # A whole number of pixels may come out a rounding error short of itself.
    height, width = (max(1, math.floor(side * scale + 1e-9)) for side in original)
    return height, width


def anchors_of_levels(size: Size) -> tuple[int, ...]:
    """How many anchors the proposer has on each level, for a picture of `size`."""
    grids = [(size[0] // s, size[1] // s) for s in STRIDES]
    grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
    return tuple(_RATIOS * rows * columns for rows, columns in grids)


def _is_table(values: object, shape: tuple[int, ...]) -> bool:
    try:
        table = np.array(values, np.float64)
    except ValueError:  # Rows of different lengths.
        return False
    return table.shape == shape and bool(np.isfinite(table).all())
