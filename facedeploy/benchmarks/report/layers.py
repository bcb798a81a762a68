"""Where a network's time goes, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from facedeploy.benchmarks.record import Measurement
from facedeploy.benchmarks.report.numbers import counted, number, percent
from facedeploy.benchmarks.report.table import Column, Note, ReportTable, TableCell


def kind_table(m: Measurement, most: int = 12) -> ReportTable:
    """A network's time by kind of layer and precision, the longest first."""
    groups: dict[tuple[str, str], list[float]] = {}
    for layer in m.layers:
        groups.setdefault((layer.kind, layer.precision), []).append(layer.milliseconds)
    ranked = sorted(groups.items(), key=lambda item: -sum(item[1]))
    rest = [value for _, values in ranked[most:] for value in values]
    shown = [*ranked[:most], *([(("others", ""), rest)] if rest else [])]
    rows = [(_name(kind, precision, counted(len(values), "layer")), sum(values)) for (kind, precision), values in shown]
    return _table("By kind and precision", "kind", rows, m)


def layer_table(m: Measurement, most: int = 15) -> ReportTable:
    """The layers that take longest."""
    several = len({layer.network for layer in m.layers}) > 1
    slowest = sorted(m.layers, key=lambda layer: -layer.milliseconds)[:most]
    rows = [(_name(v.name, v.network if several else "", v.kind, v.precision), v.milliseconds) for v in slowest]
    return _table(f"The slowest {len(rows)} of {len(m.layers)} layers", "layer", rows, m)


def _name(text: str, *about: str) -> TableCell:
    return TableCell(text, (Note(", ".join(filter(None, about))),))


def _table(title: str, what: str, rows: Sequence[tuple[TableCell, float]], m: Measurement) -> ReportTable:
    total = sum(layer.milliseconds for layer in m.layers) or 1.0
    longest = max(value for _, value in rows) or 1.0
    made = tuple(
        (
            name,
            TableCell(bar=(("network", value / longest),)),
            TableCell(number(value, 3)),
            TableCell(percent(value / total, 1)),
        )
        for name, value in rows
    )
    return ReportTable(
        title, (Column(what, kind="text"), Column("", kind="bar"), Column("time", "ms"), Column("share")), made
    )
