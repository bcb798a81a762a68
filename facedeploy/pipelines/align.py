"""Crops of faces in which eyes, nose and mouth are where a recognition network expects them."""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.preprocess import Pixels

# Left eye, right eye, nose, left and right corner of the mouth, in pixels of a crop of 112, of a face that looks to the
# left, half left, ahead, half right, to the right: insightface, recognition/common/face_align.py (MIT).
_VIEWS = np.array(
    [
        [[51.642, 50.115], [57.617, 49.990], [35.740, 69.007], [51.157, 89.050], [57.025, 89.702]],
        [[45.031, 50.118], [65.568, 50.872], [39.677, 68.111], [45.177, 86.190], [64.246, 86.758]],
        [[39.730, 51.138], [72.270, 51.138], [56.000, 68.493], [42.463, 87.010], [69.537, 87.010]],
        [[46.845, 50.872], [67.382, 50.118], [72.737, 68.111], [48.167, 86.758], [67.236, 86.190]],
        [[54.796, 49.990], [60.771, 50.115], [76.673, 69.007], [55.388, 89.702], [61.257, 89.050]],
    ]
)
_SIDE = 112
# Templates by name, (T, 5, 2) in pixels of a crop of 112; of several the one that fits best is taken.
TEMPLATES: dict[str, NDArray[np.float64]] = {
    # Of ArcFace and what was trained after it: arcface_dst of insightface's face_align.py (MIT).
    "arcface": np.array(
        [[[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]]
    ),
}


def align(image: Pixels, landmarks: ArrayLike, size: Literal[112, 224] = 112) -> Pixels:
    """Turn, scale and cut faces out of a picture.

    Args:
        image: (H, W, 3) uint8, BGR.
        landmarks: (N, 5, 2) in pixels, in the order of `Face`. Of five templates, each face gets the one that fits it
            best.
        size: Side of the crops, pixels.

    Returns:
        (N, size, size, 3) uint8, BGR, black outside of the picture.

    Raises:
        InputError: the size is another, or the landmarks are not five finite points a face.
    """
    if size not in (_SIDE, 2 * _SIDE):
        msg = f"aligned crops have a side of 112 or 224 pixels, not {size}"
        raise InputError(msg)
    points = np.asarray(landmarks, np.float64)
    points = points.reshape(0, 5, 2) if points.size == 0 else points
    if points.ndim != 3 or points.shape[1:] != (5, 2) or not np.isfinite(points).all():
        msg = f"landmarks must be five finite points a face, (N, 5, 2), not {points.shape}"
        raise InputError(msg)
    found = np.zeros((len(points), size, size, 3), np.uint8)
    # The loop over the faces runs in C, in the map.
    transforms = similarities(points, size)
    deque(map(cv2.warpAffine, repeat(image), transforms, repeat((size, size)), found), maxlen=0)
    return found


def similarities(
    landmarks: NDArray[np.float64], size: int, templates: NDArray[np.float64] = _VIEWS
) -> NDArray[np.float64]:
    """The best rotation, scale and shift (N, 2, 3) from landmarks (N, 5, 2) to one of templates (T, 5, 2), for a crop
    of `size`.

    As complex numbers a similarity is z -> a z + b, so that least squares have a closed form.
    """
    source = landmarks[:, None, :, 0] + 1j * landmarks[:, None, :, 1]
    templates = templates * (size / _SIDE)
    goal = (templates[..., 0] + 1j * templates[..., 1])[None]
    middle, goal_middle = source.mean(axis=2, keepdims=True), goal.mean(axis=2, keepdims=True)
    spread = (np.abs(source - middle) ** 2).sum(axis=2, keepdims=True)
    factor = ((source - middle).conj() * (goal - goal_middle)).sum(axis=2, keepdims=True) / np.maximum(spread, 1e-12)
    shift = goal_middle - factor * middle
    best = np.abs(factor * source + shift - goal).sum(axis=2).argmin(axis=1)
    faces = np.arange(len(landmarks))
    a, b = factor[faces, best, 0], shift[faces, best, 0]
    return np.stack([a.real, -a.imag, b.real, a.imag, a.real, b.imag], axis=1).reshape(-1, 2, 3)
