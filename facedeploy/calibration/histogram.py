"""A histogram that needs no range beforehand: one pass, bounded memory, the same whatever the order of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

# Bins on each side of zero. At least half of a side is in use, so an 8-bit step is 4 to 16 bins wide.
_SIDE = 2048


@dataclass
class Histogram:
    """Counts of values that are not zero, in bins of one width, a power of two, with an edge at zero.

    Zeros are left out: ReLU makes most of a tensor zero, every scheme keeps zero exactly, and a peak of them would only
    hide the rest. When a value does not fit, bins are merged in pairs. As edges are multiples of powers of two, the
    result does not depend on what came first.

    Attributes:
        minimum: Of all values, zeros included; 0 before the first.
        maximum: Of all values, zeros included; 0 before the first.
        exponent: Of the power of two that a bin is wide; None before the first value that is not zero.
        counts: How many values are in each bin.
    """

    minimum: float = 0.0
    maximum: float = 0.0
    exponent: int | None = None
    counts: Counts = field(default_factory=lambda: np.zeros(2 * _SIDE, np.int64))

    def add(self, values: NDArray[np.float32]) -> bool:
        """Count values; answers False, and counts nothing, where one is not a finite number."""
        if values.size == 0:
            return True
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        peak = max(-low, high)
        if peak > 0:
            self._widen(_exponent(peak))
            assert self.exponent is not None
            index = np.floor(values.ravel() * np.float32(2.0**-self.exponent)).astype(np.int32)
            index += _SIDE
            self.counts += np.bincount(index, minlength=2 * _SIDE)
            self.counts[_SIDE] -= values.size - np.count_nonzero(values)
        return True

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin."""
        width = 2.0 ** (self.exponent or 0)
        return (np.arange(-_SIDE, _SIDE, dtype=np.float64) + 0.5) * width

    def _widen(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        while self.exponent < exponent:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            self.counts[_SIDE // 2 : _SIDE // 2 + _SIDE] = pairs
            self.exponent += 1


def _exponent(peak: float) -> int:
    """Of the smallest width with which `peak` is inside the outer edges, not on them: an edge belongs to the bin above.
    Below the normal numbers of float32 there is no smaller one.
    """
    return max(math.frexp(peak)[1] - _SIDE.bit_length() + 1, -126)
