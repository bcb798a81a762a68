"""Latency: one table of artifacts, one of where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from facedeploy.benchmarks.record import Measurement, Record
from facedeploy.benchmarks.report.display_names import input_size
from facedeploy.benchmarks.report.numbers import MEGABYTE, bounds, counted, digits, number, percent
from facedeploy.benchmarks.report.recommendation import recommend
from facedeploy.benchmarks.report.standing import comparable_loss
from facedeploy.benchmarks.report.table import NOTHING, Column, Note, ReportTable, TableCell, plain, with_bounds

_PHASES = ("preprocess", "network", "postprocess")


def speed_table(record: Record, called: Mapping[str, str]) -> ReportTable:
    """Times, sizes and what else one artifact has one of. Columns that would be empty are left out."""
    ship = recommend(record, called).name
    rows = record.measurements
    whole = [m.spread["whole"] for m in rows]
    ms = digits(s.p50.value for s in whole)
    columns = [
        (Column("artifact", kind="text"), [_name(m, called) for m in rows]),
        (Column("p50", "ms"), [with_bounds(s.p50, ms) for s in whole]),
        (Column("p90", "ms"), [TableCell(number(s.p90, ms)) for s in whole]),
        (Column("p99", "ms"), [TableCell(number(s.p99, ms)) for s in whole]),
        *(_against_first(record, called, ship) if len(rows) > 1 else ()),
        _column("size", "MB", rows, lambda m: m.size / MEGABYTE),
        _column("load", "ms", rows, lambda m: m.cold.load if m.cold else None),
        _column("first picture", "ms", rows, lambda m: m.cold.first if m.cold else None),
        _column("memory", "MB", rows, _memory),
        (Column("throughput", f"pictures/s, {counted(record.protocol.streams, 'stream')}"), _throughputs(rows)),
        (Column("layers ran as", kind="text"), [_executed(m.executed) for m in rows]),
    ]
    if len({input_size(m) for m in rows}) > 1 and not all(input_size(m) in called[m.name] for m in rows):
        columns.insert(1, (Column("input", kind="text"), [TableCell(input_size(m) or "any") for m in rows]))
    kept = [(c, cells) for c, cells in columns if any(cell != NOTHING for cell in cells)]
    times = len(record.pictures) * max(len(m.samples.get("whole", ())) for m in rows)
    about = f"Picture in, faces out; {times:,} times for each artifact. Brackets: 95 % interval."
    if any(m.lost is not None for m in rows[1:]):
        about += (
            " AP lost: against the faces that the model's first artifact finds on these pictures; it has no interval."
        )
    if any(m.throughput for m in rows):
        about += " Throughput: of the networks, given all pictures at once."
    return ReportTable(
        "Latency",
        tuple(c for c, _ in kept),
        tuple(zip(*(cells for _, cells in kept), strict=True)),
        about,
        next((i for i, m in enumerate(rows) if m.name == ship), None),
    )


def phase_table(record: Record, called: Mapping[str, str]) -> ReportTable | None:
    """Where a picture's mean time goes; means, since medians do not add up. None where it is not known."""
    rows = [m for m in record.measurements if all(phase in m.spread for phase in _PHASES)]
    if not rows:
        return None
    longest = max(m.spread["whole"].mean.value for m in rows)
    ms = digits(m.spread["whole"].mean.value for m in rows)
    made = []
    for m in rows:
        whole = m.spread["whole"].mean.value
        parts = [(phase, m.spread[phase].mean.value) for phase in _PHASES]
        cells = [TableCell(number(v, ms), (Note(percent(v / whole)),)) for _, v in parts]
        bar = TableCell(bar=tuple((phase, v / longest) for phase, v in parts))
        made.append((TableCell(called[m.name]), bar, *cells, TableCell(number(whole, ms))))
    columns = (Column("artifact", kind="text"), Column("", kind="bar"), *(Column(p, "ms") for p in _PHASES))
    return ReportTable(
        "Where the time goes", (*columns, Column("whole", "ms")), tuple(made), "Means of a picture's time."
    )


def _name(m: Measurement, called: Mapping[str, str]) -> TableCell:
    return TableCell(called[m.name], () if m.name == called[m.name] else (Note(m.name),))


def _against_first(record: Record, called: Mapping[str, str], ship: str | None) -> list[tuple[Column, list[TableCell]]]:
    rows = record.measurements
    return [
        (Column("faster", f"times {called[rows[0].name]}"), [_ratio(m, record, ship) for m in rows]),
        (Column("AP lost", "points"), [_lost(m, record) for m in rows]),
    ]


def _column(
    title: str, unit: str, rows: Sequence[Measurement], get: Callable[[Measurement], float | None]
) -> tuple[Column, list[TableCell]]:
    values = [get(m) for m in rows]
    decimals = min(digits(v for v in values if v is not None), 2)
    return Column(title, unit), [plain(v, decimals) for v in values]


def _lost(m: Measurement, record: Record) -> TableCell:
    loss = comparable_loss(m, record)
    return TableCell("-", (Note("other input size"),)) if loss is None and m.lost is not None else plain(loss, 2)


def _ratio(m: Measurement, record: Record, ship: str | None) -> TableCell:
    marks = [Note("to ship", "good")] if m.name == ship else []
    if m is record.measurements[0]:
        return TableCell("1", (Note("the first"), *marks))
    noise = [Note("within noise")] if 1 in m.ratio else []
    return TableCell(number(m.ratio.value, 2), (Note(bounds(m.ratio, 2)), *noise, *marks))


def _memory(m: Measurement) -> float | None:
    return None if m.cold is None or m.cold.memory is None else m.cold.memory / MEGABYTE


def _throughputs(rows: Sequence[Measurement]) -> list[TableCell]:
    decimals = min(digits(m.throughput.pictures_per_second.value for m in rows if m.throughput), 1)
    return [with_bounds(m.throughput.pictures_per_second, decimals) if m.throughput else NOTHING for m in rows]


def _executed(executed: Mapping[str, int]) -> TableCell:
    counts = sorted(executed.items(), key=lambda item: -item[1])
    return TableCell(", ".join(f"{count} {name}" for name, count in counts)) if counts else NOTHING
