"""What a reader should know first: the verdict, and what to beware of. Nothing that a record does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facedeploy.benchmarks.record import Record
from facedeploy.benchmarks.report.conditions import comparable
from facedeploy.benchmarks.report.display_names import display_names
from facedeploy.benchmarks.report.numbers import counted, digits, listed, number
from facedeploy.benchmarks.report.table import NOTHING, Column, Note, ReportTable, TableCell, plain, with_bounds


def verdicts(record: Record, called: Mapping[str, str]) -> tuple[str, ...]:
    """Sentences about one record."""
    first, *others = record.measurements
    if not others:
        return (f"Only {called[first.name]} was measured, so there is nothing to compare it with.",)
    said = [_fastest(record, called)]
    costly = [called[m.name] for m in others if m.ratio.low > 1 and m.lost is not None and m.lost > record.max_drop]
    if costly:
        said.append(f"Faster than {called[first.name]}, but more is lost: {listed(costly)}.")
    same = [called[m.name] for m in others if 1 in m.ratio]
    if same:
        said.append(f"Within noise as fast as {called[first.name]}: {listed(same)}.")
    slower = [called[m.name] for m in others if m.ratio.high < 1]
    if slower:
        said.append(f"Slower than {called[first.name]}: {listed(slower)}.")
    return tuple(said)


def _fastest(record: Record, called: Mapping[str, str]) -> str:
    first = record.measurements[0]
    among = f"that lose at most {record.max_drop:g} points of AP against {called[first.name]}"
    if record.fastest is None:
        return f"No artifact is beyond doubt the fastest of those {among}."
    m = next(m for m in record.measurements if m.name == record.fastest)
    if m is first:
        return f"{called[first.name]} itself is the fastest of those {among}."
    lost = "" if m.lost is None else f", {number(m.lost, 2)} points lost"
    return (
        f"{called[m.name]} is the fastest of those {among}: {number(m.ratio.value, 2)} times as fast "
        f"(95 % interval {number(m.ratio.low, 2)} to {number(m.ratio.high, 2)}){lost}."
    )


def remarks(records: Sequence[Record], headings: Sequence[str]) -> tuple[str, ...]:
    """Of all records; one that is not true of all says of which it is."""
    said = []
    for text in dict.fromkeys(text for record in records for text in record.conditions.remarks):
        of = [h for record, h in zip(records, headings, strict=True) if text in record.conditions.remarks]
        said.append(text if len(of) == len(records) else f"{listed(of)}: {text}")
    if not comparable(records):
        said.append(
            "The models were not measured by one protocol on one machine: do not set the times of one beside those of "
            "another."
        )
    return tuple(said)


def overview_table(records: Sequence[Record], headings: Sequence[str]) -> ReportTable:
    """A row for each record: its fastest artifact, and its first. Times stand beside each other only where they may."""
    beside = comparable(records)
    p50 = (Column("p50", "ms"),) if beside else ()
    columns = (
        Column("model", kind="text"),
        Column("fastest", kind="text"),
        *p50,
        Column("faster", "times the first"),
        Column("AP lost", "points"),
        Column("the first", kind="text"),
        *p50,
    )
    ms = digits(m.spread["whole"].p50.value for record in records for m in record.measurements)
    rows = []
    for record, heading in zip(records, headings, strict=True):
        called, first = display_names(record), record.measurements[0]
        best = next((m for m in record.measurements if m.name == record.fastest), None)
        shown: list[TableCell] = [NOTHING] * (4 if beside else 3)
        if best is not None:
            times = [with_bounds(best.spread["whole"].p50, ms)] if beside else []
            ratio = TableCell("1") if best is first else with_bounds(best.ratio, 2)
            shown = [TableCell(called[best.name]), *times, ratio, plain(best.lost, 2)]
        times = [with_bounds(first.spread["whole"].p50, ms)] if beside else []
        count = Note(counted(len(record.measurements), "artifact"))
        rows.append((TableCell(heading, (count,)), *shown, TableCell(called[first.name]), *times))
    allowed = " or ".join(f"{drop:g}" for drop in sorted({record.max_drop for record in records}))
    about = (
        f"Fastest: beyond doubt, of those that lose at most {allowed} points of AP against the first; - where none is. "
        "Brackets: 95 % interval."
    )
    return ReportTable("All models", columns, tuple(rows), about)
