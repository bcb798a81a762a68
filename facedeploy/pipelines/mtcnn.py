"""The MTCNN cascade, as published in Enderfga/mtCNN_sysu (detect.py), vectorised.

Kept on purpose, because the published weights and numbers go with them: pictures are BGR and never converted;
suppression ranks boxes by the previous stage's score and comes before calibration; a crop is cut from the
squared box with zeros outside the picture, and then the box itself is clipped, so later stages calibrate the
clipped box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image, Preprocess
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.nms import nms
from facedeploy.pipelines.resize import crops, picture
from facedeploy.runtimes.base import Array, Arrays, Runtime

Boxes = NDArray[np.float64]
Scores = NDArray[np.float32]

_CELL = 12  # P-Net's field of view and the stride of its output, in pixels of a level.
_STRIDE = 2


@dataclass(frozen=True)
class MtcnnConfig:
    """Settings of MTCNN. The defaults are those of the published class.

    Attributes:
        min_face: Smallest face to look for, pixels.
        thresholds: Scores of P, R and O must exceed them, 0..1.
        scale_factor: From one level of the pyramid to the next, 0..1.
        pnet_level_nms: Overlap (IoU) of suppression within a level of the pyramid, 0..1.
        pnet_nms: Overlap (IoU) of suppression between levels, 0..1.
        rnet_nms: Overlap (IoU) of suppression after R, 0..1.
        onet_nms: Overlap of suppression after O, 0..1, relative to the smaller box.
        preprocess: How pixels become the network's input.
    """

    min_face: float = 12.0
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    scale_factor: float = 0.709
    pnet_level_nms: float = 0.5
    pnet_nms: float = 0.7
    rnet_nms: float = 0.7
    onet_nms: float = 0.7
    preprocess: Preprocess = Preprocess(colours="bgr", scale=1 / 255)

    def __post_init__(self) -> None:
        if not self.min_face >= 1:
            msg = f"min_face must be at least 1 pixel, not {self.min_face}"
            raise InputError(msg)
        if not 0 < self.scale_factor < 1:
            msg = f"scale_factor must lie between 0 and 1, not {self.scale_factor}"
            raise InputError(msg)
        if not all(0 <= t <= 1 for t in self.thresholds):
            msg = f"thresholds must lie between 0 and 1, not {self.thresholds}"
            raise InputError(msg)


@dataclass(frozen=True)
class Candidates:
    """Windows that may be faces.

    Attributes:
        boxes: (N, 4), inclusive corners in pixels.
        scores: (N,).
    """

    boxes: Boxes
    scores: Scores

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Array) -> Candidates:
        return Candidates(self.boxes[index], self.scores[index])


class MtcnnPipeline(Pipeline):
    """P-Net proposes over an image pyramid, R-Net refines, O-Net decides and adds five landmarks."""

    pictures = many = frozenset({"pnet", "rnet", "onet"})

    def __init__(self, runtimes: Mapping[str, Runtime], config: MtcnnConfig) -> None:
        super().__init__(runtimes)
        self.config = config

    def detect(self, image: Image) -> list[Face]:
        candidates = self.refine(image, self.propose(image))
        found, landmarks = self.decide(image, candidates)
        best = np.argsort(-found.scores, kind="stable")
        return [
            Face(box=tuple(box), score=score, landmarks=tuple(map(tuple, points)))
            for box, score, points in zip(
                found.boxes[best].tolist(),
                found.scores[best].tolist(),
                landmarks[best].tolist(),
                strict=True,
            )
        ]

    def propose(self, image: Image) -> Candidates:
        """Stage P: windows of every pyramid level that may hold a face."""
        levels = pyramid(image.shape[0], image.shape[1], self.config)
        outputs = self.runtimes["pnet"].run_pictures(picture(image, v.height, v.width) for v in levels)
        windows, scores, offsets, level = _windows(outputs, levels, self.config.thresholds[0])
        kept = nms(windows, scores, self.config.pnet_level_nms, groups=level)
        # The published order: level by level, best first.
        kept = kept[np.argsort(level[kept], kind="stable")]
        kept = kept[nms(windows[kept], scores[kept], self.config.pnet_nms)]
        calibrated = Candidates(calibrate(windows[kept], offsets[kept]), scores[kept])
        return calibrated[plausible(calibrated.boxes, image.shape[0], image.shape[1])]

    def refine(self, image: Image, candidates: Candidates) -> Candidates:
        """Stage R: keep and calibrate the windows that still look like faces."""
        kept, outputs = self._look(image, candidates, "rnet", 24, self.config.thresholds[1])
        best = nms(kept.boxes, kept.scores, self.config.rnet_nms)
        boxes = calibrate(kept.boxes[best], outputs["box"][best])
        refined = Candidates(boxes, outputs["score"][best, 0])
        return refined[plausible(boxes, image.shape[0], image.shape[1])]

    def decide(self, image: Image, candidates: Candidates) -> tuple[Candidates, Boxes]:
        """Stage O: the faces, and their landmarks (N, 5, 2) in pixels."""
        kept, outputs = self._look(image, candidates, "onet", 48, self.config.thresholds[2])
        best = nms(kept.boxes, kept.scores, self.config.onet_nms, mode="minimum")
        boxes = kept.boxes[best]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = boxes[:, None, :2] + outputs["landmarks"][best].reshape(-1, 5, 2) * size[:, None]
        return Candidates(calibrate(boxes, outputs["box"][best]), outputs["score"][best, 0]), landmarks

    def _look(
        self, image: Image, candidates: Candidates, name: str, side: int, threshold: float
    ) -> tuple[Candidates, Arrays]:
        """Run a crop network; keep the candidates above the threshold, with the scores that they came with."""
        runtime = self.runtimes[name]
        squares = square(candidates.boxes)
        height, width = image.shape[:2]
        # The published code has no such limit and runs out of memory where a regression runs away.
        sane = (squares[:, 2] - squares[:, 0] < 4 * max(height, width)) & np.isfinite(squares).all(axis=1)
        squares, candidates = squares[sane], candidates[sane]
        if len(squares) == 0:
            sizes = {t.name: int(t.shape[1]) for t in runtime.spec.outputs}
            return candidates, {name: np.zeros((0, size), np.float32) for name, size in sizes.items()}
        padded, corners = _pad(image, squares.astype(np.int64))
        batches = np.array_split(corners, _batch_count(len(corners), runtime))
        outputs = runtime.run_pictures(crops(padded, batch, side) for batch in batches)
        merged = {k: np.concatenate([o[k] for o in outputs]) for k in outputs[0]}
        above = np.flatnonzero(merged["score"][:, 0] > threshold)
        clipped = Candidates(clip(squares[above], height, width), candidates.scores[above])
        return clipped, {k: v[above] for k, v in merged.items()}


@dataclass(frozen=True)
class Level:
    """One picture of the pyramid.

    Attributes:
        height: Pixels.
        width: Pixels.
        scale: From the original.
    """

    height: int
    width: int
    scale: float


def pyramid(height: int, width: int, config: MtcnnConfig) -> list[Level]:
    """Levels of the image pyramid: sides truncated, as long as the shorter one exceeds P-Net's field."""
    levels = []
    scale = _CELL / config.min_face
    while min(int(height * scale), int(width * scale)) > _CELL:
        levels.append(Level(int(height * scale), int(width * scale), scale))
        scale *= config.scale_factor
    return levels


