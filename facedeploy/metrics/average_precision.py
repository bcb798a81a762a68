"""Average precision of a detector over many pictures, without a loop over boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedeploy.core.boxes import iou_matrix
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.metrics.box_matching import match_by_score

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
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


def average_precision(
    detections: Iterable[Detections],
    truths: Iterable[ArrayLike],
    ignored: Iterable[ArrayLike] | None = None,
    *,
    iou: float = 0.5,
) -> AveragePrecision:
    """All-point average precision, as PASCAL VOC has it since 2010; detections are matched to truths as COCO does it
    (`match_by_score`).

    Equal scores are one point of the curve, since no threshold can part them: the order of the pictures does not
    matter.

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
    scores, right, counted = verdicts(found, wanted, neutral, iou)
    total = sum(map(len, wanted))
    thresholds, hits, shown = _curve(scores[counted], right[counted])
    points = zip(thresholds.tolist(), (hits / shown).tolist(), (hits / max(total, 1)).tolist(), strict=True)
    curve = tuple(OperatingPoint(*point) for point in points)
    return AveragePrecision(
        value=float(area_under(hits[None], shown[None], np.array([float(total)]))[0]),
        iou=iou,
        truths=total,
        detections=len(scores),
        ignored=int((~counted).sum()),
        curve=curve,
        best=max(curve, key=lambda point: point.f1) if curve and total else None,
    )


def verdicts(
    found: Sequence[tuple[Floats, Floats]], truths: Sequence[Floats], ignored: Sequence[Floats], iou: float
) -> tuple[Floats, Bools, Bools]:
    """Of all detections, picture after picture: the score, whether it is right, and whether it counts at all; see
    `average_precision`.
    """
    rights = [match_by_score(*each, truth, iou) >= 0 for each, truth in zip(found, truths, strict=True)]
    counted = [
        right | ~(iou_matrix(boxes, skip) >= iou).any(axis=1)
        for right, (boxes, _), skip in zip(rights, found, ignored, strict=True)
    ]
    none = np.zeros(0, bool)
    scores = np.concatenate([np.zeros(0), *(s for _, s in found)])
    return scores, np.concatenate([none, *rights]), np.concatenate([none, *counted])


def _curve(scores: Floats, right: Bools) -> tuple[Floats, Floats, Floats]:
    """Thresholds, right answers and all answers, one for each distinct score from the highest down."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    return scores[last], hits[last].astype(float), (last + 1).astype(float)


def area_under(hits: Floats, shown: Floats, truths: Floats) -> Floats:
    """Area under the envelope of precision (D,), 0..1, from right answers and all answers (D, T) at falling thresholds
    and the number of truths (D,); NaN without truths.

    Recall steps from 0, as in PASCAL VOC since 2010 (`VOCap.m` of its development kit).
    """
    precision = np.divide(hits, shown, out=np.zeros_like(hits), where=shown > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    steps = np.diff(hits, axis=1, prepend=0.0)
    area = (steps * envelope).sum(axis=1)
    found: Floats = np.divide(area, truths, out=np.full(len(truths), np.nan), where=truths > 0)
    return found


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
