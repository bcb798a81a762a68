"""Which boxes of two sets belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.boxes import iou_matrix
from facedeploy.metrics.labelled_images import Floats

Indices = NDArray[np.intp]

SAME_FACE = 0.5  # IoU.
# Labelled boxes of portraits are around points, not around heads.
SAME_PORTRAIT = 0.3


def match_by_score(boxes: Floats, scores: Floats, truths: Floats, least: float) -> Indices:
    """The truth (N,) that each detection of one picture takes, as COCO does it, -1 for none.

    By falling score, each detection takes the truth that it overlaps most of those still free, if by an IoU of at least
    `least`. Of equal scores the first detection chooses first; of equal overlaps it takes the first truth.

    All truths prefer detections of higher scores, so the greedy choice is the stable matching of the two sides, and
    deferred acceptance finds it (Gale and Shapley 1962) in rounds: every detection asks for the best truth that has
    not refused it; a truth refuses everyone but the best that ever asked.
    """
    order = np.argsort(-scores, kind="stable")
    overlap = iou_matrix(boxes[order], truths)
    rank, truth = np.nonzero(overlap >= least)
    preferred = np.lexsort((truth, -overlap[rank, truth], rank))
    rank, truth = rank[preferred], truth[preferred]
    while True:
        asks = np.diff(rank, prepend=-1) > 0
        holder = np.full(len(truths), len(boxes))
        np.minimum.at(holder, truth[asks], rank[asks])
        open_ = rank <= holder[truth]
        if open_.all():
            break
        rank, truth = rank[open_], truth[open_]
    taken = np.full(len(boxes), -1)
    taken[order[rank[asks]]] = truth[asks]
    return taken


def match_by_overlap(reference: Floats, found: Floats, least: float = SAME_FACE) -> list[tuple[int, int]]:
    """Pairs of a reference box (N, 4) and a found one (M, 4), by their numbers: one to one, best overlap first.

    Pairs under an IoU of `least` are left out. Of equal overlaps the first boxes are paired first.
    """
    overlap = iou_matrix(reference, found)
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return list(pairs.items())


def nearest(found: Floats, labelled: Floats, least: float = SAME_PORTRAIT) -> Indices:
    """Of each labelled box (M, 4) the found one (N, 4) that overlaps it most (M,); -1 where none does by `least`."""
    if not len(found):
        return np.full(len(labelled), -1)
    overlap = iou_matrix(found, labelled)
    return np.where(overlap.max(axis=0) >= least, overlap.argmax(axis=0), -1)
