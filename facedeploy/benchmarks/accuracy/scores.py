"""From measures to the rows of a report: values, intervals, differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from facedeploy.benchmarks.accuracy.tasks import Measure
from facedeploy.benchmarks.record import Score
from facedeploy.metrics.bootstrap import interval, resample


def scores(dataset: str, pictures: int, columns: Sequence[tuple[str, Sequence[Measure]]]) -> Iterator[Score]:
    """Rows by measure and artifact, of one data set.

    All artifacts are judged on the same draws of pictures, and the difference to the first is taken within each draw: a
    hard picture is hard for both. A measure with which nothing was counted has no row.

    Args:
        dataset: Its name.
        pictures: How many it has.
        columns: Name and measures of each artifact; the first is what the others are compared with.

    Returns:
        Rows by measure and artifact.
    """
    tables: list[Mapping[str, Measure]] = [{m.name: m for m in measures} for _, measures in columns]
    kinds = dict.fromkeys(kind for table in tables for kind in table)
    rows = [(kind, i) for kind in kinds for i, table in enumerate(tables) if kind in table]
    if not rows:
        return
    drawn = dict(zip(rows, resample([tables[i][kind].statistic for kind, i in rows], pictures), strict=True))
    values = {(kind, i): tables[i][kind].statistic.value(pictures) for kind, i in rows}
    for kind, i in rows:
        value, first = values[kind, i], values.get((kind, 0), math.nan)
        if math.isnan(value):
            continue
        change = None
        if i and not math.isnan(first):
            change = interval(value - first, drawn[kind, i] - drawn[kind, 0])
        measure = tables[i][kind]
        yield Score(
            artifact=columns[i][0],
            dataset=dataset,
            measure=kind,
            unit=measure.unit,
            higher_is_better=measure.higher_is_better,
            value=interval(value, drawn[kind, i]),
            change=change,
            pictures=measure.pictures,
            faces=measure.faces,
        )
