"""The MTCNN cascade, as published in Enderfga/mtCNN_sysu and in timesler/facenet-pytorch, vectorised.

What differs between the two is in `mtcnn_conventions`. Kept on purpose, because the published weights and numbers go
with them: mtCNN_sysu never converts pictures from BGR; there suppression ranks boxes by the previous stage's score and
comes before calibration; a crop is cut from the squared box with zeros outside the picture, and then the box itself is
clipped, so later stages calibrate the clipped box.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image, Preprocess
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.mtcnn_conventions import CELL, CONVENTIONS, Boxes, Conventions, Mask, Name, calibrate
from facedeploy.pipelines.nms import nms
from facedeploy.pipelines.resize import Area, crops, picture
from facedeploy.runtimes.base import Array, Arrays, Runtime

Scores = NDArray[np.float32]
Resized = NDArray[np.uint8] | NDArray[np.float32]


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
        conventions: The published cascade that the weights go with.
    """

    min_face: float = 12.0
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    scale_factor: float = 0.709
    pnet_level_nms: float = 0.5
    pnet_nms: float = 0.7
    rnet_nms: float = 0.7
    onet_nms: float = 0.7
    preprocess: Preprocess = Preprocess(colours="bgr", scale=1 / 255)
    conventions: Name = "sysu"

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

    def __getitem__(self, index: Array | Mask) -> Candidates:
        return Candidates(self.boxes[index], self.scores[index])


class MtcnnPipeline(Pipeline):
    """P-Net proposes over an image pyramid, R-Net refines, O-Net decides and adds five landmarks."""

    pictures = many = frozenset({"pnet", "rnet", "onet"})
    resizes = frozenset({"bilinear", "area"})

    def __init__(self, runtimes: Mapping[str, Runtime], config: MtcnnConfig) -> None:
        super().__init__(runtimes)
        self.config = config
        self._how: Conventions = CONVENTIONS[config.conventions]

    def _detect(self, image: Image) -> list[Face]:
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
        how, (height, width) = self._how, image.shape[:2]
        levels = pyramid(height, width, self.config)
        resized, _ = _resizers(image, self.config.preprocess)
        outputs = self._run("pnet", (resized(v.height, v.width) for v in levels))
        windows, scores, offsets, level = _windows(outputs, levels, self.config.thresholds[0], how)
        kept = nms(windows, scores, self.config.pnet_level_nms, groups=level, pixel=how.pixel, exact=how.exact)
        # The published order: level by level, best first.
        kept = kept[np.argsort(level[kept], kind="stable")]
        kept = kept[nms(windows[kept], scores[kept], self.config.pnet_nms, pixel=how.pixel, exact=how.exact)]
        calibrated = Candidates(calibrate(windows[kept], offsets[kept], how.pixel), scores[kept])
        return calibrated[how.plausible(calibrated.boxes, height, width)]

    def refine(self, image: Image, candidates: Candidates) -> Candidates:
        """Stage R: keep and calibrate the windows that still look like faces."""
        how = self._how
        kept, outputs = self._look(image, candidates, "rnet", 24, self.config.thresholds[1])
        best = nms(kept.boxes, kept.scores, self.config.rnet_nms, pixel=how.pixel, exact=how.exact)
        boxes = calibrate(kept.boxes[best], outputs["box"][best])
        refined = Candidates(boxes, outputs["score"][best, 0])
        return refined[how.plausible(boxes, image.shape[0], image.shape[1])]

    def decide(self, image: Image, candidates: Candidates) -> tuple[Candidates, Boxes]:
        """Stage O: the faces, and their landmarks (N, 5, 2) in pixels."""
        how = self._how
        kept, outputs = self._look(image, candidates, "onet", 48, self.config.thresholds[2])
        calibrated = calibrate(kept.boxes, outputs["box"])
        overlapping = calibrated if how.calibrated_first else kept.boxes
        best = nms(overlapping, kept.scores, self.config.onet_nms, mode="minimum", exact=how.exact)
        boxes = kept.boxes[best]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = boxes[:, None, :2] + outputs["landmarks"][best].reshape(-1, 5, 2) * size[:, None]
        return Candidates(calibrated[best], outputs["score"][best, 0]), landmarks - how.first_pixel

    def _look(
        self, image: Image, candidates: Candidates, name: str, side: int, threshold: float
    ) -> tuple[Candidates, Arrays]:
        """Run a crop network; keep the candidates above the threshold, with the scores that they are ranked by."""
        how, runtime = self._how, self.runtimes[name]
        squares = how.square(candidates.boxes)
        height, width = image.shape[:2]
        visible = how.visible(squares, height, width)
        squares, candidates = squares[visible], candidates[visible]
        if len(squares) == 0:
            sizes = {t.name: int(t.shape[1]) for t in runtime.spec.outputs}
            return candidates, {name: np.zeros((0, size), np.float32) for name, size in sizes.items()}
        padded, corners = _pad(image, how.cut(squares, height, width))
        _, cropped = _resizers(padded, self.config.preprocess)
        batches = np.array_split(corners, _batch_count(len(corners), runtime))
        outputs = self._run(name, (cropped(batch, side) for batch in batches))
        merged = {k: np.concatenate([o[k] for o in outputs]) for k in outputs[0]}
        above = np.flatnonzero(merged["score"][:, 0] > threshold)
        scores = merged["score"][above, 0] if how.own_scores else candidates.scores[above]
        boxes = how.after_cut(squares[above], height, width)
        return Candidates(boxes, scores), {k: v[above] for k, v in merged.items()}

    def _run(self, name: str, pictures: Iterable[Any]) -> list[Arrays]:
        """Run a network over stacks of pictures that have its size."""
        runtime, pixels = self.runtimes[name], self.config.preprocess
        if pixels.eight_bits:
            return runtime.run_pictures(pictures)
        return runtime.run_many({runtime.spec.inputs[0].name: pixels.tensor(stack)} for stack in pictures)


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
    """Levels of the image pyramid, sides truncated, as long as the shorter one holds P-Net's field."""
    how = CONVENTIONS[config.conventions]
    levels = []
    scale = CELL / config.min_face
    while min(height, width) * scale >= how.smallest:
        levels.append(Level(int(height * scale + how.longer), int(width * scale + how.longer), scale))
        scale *= config.scale_factor
    return levels


