"""The range of the values that a layer reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from facedeploy.core.errors import InputError


@dataclass(frozen=True)
class Range:
    """The range of the values that a layer reads.

    Attributes:
        minimum: The least that was seen.
        maximum: The most that was seen.
        threshold: Where a symmetric scheme clips, as a magnitude.
        low: Where an asymmetric scheme clips. Zero lies between `low` and `high`, because padding is zero.
        high: Where an asymmetric scheme clips.
        divided: By what each channel of the layer before is divided, to make them alike in size, for the other numbers
            to hold; empty where that is not done.
    """

    minimum: float
    maximum: float
    threshold: float
    low: float
    high: float
    divided: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        values = (self.minimum, self.maximum, self.threshold, self.low, self.high)
        if not all(map(math.isfinite, values)) or not all(0 < v < math.inf for v in self.divided):
            msg = f"{values} and what goes with it are no range of activations"
            raise InputError(msg)
        if self.threshold < 0 or not self.low <= 0 <= self.high:
            msg = f"{values} is no range of activations"
            raise InputError(msg)

    def times(self, factor: float) -> Range:
        """The range of the same values times something positive."""
        low, high = self.low * factor, self.high * factor
        return Range(self.minimum * factor, self.maximum * factor, self.threshold * factor, low, high, self.divided)


Ranges = Mapping[str, Range]


def union(a: Range, b: Range) -> Range:
    """For layers that share a weight, and so a name."""
    return Range(
        min(a.minimum, b.minimum),
        max(a.maximum, b.maximum),
        max(a.threshold, b.threshold),
        min(a.low, b.low),
        max(a.high, b.high),
        a.divided,
    )
