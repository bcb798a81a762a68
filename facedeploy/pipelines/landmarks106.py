"""106 landmarks and the head's pose of faces that are already found.

The protocol is that of alibaba/EasyCV since November 2022 (easycv/toolkit/modelscope/pipelines/
face_2d_keypoints_pipeline.py), for all faces of a picture at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image, Preprocess
from facedeploy.pipelines.base import Looker
from facedeploy.pipelines.rotation import Floats, Turn
from facedeploy.runtimes.base import Runtime

NETWORK = "landmarks"
_SIDE = 96
_FIVE = 5


@dataclass(frozen=True)
class Landmarks106Config:
    """Settings of the 106 landmarks. The defaults are those of the published pipeline, but for `pose` and `edge`.

    Attributes:
        rounds: How often a face is looked at. Each look but the first is at the surroundings of the points of the one
            before.
        grow: By which part of its sides the detector's box grows on each, 0..1.
        enlarge: How many times as large as the points their surroundings are, 1..2.
        pose: "picture" gives angles as `Face` says, of the face in the picture. "published" gives those of the network,
            of the face after it was turned upright. Both in degrees.
        edge: What crops are cut at. "picture": the edges of the turned picture. "canvas", as published: those of a
            canvas of the picture's size, so that a face near an edge may be turned out of it.
        preprocess: How pixels become the network's input.
    """

    rounds: int = 7
    grow: float = 0.1
    enlarge: float = 1.1
    pose: Literal["picture", "published"] = "picture"
    edge: Literal["picture", "canvas"] = "picture"
    preprocess: Preprocess = Preprocess(colours="bgr", mean=(0.4076 * 255, 0.458 * 255, 0.485 * 255), scale=1 / 255)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            msg = f"rounds must be at least 1, not {self.rounds}"
            raise InputError(msg)
        if not (0 <= self.grow <= 1 and 1 <= self.enlarge <= 2):
            msg = f"grow must lie between 0 and 1 and enlarge between 1 and 2, not {self.grow} and {self.enlarge}"
            raise InputError(msg)


class Landmarks106Pipeline(Looker):
    """Adds landmarks and pose to faces; a picture alone is taken as one face that fills it."""

    pictures = frozenset({NETWORK})
    gives = frozenset({"points", "pose"})

    def __init__(self, runtimes: Mapping[str, Runtime], config: Landmarks106Config) -> None:
        super().__init__(runtimes)
        self.config = config

    def _detect(self, image: Image) -> list[Face]:
        """The face that fills the picture, with a score of 1."""
        height, width = image.shape[:2]
        face = Face((0.0, 0.0, float(width), float(height)), 1.0)
        turn = Turn(np.zeros(1), height, width)
        return self._refine(image, [face], turn, turn.canvas)

    def _locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """The same faces with 106 landmarks and the head's pose; boxes and scores stay.

        A face with five landmarks is turned so that its eyes are level before it is looked at; any other is not turned.
        """
        if not faces:
            return []
        height, width = image.shape[:2]
        boxes = grown(np.array([f.box for f in faces]), height, width, self.config.grow)
        # NaN where there are none: nothing below counts it.
        none = np.full((_FIVE, 2), np.nan)
        five = np.array([f.landmarks if f.landmarks and len(f.landmarks) == _FIVE else none for f in faces], np.float64)
        eyes = five[:, 1] - five[:, 0]
        turn = Turn(np.nan_to_num(np.arctan2(eyes[:, 1], eyes[:, 0])), height, width)
        corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)
        around = turn.apply(np.concatenate([corners, five], axis=1))
        crops = np.trunc(np.hstack([np.nanmin(around, axis=1), np.nanmax(around, axis=1)]))
        return self._refine(image, faces, turn, inside(crops, self._limits(turn)))

    def _limits(self, turn: Turn) -> Floats:
        return turn.canvas if self.config.edge == "canvas" else turn.extent

    def _refine(self, image: Image, faces: Sequence[Face], turn: Turn, crops: Floats) -> list[Face]:
        """Look at crops (N, 4) on the turned canvas, then at what the points say, `rounds` times in all."""
        limits = self._limits(turn)
        points, pose = self._look(image, turn, crops)
        for _ in range(self.config.rounds - 1):
            points, pose = self._look(image, turn, surroundings(points, limits, self.config.enlarge))
        angles = np.degrees(pose if self.config.pose == "published" else upright(pose, turn.angles))
        return [
            replace(face, landmarks=tuple(map(tuple, own)), pitch=pitch, roll=roll, yaw=yaw)
            for face, own, (pitch, roll, yaw) in zip(faces, turn.undo(points).tolist(), angles.tolist(), strict=True)
        ]

    def _look(self, image: Image, turn: Turn, crops: Floats) -> tuple[Floats, Floats]:
        """Points (N, 106, 2) on the turned canvas, and pose (N, 3), of crops (N, 4)."""
        runtime = self.runtimes[NETWORK]
        pixels = turn.crops(image, crops, _SIDE)
        batches = np.array_split(pixels, -(-len(pixels) // runtime.spec.max_batch))
        answers = runtime.run_pictures(batches)
        points = np.concatenate([a["points"] for a in answers]).reshape(len(crops), -1, 2)
        scale = (crops[:, 2:] - crops[:, :2]) / _SIDE
        pose: Floats = np.concatenate([a["pose"] for a in answers])
        return points * scale[:, None] + crops[:, None, :2], pose


def grown(boxes: Floats, height: int, width: int, part: float) -> Floats:
    """What of boxes (N, 4) is in the picture, with a part of its sides more on each. One that meets the left or top
    edge grows less on the other side too, as published.
    """
    boxes = np.clip(boxes, 0, (width, height) * 2)
    size = boxes[:, 2:] - boxes[:, :2]
    more = np.trunc(size * part)
    more += np.minimum(boxes[:, :2] - more, 0)
    high = np.clip(boxes[:, 2:] + more, 0, (width - 1, height - 1))
    return np.hstack([np.maximum(boxes[:, :2] - more, 0), high])


def surroundings(points: Floats, limits: Floats, enlarge: float) -> Floats:
    """Crops (N, 4) around points (N, P, 2), in whole pixels, within limits (N, 4)."""
    first, last = points.min(axis=1), points.max(axis=1)
    size = last - first + 1
    low = np.maximum(np.trunc(first - (enlarge - 1) / 2 * size), limits[:, :2])
    return inside(np.hstack([low, low + np.trunc(enlarge * size)]), limits)


def inside(crops: Floats, limits: Floats) -> Floats:
    """Crops (N, 4) cut at limits (N, 4), and of one pixel at least."""
    low = np.clip(crops[:, :2], limits[:, :2], limits[:, 2:] - 1)
    high = np.clip(crops[:, 2:], low + 1, limits[:, 2:])
    return np.hstack([low, high])


def upright(pose: Floats, angles: Floats) -> Floats:
    """Pose (N, 3) of turned faces, as of the picture that was turned by `angles` (N,): pitch, roll, yaw in radians.

    The network's roll is counter-clockwise, as its training pictures are turned (aug_rotate of
    easycv/datasets/face/pipelines/face_keypoint_transform.py), and that of `Face` clockwise.
    """
    roll = angles - pose[:, 1]
    wrapped = np.pi - (np.pi - roll) % (2 * np.pi)  # In (-pi, pi].
    return np.stack([pose[:, 0], wrapped, pose[:, 2]], axis=1)
