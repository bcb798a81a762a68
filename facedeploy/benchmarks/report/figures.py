"""The charts of the records: which points, rows and whiskers they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedeploy.benchmarks.record import Measurement, Record, Score
from facedeploy.benchmarks.report.display_names import display_names, precision
from facedeploy.benchmarks.report.distributions import DistributionRow, distributions
from facedeploy.benchmarks.report.standing import comparable_loss
from facedeploy.benchmarks.report.svg import Figure
from facedeploy.benchmarks.report.tradeoff import Point, tradeoff
from facedeploy.metrics.interval import Interval, Unbounded

_COLOURS = 8  # Classes m0 to m7 of the page; the last is grey, for all that are left.

# Measures that sum a data set up; of the others there are many, and they seldom say something else.
_LEADING = ("AP", "NME", "pose")
_NOT_LEADING = ("AP easy", "AP medium")
_MARKS = "Up is better, left is faster. Circles are fp32, diamonds fp16, squares int8."
_FEW_FACES, _PART_OF_FACES = 4.0, 0.25  # An axis of faces spans at least so many, or that part of the most found.
_FRONT = "Dashed: nothing was measured both faster and better. Where whiskers overlap, the order is not certain."


@dataclass(frozen=True)
class Group:
    """Charts that are read alike.

    Attributes:
        title: Above them.
        about: How to read them.
        figures: The first `shown` at once, the others when they are asked for.
        shown: How many are shown at once.
        legend: (colour, what is said of it) of each.
    """

    title: str
    about: str
    figures: tuple[Figure, ...]
    shown: int
    legend: tuple[tuple[str, str], ...] = ()


def spread_of(record: Record, called: Mapping[str, str]) -> Figure | None:
    """How the times of each artifact are spread. None where the record holds none."""
    rows = [
        DistributionRow(called[m.name], np.array(m.samples["whole"]), m.spread["whole"], precision(m))
        for m in record.measurements
        if m.samples.get("whole") and m.samples["whole"][0]
    ]
    return distributions(rows) if rows else None


def tradeoffs_of(record: Record, called: Mapping[str, str]) -> Group | None:
    """Accuracy by data set and measure; without labels, what is lost against the first artifact's faces."""
    first = record.measurements[0]
    measures, shown = _ranked(record.scores)
    figures = []
    for dataset, measure in measures:
        scores = {s.artifact: s for s in record.scores if (s.dataset, s.measure) == (dataset, measure)}
        points = [
            _point(called, m, _paired(scores[m.name], m is first)) for m in record.measurements if m.name in scores
        ]
        score = next(iter(scores.values()))
        title, up = f"{measure} on {dataset}", score.higher_is_better
        figures.append(tradeoff(title, score.unit, points, up, alone=len(measures) == 1))
    whiskers = (
        f"Vertical whiskers: 95 % interval of the change against {called[first.name]} on the same pictures; "
        "horizontal: of p50."
    )
    if not figures and len(record.measurements) > 1:
        figure, whiskers = _unlabelled(record, called)
        figures, shown = [figure] if figure else [], 1
    return (
        Group("Accuracy against latency", f"{_MARKS} {whiskers} {_FRONT}", tuple(figures), shown) if figures else None
    )


def _unlabelled(record: Record, called: Mapping[str, str]) -> tuple[Figure | None, str]:
    """Without labels: what is lost against the first artifact's faces; of several input sizes, how many each finds."""
    rows = record.measurements
    lost = [(m, loss) for m in rows if (loss := comparable_loss(m, record)) is not None]
    if len(lost) == len(rows):
        points = [_point(called, m, Interval(v, v, v)) for m, v in lost]
        about = "Against the faces that the model's first artifact finds: no labels, and no interval."
        return tradeoff("AP lost", "points lost", points, False, alone=True), about
    counts = [float(sum(map(len, m.found))) for m in rows]
    if not any(counts):
        return None, ""
    points = [_point(called, m, Interval(n, n, n)) for m, n in zip(rows, counts, strict=True)]
    about = "No labels: only the pictures below show whether what more is found is a face. Horizontal whiskers: p50."
    least = max(_FEW_FACES, _PART_OF_FACES * max(counts))
    return tradeoff("Faces found", "faces", points, True, alone=True, least=least), about


def common_tradeoffs(records: Sequence[Record], called: Sequence[str]) -> Group | None:
    """All models in one chart, for each measure that more than one of them has."""
    owners: dict[tuple[str, str], set[str]] = {}
    for record, heading in zip(records, called, strict=True):
        for s in record.scores:
            owners.setdefault((s.dataset, s.measure), set()).add(heading)
    scores = [s for record in records for s in record.scores if len(owners[s.dataset, s.measure]) > 1]
    measures, shown = _ranked(scores)
    figures = []
    for key in measures:
        points = [p for i, r in enumerate(records) for p in _model_points(r, called[i], _colour(i), key)]
        s = next(s for s in scores if (s.dataset, s.measure) == key)
        title = f"{s.measure} on {s.dataset}"
        figures.append(tradeoff(title, s.unit, points, s.higher_is_better, alone=len(measures) == 1))
    about = f"{_MARKS} Whiskers: 95 % intervals. {_FRONT}"
    legend = tuple((heading, _colour(i)) for i, heading in enumerate(called))
    return Group("Accuracy against latency", about, tuple(figures), shown, legend) if figures else None


def _colour(record: int) -> str:
    return f"m{min(record, _COLOURS - 1)}"


def _model_points(record: Record, heading: str, colour: str, key: tuple[str, str]) -> list[Point]:
    names = display_names(record)
    by_name = {m.name: m for m in record.measurements}
    return [
        Point(f"{heading} {names[m.name]}", m.spread["whole"].p50, _whisker(s.value), colour, precision(m))
        for s in record.scores
        if (s.dataset, s.measure) == key and (m := by_name.get(s.artifact)) is not None
    ]


def _ranked(scores: Sequence[Score]) -> tuple[list[tuple[str, str]], int]:
    """Data sets and measures, those that say most first, and how many those are: at least one of each data set."""
    keys = list(dict.fromkeys((s.dataset, s.measure) for s in scores))
    leading = [key for key in keys if key[1].startswith(_LEADING) and key[1] not in _NOT_LEADING]
    firsts = {dataset: next(k for k in keys if k[0] == dataset) for dataset, _ in keys}
    leading += [first for dataset, first in firsts.items() if dataset not in {d for d, _ in leading}]
    return [*leading, *(key for key in keys if key not in leading)], len(leading)


def _point(called: Mapping[str, str], m: Measurement, accuracy: Interval) -> Point:
    return Point(called[m.name], m.spread["whole"].p50, accuracy, precision(m), precision(m))


def _paired(score: Score, first: bool) -> Interval:
    """The value, with the bounds of its change where there is one: the pictures are the same, so only that tells."""
    value = score.value.value
    if first:
        return Interval(value, value, value)
    if score.change is None:
        return _whisker(score.value)
    if isinstance(score.change, Unbounded):
        return Interval(value, value, value)
    shift = value - score.change.value
    return Interval(value, score.change.low + shift, score.change.high + shift)


def _whisker(value: Interval | Unbounded) -> Interval:
    """Without an interval there is no whisker."""
    return value if isinstance(value, Interval) else Interval(value.value, value.value, value.value)
