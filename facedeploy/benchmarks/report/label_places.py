"""Where the labels of points can stand, so that they hide no mark and no other label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Pixels that a line of text reaches above and below its base.
_ABOVE, _BELOW = 9.0, 3.0
# A line under a label is as bad as this many places further down the list.
_CROSSING = 4


@dataclass(frozen=True)
class Box:
    """Pixels. The y of one edge may be above or below that of the other."""

    x1: float
    y1: float
    x2: float
    y2: float

    def meets(self, other: Box) -> bool:
        low, high = min(other.y1, other.y2), max(other.y1, other.y2)
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < high and low < self.y2

    def holds(self, other: Box) -> bool:
        return self.x1 <= other.x1 and self.y1 <= other.y1 and other.x2 <= self.x2 and other.y2 <= self.y2


@dataclass(frozen=True)
class Place:
    """Of a label beside its point. dx, dy: pixels from the point to the start, middle or end of the text's base, which
    `anchor` says. far: whether a line must lead there.
    """

    dx: float
    dy: float
    far: bool = False

    @property
    def anchor(self) -> str:
        return "end" if self.dx < 0 else "middle" if self.dx == 0 else "start"

    def box(self, x: float, y: float, width: float) -> Box:
        """What text of this width covers beside a point at (x, y)."""
        left = x + self.dx - {"end": width, "middle": width / 2, "start": 0}[self.anchor]
        return Box(left, y + self.dy - _ABOVE, left + width, y + self.dy + _BELOW)


# The best first.
_PLACES = (
    *(Place(8, -7), Place(8, 15), Place(-8, -7), Place(-8, 15)),
    *(Place(10, 4), Place(-10, 4), Place(0, -12), Place(0, 20)),
    *(Place(dx, dy, far=True) for far in (26, 44, 64) for dx in (14, -14) for dy in (far, -far)),
    *(Place(dx, dy, far=True) for far in (26, 44, 64) for dx in (40, -40) for dy in (far, -far)),
)


def place(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    room: Box,
    marks: Sequence[Box],
    lines: Sequence[Box],
) -> list[Place | None]:
    """A place for each label, in the order of their importance.

    Args:
        points: (x, y) of those with a label, in pixels.
        widths: of their texts, in pixels.
        room: that labels must stay in.
        marks: that no label may hide.
        lines: that labels cross only if every other place is much worse.

    Returns:
        None for a label that hides something wherever it stands.
    """
    taken, found = list(marks), []
    for (x, y), width in zip(points, widths, strict=True):
        costs = {}
        for i, candidate in enumerate(_PLACES):
            box = candidate.box(x, y, width)
            if room.holds(box) and not any(box.meets(other) for other in taken):
                costs[candidate] = i + _CROSSING * sum(box.meets(other) for other in lines)
        best = min(costs, key=lambda candidate: costs[candidate], default=None)
        if best is not None:
            taken.append(best.box(x, y, width))
        found.append(best)
    return found
