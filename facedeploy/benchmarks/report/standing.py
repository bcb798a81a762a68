"""Whether an artifact is as accurate as the first one of its record: from labels, or else from the faces it finds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from facedeploy.benchmarks.record import Measurement, Record, Score
from facedeploy.benchmarks.report.differences import face_changes
from facedeploy.benchmarks.report.display_names import input_size
from facedeploy.benchmarks.report.numbers import bounds, counted, signed
from facedeploy.metrics.interval import Interval

Kind = Literal["first", "same", "better", "worse", "unknown"]

_DOUBT = 0.05  # A difference that chance makes more often than this is noise.
_MANY = 0.1  # Part of the faces: who certainly loses more does not find the same ones.
_NOISE = 0.1  # Points that matter to nobody where it is not even certain that they were lost.
_ERROR = 0.02  # Part of an error, such as degrees or NME, by which it may grow.


@dataclass(frozen=True)
class Standing:
    """How accurate an artifact is against the first.

    Attributes:
        kind: "better" and "worse" only beyond the noise; "unknown" where a loss may be noise or may not, and where
            nothing compares the two.
        reason: Why, as what follows "it"; "" for the first.
        labelled: Whether labels say so, and not the faces alone.
    """

    kind: Kind
    reason: str = ""
    labelled: bool = False


def standings(record: Record, called: Mapping[str, str]) -> dict[str, Standing]:
    """By the name of the artifact."""
    first, *others = record.measurements
    return {first.name: Standing("first"), **{m.name: _standing(m, record, called) for m in others}}


def _standing(m: Measurement, record: Record, called: Mapping[str, str]) -> Standing:
    first = record.measurements[0]
    scores = [s for s in record.scores if s.artifact == m.name]
    if any(isinstance(s.change, Interval) for s in scores):
        return from_labels(scores, record.max_drop)
    if m.model != first.model:
        return Standing("unknown", f"is another model than {called[first.name]}: only labelled pictures compare them")
    lost, gained = face_changes(first, m)
    faces = sum(map(len, first.found))
    alike = input_size(m) == input_size(first)
    return from_faces(faces, lost, gained, alike=alike, max_drop=record.max_drop, first=called[first.name])


def comparable_loss(m: Measurement, record: Record) -> float | None:
    """Points of AP lost; None where the model's first artifact has another input size, and so finds other faces."""
    reference = next(other for other in record.measurements if other.model == m.model)
    return m.lost if input_size(m) == input_size(reference) else None


def from_labels(scores: Sequence[Score], max_drop: float) -> Standing:
    """Standing by the paired changes of all measures; at least one has an interval.

    Args:
        scores: Of one artifact.
        max_drop: Points or percent that a measure may fall by; errors may grow by a fiftieth.
    """
    paired = sorted(
        ((_gain(s, s.change, max_drop), s, s.change) for s in scores if isinstance(s.change, Interval)),
        key=lambda item: item[0],
    )
    gain, score, change = paired[0]
    if gain < -1:
        if 0 in change:
            return Standing("unknown", f"may lose: {_change(score, change)}", labelled=True)
        return Standing("worse", f"is less accurate: {_change(score, change)}", labelled=True)
    best, top, up = paired[-1]
    if best > 1 and 0 not in up:
        return Standing("better", f"is more accurate: {_change(top, up)}", labelled=True)
    datasets = ", ".join(dict.fromkeys(s.dataset for _, s, _ in paired))
    small = "" if gain >= 0 or 0 in change else f" (at worst {_change(score, change)})"
    return Standing("same", f"loses nothing on {datasets} beyond the noise and what is allowed{small}", labelled=True)


def _gain(score: Score, change: Interval, max_drop: float) -> float:
    """How much better it is, in units of what a measure may become worse by."""
    before = abs(score.value.value - change.value)
    allowed = max(max_drop, _NOISE if 0 in change else 0.0) if score.higher_is_better else _ERROR * before
    return (change.value if score.higher_is_better else -change.value) / max(allowed, 1e-9)


def _change(score: Score, change: Interval) -> str:
    return f"{score.measure} on {score.dataset} changes by {signed(change.value, 2)} {score.unit} {bounds(change, 2)}"


def from_faces(faces: int, lost: int, gained: int, *, alike: bool, max_drop: float, first: str) -> Standing:
    """Standing by the faces of unlabelled pictures, taking those of the first artifact for the truth.

    A sign test says whether more are lost than gained, or the other way round. Another input size finds other faces by
    its nature, so what it gains counts. At the same size a copy of a network should find the same, so gains beyond the
    noise say only that it has changed.

    Args:
        faces: That the first artifact finds.
        lost: How many of them this one does not find.
        gained: That only this one finds.
        alike: Whether both take the same input size.
        max_drop: Percent of the faces that may be lost.
        first: What the first artifact is called.
    """
    if not faces:
        return Standing("unknown", f"cannot be judged, since {first} finds no face in these pictures")
    some = (
        f"loses {lost} of {counted(faces, 'face')} and finds {counted(gained, 'new one') if gained else 'no new one'}"
    )
    net, moved = gained - lost, _by_chance(lost, gained) <= _DOUBT
    if 100 * lost > max_drop * faces:
        many = _at_least(lost, faces, _MANY) <= _DOUBT / 2
        if (moved and net < 0) or (many and (net <= 0 or alike)):
            return Standing("worse", some)
        if many or not moved:
            return Standing("unknown", f"{some}: only labels tell" if many else f"{some}, which may be noise or not")
    if moved and net > 0:
        if alike:
            return Standing("unknown", f"finds {gained} faces that {first} does not, with the same input size")
        return Standing("better", f"finds {net} more faces than {first} ({gained} new, {lost} lost)")
    if lost:
        return Standing("same", some)
    everything = f"finds all {counted(faces, 'face')}" if faces > 1 else "finds the face"
    return Standing("same", f"{everything}, and {gained} more" if gained else everything)


def _by_chance(lost: int, gained: int) -> float:
    """How often counts so uneven come about if both are as likely: the two-sided sign test."""
    return min(1.0, 2 * _at_least(max(lost, gained), lost + gained, 0.5))


def _at_least(count: int, n: int, part: float) -> float:
    """Probability of `count` or more of `n`, each with the probability `part`."""
    log, log_not, ways = math.log(part), math.log1p(-part), math.lgamma(n + 1)
    terms = (
        math.exp(ways - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log + (n - k) * log_not)
        for k in range(count, n + 1)
    )
    return min(1.0, math.fsum(terms))
