"""How often intervals hold the truth: `python -m tests.support.interval_coverage --help`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.benchmarks.accuracy.scores import scores
from facedeploy.benchmarks.accuracy.tasks import Measure
from facedeploy.metrics.interval import Interval
from facedeploy.metrics.resampled import Statistic
from tests.support.populations import KINDS, Kind, Population, draw

Floats = NDArray[np.float64]
# From statistics of two detectors over so many pictures to the intervals of the first, of the second, of the change.
Method = Callable[[Sequence[Statistic], int], tuple[Interval, Interval, Interval]]


def ours(statistics: Sequence[Statistic], pictures: int) -> tuple[Interval, Interval, Interval]:
    """What a benchmark reports."""
    columns = [
        (name, [Measure("AP", "points", True, pictures, 0, s)])
        for name, s in zip(("first", "second"), statistics, strict=True)
    ]
    first, second = scores("drawn", pictures, columns)
    assert isinstance(first.value, Interval)
    assert isinstance(second.value, Interval)
    assert isinstance(second.change, Interval)
    return first.value, second.value, second.change


def percentiles(
    statistics: Sequence[Statistic], pictures: int, draws: int = 1000
) -> tuple[Interval, Interval, Interval]:
    """The middle 95 % of what pictures drawn anew say: what version 0.1.0 reported, for comparison."""
    chosen = np.random.default_rng(0).integers(0, pictures, (draws, pictures)) + pictures * np.arange(draws)[:, None]
    weights = np.bincount(chosen.ravel(), minlength=draws * pictures).reshape(draws, pictures).astype(np.float64)
    one, other = (s.values(np.concatenate([np.ones((1, pictures)), weights])) for s in statistics)
    first, second, change = (_middle(v) for v in (one, other, other - one))
    return first, second, change


def _middle(values: Floats) -> Interval:
    low, high = np.nanpercentile(values[1:], (2.5, 97.5)).tolist()
    return Interval(float(values[0]), low, high)


@dataclass(frozen=True)
class Coverage:
    """How intervals of many samples lie to the truth.

    Attributes:
        samples: How many.
        below: How many lie wholly above the truth: the truth is below them.
        above: How many lie wholly below it.
        width: Mean width, points.
    """

    samples: int
    below: int
    above: int
    width: float

    @property
    def percent(self) -> float:
        return 100 * (1 - (self.below + self.above) / self.samples)


def coverage(
    populations: tuple[Population, Population], pictures: int, samples: int, method: Method = ours, seed: int = 0
) -> tuple[Coverage, Coverage]:
    """Of the first detector's value, and of the change to the second.

    Args:
        populations: A detector, and another in the same pictures.
        pictures: In each sample.
        samples: How many are drawn.
        method: What makes intervals.
        seed: Of the samples.
    """
    one, other = populations
    rng = np.random.default_rng((seed, pictures))
    truths = one.truth, other.truth - one.truth
    found: tuple[list[Interval], list[Interval]] = [], []
    for _ in range(samples):
        rows = rng.integers(0, one.pictures, pictures)
        first, _, change = method([one.sample(rows), other.sample(rows)], pictures)
        found[0].append(first)
        found[1].append(change)
    value, change_ = (_lies(intervals, truth) for intervals, truth in zip(found, truths, strict=True))
    return value, change_


def _lies(intervals: Sequence[Interval], truth: float) -> Coverage:
    below = sum(truth < i.low - 1e-9 for i in intervals)
    above = sum(truth > i.high + 1e-9 for i in intervals)
    return Coverage(len(intervals), below, above, float(np.mean([i.high - i.low for i in intervals])))


METHODS: dict[str, Method] = {"percentiles": percentiles, "ours": ours}


def _row(name: str, kind: Kind, pictures: int, samples: int, seed: int, methods: Sequence[str]) -> Iterator[str]:
    populations = draw(kind, seed=seed)
    for called in methods:
        both = coverage(populations, pictures, samples, METHODS[called], seed)
        for what, found in zip(("AP", "change"), both, strict=True):
            sides = f"{100 * found.below / samples:5.1f} {100 * found.above / samples:5.1f}"
            yield f"{name:17} {pictures:5} {what:7} {called:11} {found.percent:6.1f} {sides} {found.width:7.2f}"


def _task(arguments: tuple[str, Kind, int, int, int, Sequence[str]]) -> list[str]:
    return list(_row(*arguments))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, nargs="+", default=[15, 30, 100, 300])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    print("population     pictures of     method       holds below above   width", flush=True)
    kinds = list(KINDS.items())
    tasks = [(name, kind, n, given.samples, given.seed, given.methods) for n in given.pictures for name, kind in kinds]
    with ProcessPoolExecutor(given.processes) as pool:
        for lines in pool.map(_task, tasks):
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
