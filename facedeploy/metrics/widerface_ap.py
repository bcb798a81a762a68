"""Average precision by the protocol of WIDER FACE (Yang et al. 2016, "WIDER FACE: A Face Detection Benchmark").

The official program is in MATLAB; this computes what its Python port computes (github.com/wondervictor/
WiderFace-Evaluation), whose numbers papers report. One thing differs between the two: the boxes in the lists are whole
numbers, and MATLAB's arithmetic with those is rounded, so that its overlaps are 0 or 1, and of several faces that a
detection overlaps by half it takes the first and not the best.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.boxes import iou_matrix
from facedeploy.metrics.labelled_images import Bools, Detections, Floats, LabelledImage
from facedeploy.metrics.resampled import BinnedPrecision

THRESHOLDS: Floats = 1 - np.arange(1, 1001) / 1000
MATCH = 0.5


def widerface_precision(
    pictures: Sequence[LabelledImage], found: Sequence[Detections], setting: str
) -> BinnedPrecision:
    """Compute what average precision of one setting needs of each picture.

    A detection belongs to the face that it overlaps most, if by at least 0.5, whatever else belongs to that. The first
    of a face that counts in the setting is right, any later one is wrong; those of other faces are left out. Scores are
    first stretched so that those of the whole set span 0..1. Pictures without a labelled face are left out altogether.

    Args:
        pictures: The labelled pictures.
        found: What was found in each.
        setting: "easy", "medium" or "hard", a key of `LabelledImage.kept`.

    Returns:
        The statistic, from which pictures can be drawn anew.
    """
    low, high = score_range(found)
    shown = np.zeros((len(pictures), len(THRESHOLDS)), np.int32)
    hits = np.zeros_like(shown)
    for row, (picture, answer) in enumerate(zip(pictures, found, strict=True)):
        if len(picture.boxes) and len(answer.boxes):
            scores = np.ones(len(answer.scores)) if high == low else (answer.scores - low) / (high - low)
            shown[row], hits[row] = _counts(answer.boxes, scores, picture.boxes, picture.kept[setting])
    truths = np.array([np.count_nonzero(p.kept[setting]) for p in pictures], float)
    return BinnedPrecision(shown, hits, truths)


def score_range(found: Sequence[Detections]) -> tuple[float, float]:
    """Lowest and highest score of all pictures; where all are equal, the program divides by nought and we do not."""
    scores = np.concatenate([np.zeros(0), *(d.scores for d in found)])
    return (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 0.0)


def _counts(boxes: Floats, scores: Floats, truths: Floats, kept: Bools) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many detections of one picture are shown, and right, at each threshold."""
    order = np.argsort(-scores, kind="stable")
    # The last pixel of a box belongs to it, as in the program: a box from 3 to 3 is one pixel wide.
    overlap = iou_matrix(boxes[order], truths, pixel=1)
    face = overlap.argmax(axis=1)
    matched = overlap.max(axis=1) >= MATCH
    counts = ~matched | kept[face]
    candidates = np.flatnonzero(matched & kept[face])
    right = np.zeros(len(order), bool)
    right[candidates[np.unique(face[candidates], return_index=True)[1]]] = True
    above = np.searchsorted(-scores[order], -THRESHOLDS, side="right")

    def above_each(values: Bools) -> NDArray[np.intp]:
        found: NDArray[np.intp] = np.concatenate([[0], np.cumsum(values)])[above]
        return found

    return above_each(counts), above_each(right)
