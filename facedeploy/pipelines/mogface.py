"""MogFace: the features of a picture, then one head on each of their six maps.

The protocol is that of modelscope/modelscope (face_detection/mogface), with its constants as defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image, Pixels, Preprocess
from facedeploy.pipelines.base import Pipeline, check_fractions
from facedeploy.pipelines.nms import suppress
from facedeploy.pipelines.resize import fit, picture
from facedeploy.runtimes.base import Arrays, Runtime

STRIDES = (4, 8, 16, 32, 64, 128)  # Of the maps, finest first, in pixels.
_SIDE = 4 * 0.68  # Of an anchor, in strides: sizes of 16 to 512 pixels times the published scale.
_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class MogFaceConfig:
    """Settings of MogFace. The defaults are those of the ModelScope pipeline.

    A network of a fixed size sees the picture as large as that allows, aspect kept, the rest filled with the mean. A
    network of any size sees it as it is, unless it is longer than `longest`.

    Attributes:
        score_threshold: Scores must exceed it, 0..1.
        nms: A face is dropped when its overlap (IoU) with a better one exceeds this, 0..1.
        top: How many of the best boxes go into suppression.
        keep: How many boxes come out of suppression at most.
        longest: Longest side that a network of any size sees as it is, pixels.
        shrunk: What a longer side is resized to, pixels.
        published_scores: Whether the scores of a shrunk picture are divided by how much it is shrunk. The published
            code does so with the whole array of boxes, and its scores exceed 1.
        preprocess: How pixels become the network's input.
    """

    score_threshold: float = 0.82
    nms: float = 0.4
    top: int = 5000
    keep: int = 750
    longest: int = 1500
    shrunk: int = 1000
    published_scores: bool = False
    preprocess: Preprocess = Preprocess(
        colours="rgb", mean=(123.675, 116.28, 103.53), scale=(1 / _STD[0], 1 / _STD[1], 1 / _STD[2])
    )

    def __post_init__(self) -> None:
        check_fractions(self, "score_threshold", "nms")
        if min(self.top, self.keep, self.longest, self.shrunk) < 1:
            msg = "top, keep, longest and shrunk must be positive"
            raise InputError(msg)


class MogFacePipeline(Pipeline):
    """Finds faces: boxes and scores."""

    # The finest map is three quarters of the head's work, so maps that share the cores take longer than one after the
    # other, each with all of them: the head is none of `many`.
    pictures = frozenset({"features"})

    def __init__(self, runtimes: Mapping[str, Runtime], config: MogFaceConfig) -> None:
        super().__init__(runtimes)
        self.config = config
        self._size = runtimes["features"].spec.picture_size

    def _detect(self, image: Image) -> list[Face]:
        pixels, factor = self._resized(image)
        features = self.runtimes["features"]
        found = features.run_pictures([pixels])[0]
        outputs = self.runtimes["head"].run_many({"features": found[t.name]} for t in features.spec.outputs)
        boxes, scores = candidates(outputs, self.config.score_threshold)
        kept = suppress(boxes, scores, self.config.nms, top=self.config.top, keep=self.config.keep)
        boxes /= factor
        if self.config.published_scores and self._size is None:
            scores /= factor
        return [Face(tuple(b), s) for b, s in zip(boxes[kept].tolist(), scores[kept].tolist(), strict=True)]

    def _resized(self, image: Image) -> tuple[Pixels, float]:
        """What the network sees, and how many of its pixels a pixel of the picture is."""
        if self._size is not None:
            pixels, scale = fit(image, *self._size, self.config.preprocess.blank)
            return pixels, float(scale[0])
        longer = max(image.shape[:2])
        factor = self.config.shrunk / longer if longer > self.config.longest else 1.0
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        return picture(image, height, width), factor


def candidates(outputs: Sequence[Arrays], threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find what exceeds the threshold, in the order of anchors.

    Args:
        outputs: Of the head, for each map, finest first.
        threshold: Scores must exceed it, 0..1.

    Returns:
        Inclusive corners (N, 4) in pixels, and scores (N,).
    """
    found = [np.flatnonzero(answer["score"] > threshold) for answer in outputs]
    level = np.repeat(np.arange(len(found)), [len(cells) for cells in found])
    row, column = np.divmod(np.concatenate(found), np.array([answer["score"].shape[3] for answer in outputs])[level])
    stride = np.array(STRIDES, np.float64)[level, None]
    relative = [answer["box"].reshape(4, -1)[:, cells].T for answer, cells in zip(outputs, found, strict=True)]
    scores = [answer["score"].ravel()[cells] for answer, cells in zip(outputs, found, strict=True)]
    centre = (np.stack([column, row], axis=1) + 0.5) * stride
    boxes = np.tile(centre, 2) + np.concatenate(relative) * (_SIDE * stride)
    # A box of 10 pixels begins at its first and ends at its ninth, half a pixel inside of its edges.
    return boxes + (0.5, 0.5, -0.5, -0.5), np.concatenate(scores).astype(np.float64)
