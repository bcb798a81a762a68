"""Resize whole pictures and crops, in 8 bits, to the size that a network takes."""

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
