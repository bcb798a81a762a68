"""How sure a value is: pictures drawn anew, with replacement (Efron and Tibshirani 1993, chapter 13, percentiles)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from facedeploy.metrics.interval import Interval
from facedeploy.metrics.labelled_images import Floats
from facedeploy.metrics.resampled import Statistic

DRAWS = 1000
SEED = 0
_AT_ONCE = 2_000_000  # Numbers in one block of draws: 16 MB.


def draws(pictures: int, count: int = DRAWS, seed: int = SEED) -> Iterator[Floats]:
    """How often each picture is in each draw, in blocks (n, pictures) of `count` rows together."""
    generator = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(pictures, 1))
    for first in range(0, count, step):
        rows = min(step, count - first)
        chosen = generator.integers(0, pictures, (rows, pictures)) + pictures * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * pictures).reshape(rows, pictures).astype(np.float64)


def resample(statistics: Sequence[Statistic], pictures: int) -> Floats:
    """Values (len(statistics), DRAWS) of several statistics over the same pictures, in the same draws."""
    blocks = [np.stack([s.values(block) for s in statistics]) for block in draws(pictures)]
    return np.concatenate(blocks, axis=1)


def interval(value: float, drawn: Floats) -> Interval:
    """The middle 95 % of the draws; a draw in which nothing counts is left out."""
    known = drawn[np.isfinite(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)).tolist() if len(known) else (value, value)
    return Interval(value, low, high)
