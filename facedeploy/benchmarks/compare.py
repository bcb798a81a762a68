"""Two records of the same protocol, artifact by artifact: what became faster or slower?

Times of two runs are not paired: whatever else changed on the machine in between is in their quotient. So beside it
stands a quotient that this cannot reach as easily: each run's own ratio to its first artifact, where both runs had the
same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from facedeploy.benchmarks.confidence import FEWEST, combine, in_words
from facedeploy.benchmarks.record import Measurement, Record
from facedeploy.core.errors import InputError
from facedeploy.metrics.interval import Interval

_BUSY = 0.1  # Cores' difference in what else ran, from where on it is said.


@dataclass(frozen=True)
class Change:
    """One artifact in two runs.

    Attributes:
        name: Of the artifact.
        same_files: Whether nothing in it changed.
        times: How many times as fast it is in the new run, of medians of whole pictures.
        relative: The same of its ratios to the first artifact; None for that one itself, and where the two runs had
            different ones.
    """

    name: str
    same_files: bool
    times: Interval
    relative: Interval | None


@dataclass(frozen=True)
class Comparison:
    """What changed between two records.

    Attributes:
        changes: Of the artifacts that both records have, in the old one's order.
        only_old: Names of the artifacts that the new record lacks.
        only_new: Names of the artifacts that the old record lacks.
        remarks: A sentence for each thing that a reader must know before trusting the changes.
    """

    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each artifact."""
        return tuple(self._lines())

    def _lines(self) -> Iterator[str]:
        first = self.changes[0].name
        for change in self.changes:
            other = "" if change.same_files else " (other files)"
            against = "" if change.relative is None else f"; against {first}: {in_words(change.relative)}"
            yield f"{change.name}{other}: {in_words(change.times)}{against}"


def compare_records(old: Record, new: Record) -> Comparison:
    """Compare two runs. Artifacts are the same by their files or, failing that, by their names.

    Raises:
        InputError: the runs followed different protocols, have too few rounds or no artifact in common, or two
            artifacts of one name are not of one model, target, backend and input size.
    """
    _check_protocols(old, new)
    for which, record in (("old", old), ("new", new)):
        rounds = len(record.measurements[0].samples["whole"]) if record.measurements else FEWEST
        if rounds < FEWEST:
            msg = f"the {which} record has too few rounds ({rounds}; fewer than {FEWEST} prove nothing): measure longer"
            raise InputError(msg)
    pairs = list(_pairs(old, new))
    if not pairs:
        msg = (
            f"the two records have no artifact in common: {_listed(old.measurements)} in the old one, "
            f"{_listed(new.measurements)} in the new one"
        )
        raise InputError(msg)
    for pair in pairs:
        _check_pair(*pair)
    reference, other = pairs[0]
    paired = reference is old.measurements[0] and other is new.measurements[0] and reference.digest == other.digest
    changes = tuple(
        Change(
            a.name,
            a.digest == b.digest,
            combine((a.spread["whole"].p50, b.spread["whole"].p50), (1, -1)),
            combine((b.ratio, a.ratio), (1, -1)) if paired and a is not reference else None,
        )
        for a, b in pairs
    )
    return Comparison(
        changes,
        tuple(m.name for m in old.measurements if all(m is not a for a, _ in pairs)),
        tuple(m.name for m in new.measurements if all(m is not b for _, b in pairs)),
        tuple(_remarks(old, new)),
    )


def _check_protocols(old: Record, new: Record) -> None:
    if old.protocol_digest == new.protocol_digest:
        return
    names = [f.name for f in fields(old.protocol)]
    differences = [
        f"{name} {a} and {b}" if name not in ("pictures", "options") else name
        for name in names
        if (a := getattr(old.protocol, name)) != (b := getattr(new.protocol, name))
    ]
    msg = (
        "the two records were measured by different protocols and cannot be compared: they differ in "
        f"{', '.join(differences)}; measure again in the same way"
    )
    raise InputError(msg)


def _pairs(old: Record, new: Record) -> Iterator[tuple[Measurement, Measurement]]:
    """Each artifact of the old record with that of the new one that has its files and name, its files, or its name."""
    left = list(new.measurements)
    found: dict[int, Measurement] = {}
    rules: tuple[Callable[[Measurement, Measurement], bool], ...] = (
        lambda a, b: a.digest == b.digest and a.name == b.name,
        lambda a, b: a.digest == b.digest,
        lambda a, b: a.name == b.name,
    )
    for rule in rules:
        for i, a in enumerate(old.measurements):
            match = next((b for b in left if i not in found and rule(a, b)), None)
            if match is not None:
                found[i] = match
                left = [b for b in left if b is not match]
    for i, a in enumerate(old.measurements):
        if i in found:
            yield a, found[i]


def _check_pair(a: Measurement, b: Measurement) -> None:
    for what, x, y in (
        ("model", a.model, b.model),
        ("target", a.target, b.target),
        ("backend", a.runtime.get("backend"), b.runtime.get("backend")),
        ("input size", _sizes(a), _sizes(b)),
    ):
        if x != y:
            msg = f"{a.name} is not the same artifact in the two records: its {what} is {x} in one and {y} in the other"
            raise InputError(msg)


def _sizes(m: Measurement) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, size))}" for name, size in sorted(m.input_sizes.items())) or "any"


def _listed(measurements: tuple[Measurement, ...]) -> str:
    return ", ".join(m.name for m in measurements) or "none"


def _remarks(old: Record, new: Record) -> Iterator[str]:
    a, b = old.conditions, new.conditions
    parts = [f.name for f in fields(a.machine) if getattr(a.machine, f.name) != getattr(b.machine, f.name)]
    if parts:
        yield f"The records are of different machines, or of one that was changed: {', '.join(parts)} differ."
    if a.elsewhere is not None and b.elsewhere is not None and abs(a.elsewhere - b.elsewhere) > _BUSY:
        yield (
            f"Other processes kept {a.elsewhere:.2f} cores busy in the old run and {b.elsewhere:.2f} in the new one: "
            "trust what is said against the first artifact, whose turns came between the others'."
        )