def _resizers(
    image: Image, pixels: Preprocess
) -> tuple[Callable[[int, int], Resized], Callable[[Array, int], Resized]]:
    """What resizes a picture to a height and a width, and cuts crops of corners and a side out of it."""
    if pixels.eight_bits:
        return functools.partial(picture, image), functools.partial(crops, image)
    area = Area(image)
    return area.picture, area.crops


def _batch_count(crops: int, runtime: Runtime) -> int:
    """As few batches as the network takes; for a runtime that computes several at once, enough to keep it busy."""
    busy = min(2 * runtime.parallel, -(-crops // 2)) if runtime.parallel > 1 else 1
    return max(busy, -(-crops // runtime.spec.max_batch))


def _windows(
    outputs: list[Arrays], levels: list[Level], threshold: float, how: Conventions
) -> tuple[Boxes, Scores, NDArray[np.float32], NDArray[np.intp]]:
    """Windows (N, 4) above the threshold, their scores, box offsets (N, 4) and level numbers."""
    cells = [np.flatnonzero(how.above(out["score"], threshold)) for out in outputs]
    level = np.repeat(np.arange(len(levels)), [len(c) for c in cells])
    scores = [out["score"].ravel()[c] for out, c in zip(outputs, cells, strict=True)]
    offsets = [out["box"].reshape(4, -1)[:, c].T for out, c in zip(outputs, cells, strict=True)]
    columns = np.array([out["score"].shape[3] for out in outputs], np.intp)[level]
    scale = np.array([v.scale for v in levels])[level]
    row, column = np.divmod(_concatenate(cells, (0,), np.intp), columns)
    windows = how.windows(np.stack([column, row], axis=1), scale)
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
