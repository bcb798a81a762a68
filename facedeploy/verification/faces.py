"""Are the faces of an artifact those of what it was made from? Judged over all faces of some pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.face import Face
from facedeploy.core.target import Precision
from facedeploy.metrics.face_matching import (
    angle_distances,
    class_distances,
    cosine,
    match,
    point_distances,
    side,
)

# Of so many faces one may be another candidate of the same face: where two have nearly the same score, rounding decides
# which of them suppresses the other. Measured on photographs: one of 300 in fp16.
_CHOSEN_OTHERWISE = 0.02
_LEAST = 3  # Of fewer faces each counts.
_FEW = 10  # Of fewer faces none may be lost.
_MANY = 30  # Of fewer faces rounding may have a direction.


@dataclass(frozen=True)
class FaceLimits:
    """How far the faces of an artifact may be off in the mean of all but a fiftieth.

    Attributes:
        box: Of the corner that is furthest off, in percent of sqrt(w * h) of the box.
        shift: How far all boxes may be off in one direction, a coordinate each, in percent of the same. Rounding has
            no direction, and a wrong anchor has.
        points: Of the landmarks of a face, in percent of the same.
        score: Of the score, 0..1.
        degrees: Of yaw, pitch or roll, the worst.
        cosine: What the cosine of embeddings must reach.
        margin: How far above the threshold a score must be for a face to be missed.
        lost: Share of the faces that may be missing, or extra.
    """

    box: float
    shift: float
    points: float
    score: float
    degrees: float
    cosine: float
    margin: float
    lost: float


FACE_LIMITS: dict[Precision, FaceLimits] = {
    "fp32": FaceLimits(box=0.1, shift=0.05, points=0.1, score=1e-3, degrees=0.1, cosine=0.9999, margin=1e-3, lost=0.0),
    "fp16": FaceLimits(box=1.0, shift=0.4, points=1.0, score=1e-2, degrees=1.0, cosine=0.999, margin=2e-2, lost=0.0),
    "bf16": FaceLimits(box=2.0, shift=1.0, points=2.0, score=3e-2, degrees=2.0, cosine=0.99, margin=5e-2, lost=0.01),
    "int8": FaceLimits(box=5.0, shift=1.5, points=5.0, score=5e-2, degrees=3.0, cosine=0.95, margin=0.1, lost=0.03),
}


@dataclass(frozen=True)
class FaceErrors:
    """How far the faces of an artifact are from those of a reference: means over all but a fiftieth of the faces.

    Attributes:
        total: Faces of the reference.
        missing: How many of them have no partner, though their score is no matter of rounding.
        extra: Faces without a partner in the reference, the same way.
        box: As in `FaceLimits`, as the others are.
        shift: 0 where there are too few faces.
        points: Percent.
        score: 0..1.
        degrees: Degrees.
        classes: Of the probability of a class, 0..1.
        cosine: 1 less the cosine of embeddings.
    """

    total: int
    missing: int
    extra: int
    box: float
    shift: float
    points: float
    score: float
    degrees: float
    classes: float
    cosine: float


def measure_faces(
    reference: Sequence[Sequence[Face]], found: Sequence[Sequence[Face]], sure: float = 0.0
) -> FaceErrors:
    """Compare the faces of some pictures, one entry per picture in both.

    Args:
        reference: The faces as they should be.
        found: Those of the artifact.
        sure: Score from which a face must have a partner.
    """
    pairs = [match(a, b) for a, b in zip(reference, found, strict=True)]
    both = list(chain.from_iterable(pairs))
    missing = sum(_unmatched(a, [p for p, _ in pair], sure) for a, pair in zip(reference, pairs, strict=True))
    extra = sum(_unmatched(b, [q for _, q in pair], sure) for b, pair in zip(found, pairs, strict=True))
    # A box without area overlaps nothing, not even itself; a network with drawn weights gives such.
    flat = min(_flat(reference, sure), _flat(found, sure))
    return FaceErrors(
        total=sum(map(len, reference)),
        missing=missing - flat,
        extra=extra - flat,
        box=_typical(both, _box),
        shift=_shift(both),
        points=_typical(both, point_distances),
        score=_typical(both, lambda a, b: [abs(a.score - b.score)]),
        degrees=_typical(both, angle_distances),
        classes=_typical(both, class_distances),
        cosine=_typical(both, _cosines),
    )


def judge(
    reference: Sequence[Sequence[Face]], found: Sequence[Sequence[Face]], precision: Precision, threshold: float = 0.0
) -> tuple[str, ...]:
    """Say what is wrong with the faces of an artifact.

    Args:
        reference: Faces of what it was made from, one entry per picture.
        found: Faces of the artifact, in the same order.
        precision: Of the artifact.
        threshold: Score below which neither gives a face.

    Returns:
        A sentence for each quantity that is further off than the precision allows.
    """
    limits = FACE_LIMITS[precision]
    return problems_of(measure_faces(reference, found, threshold + limits.margin), limits, precision)


def problems_of(errors: FaceErrors, limits: FaceLimits, allows: str) -> tuple[str, ...]:
    """A sentence for each quantity that is over its limit. allows: whose limits they are, as the sentence says it."""
    problems = []
    allowed = 0 if errors.total < _FEW else math.ceil(limits.lost * errors.total)
    if max(errors.missing, errors.extra) > allowed:
        but = f"; {allows} allows {allowed}" if allowed else ""
        problems.append(f"of {errors.total} faces, {errors.missing} missing and {errors.extra} extra{but}")
    for what, unit, value, limit in (
        ("boxes are off by", "% of their size", errors.box, limits.box),
        ("landmarks are off by", "% of the box", errors.points, limits.points),
        ("scores are off by", "", errors.score, limits.score),
        ("angles are off by", "degrees", errors.degrees, limits.degrees),
        ("probabilities of classes are off by", "", errors.classes, limits.score),
        ("1 - the cosine of embeddings is", "", errors.cosine, 1 - limits.cosine),
    ):
        if not value <= limit:
            words = f"{what} {value:.2g} {unit}".rstrip()
            problems.append(f"{words} in the mean; {allows} allows {limit:.2g}")
    if not errors.shift <= limits.shift:
        words = f"all boxes are off by {errors.shift:.2g} % of their size in one direction"
        problems.append(f"{words}; {allows} allows {limits.shift:.2g}")
    return tuple(problems)


def _unmatched(faces: Sequence[Face], matched: Sequence[Face], sure: float) -> int:
    """How many faces have no partner, though their score is no matter of rounding."""
    taken = set(map(id, matched))
    return sum(id(face) not in taken and face.score >= sure for face in faces)


def _flat(faces: Sequence[Sequence[Face]], sure: float) -> int:
    """How many boxes have no area."""
    return sum(not side(face) and face.score >= sure for face in chain.from_iterable(faces))


def _typical(pairs: Sequence[tuple[Face, Face]], measure: Callable[[Face, Face], Sequence[float]]) -> float:
    """The mean over faces, without the worst fiftieth of them, of the worst of what is measured.

    One that is no number makes it infinite.
    """
    worst = np.array([np.max(values) for a, b in pairs if (values := measure(a, b))])
    if not np.isfinite(worst).all():
        return math.inf
    return float(worst[_same(worst)].mean()) if len(worst) else 0.0


def _shift(pairs: Sequence[tuple[Face, Face]]) -> float:
    """The largest mean over faces of a coordinate of a box, with its sign, in percent of the box."""
    if len(pairs) < _MANY:
        return 0.0
    off = np.nan_to_num(np.array([100 * (np.array(b.box) - a.box) / side(a) for a, b in pairs]), nan=np.inf)
    return float(np.abs(off[_same(np.abs(off).max(axis=1))].mean(axis=0)).max())


def _same(off: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which faces are not among the worst, by how far each is off."""
    order = np.argsort(off)
    return order[: len(off) - (0 if len(off) < _LEAST else math.ceil(_CHOSEN_OTHERWISE * len(off)))]


def _box(a: Face, b: Face) -> list[float]:
    return [100 * abs(p - q) / side(a) for p, q in zip(a.box, b.box, strict=True)]


def _cosines(a: Face, b: Face) -> list[float]:
    if a.embedding is None or b.embedding is None:
        return []
    return [1 - cosine(a.embedding, b.embedding) if np.isfinite(b.embedding).all() else math.nan]
