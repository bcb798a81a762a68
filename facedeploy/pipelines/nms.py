"""Greedy non-maximum suppression without a loop over boxes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.boxes import areas, intersections

Indices = NDArray[np.intp]
Mode = Literal["union", "minimum"]

_FEW = 48  # Up to so many boxes, all pairs cost less than finding the near ones.


def nms(
    boxes: NDArray[np.float64],
    scores: NDArray[np.floating],
    threshold: float,
    mode: Mode = "union",
    groups: NDArray[np.integer] | None = None,
    pixel: float = 1.0,
    exact: bool = False,
) -> Indices:
    """Drop every box that overlaps a better one too much.

    Scores within 1e-5 count as equal, and of equal scores the last box is the better one. A sigmoid near 1 orders its
    windows by rounding noise, and each backend would otherwise keep another window of a pair. With `exact` scores count
    as they are, and of equal ones the first box is the better one, as torchvision has it.

    Args:
        boxes: (N, 4), corners in pixels.
        scores: (N,).
        threshold: A box is dropped when its overlap with a better kept one is greater, 0..1.
        mode: What the intersection is divided by: the union, or the smaller area.
        groups: (N,). Boxes of different groups never suppress each other; None for one group.
        pixel: 1 for inclusive corners, so that a width is x2 - x1 + 1; 0 for corners between pixels.
        exact: Whether scores are compared to the last bit.

    Returns:
        Indices of the kept boxes, best score first.
    """
    order = np.argsort(-scores, kind="stable") if exact else np.argsort(np.round(scores, 5), kind="stable")[::-1]
    groups = np.zeros(len(boxes), np.intp) if groups is None else groups
    better, worse = overlapping_pairs(boxes[order], threshold, mode, groups[order], pixel)
    return order[resolve(len(order), better, worse)]


def suppress(
    boxes: NDArray[np.float64], scores: NDArray[np.floating], threshold: float, *, top: int, keep: int
) -> Indices:
    """Choose the best boxes after suppression.

    Args:
        boxes: (N, 4), inclusive corners in pixels.
        scores: (N,).
        threshold: A box is dropped when its overlap (IoU) with a better kept one is greater, 0..1.
        top: How many of the best boxes go into suppression.
        keep: How many boxes come out of suppression at most.

    Returns:
        Indices of the chosen boxes, best score first.
    """
    # In the order of the boxes, so that of equal scores position decides and not a backend's rounding.
    best = np.sort(np.argsort(-scores, kind="stable")[:top])
    kept: Indices = best[nms(boxes[best], scores[best], threshold)[:keep]]
    return kept


def overlapping_pairs(
    boxes: NDArray[np.float64], threshold: float, mode: Mode, groups: NDArray[np.integer], pixel: float = 1.0
) -> tuple[Indices, Indices]:
    """All pairs i < j of boxes of one group that overlap by more than the threshold."""
    left, right = _near_pairs(boxes, threshold if mode == "union" else 0.0, groups, pixel)
    inter = intersections(boxes[left], boxes[right], pixel)
    area = areas(boxes, pixel)
    pair = area[left], area[right]
    base = pair[0] + pair[1] - inter if mode == "union" else np.minimum(*pair)
    over = inter / np.maximum(base, np.finfo(np.float64).tiny) > threshold  # Boxes of no area overlap nothing.
    a, b = left[over], right[over]
    return np.minimum(a, b), np.maximum(a, b)


def _near_pairs(
    boxes: NDArray[np.float64], threshold: float, groups: NDArray[np.integer], pixel: float
) -> tuple[Indices, Indices]:
    """Pairs that may overlap by more than `threshold` of their union: a few neighbours instead of all N * N.

    Two such boxes have their left edges within (1 - t) of the left one's width, and likewise from top to bottom.
    So the boxes are sorted by vertical strip, as wide as the largest such distance in the group, and by y within
    it; a box then looks down its own strip, and both ways in the strip to the right.
    """
    count = len(boxes)
    if count <= _FEW:
        left, right = np.nonzero(np.tri(count, k=-1, dtype=bool) & (groups[:, None] == groups))
        return left, right
    width, height = boxes[:, 2] - boxes[:, 0] + pixel, boxes[:, 3] - boxes[:, 1] + pixel
    strip_width = np.ones(int(groups.max(initial=0)) + 1)
    np.maximum.at(strip_width, groups, width * (1 - threshold))
    strip = np.floor((boxes[:, 0] - boxes[:, 0].min(initial=0)) / strip_width[groups]).astype(np.intp)
    strip += groups * (strip.max(initial=0) + 2)  # The strips of two groups are never neighbours.

    down = height * (1 - threshold)
    up = np.minimum(down / max(threshold, 1e-9), down.max(initial=0))  # The upper box may be the larger one.
    y = boxes[:, 1] - boxes[:, 1].min(initial=0)
    length = y.max(initial=0) + down.max(initial=0) + up.max(initial=0) + 1
    position = strip * length + y
    order = np.argsort(position, kind="stable")
    position, down, up = position[order], down[order], up[order]

    below = np.searchsorted(position, position + down, side="right")
    first = np.searchsorted(position, position + length - up, side="left")
    last = np.searchsorted(position, position + length + down, side="right")
    own = _ranges(np.arange(1, count + 1), below)
    beside = _ranges(first, last)
    left, right = (np.concatenate(v) for v in zip(own, beside, strict=True))
    return order[left], order[right]


def _ranges(start: Indices, stop: Indices) -> tuple[Indices, Indices]:
    """Every i with each of start[i] .. stop[i] - 1."""
    count = np.maximum(stop - start, 0)
    owner = np.repeat(np.arange(len(start)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, start[owner] + within


def resolve(count: int, better: Indices, worse: Indices) -> Indices:
    """Resolve the suppression graph: rounds as many as its longest chain of decisions, not as its boxes."""
    alive = np.ones(count, dtype=bool)
    while len(better):
        doubted = np.zeros(count, dtype=bool)
        doubted[worse] = True
        alive[worse[~doubted[better]]] = False
        open_ = alive[better] & alive[worse]
        better, worse = better[open_], worse[open_]
    return np.flatnonzero(alive)
