"""Histograms of activations, and where they say to clip, against NumPy on the values themselves."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from facedeploy.calibration.histogram import Histogram
from facedeploy.calibration.range_estimators import clip
from facedeploy.calibration.table import Method
from facedeploy.graph.passes.insert_qdq import steps
from facedeploy.graph.ranges import Range, Scheme

Floats = NDArray[np.float32]

METHODS: tuple[Method, ...] = ("minmax", "percentile", "kl", "mse")
SCHEMES: tuple[Scheme, ...] = ("symmetric", "asymmetric")

# Activations of every size that a network has: whole numbers and powers of two too, which lie on the edges of bins.
numbers = st.one_of(
    st.floats(-1e6, 1e6, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6),
    st.integers(-2048, 2048).map(float),
    st.integers(-12, 12).map(lambda e: 2.0**e),
    st.integers(-12, 12).map(lambda e: -(2.0**e)),
)
batches = st.lists(hnp.arrays(np.float32, st.integers(0, 30), elements=numbers), min_size=1, max_size=6)


def filled(*parts: Floats) -> Histogram:
    histogram = Histogram()
    for part in parts:
        assert histogram.add(part)
    return histogram


def state(histogram: Histogram) -> tuple[object, ...]:
    return histogram.minimum, histogram.maximum, histogram.exponent, histogram.counts.tobytes()


def edges(histogram: Histogram) -> NDArray[np.float64]:
    width = 2.0 ** (histogram.exponent or 0)
    return np.append(histogram.centres - width / 2, histogram.centres[-1] + width / 2)


# --- the histogram ---


@given(batches)
def test_every_value_but_zero_is_counted_once(parts: list[Floats]) -> None:
    values = np.concatenate(parts)
    histogram = filled(*parts)
    assert histogram.counts.sum() == np.count_nonzero(values)
    assert histogram.counts.min() >= 0
    assert histogram.minimum == min(values.min(initial=0), 0)
    assert histogram.maximum == max(values.max(initial=0), 0)


@given(batches, st.randoms(use_true_random=False))
@example([np.array([1], np.float32), np.array([2], np.float32)], None)
def test_neither_order_nor_batches_matter(parts: list[Floats], random: Any) -> None:
    values = np.concatenate(parts)
    want = state(filled(values))
    assert state(filled(*parts)) == want
    assert state(filled(*reversed(parts))) == want
    shuffled = values.tolist()
    if random is not None:
        random.shuffle(shuffled)
    assert state(filled(*np.array(shuffled, np.float32).reshape(-1, 1))) == want


@given(batches)
def test_every_value_is_in_its_bin(parts: list[Floats]) -> None:
    values = np.concatenate(parts)
    histogram = filled(*parts)
    want, _ = np.histogram(values[values != 0].astype(np.float64), edges(histogram))
    np.testing.assert_array_equal(histogram.counts, want)


@given(batches)
def test_bins_are_fine_enough_for_eight_bits(parts: list[Floats]) -> None:
    histogram = filled(*parts)
    peak = max(-histogram.minimum, histogram.maximum)
    if peak:
        assert edges(histogram)[0] <= -peak
        assert peak <= edges(histogram)[-1]
        assert 2.0 ** (histogram.exponent or 0) <= peak / 1024


def test_a_value_in_the_wrong_bin_is_noticed() -> None:
    """The control: bins moved by one do not agree with NumPy."""
    values = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    histogram = filled(values)
    want, _ = np.histogram(values, edges(histogram))
    assert not np.array_equal(np.roll(histogram.counts, 1), want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_not_counted(bad: float) -> None:
    histogram = filled(np.array([1, -2, 3], np.float32))
    before = state(histogram)
    assert not histogram.add(np.array([100, bad, 0.5], np.float32))
    assert state(histogram) == before
    assert histogram.add(np.array([0.5], np.float32))


def test_memory_does_not_grow() -> None:
    histogram = filled(np.array([1e-6], np.float32))
    size = histogram.counts.nbytes
    for exponent in range(-6, 7):
        assert histogram.add(np.full(1000, 10.0**exponent, np.float32))
    assert histogram.counts.nbytes == size <= 1 << 16
    assert histogram.counts.sum() == 13001


def test_nothing_is_nothing() -> None:
    histogram = filled(np.zeros(0, np.float32), np.zeros((1, 2, 3), np.float32), np.array([-0.0], np.float32))
    assert histogram.counts.sum() == 0
    assert (histogram.minimum, histogram.maximum) == (0, 0)


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1e30, 3e38])
def test_any_size_of_float32_is_counted(size: float) -> None:
    values = np.array([0.25, -0.5, 1], np.float32) * np.float32(size)
    histogram = filled(values)
    assert histogram.counts.sum() == np.count_nonzero(values)
    want, _ = np.histogram(values[values != 0].astype(np.float64), edges(histogram))
    np.testing.assert_array_equal(histogram.counts, want)


# --- clips ---


def fake(values: Floats, found: Range, scheme: Scheme) -> NDArray[np.float64]:
    """What is left of values that pass through 8 bits."""
    made = steps(found, scheme)
    scale, zero = float(made.scale), int(made.zero)
    lowest, highest = (-127, 127) if scheme == "symmetric" else (0, 255)
    stored = np.clip(np.round(values.astype(np.float64) / scale) + zero, lowest, highest)
    return (stored - zero) * scale


def squared_error(values: Floats, found: Range, scheme: Scheme) -> float:
    return float(((fake(values, found, scheme) - values) ** 2).sum())


def samples(name: str) -> Floats:
    rng = np.random.default_rng(3)
    normal = rng.standard_normal(20000)
    made = {
        "gaussian": normal,
        "heavy tail after ReLU": np.maximum(rng.standard_t(3, 20000), 0),
        "uniform": rng.uniform(-2, 2, 20000),
        "two sides of different size": np.where(normal < 0, normal * 0.2, normal * 3),
        "one-sided negative": -np.abs(normal) - 0.1,
    }
    return made[name].astype(np.float32)


SAMPLES = ("gaussian", "heavy tail after ReLU", "uniform", "two sides of different size", "one-sided negative")


@given(batches, st.sampled_from(METHODS))
@settings(max_examples=60)  # A search over clips takes some milliseconds.
def test_clips_lie_within_what_was_seen(parts: list[Floats], method: Method) -> None:
    found = clip(filled(*parts), method)
    values = np.concatenate(parts)
    low, high = min(float(values.min(initial=0)), 0), max(float(values.max(initial=0)), 0)
    assert (found.minimum, found.maximum) == (low, high)
    assert 0 <= found.threshold <= max(-low, high)
    assert low <= found.low <= 0 <= found.high <= high
    if low < high:
        assert found.threshold > 0
        assert found.low < found.high


@pytest.mark.parametrize("name", SAMPLES)
def test_minmax_clips_nothing(name: str) -> None:
    values = samples(name)
    low, high = min(float(values.min()), 0), max(float(values.max()), 0)
    assert clip(filled(values), "minmax") == Range(low, high, max(-low, high), low, high)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", SAMPLES)
def test_mse_rounds_better_than_minmax_and_as_well_as_the_best(name: str, scheme: Scheme) -> None:
    values = samples(name)
    histogram = filled(values)
    ours = squared_error(values, clip(histogram, "mse"), scheme)
    assert ours <= squared_error(values, clip(histogram, "minmax"), scheme)
    low, high = min(float(values.min()), 0), max(float(values.max()), 0)
    peak = max(-low, high)
    fractions = np.linspace(0.1, 1, 60)
    if scheme == "symmetric":
        tried = [Range(low, high, peak * f, low, high) for f in fractions]
    else:
        tried = [
            Range(low, high, peak, low * a, high * b) for a, b in itertools.product(fractions[::3], fractions[::3])
        ]
    best = min(squared_error(values, v, scheme) for v in tried)
    # The histogram knows a value to a bin, up to a quarter of a step: 1 % of the error that is rounding.
    assert ours <= 1.03 * best


@pytest.mark.parametrize("method", ["kl", "percentile"])
def test_an_outlier_is_clipped(method: Method) -> None:
    values = np.append(samples("gaussian"), np.float32(60))
    found = clip(filled(values), method)
    assert found.maximum == 60
    # Nine tenths of the range hold one value of 20001, and the largest of the others is 4.
    assert 2 < found.threshold < 30
    assert 2 < found.high < 30
    assert found.low >= values.min()


def test_minmax_keeps_the_outlier() -> None:
    """The control of the one above."""
    assert clip(filled(np.append(samples("gaussian"), np.float32(60))), "minmax").threshold == 60


@pytest.mark.parametrize("method", METHODS)
def test_zeros_have_a_range_of_zero(method: Method) -> None:
    for histogram in (Histogram(), filled(np.zeros(100, np.float32))):
        assert clip(histogram, method) == Range(0, 0, 0, 0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_values_below_zero_alone_spend_no_step_above_it(method: Method) -> None:
    found = clip(filled(samples("one-sided negative")), method)
    assert found.high == 0
    assert found.low < -1
    assert int(steps(found, "asymmetric").zero) == 255


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [1, -1, 0.3, -117.3, 1e-30, -1e-30, 1e30])
def test_a_constant_survives(value: float, method: Method, scheme: Scheme) -> None:
    values = np.full(1000, value, np.float32)
    found = clip(filled(values), method)
    # A bin is at most 1/1024 of the largest value wide, and a clip may end in the middle of the value's own.
    assert np.abs(fake(values, found, scheme) - values).max() <= abs(value) / 127


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [-100, -20, 100])
def test_tiny_and_huge_values_have_the_same_clips_in_their_own_unit(exponent: int, method: Method) -> None:
    unit = 2.0**exponent  # Exact in every float.
    found, want = (clip(filled(samples("gaussian") * np.float32(u)), method) for u in (unit, 1))
    for name in ("minimum", "maximum", "threshold", "low", "high"):
        assert getattr(found, name) == getattr(want, name) * unit
    for scheme in SCHEMES:
        assert steps(found, scheme).scale == steps(want, scheme).scale * np.float32(unit)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", METHODS)
def test_next_to_nothing_has_a_scale_to_divide_by(method: Method, scheme: Scheme) -> None:
    found = clip(filled(np.array([1e-44, -1e-40], np.float32)), method)
    assert steps(found, scheme).scale == 1
