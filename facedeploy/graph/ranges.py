"""The range of the values that a layer reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from facedeploy.core.errors import InputError

Scheme = Literal["symmetric", "asymmetric"]


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
        symmetric: What is added to the bias of each of the layer's outputs, in the symmetric scheme: it takes back by
            how much int8 moves their means. Empty for none.
        asymmetric: The same in the other scheme.
    """

    minimum: float
    maximum: float
    threshold: float
    low: float
    high: float
    divided: tuple[float, ...] = ()
    # Of the layer and not of what it reads, so that two layers with one input still have one range.
    symmetric: tuple[float, ...] = field(default=(), compare=False)
    asymmetric: tuple[float, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        values = (self.minimum, self.maximum, self.threshold, self.low, self.high)
        finite = all(map(math.isfinite, (*values, *self.symmetric, *self.asymmetric)))
        if not finite or not all(0 < v < math.inf for v in self.divided):
            msg = f"{values} and what goes with it are no range of activations"
            raise InputError(msg)
        if self.threshold < 0 or not self.low <= 0 <= self.high:
            msg = f"{values} is no range of activations"
            raise InputError(msg)

    def correction(self, scheme: Scheme) -> tuple[float, ...]:
        """What is added to the layer's bias; empty for nothing."""
        return self.symmetric if scheme == "symmetric" else self.asymmetric

    def times(self, factor: float) -> Range:
        """The range of the same values times something positive."""
        low, high = self.low * factor, self.high * factor
        minimum, maximum, threshold = self.minimum * factor, self.maximum * factor, self.threshold * factor
        return replace(self, minimum=minimum, maximum=maximum, threshold=threshold, low=low, high=high)


Ranges = Mapping[str, Range]


def union(a: Range, b: Range) -> Range:
    """For layers that share a weight, and so a name."""
    return replace(
        a,
        minimum=min(a.minimum, b.minimum),
        maximum=max(a.maximum, b.maximum),
        threshold=max(a.threshold, b.threshold),
        low=min(a.low, b.low),
        high=max(a.high, b.high),
    )
