"""From the answers of a proposal network to the boxes that are worth a closer look, as torchvision's
RegionProposalNetwork picks them: the best of each level, clipped, suppressed level by level, the best of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facedeploy.pipelines.nms import nms

Boxes = NDArray[np.float64]

_SMALLEST = 1e-3  # Sides that torchvision's RPN drops.
_EXACT = 5  # Digits of a score that `nms` ranks by.


def pick(
    logits: NDArray[np.floating],
    boxes: NDArray[np.floating],
    levels: Sequence[int],
    size: tuple[int, int],
    *,
    top: int,
    threshold: float,
    keep: int,
) -> Boxes:
    """Choose the best proposals.

    Args:
        logits: (A,), of every anchor, level after level.
        boxes: (A, 4), of every anchor, corners in pixels.
        levels: How many anchors each level has.
        size: (height, width) of the picture, pixels.
        top: How many of each level go into suppression.
        threshold: Overlap (IoU) of suppression, 0..1.
        keep: How many proposals are chosen at most.

    Returns:
        (N, 4) corners in pixels, inside of the picture, best first.
    """
    chosen, level = _best_of_each(logits, levels, top)
    high = np.array([size[1], size[0]] * 2)
    clipped = boxes[chosen].astype(np.float64).clip(0, high)
    large = ((clipped[:, 2:] - clipped[:, :2]) >= _SMALLEST).all(axis=1)
    clipped, level, scores = clipped[large], level[large], logits[chosen[large]]
    # What a box suppresses is worse than it, so of a list that is sorted any beginning can be looked at by itself.
    rank = np.round(scores, _EXACT)
    falling = np.sort(rank)[::-1]
    begin = 8 * keep
    while True:
        mine = np.flatnonzero(rank >= falling[begin - 1]) if begin < len(rank) else np.arange(len(rank))
        kept = nms(clipped[mine], scores[mine], threshold, groups=level[mine], pixel=0.0)
        if len(kept) >= keep or len(mine) == len(rank):
            found: Boxes = clipped[mine[kept[:keep]]]
            return found
        begin *= 4


def _best_of_each(
    logits: NDArray[np.floating], levels: Sequence[int], top: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the best `top` anchors of each level, more only where the last are equal, and their levels."""
    starts = np.cumsum([0, *levels])
    chosen = []
    for start, count in zip(starts.tolist(), levels, strict=False):
        scores = logits[start : start + count]
        least = np.partition(scores, count - top)[count - top] if count > top else -np.inf
        chosen.append(start + np.flatnonzero(scores >= least))
    return np.concatenate(chosen), np.repeat(np.arange(len(levels)), [len(c) for c in chosen])
