"""Under what conditions it was measured: what holds for all records, and what does not."""

from __future__ import annotations

import json
from collections.abc import Sequence

from facedeploy.benchmarks.record import Record
from facedeploy.benchmarks.report.board import FACTS, UNKNOWN, board_facts
from facedeploy.benchmarks.report.numbers import number, percent
from facedeploy.benchmarks.report.table import Column, ReportTable, TableCell
from facedeploy.core.serialization import to_plain

_ARROW = "\N{RIGHTWARDS ARROW}"
_GIGABYTE = 1e9


def conditions_tables(records: Sequence[Record], headings: Sequence[str]) -> tuple[ReportTable, ...]:
    """A row for each fact that is the same for all records; and a row for each record, with the facts that are not."""
    facts = [_facts(record) for record in records]
    # Only boards and phones say these.
    silent = {name for name in FACTS if all(fact[name] == UNKNOWN for fact in facts)}
    differing = [name for name in facts[0] if any(fact[name] != facts[0][name] for fact in facts)]
    same = [
        (TableCell(name), TableCell(text))
        for name, text in facts[0].items()
        if name not in differing and name not in silent
    ]
    tables = [ReportTable("Conditions", (Column("", kind="text"), Column("", kind="text")), tuple(same))]
    if differing:
        columns = [Column(name, kind="text") for name in ("model", *differing)]
        rows = [
            (TableCell(heading), *(TableCell(fact[name]) for name in differing))
            for heading, fact in zip(headings, facts, strict=True)
        ]
        tables.append(ReportTable("Conditions that were not the same", tuple(columns), tuple(rows)))
    return tuple(tables)


def comparable(records: Sequence[Record]) -> bool:
    """Whether times of one record may stand beside those of another: one protocol, one machine."""
    first = records[0]
    return all(
        r.protocol_digest == first.protocol_digest and r.conditions.machine == first.conditions.machine for r in records
    )


def _facts(record: Record) -> dict[str, str]:
    conditions, protocol = record.conditions, record.protocol
    machine, before, after = conditions.machine, conditions.before, conditions.after
    usable = ", ".join(map(str, machine.usable))
    seen = {True: "yes", False: "no", None: UNKNOWN}
    return {
        "processor": f"{machine.cpu}, {machine.architecture}",
        "cores": f"{len(machine.usable)} of {machine.cores}" + (f" (pinned to {usable})" if machine.pinned else ""),
        "instruction sets": ", ".join(machine.flags) or UNKNOWN,
        "memory": UNKNOWN if machine.memory is None else f"{number(machine.memory / _GIGABYTE, 1)} GB",
        "virtual machine": seen[machine.virtual],
        "system": machine.system + (f", Python {machine.python}" if machine.python else ""),
        "packages": ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
        "measured": f"{before.time} {_ARROW} {after.time} ({conditions.seconds:.0f} s)",
        "threads, streams": f"{protocol.threads or 'as the backend likes'}, {protocol.streams}",
        "pictures": f"{protocol.count}, SHA-256 {protocol.pictures[:12]}",
        "rounds": _rounds(record),
        "order": f"artifacts take turns, seed {protocol.seed}",
        "warm-up": f"{conditions.warmed:.1f} s, "
        + ("until it was steady" if conditions.steady else f"not steady after the cap of {protocol.cap:g} s"),
        "steady": f"medians of two windows of {protocol.window} rounds differ by at most {percent(protocol.steady, 1)}",
        "pipeline options": json.dumps(to_plain(protocol.options)) if protocol.options else "the artifacts' own",
        "load": _states(before.load, after.load, "", 2),
        "clock": _states(before.mhz, after.mhz, " MHz", 0) + (f", {after.governor}" if after.governor else ""),
        "temperature": _states(before.temperature, after.temperature, " °C", 1),
        "throttled since boot": _states(before.throttled, after.throttled, "", 0),
        "other processes": UNKNOWN if conditions.elsewhere is None else f"{conditions.elsewhere:.2f} cores",
        "stolen by the hypervisor": UNKNOWN if conditions.stolen is None else f"{conditions.stolen:.2f} cores",
        **board_facts(conditions),
        "protocol": f"version {protocol.version}, {record.protocol_digest[:12]}",
    }


def _rounds(record: Record) -> str:
    rounds = len(record.measurements[0].samples.get("whole", ()))
    asked = "as asked for" if record.protocol.rounds else f"{record.protocol.seconds:g} s for each artifact"
    openings = record.protocol.openings
    return f"{rounds} ({asked})" + (f" in {openings} openings of every artifact" if openings > 1 else "")


def _states(before: float | None, after: float | None, unit: str, decimals: int) -> str:
    if before is None and after is None:
        return UNKNOWN
    first, last = (UNKNOWN if v is None else f"{number(v, decimals)}{unit}" for v in (before, after))
    return f"{first} {_ARROW} {last}"
