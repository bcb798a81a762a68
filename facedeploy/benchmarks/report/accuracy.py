"""Accuracy: one table for each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facedeploy.benchmarks.record import Record, Score
from facedeploy.benchmarks.report.numbers import bounds, number, signed
from facedeploy.benchmarks.report.table import NOTHING, Column, Note, ReportTable, TableCell, Tone
from facedeploy.metrics.interval import Unbounded


def accuracy_tables(record: Record, called: Mapping[str, str]) -> tuple[ReportTable, ...]:
    """One for each data set."""
    return tuple(
        _accuracy(dataset, [s for s in record.scores if s.dataset == dataset], record, called)
        for dataset in dict.fromkeys(s.dataset for s in record.scores)
    )


def _accuracy(dataset: str, scores: Sequence[Score], record: Record, called: Mapping[str, str]) -> ReportTable:
    by_key = {(s.artifact, s.measure): s for s in scores}
    measures = list(dict.fromkeys(s.measure for s in scores))
    units = {s.measure: s.unit for s in scores}
    rows = [m for m in record.measurements if any(s.artifact == m.name for s in scores)]
    cells = [
        (
            TableCell(called[m.name]),
            *(_score(by_key.get((m.name, measure)), m is record.measurements[0]) for measure in measures),
        )
        for m in rows
    ]
    columns = tuple(Column(measure, units[measure]) for measure in measures)
    pictures = "/".join(f"{n:,}" for n in sorted({s.pictures for s in scores}))
    faces = "/".join(f"{n:,}" for n in sorted({s.faces for s in scores}))
    about = (
        f"{pictures} pictures, {faces} labelled faces. Brackets: 95 % interval. Below: the change against "
        f"{called[record.measurements[0].name]} on the same pictures."
    )
    return ReportTable(f"Accuracy on {dataset}", (Column("artifact", kind="text"), *columns), tuple(cells), about)


def _score(score: Score | None, first: bool) -> TableCell:
    if score is None:
        return NOTHING
    notes = [Note(bounds(score.value, 2))]
    if isinstance(score.change, Unbounded):
        notes.append(Note(signed(score.change.value, 2)))
    elif score.change is not None:
        within = 0 in score.change
        better = (score.change.value > 0) == score.higher_is_better
        tone: Tone = "quiet" if within else "good" if better else "bad"
        text = f"{signed(score.change.value, 2)} {bounds(score.change, 2)}"
        notes.append(Note(f"{text}, within noise" if within else f"{text}, {'better' if better else 'worse'}", tone))
    elif not first:
        notes.append(Note("not paired"))
    return TableCell(number(score.value.value, 2), tuple(notes))
