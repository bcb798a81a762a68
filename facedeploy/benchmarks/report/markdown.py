"""The report as Markdown, to be read in a pull request: tables, remarks and conditions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from facedeploy.benchmarks.record import Record
from facedeploy.benchmarks.report.accuracy import accuracy_tables
from facedeploy.benchmarks.report.conditions import conditions_tables
from facedeploy.benchmarks.report.differences import difference_table
from facedeploy.benchmarks.report.display_names import display_names, headings
from facedeploy.benchmarks.report.speed import phase_table, speed_table
from facedeploy.benchmarks.report.summary import leads, overview_table, remarks, verdicts
from facedeploy.benchmarks.report.table import ReportTable, TableCell
from facedeploy.benchmarks.report.vendors import vendor_table


def markdown(records: Sequence[Record], title: str, notes: Sequence[str] = ()) -> str:
    """Write the report as Markdown.

    Args:
        records: One for each model and input size.
        title: Of the report.
        notes: Sentences for the top.

    Returns:
        The whole document.
    """
    called = headings(records)
    parts = [f"# {_escaped(title)}"]
    parts += [_escaped(text) for text in leads(records, called)]
    parts += [f"> {_escaped(text)}" for text in (*notes, *remarks(records, called))]
    if len(records) > 1:
        parts += ["## All models", *_table(overview_table(records, called))]
    for record, heading in zip(records, called, strict=True):
        parts += [f"## {_escaped(heading)}", *_record(record, 1 if len(records) == 1 else 0)]
    for table in conditions_tables(records, called):
        parts += [f"## {_escaped(table.title)}", *_table(table)]
    return "\n\n".join(parts) + "\n"


def _record(record: Record, said: int) -> list[str]:
    """said: how many of its sentences stand at the top already."""
    called = display_names(record)
    parts = [_escaped(text) for text in verdicts(record, called)[said:]]
    tables = [speed_table(record, called), *accuracy_tables(record, called), phase_table(record, called)]
    for table in (*tables, vendor_table(record, called), difference_table(record, called)):
        if table is not None:
            parts += [f"### {_escaped(table.title)}", *_table(table)]
    return parts


def _table(table: ReportTable) -> list[str]:
    """What it is about, and the table. Bars are left out."""
    kept = [i for i, column in enumerate(table.columns) if column.kind != "bar"]
    columns = [table.columns[i] for i in kept]
    head = [_escaped(f"{c.title}, {c.unit}" if c.unit else c.title) for c in columns]
    rule = ["---" if c.kind == "text" else "--:" for c in columns]
    rows = [
        [_cell(row[i], k == 0 and r == table.marked) for k, i in enumerate(kept)] for r, row in enumerate(table.rows)
    ]
    text = "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
    return [_escaped(table.about), text] if table.about else [text]


def _cell(cell: TableCell, marked: bool) -> str:
    text = f"**{_escaped(cell.text)}**" if marked else _escaped(cell.text)
    return "<br>".join(part for part in (text, *(_escaped(note.text) for note in cell.notes)) if part)


def _escaped(text: str) -> str:
    """Nothing in a name is markup, and none ends a row."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~])", r"\\\1", " ".join(text.split()))
