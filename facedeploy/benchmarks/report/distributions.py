"""How the times of each artifact are spread: one row each, its density above a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.benchmarks.record import Spread
from facedeploy.benchmarks.report.numbers import digits, number
from facedeploy.benchmarks.report.svg import (
    ChartAxis,
    Figure,
    drawing,
    element,
    line,
    text_width,
    tick_text,
    time_axis,
    words,
)

Floats = NDArray[np.float64]

_MANY = 12  # Rows: with more, the axis is labelled at the top as well.
_BIN = 2.0  # Pixels.
_KERNEL = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
_TAIL = 99.5  # Percent of an artifact's times that the axis must hold.


@dataclass(frozen=True)
class DistributionRow:
    """An artifact.

    Attributes:
        label: What it is called.
        samples: Milliseconds of every picture in every round.
        spread: Percentiles and mean.
        colour: Class of its shape.
    """

    label: str
    samples: Floats
    spread: Spread
    colour: str


def distributions(rows: Sequence[DistributionRow]) -> Figure:
    """The chart of all rows."""
    low = min(float(np.percentile(r.samples, 100 - _TAIL)) for r in rows)
    high = max(max(float(np.percentile(r.samples, _TAIL)), r.spread.p99) for r in rows)
    widths = {"wide": 1272.0, "middling": 620.0, "narrow": 360.0}
    outside = sum(int((r.samples > high).sum()) for r in rows)
    longest = max(float(r.samples.max()) for r in rows)
    many = "time lies" if outside == 1 else "times lie"
    beyond = f" {outside} {many} beyond the axis, the longest {number(longest, 1)} ms." if outside else ""
    caption = f"Every picture in every round. Line: p50, with its 95 % interval; dots: p90 and p99.{beyond}"
    return Figure(
        "Distribution of latency", caption, {page: _draw(rows, low, high, width) for page, width in widths.items()}
    )


def _draw(rows: Sequence[DistributionRow], low: float, high: float, width: float) -> str:
    roomy, many = width > 600, len(rows) > _MANY
    gutter = min(max(text_width(r.label, 13) for r in rows) + 14, 260.0) if roomy else 4.0
    right = 150.0 if roomy else 4.0
    pitch, top = (38.0, 6.0) if roomy else (56.0, 2.0)
    top += 16.0 if many else 0.0
    bottom = top + pitch * len(rows)
    axis = time_axis(low, high, gutter, width - right)
    ticks = axis.ticks(9 if roomy else 5)
    ms = digits(r.spread.p50.value for r in rows)
    parts = [line(axis(t), top, axis(t), bottom + 4, "grid") for t in ticks]
    for y in (bottom + 18, *((12.0,) if many else ())):
        parts += [words(axis(t), y, tick_text(t), anchor="middle", class_="tick") for t in ticks]
    for i, row in enumerate(rows):
        base = top + pitch * (i + 1) - 6
        numbers = f"{number(row.spread.p50.value, ms)}  \N{MIDDLE DOT}  p99 {number(row.spread.p99, ms)}"
        y = base - 4 if roomy else base - 34
        parts += [words(0, y, row.label, class_="label"), words(width, y, numbers, anchor="end", class_="tick")]
        parts += _shape(row, axis, base, pitch - 12 if roomy else 26.0)
    scale = "ms, logarithmic" if axis.log else "ms"
    parts.append(words(width, bottom + (18 if roomy else 34), scale, anchor="end", class_="tick"))
    return drawing(width, bottom + (26 if roomy else 40), "Distribution of latency", parts)


def _shape(row: DistributionRow, axis: ChartAxis, base: float, height: float) -> list[str]:
    middles, density = _density(row, axis, height)
    shown = np.flatnonzero(density > 0.15)
    first, last = int(shown[0]), int(shown[-1])
    path = [f"M{middles[first]:.0f} {base:.1f}"]
    path += [f"L{middles[i]:.0f} {base - density[i]:.1f}" for i in range(first, last + 1)]
    p50 = row.spread.p50
    dots = [
        element("circle", cx=axis.inside(v), cy=base, r=2.6, class_=f"mark {row.colour}")
        for v in (row.spread.p90, row.spread.p99)
    ]
    return [
        element("path", d=" ".join([*path, f"L{middles[last]:.0f} {base:.1f}Z"]), class_=f"density {row.colour}"),
        line(axis.start, base, axis.end, base, "axis"),
        line(axis.inside(p50.low), base, axis.inside(p50.high), base, f"thick {row.colour}"),
        line(axis.inside(p50.value), base - height, axis.inside(p50.value), base, f"middle {row.colour}"),
        *dots,
    ]


def _density(row: DistributionRow, axis: ChartAxis, height: float) -> tuple[Floats, Floats]:
    """Pixels along the axis, and how far the shape rises there: `height` at its highest."""
    edges = np.arange(axis.start, axis.end + _BIN, _BIN)
    values = np.clip(row.samples.ravel(), axis.low, axis.high)
    span = np.log(axis.high / axis.low) if axis.log else axis.high - axis.low
    part = np.log(values / axis.low) / span if axis.log else (values - axis.low) / span
    counts = np.histogram(axis.start + part * (axis.end - axis.start), edges)[0].astype(float)
    density = np.convolve(counts, _KERNEL, "same") if len(counts) > len(_KERNEL) else counts
    return (edges[:-1] + edges[1:]) / 2, density * height / max(float(density.max()), 1e-9)
