"""Which artifact of a record to ship: the fastest of those that are as accurate as the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facedeploy.benchmarks.confidence import FEWEST, Rounds, ratio_of
from facedeploy.benchmarks.record import Measurement, Record
from facedeploy.benchmarks.report.standing import Standing, standings
from facedeploy.metrics.interval import Interval


@dataclass(frozen=True)
class Recommendation:
    """What to ship.

    Attributes:
        name: Of the artifact; None where nothing can be said.
        why_not: Why nothing can be said, as a clause; "" where something can.
        tied: Names of those that are as accurate and within noise as fast.
        standings: Name -> how accurate each is.
    """

    name: str | None
    why_not: str
    tied: tuple[str, ...]
    standings: Mapping[str, Standing]


def recommend(record: Record, called: Mapping[str, str]) -> Recommendation:
    """The fastest of those that are not less accurate than the first beyond the noise, and are known not to be.

    Of several that are within noise as fast it is the first artifact, if that is one of them, or else the smallest.

    Args:
        record: What was measured.
        called: Name -> what to call it in reasons.
    """
    known = standings(record, called)
    first, *others = record.measurements
    rounds = sum(record.openings) or len(first.samples.get("whole", ()))
    able = [m for m in record.measurements if known[m.name].kind in ("first", "same", "better")]
    if not others:
        why = "only one was measured"
    elif rounds < FEWEST:
        why = f"{rounds} rounds prove nothing about times, at least {FEWEST} are needed"
    elif not any(first.found) and not any(s.labelled for s in known.values()):
        why = f"{called[first.name]} finds no face in these pictures, so nothing shows what the others lose"
    else:
        best = max(able, key=lambda m: m.ratio.value)
        tied = [m for m in able if m is best or not faster(best, m, record).low > 1]
        chosen = first if first in tied else min(tied, key=lambda m: (m.size, -m.ratio.value))
        return Recommendation(chosen.name, "", tuple(m.name for m in tied if m is not chosen), known)
    return Recommendation(None, why, (), known)


def faster(a: Measurement, b: Measurement, record: Record) -> Interval:
    """How many times as fast `a` is as `b`, paired round by round; without samples, from their ratios to the first."""
    first = record.measurements[0]
    if b is first:
        return a.ratio
    if a is first:
        return Interval(1 / b.ratio.value, 1 / b.ratio.high, 1 / b.ratio.low)
    fast, slow = (np.array(m.samples.get("whole", ())) for m in (a, b))
    if fast.size and fast.shape == slow.shape:
        lengths = record.openings if sum(record.openings) == len(fast) else (len(fast),)
        return Rounds(lengths, record.protocol.seed).interval(ratio_of(slow, fast))
    return Interval(a.ratio.value / b.ratio.value, a.ratio.low / b.ratio.high, a.ratio.high / b.ratio.low)
