"""Greedy non-maximum suppression without a loop over boxes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Mode = Literal["union", "minimum"]


def nms(
    boxes: NDArray[np.float64],
    scores: NDArray[np.floating],
    threshold: float,
    mode: Mode = "union",
    groups: NDArray[np.integer] | None = None,
) -> Indices:
    """Indices of the kept boxes, best score first; of equal scores the last box comes first.

    Scores within 1e-5 count as equal. A sigmoid near 1 orders its windows by rounding noise, and each backend
    would otherwise keep another window of a pair.

    boxes: (N, 4) as inclusive pixel corners, so a width is x2 - x1 + 1. A box is dropped when its overlap with a
    better kept one is greater than `threshold`; overlap is the intersection over the union, or over the smaller
    area. Boxes of different `groups` (N,) never suppress each other.
    """
    order = np.argsort(np.round(scores, 5), kind="stable")[::-1]
    better, worse = _overlapping_pairs(boxes[order], threshold, mode, None if groups is None else groups[order])
    return order[_greedy(len(order), better, worse)]


def _overlapping_pairs(
    boxes: NDArray[np.float64], threshold: float, mode: Mode, groups: NDArray[np.integer] | None
) -> tuple[Indices, Indices]:
    """All pairs i < j of boxes that overlap by more than the threshold.

    A sweep along x: of two boxes that overlap by more than t of their union, the right one begins within (1 - t)
    of the left one's width. That leaves a few pairs of neighbours instead of all N * N.
    """
    sweep = np.argsort(boxes[:, 0], kind="stable")
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[sweep].T)
    width, height = x2 - x1 + 1, y2 - y1 + 1
    reach = width * (1 - threshold if mode == "union" else 1)
    last = np.searchsorted(x1, x1 + reach, side="right")
    count = last - np.arange(1, len(x1) + 1)
    left = np.repeat(np.arange(len(x1)), count)
    right = np.arange(len(left)) + np.repeat(np.arange(1, len(x1) + 1) - np.cumsum(count) + count, count)

    near = (y1[right] <= y2[left]) & (y1[left] <= y2[right])
    if groups is not None:
        group = groups[sweep]
        near &= group[left] == group[right]
    left, right = left[near], right[near]
    inter = np.minimum(x2[left], x2[right]) - x1[right] + 1
    inter = np.maximum(inter, 0) * (np.minimum(y2[left], y2[right]) - np.maximum(y1[left], y1[right]) + 1)
    area = width * height
    pair = area[left], area[right]
    base = pair[0] + pair[1] - inter if mode == "union" else np.minimum(*pair)
    over = inter / base > threshold
    a, b = sweep[left[over]], sweep[right[over]]
    return np.minimum(a, b), np.maximum(a, b)


def _greedy(count: int, better: Indices, worse: Indices) -> Indices:
    """Resolve the suppression graph: rounds as many as its longest chain of decisions, not as its boxes."""
    alive = np.ones(count, dtype=bool)
    while len(better):
        doubted = np.zeros(count, dtype=bool)
        doubted[worse] = True
        alive[worse[~doubted[better]]] = False
        open_ = alive[better] & alive[worse]
        better, worse = better[open_], worse[open_]
    return np.flatnonzero(alive)
