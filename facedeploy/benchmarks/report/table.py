"""A table of the report, as data that HTML and Markdown are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from facedeploy.benchmarks.report.numbers import bounds, number
from facedeploy.metrics.interval import Interval

Tone = Literal["", "good", "bad", "quiet"]


@dataclass(frozen=True)
class Note:
    """A second line of a cell."""

    text: str
    tone: Tone = "quiet"


@dataclass(frozen=True)
class TableCell:
    """A cell of a table.

    Attributes:
        text: What it says.
        notes: What stands small beside it.
        bar: Parts of a bar as (what, share of the width 0..1), which only HTML shows.
    """

    text: str = ""
    notes: tuple[Note, ...] = ()
    bar: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Column:
    title: str
    unit: str = ""
    kind: Literal["text", "number", "bar"] = "number"


@dataclass(frozen=True)
class ReportTable:
    """A table of the report.

    Attributes:
        title: Above it.
        columns: Their heads.
        rows: A cell for each column.
        about: How to read it.
        marked: Number of the row that the reader looks for; None for none.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    about: str = ""
    marked: int | None = None


NOTHING = TableCell("-")


def plain(value: float | None, decimals: int) -> TableCell:
    return NOTHING if value is None else TableCell(number(value, decimals))


def with_bounds(interval: Interval, decimals: int) -> TableCell:
    return TableCell(number(interval.value, decimals), (Note(bounds(interval, decimals)),))
