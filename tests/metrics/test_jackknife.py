"""Intervals of accuracy: they hold the truth as often as they say, also where little was seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.benchmarks.accuracy.scores import scores
from facedeploy.benchmarks.accuracy.tasks import Measure
from facedeploy.benchmarks.record import Score
from facedeploy.metrics import jackknife
from facedeploy.metrics.interval import Interval, Unbounded
from facedeploy.metrics.jackknife import FEWEST, GROUPS, left_out, of_change, of_error, of_share
from facedeploy.metrics.resampled import Mean, RankedPrecision, Statistic
from tests.support.interval_coverage import coverage, ours, percentiles
from tests.support.populations import KINDS, Population, draw
from tests.support.records import bounded

Floats = NDArray[np.float64]
seeds = st.integers(0, 1 << 32)
ENOUGH = 93.0  # Percent of samples, of 95 that are promised.


@pytest.mark.parametrize(("name", "pictures"), [("AP 90", 15), ("AP 99", 30)])
def test_intervals_hold_the_truth_where_percentiles_do_not(name: str, pictures: int) -> None:
    populations = draw(KINDS[name])
    value, change = coverage(populations, pictures, 150)
    assert min(value.percent, change.percent) >= ENOUGH
    assert value.width < 60
    before = coverage(populations, pictures, 40, lambda s, n: percentiles(s, n, 150))
    assert all(c.percent < ENOUGH and c.below > c.above for c in before)


@pytest.mark.slow
@pytest.mark.parametrize("pictures", [15, 30, 100, 300])
@pytest.mark.parametrize("name", KINDS)
def test_intervals_hold_the_truth(name: str, pictures: int) -> None:
    # Three standard errors of what 200 samples say are left to chance.
    least = ENOUGH - 300 * math.sqrt(0.93 * 0.07 / 200)
    value, change = coverage(draw(KINDS[name], seed=1), pictures, 200, seed=1)
    assert min(value.percent, change.percent) >= least


@pytest.mark.parametrize("pictures", [15, 30, 100])
def test_errors_of_few_pictures_hold_the_truth(pictures: int) -> None:
    """Errors of faces, most of them small and some not, as of pose and landmarks."""
    rng = np.random.default_rng(pictures)
    held, samples = 0, 1000
    for _ in range(samples):
        counts = 1 + rng.poisson(1.5, pictures).astype(np.float64)
        (values,) = left_out([Mean(rng.gamma(counts, 2.0), counts)], pictures)
        held += 2.0 in bounded(of_error(values, counts))
    assert 100 * held / samples >= ENOUGH


def of_sample(population: Population, pictures: int, seed: int) -> RankedPrecision:
    return population.sample(np.random.default_rng(seed).integers(0, population.pictures, pictures))


def rows(pictures: int, *statistics: Statistic) -> list[Score]:
    columns = [(str(i), [Measure("AP", "points", True, pictures, 0, s)]) for i, s in enumerate(statistics)]
    return list(scores("set", pictures, columns))


@given(seed=seeds, pictures=st.integers(FEWEST, 40), name=st.sampled_from(list(KINDS)))
@settings(max_examples=60, deadline=None)
def test_a_value_lies_in_its_interval(seed: int, pictures: int, name: str) -> None:
    one, other = (of_sample(p, pictures, seed) for p in draw(KINDS[name], 300, seed % 7))
    if np.count_nonzero(one.truths) < FEWEST:
        return
    first, second = rows(pictures, one, other)
    for score in (first, second):
        value = bounded(score.value)
        assert 0 <= value.low <= value.value <= value.high <= 100
        assert value.low < value.high
    change = bounded(second.change)
    assert change.low <= change.value <= change.high
    assert change.value == second.value.value - first.value.value
    # The other way round, it is the other way round.
    back = bounded(rows(pictures, other, one)[1].change)
    assert (back.low, back.high) == pytest.approx((-change.high, -change.low), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_answers_do_not_differ(seed: int) -> None:
    one = of_sample(draw(KINDS["AP 90"], 300)[0], 20, seed)
    assert rows(20, one, replace(one, scores=one.scores.copy()))[1].change == Interval(0.0, 0.0, 0.0)
    # Nor do those that differ by what rounding does to scores.
    near = replace(one, scores=one.scores * (1 + 1e-6))
    assert rows(20, one, near)[1].change == Interval(0.0, 0.0, 0.0)
    # Where that puts some in another order, the change is small, and as doubtful as it is.
    noise = np.random.default_rng(seed).uniform(-0.9e-3, 0.9e-3, len(one.scores))
    change = bounded(rows(20, one, replace(one, scores=one.scores + noise))[1].change)
    assert change.high - change.low < 1
    assert change.value == 0 or change.low < change.value < change.high


def test_no_difference_that_was_seen_is_not_the_same() -> None:
    """Scores have moved and no face was lost: of other faces, some may be."""
    one = of_sample(draw(KINDS["AP 99"], 300)[0], 40, 0)
    change = bounded(rows(40, one, replace(one, scores=one.scores**2))[1].change)
    assert change.value == 0
    assert 0 in change
    faces = float(one.truths.sum())
    assert change.high == -change.low == pytest.approx(100 * (1 - 0.025 ** (1 / faces)))


@pytest.mark.parametrize("name", ["AP 90", "AP 99.9"])
def test_more_pictures_say_more(name: str) -> None:
    populations = draw(KINDS[name])
    widths = [[c.width for c in coverage(populations, n, 20)] for n in (10, 40, 160)]
    for narrow, wide in zip(widths[1:], widths, strict=False):
        assert all(a < 0.8 * b for a, b in zip(narrow, wide, strict=True))


def test_without_a_miss_the_bound_is_the_binomial_one() -> None:
    faces = np.array([3.0, 2, 1, 1, 1, 0])
    (values,) = left_out([Mean(faces, faces, 100.0)], 6)
    full = bounded(of_share(values, faces))
    assert full.low == pytest.approx(100 * 0.025 ** (1 / 8))
    assert full.value == full.high == 100
    (values,) = left_out([Mean(0 * faces, faces, 100.0)], 6)
    empty = bounded(of_share(values, faces))
    assert empty.low == empty.value == 0
    assert empty.high == pytest.approx(100 * (1 - 0.025 ** (1 / 8)))


@pytest.mark.parametrize("share", [True, False])
def test_too_few_pictures_have_no_interval(share: bool) -> None:
    faces = np.array([1.0] * (FEWEST - 1) + [0.0] * 50)
    values = left_out([Mean(np.arange(len(faces)) * faces, faces)], len(faces))[0]
    assert of_error(values, faces) == of_share(values, faces) == Unbounded(values[0])
    assert of_change(values, faces, share=share) == Unbounded(values[0])
    assert isinstance(of_error(values, faces + 1), Interval)


def test_pictures_without_a_face_do_not_matter_to_a_mean() -> None:
    rng = np.random.default_rng(3)
    sums = rng.exponential(2.0, 30)
    few = left_out([Mean(sums, np.ones(30))], 30)[0]
    counts = np.concatenate([np.ones(30), np.zeros(100)])
    many = left_out([Mean(np.concatenate([sums, np.zeros(100)]), counts)], 130)[0]
    one, other = bounded(of_error(few, np.ones(30))), bounded(of_error(many, counts))
    assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=0.1)


def test_left_out_are_single_pictures_or_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sums = rng.exponential(2.0, 60)
    mean = Mean(sums, np.ones(60))
    (single,) = left_out([mean], 60)
    assert single[0] == pytest.approx(sums.mean())
    np.testing.assert_allclose(single[1:], (sums.sum() - sums) / 59)
    monkeypatch.setattr(jackknife, "_AT_ONCE", 60 * 7)
    np.testing.assert_allclose(left_out([mean], 60)[0], single, rtol=1e-14)
    monkeypatch.setattr(jackknife, "GROUPS", 20)
    (grouped,) = left_out([mean], 60)
    np.testing.assert_allclose(grouped[1:], (sums.sum() - sums.reshape(3, 20).sum(axis=0)) / 57)
    whole, parts = (bounded(of_error(v, np.ones(60))) for v in (single, grouped))
    assert parts.high - parts.low == pytest.approx(whole.high - whole.low, rel=0.25)
    monkeypatch.undo()
    assert left_out([Mean(np.ones(GROUPS + 1), np.ones(GROUPS + 1))], GROUPS + 1).shape == (1, GROUPS + 1)


def test_a_small_loss_in_pictures_that_are_hard_for_both_is_seen() -> None:
    """Two artifacts whose errors vary a lot from picture to picture, and little from each other: apart, their intervals
    overlap; paired, the small loss is beyond doubt.
    """
    rng = np.random.default_rng(1)
    hard = rng.exponential(10, 200)
    ones = np.ones(200)
    one, worse, same, other = scores(
        "set",
        200,
        [
            column("one", Mean(hard, ones)),
            column("worse", Mean(hard + rng.normal(0.3, 0.5, 200), ones)),
            column("same", Mean(hard, ones)),
            column("other", Mean(rng.exponential(10, 200), ones)),
        ],
    )
    assert one.change is None
    paired, apart = bounded(worse.change), bounded(other.change)
    assert paired.low > 0
    assert paired.value == worse.value.value - one.value.value
    assert worse.value.value in bounded(one.value)
    assert same.change == Interval(0.0, 0.0, 0.0)
    assert 0 in apart
    assert apart.high - apart.low > 5 * (paired.high - paired.low)
    assert (one.artifact, one.dataset, one.measure, one.unit, one.pictures) == ("one", "set", "error", "degrees", 200)


def column(name: str, statistic: Statistic) -> tuple[str, list[Measure]]:
    return name, [Measure("error", "degrees", False, 200, 200, statistic)]


def test_what_cannot_be_counted_has_no_row() -> None:
    nothing = Mean(np.zeros(4), np.zeros(4))
    something = Mean(np.array([1.0, 0, 0, 0]), np.array([1.0, 0, 0, 0]))
    (row,) = scores("set", 4, [column("one", nothing), column("two", something)])
    assert (row.artifact, row.change) == ("two", None)
    assert row.value == Unbounded(1.0)
    assert list(scores("set", 4, [("one", [])])) == []


def test_it_takes_no_longer_than_drawing_pictures_anew() -> None:
    """Counted, since times are noise: values of sets of pictures that are computed."""
    counted: list[int] = []

    class Counting(Mean):
        def values(self, weights: Floats) -> Floats:
            counted.append(len(weights))
            return super().values(weights)

    for method in (ours, percentiles):
        one, other = (Counting(np.full(900, v), np.ones(900)) for v in (50.0, 60.0))
        method([one, other], 900)
        counted.append(-1)
    split = counted.index(-1)
    assert sum(counted[:split]) < sum(counted[split + 1 : -1])
