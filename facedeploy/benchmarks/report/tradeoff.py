"""Accuracy against latency, with the line that nothing measured is beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facedeploy.benchmarks.report.label_places import Box, place
from facedeploy.benchmarks.report.svg import (
    ChartAxis,
    Figure,
    drawing,
    element,
    escaped,
    line,
    text_width,
    tick_text,
    time_axis,
    words,
)
from facedeploy.metrics.interval import Interval

_FONT = 12.0
_MOST_LABELS = 12
_WIDEST = 1.5  # Whiskers beyond the outermost points by more than this factor end at the frame.
LEAST_SPAN = 1.0  # Of the accuracy's axis, in its unit: less would show differences that are nothing as if they were.
_SHAPES = {"fp32": "circle", "fp16": "diamond", "bf16": "triangle", "int8": "square"}


@dataclass(frozen=True)
class Point:
    """An artifact.

    Attributes:
        label: What it is called.
        x: p50 in milliseconds.
        y: Accuracy; low and high of its whisker may be those of a change.
        colour: Class of its mark.
        precision: Shape of its mark.
    """

    label: str
    x: Interval
    y: Interval
    colour: str
    precision: str


def front(points: Sequence[Point], higher_is_better: bool) -> list[Point]:
    """Those that none is both as fast and as accurate as, and better in one; by rising latency."""
    sign = -1 if higher_is_better else 1
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x.value, sign * p.y.value)):
        if not kept or sign * point.y.value < sign * kept[-1].y.value:
            kept.append(point)
    return kept


def tradeoff(
    title: str,
    unit: str,
    points: Sequence[Point],
    higher_is_better: bool,
    *,
    alone: bool = False,
    least: float = LEAST_SPAN,
) -> Figure:
    """The chart. Of many points those on the line are labelled.

    Args:
        title: Above it.
        unit: Of the accuracy.
        points: The artifacts.
        higher_is_better: Whether a larger value is the better one.
        alone: Whether no other chart stands beside it.
        least: What the accuracy's axis spans at least, in its unit.
    """
    sizes = {"wide middling": (620.0, 400.0), "narrow": (360.0, 340.0)}
    if alone:
        sizes = {"wide": (1272.0, 420.0), "middling": (620.0, 400.0), "narrow": (360.0, 340.0)}
    shapes = {page: _draw(title, (unit, least), points, higher_is_better, size) for page, size in sizes.items()}
    return Figure(title, "", shapes)


def _draw(
    title: str, scale: tuple[str, float], points: Sequence[Point], higher_is_better: bool, size: tuple[float, float]
) -> str:
    (unit, least), (width, height) = scale, size
    plot = Box(48, 30, width - 14, height - 44)
    fastest, slowest = min(p.x.value for p in points), max(p.x.value for p in points)
    low = max(min(p.x.low for p in points), fastest / _WIDEST)
    high = min(max(p.x.high for p in points), slowest * _WIDEST)
    x = time_axis(low, high, plot.x1 + 8, plot.x2 - 8)
    y = accuracy_axis(points, higher_is_better, plot, least)
    best = front(points, higher_is_better)
    parts = [*_frame(plot, x, y, unit, higher_is_better), _stairs(best, x, y, plot)]
    for p in points:
        parts += _whiskers(p, x, y)
    parts += [_mark(p, x(p.x.value), y(p.y.value)) for p in points]
    parts += _labels(
        best if len(points) > _MOST_LABELS else [*best, *(p for p in points if p not in best)], points, best, x, y, plot
    )
    return drawing(width, height, f"{title} against latency", parts)


def accuracy_axis(points: Sequence[Point], higher_is_better: bool, plot: Box, least: float = LEAST_SPAN) -> ChartAxis:
    """Up is always better. The axis spans at least `least`, and little below 0 where no value is."""
    low, high = min(p.y.low for p in points), max(p.y.high for p in points)
    room = max(0.08 * (high - low), (least - (high - low)) / 2)
    span = high - low + 2 * room
    if low >= 0:
        low, high = max(low - room, -0.06 * span), max(high + room, 0.94 * span)
    else:
        low, high = low - room, high + room
    return ChartAxis(low, high, plot.y2, plot.y1) if higher_is_better else ChartAxis(low, high, plot.y1, plot.y2)


def _frame(plot: Box, x: ChartAxis, y: ChartAxis, unit: str, higher_is_better: bool) -> list[str]:
    parts = []
    for tick in y.ticks(6):
        parts += [line(plot.x1, y(tick), plot.x2, y(tick), "grid")]
        parts += [words(plot.x1 - 6, y(tick) + 4, tick_text(tick), anchor="end", class_="tick")]
    for tick in x.ticks(7 if plot.x2 > 400 else 5):
        parts += [line(x(tick), plot.y1, x(tick), plot.y2, "grid")]
        parts += [words(x(tick), plot.y2 + 16, tick_text(tick), anchor="middle", class_="tick")]
    parts += [line(plot.x1, plot.y2, plot.x2, plot.y2, "axis")]
    up = "" if higher_is_better else ", smaller is better"
    scale = ", logarithmic" if x.log else ""
    return [
        *parts,
        words(2, 16, f"{unit}{up}", class_="tick"),
        words(plot.x2, plot.y2 + 34, f"p50, ms{scale}", anchor="end", class_="tick"),
        words(plot.x1, plot.y2 + 34, "\N{LEFTWARDS ARROW} faster", class_="tick"),
    ]


def _stairs(best: Sequence[Point], x: ChartAxis, y: ChartAxis, plot: Box) -> str:
    steps = [f"M{x(best[0].x.value):.1f} {plot.y2:.1f}"]
    for p in best:
        steps += [f"H{x(p.x.value):.1f}", f"V{y(p.y.value):.1f}"]
    return element("path", d=" ".join([*steps, f"H{plot.x2:.1f}"]), class_="front")


def _whiskers(p: Point, x: ChartAxis, y: ChartAxis) -> list[str]:
    cx, cy = x(p.x.value), y(p.y.value)
    return [
        line(x.inside(p.x.low), cy, x.inside(p.x.high), cy, f"whisker {p.colour}"),
        line(cx, y(p.y.low), cx, y(p.y.high), f"whisker {p.colour}"),
    ]


def _mark(p: Point, cx: float, cy: float) -> str:
    name = element("title", escaped(f"{p.label}: p50 {p.x.value:.3g} ms, {p.y.value:.4g}"))
    shape = _SHAPES.get(p.precision, "circle")
    if shape == "circle":
        return element("circle", name, cx=cx, cy=cy, r=5.0, class_=f"mark {p.colour}")
    corners = {
        "square": ((-4.6, -4.6), (4.6, -4.6), (4.6, 4.6), (-4.6, 4.6)),
        "diamond": ((0, -6.4), (6.4, 0), (0, 6.4), (-6.4, 0)),
        "triangle": ((0, -6), (6, 5), (-6, 5)),
    }[shape]
    around = " ".join(f"{cx + dx:.1f},{cy + dy:.1f}" for dx, dy in corners)
    return element("polygon", name, points=around, class_=f"mark {p.colour}")


def _labels(
    wanted: Sequence[Point], points: Sequence[Point], best: Sequence[Point], x: ChartAxis, y: ChartAxis, plot: Box
) -> list[str]:
    """A label without a place is left to the mark's title and the table."""
    marks = [Box(x(p.x.value) - 6, y(p.y.value) - 6, x(p.x.value) + 6, y(p.y.value) + 6) for p in points]
    places = place(
        [(x(p.x.value), y(p.y.value)) for p in wanted],
        [text_width(p.label, _FONT) for p in wanted],
        Box(plot.x1 + 2, plot.y1 - 12, plot.x2 + 12, plot.y2),
        marks,
        _line_boxes(points, best, x, y, plot),
    )
    parts = []
    for p, to in zip(wanted, places, strict=True):
        if to is None:
            continue
        cx, cy = x(p.x.value), y(p.y.value)
        if to.far:
            parts.append(line(cx, cy, cx + to.dx * 0.9, cy + to.dy - (9 if to.dy > 0 else -2), "leader"))
        class_ = "label best" if p in best else "label"
        parts.append(words(cx + to.dx, cy + to.dy, p.label, anchor=to.anchor, class_=class_))
    return parts


def _line_boxes(points: Sequence[Point], best: Sequence[Point], x: ChartAxis, y: ChartAxis, plot: Box) -> list[Box]:
    """What whiskers and stairs cover."""
    whiskers = [Box(x(p.x.value) - 1, y(p.y.high), x(p.x.value) + 1, y(p.y.low)) for p in points]
    ends = [*(x(p.x.value) for p in best[1:]), plot.x2]
    steps = [Box(x(p.x.value), y(p.y.value) - 1, end, y(p.y.value) + 1) for p, end in zip(best, ends, strict=True)]
    return [*whiskers, *steps]
