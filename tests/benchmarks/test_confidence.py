"""Intervals of times: do they hold what they promise, on series as machines make them?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.benchmarks.confidence import (
    FEWEST,
    Rounds,
    block_length,
    combine,
    in_words,
    mean_of,
    median_of,
    ratio_of,
)
from facedeploy.metrics.interval import Interval
from facedeploy.metrics.student import student

Floats = NDArray[np.float64]
LENGTHS = (24,) * 5


def series(draw: np.random.Generator, *, lengths: tuple[int, ...] = LENGTHS, opening: float = 0.01) -> Floats:
    """Times of an artifact whose median is 10: rounds that depend on the one before, and openings that differ."""
    parts = []
    for n in lengths:
        noise = draw.normal(0, 0.03, n)
        for i in range(1, n):
            noise[i] += 0.6 * noise[i - 1]
        parts.append(10 * np.exp(noise + draw.normal(0, opening)))
    return np.concatenate(parts)[:, None]


def share_of_hits(truth: float, make: Callable[[np.random.Generator], Interval], runs: int = 150) -> float:
    draw = np.random.default_rng(5)
    return sum(truth in make(draw) for _ in range(runs)) / runs


def test_intervals_hold_the_truth() -> None:
    assert share_of_hits(10.0, lambda draw: Rounds(LENGTHS).interval(median_of(series(draw)))) > 0.92


def test_rounds_that_are_taken_for_independent_do_not() -> None:
    """The control: one block, one opening is what a plain bootstrap of all rounds is."""

    def plain(draw: np.random.Generator) -> Interval:
        times = series(draw).ravel()
        medians = np.median(draw.choice(times, (500, len(times))), axis=1)
        low, high = np.percentile(medians, (2.5, 97.5)).tolist()
        return Interval(float(np.median(times)), low, high)

    assert share_of_hits(10.0, plain) < 0.7


def shared_luck(draw: np.random.Generator, factor: float) -> Interval:
    """Two artifacts, one `factor` times faster, on a machine whose speed wanders for both."""
    machine = np.exp(np.cumsum(draw.normal(0, 0.1, sum(LENGTHS))))[:, None]
    slow, fast = series(draw, opening=0.005) * machine, series(draw, opening=0.005) * machine / factor
    return Rounds(LENGTHS).interval(ratio_of(slow, fast))


def test_paired_ratios_survive_a_machine_that_wanders() -> None:
    assert share_of_hits(1.8, lambda draw: shared_luck(draw, 1.8)) > 0.92
    intervals = [shared_luck(np.random.default_rng(seed), 1.8) for seed in range(20)]
    assert all(i.low > 1 and i.high / i.low < 1.2 for i in intervals)


def test_an_artifact_against_itself_is_no_difference() -> None:
    assert share_of_hits(1.0, lambda draw: shared_luck(draw, 1.0)) > 0.92


def test_openings_that_differ_widen_the_interval() -> None:
    draw = np.random.default_rng(3)
    times = series(draw, opening=0)
    shifts = np.repeat(np.exp([-0.1, -0.05, 0, 0.05, 0.1]), LENGTHS)[:, None]
    same, other = (Rounds(LENGTHS).interval(median_of(t)) for t in (times, times * shifts))
    assert math.log(other.high / other.low) > 3 * math.log(same.high / same.low)


positive = st.floats(1e-3, 1e3)


@settings(max_examples=40)
@given(st.data())
def test_intervals_enclose_the_value_and_do_not_depend_on_the_unit(data: st.DataObject) -> None:
    lengths = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    pictures = data.draw(st.integers(1, 3))
    rows = st.lists(positive, min_size=pictures, max_size=pictures)
    times = np.array(data.draw(st.lists(rows, min_size=sum(lengths), max_size=sum(lengths))))
    rounds = Rounds(lengths)
    for statistic in (median_of, mean_of):
        one, other = rounds.interval(statistic(times)), rounds.interval(statistic(times * 1000))
        assert one.low <= one.value <= one.high
        assert np.allclose([other.value, other.low, other.high], [1000 * v for v in (one.value, one.low, one.high)])
    with_itself = rounds.interval(ratio_of(times, times))
    assert (with_itself.value, with_itself.low, with_itself.high) == (1, 1, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    times = series(np.random.default_rng(1))
    first, again, other = (Rounds((120,), seed).interval(median_of(times)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_few_rounds_say_only_what_each_of_them_says() -> None:
    times = np.array([[3.0], [1.0], [2.0]])
    assert Rounds((1, 1, 1)).interval(median_of(times)) == Interval(2, 1, 3)
    assert Rounds((1,)).interval(median_of(times[:1])) == Interval(3, 3, 3)
    assert FEWEST == 6
    assert 2 * 0.5**FEWEST <= 0.05 < 2 * 0.5 ** (FEWEST - 1)


def test_many_pictures_are_drawn_with_their_round() -> None:
    """A picture that always takes ten times as long says nothing about how sure the rounds are."""
    times = np.array([[1.0, 10.0]] * 30)
    assert Rounds((30,)).interval(mean_of(times)) == Interval(5.5, 5.5, 5.5)


@pytest.mark.parametrize(("rounds", "block"), [(1, 1), (2, 2), (8, 2), (9, 3), (27, 3), (28, 4), (64, 4), (1000, 10)])
def test_length_of_a_block(rounds: int, block: int) -> None:
    assert block_length(rounds) == block


def test_stretch_is_that_of_students_distribution() -> None:
    """As SciPy has it, which devices lack."""
    from scipy.stats import t

    freedoms = range(1, 500)
    np.testing.assert_allclose([student(n) for n in freedoms], t.ppf(0.975, list(freedoms)), rtol=0, atol=5e-4)
    between = np.linspace(1, 12, 500)
    np.testing.assert_allclose([student(n) for n in between], t.ppf(0.975, between), rtol=0.03)


def test_independent_quotients_combine() -> None:
    one = Interval(2.0, 1.8, 2.2)
    sure = Interval(4.0, 4.0, 4.0)
    half = combine((one, sure), (1, -1))
    assert np.allclose([half.value, half.low, half.high], [0.5, 0.45, 0.55])
    inverse = combine((sure, one), (1, -1))
    assert np.allclose([inverse.value, inverse.low, inverse.high], [2, 4 / 2.2, 4 / 1.8])
    both = combine((one, one), (1, -1))
    assert both.value == 1
    assert both.low < 1.8 / 2 < 1 < both.high < 2.2 / 1.8
    assert math.isclose(both.low, 1 / both.high)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(1.8, 1.7, 1.9), "1.80 times faster (1.70 to 1.90)"),
        (Interval(0.5, 0.4, 0.8), "2.00 times slower (1.25 to 2.50)"),
        (Interval(1.01, 0.97, 1.02), "no difference beyond the noise (0.97 to 1.02)"),
        (Interval(1, 1, 1), "no difference beyond the noise (1.00 to 1.00)"),
    ],
)
def test_words(interval: Interval, words: str) -> None:
    assert in_words(interval) == words
