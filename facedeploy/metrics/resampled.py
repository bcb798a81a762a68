"""What a measure leaves of each picture, so that pictures can be left out without looking at boxes again."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.metrics.average_precision import area_under
from facedeploy.metrics.labelled_images import Bools, Floats

_ROUNDING = 1e-3  # Of scores.


class Statistic(abc.ABC):
    """A value of a set of pictures, as a function of how often each picture is in the set."""

    @property
    @abc.abstractmethod
    def faces(self) -> Floats:
        """(P,), how many faces of each picture count."""

    @abc.abstractmethod
    def values(self, weights: Floats) -> Floats:
        """The value (D,) for each row of `weights` (D, P), whole numbers; NaN where nothing in it counts."""

    def value(self, pictures: int) -> float:
        """The value of the whole set, each picture once."""
        return float(self.values(np.ones((1, pictures)))[0])

    def same(self, other: Statistic) -> bool:
        """Whether two artifacts found the same: then neither loses a face of other pictures against the other."""
        mine, theirs = (vars(s) for s in (self, other))
        return type(self) is type(other) and all(np.array_equal(mine[key], theirs[key]) for key in mine)


@dataclass(frozen=True, eq=False)
class Mean(Statistic):
    """A mean over all faces.

    Attributes:
        sums: (P,), of each picture.
        counts: (P,), of each picture.
        factor: What the mean is multiplied by.
    """

    sums: Floats
    counts: Floats
    factor: float = 1.0

    @property
    def faces(self) -> Floats:
        return self.counts

    def values(self, weights: Floats) -> Floats:
        counts = weights @ self.counts
        found: Floats = np.divide(weights @ self.sums, counts, out=np.full(len(weights), np.nan), where=counts > 0)
        return self.factor * found


@dataclass(frozen=True, eq=False)
class RankedPrecision(Statistic):
    """All-point average precision, 0..100, from verdicts on detections; see `average_precision`.

    Attributes:
        scores: (N,), of the detections that count, in any order.
        right: (N,), whether each detection is right.
        picture: (N,), which picture each detection is in.
        truths: (P,), how many faces each picture has.
    """

    scores: Floats
    right: Bools
    picture: NDArray[np.intp]
    truths: Floats

    @property
    def faces(self) -> Floats:
        return self.truths

    def same(self, other: Statistic) -> bool:
        """The same verdicts, and scores that differ by rounding only."""
        return (
            isinstance(other, RankedPrecision)
            and np.array_equal(self.right, other.right)
            and np.array_equal(self.picture, other.picture)
            and bool(np.all(np.abs(self.scores - other.scores) <= _ROUNDING))
        )

    def values(self, weights: Floats) -> Floats:
        order = np.argsort(-self.scores, kind="stable")
        right, picture = self.right[order], self.picture[order]
        last = np.flatnonzero(np.diff(self.scores[order], append=-np.inf))
        # Where no right answer joins, precision only falls and recall stands: the other points are all that matters.
        ends = last[np.diff(np.cumsum(right)[last], prepend=0) > 0]
        point = np.searchsorted(ends, np.arange(len(order)))
        matters = point < len(ends)
        right, picture, point = right[matters], picture[matters], point[matters]
        return 100 * np.array([self._area(each, right, picture, point, len(ends)) for each in weights])

    def _area(
        self, weights: Floats, right: Bools, picture: NDArray[np.intp], point: NDArray[np.intp], points: int
    ) -> float:
        each = weights[picture]
        shown, hits = (
            np.cumsum(np.bincount(point[rows], each[rows], points), dtype=np.float64) for rows in (slice(None), right)
        )
        return float(area_under(hits[None], shown[None], (weights @ self.truths)[None])[0])


@dataclass(frozen=True, eq=False)
class BinnedPrecision(Statistic):
    """Average precision, 0..100, over fixed thresholds.

    Attributes:
        shown: (P, T) whole numbers: detections of each picture above each threshold, highest threshold first.
        hits: (P, T) whole numbers: how many of those are right.
        truths: (P,), how many faces each picture has.
    """

    shown: NDArray[np.int32]
    hits: NDArray[np.int32]
    truths: Floats

    @property
    def faces(self) -> Floats:
        return self.truths

    def values(self, weights: Floats) -> Floats:
        # Sums of whole numbers are exact in any order, so neither threads nor blocks change a bit.
        shown, hits = (_product(weights, table) for table in (self.shown, self.hits))
        return 100 * area_under(hits, shown, weights @ self.truths)


_AT_ONCE = 4_000_000  # Numbers in one block: 32 MB.


def _product(weights: Floats, table: NDArray[np.int32]) -> Floats:
    out = np.empty((len(weights), table.shape[1]))
    step = max(1, _AT_ONCE // max(len(table), 1))
    for first in range(0, table.shape[1], step):
        out[:, first : first + step] = weights @ table[:, first : first + step].astype(np.float64)
    return out
