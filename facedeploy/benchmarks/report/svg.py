"""SVG as text, and axes. Colours are those of the page: classes, never values."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_STEPS = (1, 2, 5)
_DECADE_RATIO = 5.0  # From here on a linear axis would press what is fast into a corner.
_ADVANCE = 0.62  # Of a character, as a part of the size of the font: the widest usual one in bold; most are at 0.55.


@dataclass(frozen=True)
class Figure:
    """A chart, and what to know to read it.

    Attributes:
        title: Above it.
        caption: How to read it.
        shapes: Class of the style sheet -> the chart for a page that is wide, middling or narrow enough for it.
    """

    title: str
    caption: str
    shapes: Mapping[str, str]


@dataclass(frozen=True)
class ChartAxis:
    """Values low to high on pixels start to end; logarithmic or not."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def inside(self, value: float) -> float:
        """The pixel of a value, or the end of the axis that it lies beyond."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, most: int) -> list[float]:
        """At most `most` round values."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1, 1.5, 2, 3, 5, 7), _STEPS, (1, 3), (1,)):
                found = [s * 10.0**d for d in decades for s in steps if self.low <= s * 10.0**d <= self.high]
                if 2 <= len(found) <= most:
                    return found
        rough = (self.high - self.low) / most
        decade = 10.0 ** math.floor(math.log10(rough))
        step = next(s * decade for s in (*_STEPS, 10) if s * decade >= rough * (1 - 1e-9))
        return [i * step for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def time_axis(low: float, high: float, start: float, end: float) -> ChartAxis:
    """An axis for times, a little wider than they are; logarithmic where they differ much."""
    low, high = max(low, 1e-6), max(high, 1e-6)
    if high / low >= _DECADE_RATIO:
        return ChartAxis(low / 1.12, high * 1.12, start, end, log=True)
    room = max(0.06 * (high - low), 0.01 * high)
    return ChartAxis(max(low - room, 0.0), high + room, start, end)


def tick_text(value: float) -> str:
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")


def element(name: str, *content: str, **attributes: float | str) -> str:
    """An element. content: markup, or text that `escaped` made. An attribute is escaped; its `_` becomes `-`."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_plain(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{shown}>{''.join(content)}</{name}>"


def escaped(text: str) -> str:
    return html.escape(text)


def drawing(width: float, height: float, label: str, content: Sequence[str]) -> str:
    """The whole of a chart. label: for those who cannot see it."""
    return element(
        "svg",
        *content,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        role="img",
        aria_label=label,
        style=f"max-width:{_plain(width)}px",
    )


def words(x: float, y: float, text: str, *, anchor: str = "start", class_: str = "") -> str:
    return element("text", escaped(text), x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text_width(text: str, size: float) -> float:
    return _ADVANCE * size * len(text)


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
