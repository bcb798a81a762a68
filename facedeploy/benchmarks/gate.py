"""The ship gate: limits in a TOML file, held against records. What a team puts in its CI.

Strict: where a value has a 95 % interval, its worse bound is judged. What may have become too bad does not ship, and
more pictures or rounds, which narrow the interval, can only help a good artifact. p99, size, memory and `max_lost` have
no interval: there the value itself is judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from facedeploy.benchmarks.record import Measurement, Record, Score
from facedeploy.core.errors import InputError
from facedeploy.core.paths import StrPath
from facedeploy.core.serialization import read_toml
from facedeploy.metrics.interval import Unbounded

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What an artifact must keep to. None, or a measure that is not named, is no limit.

    Attributes:
        max_drop: Measure ("AP hard"), or data set and measure ("widerface AP hard") -> how much worse than the first
            artifact, in the measure's unit.
        max_lost: Points of average precision against the faces of the model's first artifact.
        min_speedup: How many times as fast as the first artifact.
        max_p99: Milliseconds of a whole picture.
        max_size: Megabytes (10^6 bytes) of the compiled files.
        max_memory: Megabytes (10^6 bytes) of a fresh process.
    """

    max_drop: Mapping[str, float] = field(default_factory=dict)
    max_lost: float | None = None
    min_speedup: float | None = None
    max_p99: float | None = None
    max_size: float | None = None
    max_memory: float | None = None


@dataclass(frozen=True)
class Gate(Limits):
    """Limits for every artifact, and limits that some have instead.

    Attributes:
        only: Name, target or model, in which * and ? stand for anything -> limits. They replace those for every
            artifact, each for itself; of two that fit, the later wins.
    """

    only: Mapping[str, Limits] = field(default_factory=dict)

    @property
    def measures(self) -> tuple[str, ...]:
        """What `max_drop` names: without a data set, nothing of it will be measured."""
        return tuple(dict.fromkeys(line.measure for line in _flat(self) if line.measure))


class _Limit(NamedTuple):
    """One line of a gate.

    Attributes:
        rank: The higher wins.
        scope: A key of `only`, or "*".
        measure: "" for all but `max_drop`.
    """

    rank: int
    scope: str
    key: str
    measure: str
    value: float

    @property
    def name(self) -> str:
        key = f'{self.key}."{self.measure}"' if self.measure else self.key
        return f'only."{self.scope}".{key}' if self.rank else key

    def fits(self, m: Measurement) -> bool:
        return any(fnmatchcase(text, self.scope) for text in (m.name, m.target, m.model))

    def means(self, score: Score) -> bool:
        """Whether the line is about this measure: by its name alone, or after its data set or the kind of that."""
        kind = score.dataset.split(":")[0]
        return self.measure in (score.measure, f"{score.dataset} {score.measure}", f"{kind} {score.measure}")


_SCALARS = ("max_lost", "min_speedup", "max_p99", "max_size", "max_memory")
_AGAINST_FIRST = ("max_drop", "max_lost", "min_speedup")


def read_gate(path: StrPath) -> Gate:
    """Read a gate.

    Raises:
        InputError: no readable TOML, an unknown key, a value that is no limit, or no limit at all.
    """
    path = Path(path)
    gate = read_toml(Gate, path)
    limits = _flat(gate)
    for limit in limits:
        if not math.isfinite(limit.value) or limit.value < 0:
            msg = f"{path}: {limit.name} must be a finite number of 0 or more, not {limit.value}"
            raise InputError(msg)
    idle = [f'only."{scope}"' for scope in gate.only if scope not in {limit.scope for limit in limits}]
    if idle or not limits:
        msg = f"{path}: {idle[0] if idle else 'the file'} sets no limit; limits are max_drop, {', '.join(_SCALARS)}"
        raise InputError(msg)
    return gate


def check_measurable(gate: Gate, datasets: Sequence[object]) -> None:
    """See before any work that what the gate limits will be measured.

    Raises:
        InputError: it limits the drop of a measure, and there is no data set to measure it on.
    """
    if gate.measures and not datasets:
        msg = f"the gate limits the drop of {gate.measures[0]}, and no data set is given: name one with --dataset"
        raise InputError(msg)


def check(gate: Gate, *records: Record) -> tuple[str, ...]:
    """A sentence for each limit that an artifact breaks; none where all may ship.

    The first artifact of a record is not compared with itself; its p99, size and memory are judged like any other's.

    Raises:
        InputError: a limit on what was not measured, or for no artifact: what judges nothing would let everything pass.
    """
    limits = _flat(gate)
    met: set[_Limit] = set()
    reasons: list[str] = []
    for record in records:
        for m in record.measurements:
            first = m is record.measurements[0]
            mine = [v for v in limits if v.fits(m) and not (first and v.key in _AGAINST_FIRST)]
            for score in _judged_scores(record, m, [v for v in mine if v.key == "max_drop"]):
                # A name with its data set says more than one without.
                same = sorted((v for v in mine if v.means(score)), key=lambda v: (v.rank, v.measure != score.measure))
                met.update(same)
                reasons += _judge_drop(score, same[-1].value)
            for key in _SCALARS:
                if same := [v for v in mine if v.key == key]:
                    met.update(same)
                    reasons += _judge(record, m, key, same[-1].value)
    for limit in limits:
        if limit not in met:
            raise InputError(_why_unmet(limit, records))
    return tuple(reasons)


