"""Box voting: merge the boxes of several looks at one picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facedeploy.pipelines.nms import overlapping_pairs, resolve


def vote(
    boxes: NDArray[np.float64], scores: NDArray[np.floating], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average boxes with the best one that they overlap, weighted by score, as in the published WIDER FACE script.

    The best box, and all with an IoU of at least `threshold` with it (+1 pixel convention), are one group; then the
    best of the rest, and so on. A group of one is dropped: only one look saw that face.

    Args:
        boxes: (N, 4) corners in pixels.
        scores: (N,).
        threshold: IoU from which a box belongs to a group, 0..1.

    Returns:
        The boxes (M, 4) and scores (M,) of the groups, best first. A group has its best box's score.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, ranked = boxes[order], scores[order].astype(np.float64)
    # At least the threshold is more than the number just below it.
    below = float(np.nextafter(threshold, -1))
    better, worse = overlapping_pairs(boxes, below, "union", np.zeros(len(boxes), np.intp))
    leaders = resolve(len(boxes), better, worse)
    led = np.zeros(len(boxes), bool)
    led[leaders] = True
    owner = np.where(led, np.arange(len(boxes)), len(boxes))
    follows = led[better]
    np.minimum.at(owner, worse[follows], better[follows])

    size = np.bincount(owner, minlength=len(boxes))
    weight = np.bincount(owner, ranked, minlength=len(boxes))
    groups = np.flatnonzero(size > 1)
    sums = [np.bincount(owner, ranked * axis, minlength=len(boxes))[groups] for axis in boxes.T]
    return np.stack(sums, axis=1) / weight[groups, None], ranked[groups]