def calibrate(boxes: Boxes, offsets: Array) -> Boxes:
    """Move the corners (N, 4) by offsets (N, 4), fractions of the box's sides."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    moved: Boxes = boxes + offsets * np.hstack([size, size])
    return moved


def square(boxes: Boxes) -> Boxes:
    """The square around the centre with the longer side, rounded half to even to whole pixels."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size * 0.5 - side * 0.5
    return np.round(np.hstack([corner, corner + side - 1]))


def clip(boxes: Boxes, height: int, width: int) -> Boxes:
    """Clip the corners: the first to the top and left edge, the second to the bottom and right one."""
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(boxes[:, 2:], (width - 1, height - 1))
    return np.hstack([low, high])


def plausible(boxes: Boxes, height: int, width: int) -> NDArray[np.bool_]:
    """Which boxes are larger than 3 pixels and touch the inside of the picture."""
    x1, y1, x2, y2 = boxes.T
    inside = (x2 >= 1) & (x1 <= width - 2) & (y2 >= 1) & (y1 <= height - 2)
    kept: NDArray[np.bool_] = (x2 - x1 > 3) & (y2 - y1 > 3) & inside
    return kept


def _batch_count(crops: int, runtime: Runtime) -> int:
    """As few batches as the network takes; for a runtime that computes several at once, enough to keep it busy."""
    busy = min(2 * runtime.parallel, -(-crops // 2)) if runtime.parallel > 1 else 1
    return max(busy, -(-crops // runtime.spec.max_batch))


def _windows(
    outputs: list[Arrays], levels: list[Level], threshold: float
) -> tuple[Boxes, Scores, NDArray[np.float32], NDArray[np.intp]]:
    """Windows (N, 4) above the threshold, their scores, box offsets (N, 4) and level numbers."""
    cells = [np.flatnonzero(out["score"] > threshold) for out in outputs]
    level = np.repeat(np.arange(len(levels)), [len(c) for c in cells])
    scores = [out["score"].ravel()[c] for out, c in zip(outputs, cells, strict=True)]
    offsets = [out["box"].reshape(4, -1)[:, c].T for out, c in zip(outputs, cells, strict=True)]
    columns = np.array([out["score"].shape[3] for out in outputs], np.intp)[level]
    scale = np.array([v.scale for v in levels])[level]
    row, column = np.divmod(_concatenate(cells, (0,), np.intp), columns)
    corner = np.stack([column, row], axis=1) * _STRIDE
    windows = np.hstack([np.round(corner / scale[:, None]), np.round((corner + _CELL) / scale[:, None])])
    return windows, _concatenate(scores, (0,)), _concatenate(offsets, (0, 4)), level


def _concatenate(parts: list[Array], empty: tuple[int, ...], dtype: type = np.float32) -> Array:
    return np.concatenate(parts) if parts else np.zeros(empty, dtype)


def _pad(image: Image, squares: NDArray[np.int64]) -> tuple[Image, NDArray[np.int64]]:
    """The picture with zeros around it so that every square is inside, and the squares in it."""
    height, width = image.shape[:2]
    left, top = np.maximum(-squares[:, :2].min(axis=0), 0).tolist()
    right, bottom = np.maximum(squares[:, 2:].max(axis=0) - (width - 1, height - 1), 0).tolist()
    if left or top or right or bottom:
        # OpenCV's stubs do not say that uint8 stays uint8.
        image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)  # type: ignore[assignment]
    return image, squares + (left, top, left, top)
