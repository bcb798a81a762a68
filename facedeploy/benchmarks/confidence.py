"""How sure a time, or a ratio of times, is: intervals from rounds that follow one another, in several openings.

Two rounds next to each other share their luck: a neighbour on the machine, a clock that was lowered. And all rounds of
an opening share where its memory and its threads happen to lie. So there are two intervals, and the wider one is told.

Rounds: blocks of neighbouring rounds are drawn anew with replacement inside each opening, whose end joins its beginning
(circular block bootstrap: Politis and Romano 1992), all artifacts and pictures of a round together. A block is n^(1/3)
rounds long, rounded up, of the n of its opening (the rate that is best for a variance: Hall, Horowitz and Jing 1995).
With few blocks the drawn values scatter too little; the interval is stretched as Student's t is over the normal.

Openings: Student's t of the logarithms of what each opening says by itself (Kalibera and Jones, "Rigorous Benchmarking
in Reasonable Time", 2013, on why repetitions inside one process are not enough).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.metrics.interval import Interval
from facedeploy.metrics.student import NORMAL, student

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
# Values (D,) of some quantity for rows (D, n) of numbers of rounds.
Statistic = Callable[[Rows], Floats]

DRAWS = 1000
# With fewer rounds not even all of them on one side are a proof at 5 %: 2 * 0.5^5 > 0.05 (the sign test).
FEWEST = 6
_AT_ONCE = 2_000_000  # Numbers in one block of draws: 16 MB.


@dataclass(frozen=True)
class Rounds:
    """How the rounds of a run lie.

    Attributes:
        lengths: Number of rounds of each opening, in the order taken.
        seed: Of the rounds that are drawn anew.
    """

    lengths: tuple[int, ...]
    seed: int = 0

    @property
    def count(self) -> int:
        return sum(self.lengths)

    def interval(self, statistic: Statistic) -> Interval:
        """The value of a positive quantity over all rounds, and its 95 % confidence interval.

        Under `FEWEST` rounds there is no such thing: then it is all that single rounds say.
        """
        value = float(statistic(np.arange(self.count)[None])[0])
        if value <= 0:
            return Interval(value, value, value)
        if self.count < FEWEST:
            each = statistic(np.arange(self.count)[:, None])
            return Interval(value, min(value, float(each.min())), max(value, float(each.max())))
        below, above = (
            max(a, b) for a, b in zip(self._by_rounds(statistic), self._by_openings(statistic), strict=True)
        )
        return Interval(value, value * math.exp(-below), value * math.exp(above))

    def _by_rounds(self, statistic: Statistic) -> tuple[float, float]:
        """How far, in logarithms, the quantity may be below and above its value."""
        step = max(1, _AT_ONCE // self.count)
        generator = np.random.default_rng(self.seed)
        value = float(statistic(np.arange(self.count)[None])[0])
        parts = [statistic(self._drawn(generator, min(step, DRAWS - i))) for i in range(0, DRAWS, step)]
        low, high = np.percentile(np.log(np.maximum(np.concatenate(parts) / value, 1e-9)), (2.5, 97.5)).tolist()
        blocks = sum(-(-n // block_length(n)) for n in self.lengths)
        stretch = student(blocks - len(self.lengths)) / NORMAL
        return max(0.0, -low) * stretch, max(0.0, high) * stretch

    def _drawn(self, generator: np.random.Generator, draws: int) -> Rows:
        """Numbers of rounds (draws, count): each opening's, drawn anew in blocks."""
        drawn, first = [], 0
        for n in self.lengths:
            block = block_length(n)
            begins = generator.integers(0, n, (draws, -(-n // block), 1))
            drawn.append(first + ((begins + np.arange(block)) % n).reshape(draws, -1)[:, :n])
            first += n
        return np.concatenate(drawn, axis=1)

    def _by_openings(self, statistic: Statistic) -> tuple[float, float]:
        if len(self.lengths) < 2:
            return 0.0, 0.0
        ends = np.cumsum(self.lengths)
        each = [float(statistic(np.arange(end - n, end)[None])[0]) for n, end in zip(self.lengths, ends, strict=True)]
        logs = np.log(np.maximum(each, 1e-300))
        half = student(len(each) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(each))
        return half, half


def block_length(rounds: int) -> int:
    """How many neighbouring rounds are drawn together."""
    # The small amount is for 27 ** (1 / 3), which is a little over 3.
    return math.ceil(math.pow(rounds, 1 / 3) - 1e-9)


def median_of(times: Floats) -> Statistic:
    """The median of all times (rounds, pictures) of the drawn rounds."""
    return lambda rows: np.asarray(np.median(times[rows].reshape(len(rows), -1), axis=1), np.float64)


def mean_of(times: Floats) -> Statistic:
    """The mean of all times (rounds, pictures) of the drawn rounds."""
    each = times.mean(axis=1)
    return lambda rows: np.asarray(each[rows].mean(axis=1), np.float64)


def ratio_of(slow: Floats, fast: Floats) -> Statistic:
    """How many times faster one of two artifacts is: median over the drawn rounds of the quotient of the times that the
    pictures of a round took together.

    Args:
        slow: (rounds, pictures).
        fast: (rounds, pictures).
    """
    each = slow.sum(axis=1) / fast.sum(axis=1)
    return lambda rows: np.asarray(np.median(each[rows], axis=1), np.float64)


def combine(values: Sequence[Interval], signs: Sequence[int]) -> Interval:
    """Product of independent positive quantities, each to the power of 1 or -1, with its interval: distances from the
    value add up in squares, in logarithms, each side by itself (Donner and Zou 2012, method of variance estimates).
    """
    value = math.prod(v.value**s for v, s in zip(values, signs, strict=True))
    downs = [
        math.log(v.value / v.low) if s > 0 else math.log(v.high / v.value) for v, s in zip(values, signs, strict=True)
    ]
    ups = [
        math.log(v.high / v.value) if s > 0 else math.log(v.value / v.low) for v, s in zip(values, signs, strict=True)
    ]
    return Interval(value, value * math.exp(-math.hypot(*downs)), value * math.exp(math.hypot(*ups)))


def in_words(times: Interval) -> str:
    """What a ratio means: "1.80 times faster (1.70 to 1.90)"; where 1 is inside, that nothing was seen."""
    if 1 in times:
        return f"no difference beyond the noise ({times.low:.2f} to {times.high:.2f})"
    if times.value > 1:
        return f"{times.value:.2f} times faster ({times.low:.2f} to {times.high:.2f})"
    return f"{1 / times.value:.2f} times slower ({1 / times.high:.2f} to {1 / times.low:.2f})"