def _flat(gate: Gate) -> tuple[_Limit, ...]:
    """All lines, by rising rank."""
    lines = []
    for rank, (scope, limits) in enumerate((("*", gate), *gate.only.items())):
        lines += [_Limit(rank, scope, "max_drop", measure, value) for measure, value in limits.max_drop.items()]
        given = ((key, getattr(limits, key)) for key in _SCALARS)
        lines += [_Limit(rank, scope, key, "", value) for key, value in given if value is not None]
    return tuple(lines)


def _judged_scores(record: Record, m: Measurement, drops: Sequence[_Limit]) -> list[Score]:
    """The scores of an artifact that have a limit.

    Raises:
        InputError: the first artifact has one and this has not, or not on the same pictures.
    """
    limited = [s for s in record.scores if any(limit.means(s) for limit in drops)]
    judged = [s for s in limited if s.artifact == m.name]
    paired = {(s.dataset, s.measure) for s in judged if s.change is not None}
    for s in limited:
        if s.artifact in (m.name, record.measurements[0].name) and (s.dataset, s.measure) not in paired:
            msg = (
                f"the gate limits the drop of {s.measure}, and {m.name} and the first artifact do not both have it on "
                f"the same pictures of {s.dataset}: measure both in one run"
            )
            raise InputError(msg)
    return judged


def _judge_drop(score: Score, limit: float) -> list[str]:
    if score.change is None:
        return []
    if isinstance(score.change, Unbounded):
        msg = (
            f"the gate limits the drop of {score.measure}, and too few pictures of {score.dataset} have faces that "
            "count: there is no interval; measure more pictures"
        )
        raise InputError(msg)
    low, high = score.change.low, score.change.high
    worst = -low if score.higher_is_better else high
    if worst <= limit:
        return []
    return [
        f"{score.artifact}: {score.measure} on {score.dataset} may be {_shown(worst, limit)} {score.unit} worse than "
        f"the first artifact's (95 % interval of the change: {low:.4g} to {high:.4g}); at most {limit:g} ships"
    ]


def _judge(record: Record, m: Measurement, key: str, limit: float) -> list[str]:
    if key == "min_speedup":
        if m.ratio.low >= limit:
            return []
        return [
            f"{m.name}: may be only {_shown(m.ratio.low, limit)} times as fast as {record.measurements[0].name} (95 % "
            f"interval: {m.ratio.low:.4g} to {m.ratio.high:.4g}); at least {limit:g} ships"
        ]
    value, what, advice = {
        "max_lost": (m.lost, "points of AP lost against the first artifact's faces", "give pictures with faces"),
        "max_p99": (
            m.spread["whole"].p99 if "whole" in m.spread else None,
            "ms at the 99th percentile",
            "run it again",
        ),
        "max_size": (m.size / MEGABYTE, "MB in files", ""),
        "max_memory": (_memory(m), "MB of memory", "measure cold starts, on Linux"),
    }[key]
    if value is None:
        msg = f"the gate sets {key}, and the record does not hold it for {m.name}: {advice}"
        raise InputError(msg)
    return [] if value <= limit else [f"{m.name}: {_shown(value, limit)} {what}; at most {limit:g} ships"]


def _shown(value: float, limit: float) -> str:
    """With as many digits as tell it from the limit, at least four."""
    return next((text for n in range(4, 17) if (text := f"{value:.{n}g}") != f"{limit:.{n}g}"), repr(value))


def _memory(m: Measurement) -> float | None:
    return None if m.cold is None or m.cold.memory is None else m.cold.memory / MEGABYTE


def _why_unmet(limit: _Limit, records: Sequence[Record]) -> str:
    everyone = [m for record in records for m in record.measurements]
    if not any(limit.fits(m) for m in everyone):
        known = ", ".join(dict.fromkeys(f"{m.name} ({m.target})" for m in everyone))
        return f"the gate sets {limit.name}, and no artifact is called that; there are {known}"
    scores = [s for record in records for s in record.scores]
    if limit.measure and not any(limit.means(s) for s in scores):
        known = ", ".join(dict.fromkeys(s.measure for s in scores))
        has = f"measured are {known}" if known else "no accuracy was measured: give --dataset"
        return f"the gate sets {limit.name}, which was not measured; {has}"
    return f"the gate sets {limit.name}, and there is nothing to compare with the first artifact: give two or more"
