"""What a reader should know first: the verdict, and what to beware of. Nothing that a record does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facedeploy.benchmarks.record import Measurement, Record
from facedeploy.benchmarks.report.conditions import comparable
from facedeploy.benchmarks.report.display_names import display_names
from facedeploy.benchmarks.report.numbers import counted, digits, listed, number
from facedeploy.benchmarks.report.recommendation import Recommendation, faster, recommend
from facedeploy.benchmarks.report.standing import Standing, comparable_loss
from facedeploy.benchmarks.report.table import NOTHING, Column, Note, ReportTable, TableCell, plain, with_bounds

_LEADS = 6  # Records that each have a sentence at the top.


def verdicts(record: Record, called: Mapping[str, str]) -> tuple[str, ...]:
    """Sentences about one record. The first says what to ship and why, or why that cannot be said."""
    first, *others = record.measurements
    if not others:
        return (f"Only {called[first.name]} was measured, so there is nothing to compare it with.",)
    choice = recommend(record, called)
    chosen = next((m for m in record.measurements if m.name == choice.name), None)
    said = [_nothing(choice) if chosen is None else _lead(record, chosen, choice, called)]
    left = [(m, choice.standings[m.name]) for m in others if m is not chosen]
    if chosen is not None:
        said += [_better(m, chosen, record, standing, called) for m, standing in left if standing.kind == "better"]
    pace = 1.0 if chosen is None else chosen.ratio.value
    said += [
        f"{called[m.name]} {'is faster, but ' if m.ratio.low > 1 else ''}{standing.reason}."
        for m, standing in left
        if standing.kind == "unknown" and m.ratio.value > pace
    ]
    costly = [f"{called[m.name]} {s.reason}" for m, s in left if s.kind == "worse" and m.ratio.low > 1]
    if costly:
        said.append(f"Faster than {called[first.name]}, but not as accurate: {listed(costly)}.")
    same = [called[m.name] for m, _ in left if 1 in m.ratio and m.name not in choice.tied]
    if same:
        said.append(f"Within noise as fast as {called[first.name]}: {listed(same)}.")
    slower = [called[m.name] for m, standing in left if m.ratio.high < 1 and standing.kind != "better"]
    if slower:
        said.append(f"Slower than {called[first.name]}: {listed(slower)}.")
    return tuple(said)


def leads(records: Sequence[Record], headings: Sequence[str]) -> tuple[str, ...]:
    """What the page and the text begin with: the first sentence about each record."""
    firsts = [verdicts(record, display_names(record))[0] for record in records]
    if len(records) == 1:
        return tuple(firsts)
    if len(records) > _LEADS:
        return (f"Which artifact to ship of each of the {len(records)} models and sizes stands in the first table.",)
    return tuple(f"{heading}: {sentence}" for heading, sentence in zip(headings, firsts, strict=True))


def _nothing(choice: Recommendation) -> str:
    return f"Nothing says which artifact to ship: {choice.why_not}."


def _lead(record: Record, m: Measurement, choice: Recommendation, called: Mapping[str, str]) -> str:
    first, name = called[record.measurements[0].name], called[m.name]
    tied = listed(called[other] for other in choice.tied)
    if m is record.measurements[0]:
        also = f" ({tied}: as fast, within noise)" if tied else ""
        return f"Ship {name}: of those known to be as accurate, none is measurably faster{also}."
    standing = choice.standings[m.name]
    those = f"as accurate as {first}" if standing.labelled else f"that keep the faces of {first}"
    rank = f"with {tied} the fastest, within noise," if tied else "the fastest"
    return (
        f"Ship {name}, {rank} of those {those}: {number(m.ratio.value, 2)} times as fast (95 % interval "
        f"{number(m.ratio.low, 2)} to {number(m.ratio.high, 2)}), and it {standing.reason}."
    )


def _better(m: Measurement, chosen: Measurement, record: Record, standing: Standing, called: Mapping[str, str]) -> str:
    times = faster(chosen, m, record).value
    time = f"takes {number(times, 1 if times < 10 else 0)} times as long as {called[chosen.name]}"
    if standing.labelled:
        return f"{called[m.name]} {standing.reason}; it {time}."
    return (
        f"{called[m.name]} {standing.reason} and {time}: look at the pictures of what it gained, and ship that one "
        "if those are faces and the time allows it."
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
    """A row for each record: the artifact to ship, and its first. Times stand beside each other only where they may."""
    beside = comparable(records)
    p50 = (Column("p50", "ms"),) if beside else ()
    columns = (
        Column("model", kind="text"),
        Column("to ship", kind="text"),
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
        name = recommend(record, called).name
        best = next((m for m in record.measurements if m.name == name), None)
        shown: list[TableCell] = [NOTHING] * (4 if beside else 3)
        if best is not None:
            times = [with_bounds(best.spread["whole"].p50, ms)] if beside else []
            ratio = TableCell("1") if best is first else with_bounds(best.ratio, 2)
            shown = [TableCell(called[best.name]), *times, ratio, plain(comparable_loss(best, record), 2)]
        times = [with_bounds(first.spread["whole"].p50, ms)] if beside else []
        count = Note(counted(len(record.measurements), "artifact"))
        rows.append((TableCell(heading, (count,)), *shown, TableCell(called[first.name]), *times))
    about = (
        "To ship: the fastest of those that are as accurate as the first; - where nothing can be said. "
        "Brackets: 95 % interval."
    )
    return ReportTable("All models", columns, tuple(rows), about)
