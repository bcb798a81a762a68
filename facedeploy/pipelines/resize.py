"""Resize whole pictures and crops to the size that a network takes: in 8 bits, or by area."""

from __future__ import annotations

from collections import deque
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.preprocess import Pixels


def picture(image: Pixels, height: int, width: int) -> Pixels:
    """Resize a picture.

    Args:
        image: (H, W, 3) uint8.
        height: Pixels.
        width: Pixels.

    Returns:
        (1, height, width, 3) uint8.
    """
    if image.shape[:2] != (height, width):
        # OpenCV's stubs do not say that uint8 stays uint8.
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return image[None]


def fit(image: Pixels, height: int, width: int, blank: tuple[int, int, int]) -> tuple[Pixels, NDArray[np.float64]]:
    """Resize a picture to fit, aspect kept, in the top left corner; the rest is filled with the BGR colour `blank`.

    (H, W, 3) -> (1, height, width, 3), and how many of its pixels a pixel of the picture is, across and down.
    """
    factor = min(height / image.shape[0], width / image.shape[1])
    rows, columns = max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor))
    resized = picture(image, rows, columns)
    if (rows, columns) != (height, width):
        canvas = np.empty((1, height, width, 3), np.uint8)
        canvas[:, :rows, :columns] = resized
        canvas[:, rows:] = blank
        canvas[:, :rows, columns:] = blank
        resized = canvas
    return resized, np.array([factor, factor])


def crops(image: Pixels, corners: NDArray[np.integer], side: int) -> Pixels:
    """Cut crops out of a picture and resize them.

    The loop over the boxes runs in C, in the maps. One call of OpenCV for all of them exists (blobFromImages) and takes
    three times as long: it fills memory that the system has yet to hand out.

    Args:
        image: (H, W, 3) uint8.
        corners: (N, 4), inclusive corners inside of the picture, pixels.
        side: Of the crops, pixels.

    Returns:
        (N, side, side, 3) uint8.
    """
    x1, y1, x2, y2 = corners.T
    rows = map(slice, y1.tolist(), (y2 + 1).tolist())
    columns = map(slice, x1.tolist(), (x2 + 1).tolist())
    views = map(image.__getitem__, zip(rows, columns, strict=True))
    resized = np.empty((len(corners), side, side, 3), np.uint8)
    deque(map(cv2.resize, views, repeat((side, side)), resized), maxlen=0)
    return resized


class Area:
    """Means of the pixels under each new one, whole or not: PyTorch's `interpolate(mode="area")`.

    The sums of one picture serve any number of sizes and crops, and are exact.
    """

    def __init__(self, image: Pixels) -> None:
        """Sum up a picture (H, W, 3) uint8."""
        height, width = self._size = image.shape[:2]
        depth = cv2.CV_32S if height * width * 255 < 2**31 else cv2.CV_64F
        self._sums = cv2.integral(image, sdepth=depth)

    def picture(self, height: int, width: int) -> NDArray[np.float32]:
        """The whole picture, (1, height, width, 3) float32 in 0..255."""
        (top, bottom), (left, right) = (
            _cells(np.zeros(1, int), np.array([n]), m) for n, m in zip(self._size, (height, width), strict=True)
        )
        rows = self._sums[bottom[0]] - self._sums[top[0]]
        return _mean(rows[:, right[0]] - rows[:, left[0]], (bottom - top)[0], (right - left)[0])[None]

    def crops(self, corners: NDArray[np.integer], side: int) -> NDArray[np.float32]:
        """Crops of the picture, resized.

        Args:
            corners: (N, 4), inclusive corners inside of the picture, pixels.
            side: Of the crops, pixels.

        Returns:
            (N, side, side, 3) float32 in 0..255.
        """
        (left, right), (top, bottom) = (_cells(corners[:, i], corners[:, i + 2] + 1, side) for i in (0, 1))
        across, down = right - left, bottom - top
        left, right, top, bottom = left[:, None], right[:, None], top[:, :, None], bottom[:, :, None]
        sums = self._sums
        return _mean(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left], down, across)


def _cells(first: NDArray[np.integer], end: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    """First pixels and ends (2, N, count) of `count` cells of pixels first..end, both (N,)."""
    number, length = np.arange(count), (end - first)[:, None]
    return first[:, None] + np.stack([number * length // count, -(-(number + 1) * length // count)])


def _mean(sums: NDArray[np.floating], down: NDArray[np.integer], across: NDArray[np.integer]) -> NDArray[np.float32]:
    """Sums (..., rows, columns, 3) over the pixels of cells, down (..., rows) and across (..., columns)."""
    # In PyTorch's order, so that its tensors come out to the last bit: the best scores are only a few bits apart.
    rows, columns = (v.astype(np.float32) for v in (down[..., :, None, None], across[..., None, :, None]))
    means: NDArray[np.float32] = sums.astype(np.float32) / rows / columns
    return means
