"""From measures to the rows of a report: values, intervals, differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from facedeploy.benchmarks.accuracy.tasks import Measure
from facedeploy.benchmarks.record import Score
from facedeploy.metrics.interval import Interval, Unbounded
from facedeploy.metrics.jackknife import left_out, of_change, of_error, of_share
from facedeploy.metrics.labelled_images import Floats


def scores(dataset: str, pictures: int, columns: Sequence[tuple[str, Sequence[Measure]]]) -> Iterator[Score]:
    """Rows by measure and artifact, of one data set.

    The difference to the first artifact is taken on the same pictures, also where some are left out: a hard picture is
    hard for both. A measure with which nothing was counted has no row.

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
    values = dict(zip(rows, left_out([tables[i][kind].statistic for kind, i in rows], pictures), strict=True))
    for kind, i in rows:
        mine, first = values[kind, i], values.get((kind, 0))
        if math.isnan(mine[0]):
            continue
        measure, change = tables[i][kind], None
        if i and first is not None and not math.isnan(first[0]):
            change = _change(measure, tables[0][kind], mine - first)
        yield Score(
            artifact=columns[i][0],
            dataset=dataset,
            measure=kind,
            unit=measure.unit,
            higher_is_better=measure.higher_is_better,
            value=(of_share if measure.higher_is_better else of_error)(mine, measure.statistic.faces),
            change=change,
            pictures=measure.pictures,
            faces=measure.faces,
        )


def _change(measure: Measure, first: Measure, values: Floats) -> Interval | Unbounded:
    """Of differences to the first artifact: of all pictures, and without each."""
    same = measure.statistic.same(first.statistic)
    if same and not np.nan_to_num(values).any():
        return Interval(0.0, 0.0, 0.0)
    return of_change(values, measure.statistic.faces, share=measure.higher_is_better and not same)
