"""What to call artifacts and records: as short as tells them apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from facedeploy.benchmarks.record import Measurement, Record


def display_names(record: Record) -> dict[str, str]:
    """Name of each artifact -> what to call it beside the others of the record."""
    ways: tuple[Callable[[Measurement], str], ...] = (
        lambda m: m.target,
        lambda m: f"{m.target} {input_size(m)}".strip(),
        lambda m: f"{m.model} {m.target}",
        lambda m: f"{m.model} {m.target} {input_size(m)}".strip(),
    )
    for way in ways:
        called = [way(m) for m in record.measurements]
        if len(set(called)) == len(called):
            return {m.name: text for m, text in zip(record.measurements, called, strict=True)}
    return {m.name: m.name for m in record.measurements}


def headings(records: Sequence[Record]) -> tuple[str, ...]:
    """One for each record: its models, and the size of their input where it is one."""
    made = []
    for record in records:
        models = ", ".join(dict.fromkeys(m.model for m in record.measurements))
        sizes = {input_size(m) for m in record.measurements}
        made.append(f"{models} {sizes.pop()}".strip() if len(sizes) == 1 else models)
    return tuple(f"{text} ({i + 1})" if made.count(text) > 1 else text for i, text in enumerate(made))


def input_size(m: Measurement) -> str:
    """HEIGHTxWIDTH of the largest network input, which is that of the picture; "" where any is taken."""
    shapes = [shape[-2:] for shape in m.input_sizes.values() if len(shape) >= 2 and min(shape[-2:]) > 0]
    return "x".join(map(str, max(shapes, key=math.prod))) if shapes else ""


def precision(m: Measurement) -> str:
    return m.target.rsplit("-", 1)[-1]
