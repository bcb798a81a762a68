"""Average precision of a detector over many pictures, without a loop over boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
Detections = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True)
class OperatingPoint:
    """What a detector does when only scores of at least a threshold count.

    Attributes:
        threshold: 0..1.
        precision: Which part of what it finds is right, 0..1.
        recall: Which part of the faces it finds, 0..1.
    """

    threshold: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision, and what it was computed from.

    Attributes:
        value: Area under the precision envelope, 0..1; NaN where there is no truth to find.
        iou: Overlap that a match needs.
        truths: How many faces there are to find.
        detections: How many detections count.
        ignored: How many detections count as neither right nor wrong.
        curve: One point for each score, highest first.
        best: The point with the highest F1; None where nothing was found or is to be found.
    """

    value: float
    iou: float
    truths: int
    detections: int
    ignored: int
    curve: tuple[OperatingPoint, ...]
    best: OperatingPoint | None


def boxes_and_scores(faces: Sequence[Face]) -> tuple[Floats, Floats]:
    """Boxes (N, 4) and scores (N,) of some faces."""
    return np.array([f.box for f in faces], float).reshape(-1, 4), np.array([f.score for f in faces], float)


def iou_matrix(a: Floats, b: Floats) -> Floats:
    """Compute how much boxes overlap, in continuous coordinates. Empty boxes overlap none.

    Args:
        a: (N, 4), x1, y1, x2, y2.
        b: (M, 4), likewise.

    Returns:
        Intersection over union (N, M).
    """
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    union = _areas(a)[:, None] + _areas(b) - common
    overlap: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap


def average_precision(
    detections: Iterable[Detections],
    truths: Iterable[ArrayLike],
    ignored: Iterable[ArrayLike] | None = None,
    *,
    iou: float = 0.5,
) -> AveragePrecision:
    """All-point average precision, as PASCAL VOC has it since 2010; detections are matched to truths as COCO does it.

    By falling score, each detection takes the truth that it overlaps most of those still free, if by at least `iou`.
    Of equal scores the first detection chooses first; of equal overlaps it takes the first truth. Equal scores are one
    point of the curve, since no threshold can part them: the order of the pictures does not matter.

    Args:
        detections: boxes (N, 4) as x1, y1, x2, y2 and scores (N,) of each picture.
        truths: boxes (M, 4) of each picture.
        ignored: boxes (K, 4) of each picture: a detection without a truth that overlaps one of them by at least `iou`
            counts as neither right nor wrong.
        iou: 0 < iou <= 1.

    Raises:
        InputError: numbers of pictures, boxes or scores that do not fit, or values that are not finite.
    """
    if not 0 < iou <= 1:
        msg = f"the IoU of a match must lie above 0 and not above 1, not {iou}"
        raise InputError(msg)
    found = [_checked(boxes, scores) for boxes, scores in detections]
    wanted = [_boxes(t) for t in truths]
    neutral = [np.zeros((0, 4))] * len(found) if ignored is None else [_boxes(b) for b in ignored]
    if not len(found) == len(wanted) == len(neutral):
        msg = f"detections of {len(found)} pictures, truths of {len(wanted)} and ignored boxes of {len(neutral)}"
        raise InputError(msg)
    scores = np.concatenate([np.zeros(0), *(s for _, s in found)])
    right = np.zeros(len(scores), bool)
    counted = np.zeros(len(scores), bool)
    first = 0
    for (boxes, own), truth, skip in zip(found, wanted, neutral, strict=True):
        mine = slice(first, first + len(own))
        right[mine], counted[mine] = judge(boxes, own, truth, skip, iou)
        first += len(own)
    total = sum(map(len, wanted))
    thresholds, precision, recall = _curve(scores[counted], right[counted], total)
    curve = tuple(map(OperatingPoint, thresholds.tolist(), precision.tolist(), recall.tolist()))
    return AveragePrecision(
        value=_area(precision, recall) if total else float("nan"),
        iou=iou,
        truths=total,
        detections=len(scores),
        ignored=int((~counted).sum()),
        curve=curve,
        best=max(curve, key=lambda point: point.f1) if curve and total else None,
    )


def judge(boxes: Floats, scores: Floats, truths: Floats, ignored: Floats, iou: float) -> tuple[Bools, Bools]:
    """Which detections of one picture are right, and which count at all; see `average_precision`."""
    right = match(boxes, scores, truths, iou) >= 0
    return right, right | ~(iou_matrix(boxes, ignored) >= iou).any(axis=1)


def match(boxes: Floats, scores: Floats, truths: Floats, iou: float) -> Indices:
    """The truth (N,) that each detection of one picture takes, -1 for none.

    All truths prefer detections of higher scores, so the greedy choice is the stable matching of the two sides, and
    deferred acceptance finds it (Gale and Shapley 1962) in rounds: every detection asks for the best truth that has
    not refused it; a truth refuses everyone but the best that ever asked.
    """
    order = np.argsort(-scores, kind="stable")
    overlap = iou_matrix(boxes[order], truths)
    rank, truth = np.nonzero(overlap >= iou)
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


def _curve(scores: Floats, right: Bools, truths: int) -> tuple[Floats, Floats, Floats]:
    """Thresholds, precision and recall, one for each distinct score from the highest down."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    return scores[last], hits[last] / (last + 1), hits[last] / max(truths, 1)


def _area(precision: Floats, recall: Floats) -> float:
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _areas(boxes: Floats) -> Floats:
    areas: Floats = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    return areas


def _boxes(values: ArrayLike) -> Floats:
    boxes = np.asarray(values, float)
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        msg = f"boxes must be finite and of shape (N, 4), not {boxes.shape}"
        raise InputError(msg)
    return boxes


def _checked(boxes: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    checked, values = _boxes(boxes), np.asarray(scores, float)
    if values.shape != (len(checked),) or not np.isfinite(values).all():
        msg = f"{len(checked)} boxes need as many finite scores, not {values.shape}"
        raise InputError(msg)
    return checked, values
