"""A value with the bounds of its 95 % confidence interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A value, and the bounds of its 95 % confidence interval.

    Attributes:
        value: What was measured.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Unbounded:
    """A value of which nothing says how sure it is: too few pictures were measured.

    Attributes:
        value: What was measured.
    """

    value: float
