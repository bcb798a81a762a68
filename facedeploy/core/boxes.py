"""Areas of boxes, and how much they overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def areas(boxes: Floats, pixel: float = 0.0) -> Floats:
    """Areas (...) of boxes (..., 4) as x1, y1, x2, y2; 0 where a side is none.

    pixel: 0 for corners between pixels, 1 for corners that are pixels of the box.
    """
    found: Floats = np.maximum(boxes[..., 2:] - boxes[..., :2] + pixel, 0).prod(axis=-1)
    return found


def intersections(a: Floats, b: Floats, pixel: float = 0.0) -> Floats:
    """Areas that boxes (..., 4) share with others (..., 4); the shapes are broadcast. pixel: as in `areas`."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    found: Floats = np.maximum(high - low + pixel, 0).prod(axis=-1)
    return found


def iou(a: Floats, b: Floats, pixel: float = 0.0) -> Floats:
    """Intersection over union of boxes (..., 4) and others (..., 4); the shapes are broadcast. pixel: as in `areas`.

    Boxes without an area, and endless ones, overlap nothing.
    """
    with np.errstate(invalid="ignore"):
        common = intersections(a, b, pixel)
        union = areas(a, pixel) + areas(b, pixel) - common
        found: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return found


def iou_matrix(a: Floats, b: Floats, pixel: float = 0.0) -> Floats:
    """`iou` (N, M) of each of the boxes (N, 4) with each of (M, 4)."""
    return iou(a[:, None], b[None], pixel)
