"""What int8 gets wrong beside the weights, as changes of the ranges that a compiler is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from facedeploy.graph.ranges import Range, Ranges

RangeChange = Callable[[Ranges], Ranges]


def range_changes() -> dict[str, RangeChange]:
    """Name -> change."""
    changes: dict[str, RangeChange] = {}
    for name, edit in _EDITS.items():
        changes[f"{name}, all layers"] = functools.partial(_all, edit)
        for place in ("first", "last"):
            changes[f"{name}, {place} layer"] = functools.partial(_one, edit, place)
    return changes | {
        "ranges of neighbours exchanged": _exchange,
        "one range for all layers": _widest,
    }


def _narrow(values: Range) -> Range:
    """The zero point is lost: what is below zero is clipped, and a symmetric scheme does not see it."""
    return replace(values, low=0.0)


def _signed(values: Range) -> Range:
    high = max(values.high, -values.low)
    return replace(values, low=-high, high=high)


def _uncorrected(values: Range) -> Range:
    return replace(values, symmetric=(), asymmetric=())


def _shifted(values: Range) -> Range:
    """The zero point is off by a tenth of the range."""
    step = (values.high - values.low) / 10
    return replace(values, low=min(values.low + step, 0.0), high=values.high + step)


_EDITS: dict[str, Callable[[Range], Range]] = {
    "scale x10": lambda r: r.times(10),
    "scale x3": lambda r: r.times(3),
    "scale x0.5": lambda r: r.times(0.5),
    "scale x0.1": lambda r: r.times(0.1),
    "zero point lost": _narrow,
    "zero point shifted": _shifted,
    "zero point in the middle": _signed,
    "correction of the bias lost": _uncorrected,
}


def _all(edit: Callable[[Range], Range], layers: Ranges) -> Ranges:
    return {name: edit(values) for name, values in layers.items()}


def _one(edit: Callable[[Range], Range], place: str, layers: Ranges) -> Ranges:
    names = list(layers)
    chosen = names[0 if place == "first" else -1] if names else ""
    return {name: edit(values) if name == chosen else values for name, values in layers.items()}


def _exchange(layers: Ranges) -> Ranges:
    names = list(layers)
    others = [*names[1:], *names[:1]]
    # A correction is of the layer, and not of its range.
    return {
        name: replace(layers[other], symmetric=layers[name].symmetric, asymmetric=layers[name].asymmetric)
        for name, other in zip(names, others, strict=True)
    }


def _widest(layers: Ranges) -> Ranges:
    threshold = max(r.threshold for r in layers.values())
    low, high = min(r.low for r in layers.values()), max(r.high for r in layers.values())
    return {name: replace(r, threshold=threshold, low=low, high=high) for name, r in layers.items()}
