"""Where to clip: from the histogram of a tensor to the range that 8 bits are spread over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from facedeploy.calibration.histogram import Histogram
from facedeploy.calibration.table import Method
from facedeploy.graph.ranges import Range

Floats = NDArray[np.float64]

SYMMETRIC_LEVELS = 127  # Steps from zero to the threshold: int8 without -128.
ASYMMETRIC_LEVELS = 255
_PERCENTILE = 99.99
_CANDIDATES = 96
_SMALLEST = 0.2  # Of the full range; no better clip was ever below.


def clip(histogram: Histogram, method: Method) -> Range:
    """Choose the clips of a tensor.

    minmax: none. percentile: 99.99 % of the values that are not zero stay inside. kl: the information lost is smallest
    (Migacz, "8-bit Inference with TensorRT", GTC 2017). mse: the mean squared rounding error is smallest.
    """
    low, high = histogram.minimum, histogram.maximum
    peak = max(-low, high)
    if peak == 0:
        return Range(0.0, 0.0, 0.0, 0.0, 0.0)
    return _METHODS[method](histogram, low, high, peak)


def _minmax(_: Histogram, low: float, high: float, peak: float) -> Range:
    return Range(low, high, peak, low, high)


def _percentile(histogram: Histogram, low: float, high: float, peak: float) -> Range:
    centres, counts = histogram.centres, histogram.counts
    outside = (100 - _PERCENTILE) / 100 * counts.sum()

    def quantile(values: Floats, weights: NDArray[np.int64]) -> float:
        """The largest value with more than `outside` counts at or above it."""
        order = np.argsort(-values, kind="stable")
        reached = np.flatnonzero(np.cumsum(weights[order]) > outside)
        return max(float(values[order][reached[0]]), 0.0) if len(reached) else 0.0

    threshold = quantile(np.abs(centres), counts) or peak
    bottom, top = min(quantile(-centres, counts), -low), min(quantile(centres, counts), high)
    return Range(low, high, min(threshold, peak), 0.0 - bottom, top)


def _mse(histogram: Histogram, low: float, high: float, peak: float) -> Range:
    used = histogram.counts > 0
    centres, counts = histogram.centres[used], histogram.counts[used].astype(np.float64)
    fractions = np.linspace(_SMALLEST, 1, _CANDIDATES)

    def symmetric(fraction: float) -> float:
        scale = peak * fraction / SYMMETRIC_LEVELS
        return _error(centres, counts, scale, -SYMMETRIC_LEVELS, SYMMETRIC_LEVELS)

    def asymmetric(a: float, b: float) -> float:
        bottom, top = low * a, high * b
        scale = (top - bottom) / ASYMMETRIC_LEVELS
        zero = np.round(-bottom / scale)
        return _error(centres, counts, scale, -zero, ASYMMETRIC_LEVELS - zero)

    threshold = peak * _best(symmetric, fractions)
    bottom = top = 1.0
    for _ in range(2):
        top = _best(lambda f, b=bottom: asymmetric(b, f), fractions) if high > 0 else 1.0  # type: ignore[misc]
        bottom = _best(lambda f, t=top: asymmetric(f, t), fractions) if low < 0 else 1.0  # type: ignore[misc]
    return Range(low, high, threshold, low * bottom, high * top)


def _error(values: Floats, counts: Floats, scale: float, lowest: float, highest: float) -> float:
    rounded = np.clip(np.round(values / scale), lowest, highest) * scale
    return float(counts @ (rounded - values) ** 2)


def _best(error: Callable[[float], float], fractions: Floats) -> float:
    """The fraction with the smallest error; of equal ones the largest."""
    errors = np.array([error(f) for f in fractions.tolist()])
    return float(fractions[::-1][errors[::-1].argmin()])


def _kl(histogram: Histogram, low: float, high: float, peak: float) -> Range:
    half = len(histogram.counts) // 2
    negative, positive = histogram.counts[:half][::-1], histogram.counts[half:]
    width = 2.0 ** (histogram.exponent or 0)
    threshold = min(_divergent(negative + positive, SYMMETRIC_LEVELS + 1) * width, peak)
    if low < 0 < high:
        return Range(low, high, threshold, max(-threshold, low), min(threshold, high))
    one_sided = min(_divergent(negative + positive, ASYMMETRIC_LEVELS + 1) * width, peak)
    return Range(low, high, threshold, -one_sided if low < 0 else 0.0, one_sided if high > 0 else 0.0)


def _divergent(counts: NDArray[np.int64], levels: int) -> int:
    """How many bins to keep so that `levels` steps over them lose the least information about the counts."""
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= levels:
        return used
    best, choice = np.inf, used
    for kept in range(levels, used + 1, max(1, levels // 16)):
        reference = counts[:kept].astype(np.float64)
        group = np.minimum(np.arange(kept) * levels // kept, levels - 1)
        there = reference > 0
        total = np.bincount(group, reference, levels)
        filled = np.bincount(group, there, levels)
        if not there.any():
            continue
        spread = np.where(there, (total / np.maximum(filled, 1))[group], 0)
        reference[-1] += counts[kept:].sum()
        divergence = _divergence(reference, spread)
        if divergence < best:
            best, choice = divergence, kept
    return choice


def _divergence(p: Floats, q: Floats) -> float:
    """Kullback-Leibler divergence of two sets of counts; where q has none and p has, a thousandth of a part is lent."""
    p, q = p / p.sum(), q / q.sum()
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-3 / len(q)))).sum())


_METHODS: dict[Method, Callable[[Histogram, float, float, float], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "kl": _kl,
    "mse": _mse,
}
