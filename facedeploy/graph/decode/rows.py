"""Outputs of a head in whatever layout, as (1, P, numbers): one row for each box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import Shape
from facedeploy.graph.decode.priors import Level
from facedeploy.graph.decode.writer import Writer

Rows = tuple[str, int]
Layout = Literal["map", "map, channels last", "grid", "rows", "columns", "list"]


def layout_of(shape: Shape, boxes: int, level: Level | None = None) -> tuple[Layout, int] | None:
    """How an output holds boxes, and how many numbers each has; None where it does not hold so many.

    Args:
        shape: Of the output.
        boxes: How many there are.
        level: Of a head with one output for each level, the one that these boxes are of.
    """
    if level is not None and len(shape) > 3 and shape[0] == 1:
        grid = (level.rows, level.columns)
        if len(shape) == 4 and shape[2:] == grid and shape[1] % level.anchors == 0:
            return "map", shape[1] // level.anchors
        if len(shape) == 4 and shape[1:3] == grid and shape[3] % level.anchors == 0:
            return "map, channels last", shape[3] // level.anchors
        if len(shape) == 5 and shape[1:4] == (level.anchors, *grid):
            return "grid", shape[4]
        return None
    inner = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    if len(inner) == 1 and inner[0] == boxes:
        return "list", 1
    if len(inner) == 2 and inner[0] == boxes:
        return "rows", inner[1]
    if len(inner) == 2 and inner[1] == boxes:
        return "columns", inner[0]
    return None


def concatenated(
    writer: Writer, outputs: Sequence[str], shapes: Mapping[str, Shape], levels: Sequence[Level], boxes: int
) -> Rows:
    """One output for all levels, or one for each, as rows. Returns the tensor and how many numbers a row has.

    Raises:
        InputError: an output has not the shape of so many boxes.
    """
    if len(outputs) == 1 and len(levels) != 1:
        return _rows(writer, outputs[0], shapes[outputs[0]], boxes)
    found = [_layout(name, shapes[name], v.boxes, v) for name, v in zip(outputs, levels, strict=True)]
    widths = {width for _, width in found}
    if len(widths) != 1:
        msg = f"the outputs {', '.join(outputs)} hold {sorted(widths)} numbers a box: those of all levels must be alike"
        raise InputError(msg)
    width = widths.pop()
    if all(layout == "rows" and len(shapes[name]) == 2 for name, (layout, _) in zip(outputs, found, strict=True)):
        return writer.reshape(writer.join(outputs, 0), 1, boxes, width), width
    parts = [_rows(writer, name, shapes[name], v.boxes, v)[0] for name, v in zip(outputs, levels, strict=True)]
    return writer.join(parts, 1), width


def by_class(writer: Writer, name: str, shape: Shape, level: Level, face_class: int) -> str:
    """The scores of one class, as (1, P, 1), of a map (1, classes * anchors, rows, columns).

    Raises:
        InputError: the output is no such map, or has not that class.
    """
    found = layout_of(shape, level.boxes, level)
    if found is None or found[0] != "map" or face_class >= found[1]:
        msg = (
            f"the output {name!r} has the shape {shape}, not (1, classes * {level.anchors}, {level.rows}, "
            f"{level.columns}) with class {face_class}"
        )
        raise InputError(msg)
    start = face_class * level.anchors
    return _from_map(writer, writer.slice(name, start, start + level.anchors, 1), level)


def _layout(name: str, shape: Shape, boxes: int, level: Level | None) -> tuple[Layout, int]:
    found = layout_of(shape, boxes, level)
    if found is None:
        cells = "" if level is None else f" ({level.rows}x{level.columns} cells with {level.anchors} each)"
        msg = (
            f"the output {name!r} has the shape {shape}, which does not hold {boxes} boxes{cells}: decode.strides, "
            "decode.anchors, decode.sizes or the input size are those of another network"
        )
        raise InputError(msg)
    return found


def _rows(writer: Writer, name: str, shape: Shape, boxes: int, level: Level | None = None) -> Rows:
    layout, width = _layout(name, shape, boxes, level)
    if layout == "map":
        assert level is not None
        return _from_map(writer, name, level), width
    if layout == "grid":
        name = writer.add("Transpose", name, perm=[0, 2, 3, 1, 4])
    elif layout == "columns":
        name = writer.add("Transpose", name if len(shape) == 3 else writer.reshape(name, 1, *shape), perm=[0, 2, 1])
    whole = layout in ("rows", "columns") and (len(shape) == 3 or layout == "columns")
    return (name if whole else writer.reshape(name, 1, boxes, width)), width


def _from_map(writer: Writer, name: str, level: Level) -> str:
    last = writer.add("Transpose", name, perm=[0, 2, 3, 1])
    return writer.reshape(last, 1, level.boxes, -1)
