"""Where crops of faces are in a picture, cut out of it, and points in them brought back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.preprocess import Pixels
from facedeploy.pipelines.align import TEMPLATES, similarities
from facedeploy.pipelines.crop_settings import Crop

Floats = NDArray[np.float64]
# Five points in one place, but for rounding, have no inverse. Squared: pixels of the crop that one of the picture is.
_FLAT = 1e-24


@dataclass(frozen=True)
class Places:
    """Where N crops of one size are in a picture.

    Attributes:
        matrices: (N, 2, 3): from a point of the crop, in its pixels, to one of the picture. 0 is the crop's edge.
        size: Height and width of the crops, pixels.
        centred: Whether a pixel (i, j) of the crop is at (i + 0.5, j + 0.5) in it, as cv2.resize has it. Of aligned
            crops it is at (i, j), as published code has it.
    """

    matrices: Floats
    size: tuple[int, int]
    centred: bool = True

    def back(self, points: Floats) -> Floats:
        """Points (N, K, 2) of the crops, in their pixels, where they are in the picture."""
        moved: Floats = points @ self.matrices[:, :, :2].transpose(0, 2, 1) + self.matrices[:, None, :, 2]
        return moved

    def cut(self, image: Pixels, border: int, blank: tuple[int, int, int]) -> Pixels:
        """The crops (N, height, width, 3), one bilinear look at the picture each. The loop runs in C, in the map.

        Args:
            image: (H, W, 3) uint8.
            border: OpenCV's BORDER_CONSTANT or BORDER_REPLICATE.
            blank: What is outside of the picture with the former.
        """
        height, width = self.size
        matrices = self.matrices.copy()
        if self.centred:
            matrices[:, :, 2] += matrices[:, :, :2].sum(axis=2) / 2 - 0.5
        made = np.empty((len(matrices), height, width, 3), np.uint8)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = map(
            cv2.warpAffine,
            *(repeat(image), matrices, repeat((width, height)), made, repeat(flags), repeat(border), repeat(blank)),
        )
        deque(warped, maxlen=0)
        return made


def around_boxes(boxes: Floats, crop: Crop, size: tuple[int, int], picture: tuple[int, int]) -> Places:
    """Crops around boxes (N, 4); size and picture are (height, width) of the network's input and of the picture."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + sides * crop.shift
    large = sides * crop.grows
    proportions = np.array(size[::-1], np.float64) / max(size)
    if crop.square:
        large = (large / proportions).max(axis=1, keepdims=True) * proportions
    low, high = middle - large / 2, middle + large / 2
    if crop.edge == "cut":
        limits = np.array(picture[::-1], np.float64)
        low = np.clip(low, 0, limits - 1)
        high = np.clip(high, low + 1, limits)
    return _upright(low, high, size)


def whole(picture: tuple[int, int], size: tuple[int, int]) -> Places:
    """All of a picture as one crop."""
    return _upright(np.zeros((1, 2)), np.array([picture[::-1]], np.float64), size)


def on_template(five: Floats, name: str, size: tuple[int, int]) -> Places:
    """Crops in which five points (N, 5, 2) are where a template has them, scaled to the crop's width."""
    matrices = similarities(five, size[1], TEMPLATES[name])
    turned = matrices[:, :, :2]
    squares = (turned[:, 0] ** 2).sum(axis=1)
    squares[squares < _FLAT] = np.inf
    linear = turned.transpose(0, 2, 1) / squares[:, None, None]
    origin = -linear @ matrices[:, :, 2:]
    return Places(np.concatenate([linear, origin], axis=2), size, centred=False)


def _upright(low: Floats, high: Floats, size: tuple[int, int]) -> Places:
    step = (high - low) / size[::-1]
    matrices = np.zeros((len(low), 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, :, 2] = step[:, 0], step[:, 1], low
    return Places(matrices, size)
