"""How sure a value is, from what it becomes without each picture (jackknife: Efron and Tibshirani 1993, chapter 11).

Its error over what it really is follows Student's t. The degrees of freedom are those of the variance: few, where few
pictures make most of it, as when one in a hundred has an error (Satterthwaite 1946, with the kurtosis that is seen).

No average shows what did not happen. Without a miss in n faces, some 3.7 / n of all may still be missed (the exact
binomial bound: Clopper and Pearson 1934): no interval of a share says less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from facedeploy.metrics.interval import Interval, Unbounded
from facedeploy.metrics.labelled_images import Floats
from facedeploy.metrics.resampled import Statistic
from facedeploy.metrics.student import student

GROUPS = 500
FEWEST = 5  # Pictures that count.
_AT_ONCE = 2_000_000  # Numbers in one block of weights: 16 MB.
# Logits. One picture with errors, of any number, allows 5.6 times as many (Poisson); this is 12 times the odds.
_FURTHEST = 2.5
_NOTHING = 1e-9  # What rounding makes of nought.


def left_out(statistics: Sequence[Statistic], pictures: int) -> Floats:
    """Values of several statistics over the same pictures: of all, and without each.

    Args:
        statistics: S of them.
        pictures: How many. Above `GROUPS`, so many groups of pictures are left out in their stead, the first picture
            with the first after the groups.

    Returns:
        (S, 1 + min(pictures, GROUPS)); NaN where nothing is left that counts.
    """
    groups = min(pictures, GROUPS)
    group = np.arange(pictures) % max(groups, 1)
    numbers = np.arange(-1, groups)
    step = max(1, _AT_ONCE // max(pictures, 1))
    weights = ((numbers[i : i + step, None] != group).astype(np.float64) for i in range(0, len(numbers), step))
    return np.concatenate([np.stack([s.values(block) for s in statistics]) for block in weights], axis=1)


def of_share(values: Floats, faces: Floats) -> Interval | Unbounded:
    """Interval of a share of all faces, or of an average precision, 0..100.

    Args:
        values: (1 + G,), from `left_out`. Student's t is that of the logit.
        faces: (P,), how many faces of each picture count.
    """
    value = float(values[0])
    if (half := _half(values, faces)) is None:
        return Unbounded(value)
    low = high = value
    if (room := value * (100 - value) / 100) > _NOTHING:
        logit, half = math.log(value / (100 - value)), min(half / room, _FURTHEST)
        low, high = (100 / (1 + math.exp(-x)) for x in (logit - half, logit + half))
    unseen = _unseen(faces)
    return Interval(value, min(low, value, 100 - unseen), max(high, value, unseen))


def of_error(values: Floats, faces: Floats) -> Interval | Unbounded:
    """Interval of a mean error, 0 or more; arguments as of `of_share`. Student's t is that of the logarithm."""
    value = float(values[0])
    if (half := _half(values, faces)) is None:
        return Unbounded(value)
    factor = math.exp(min(half / value, 300.0)) if value > 0 else 1.0
    return Interval(value, value / factor, value * factor)


def of_change(values: Floats, faces: Floats, *, share: bool) -> Interval | Unbounded:
    """Interval of a difference of two of the above over the same pictures.

    Args:
        values: The differences.
        faces: See `of_share`.
        share: Whether it is one of shares, of answers that are not the same: then there may be faces that only one of
            the two finds, seen or not.
    """
    value = float(values[0])
    if (half := _half(values, faces)) is None:
        return Unbounded(value)
    half = max(half, _unseen(faces) if share else 0.0)
    return Interval(value, value - half, value + half)


def _unseen(faces: Floats) -> float:
    """Percent of all faces that may be missed where none of these was."""
    return -100 * math.expm1(math.log(0.025) / float(faces.sum()))


def _half(values: Floats, faces: Floats) -> float | None:
    """Student's t times the standard error; None where too few pictures count."""
    alone = values[1:]
    if np.count_nonzero(faces) < FEWEST or not np.isfinite(alone).all():
        return None
    moved = alone - alone.mean()
    moved[np.abs(moved) < _NOTHING] = 0.0
    if not (squares := float((moved**2).sum())):
        return 0.0
    groups = len(alone)
    kurtosis = groups * float((moved**4).sum()) / squares**2
    freedom = min(2 * groups / max(kurtosis - 1, 1e-9), groups - 1)
    return student(freedom) * math.sqrt((groups - 1) / groups * squares)
