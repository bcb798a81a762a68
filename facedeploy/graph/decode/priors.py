"""Where the cells of a head are, and how large its anchors: for every box, in the order of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.network_spec import Size
from facedeploy.graph.decode.description import Decode

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """One level of a head. rows, columns: of its cells. anchors: boxes of a cell."""

    rows: int
    columns: int
    anchors: int

    @property
    def boxes(self) -> int:
        return self.rows * self.columns * self.anchors


@dataclass(frozen=True)
class Priors:
    """What boxes are counted from.

    Attributes:
        cells: (P, 2), column and row of the cell, in pixels.
        strides: (P, 2), pixels from cell to cell, across and down.
        sizes: (P, 2), width and height of the anchor, pixels.
    """

    cells: Floats
    strides: Floats
    sizes: Floats

    def centres(self, offset: float, pixels: float = 0.0) -> Floats:
        """Centres (P, 2), pixels: `offset` cells and `pixels` pixels into each cell."""
        return self.cells + self.strides * offset + pixels


def levels(decode: Decode, size: Size) -> tuple[Level, ...]:
    """The levels of a head for an input of `size`; an incomplete cell at the edge is one."""
    height, width = size
    return tuple(
        Level(-(-height // stride), -(-width // stride), anchors)
        for stride, anchors in zip(decode.strides, decode.anchors_of_levels, strict=True)
    )


def priors(decode: Decode, size: Size) -> Priors:
    """Cells and anchors of all boxes: level by level, row by row, the anchors of a cell together."""
    cells, strides, sizes = [], [], []
    whole = np.array(size[::-1], np.float64)
    for i, level in enumerate(levels(decode, size)):
        stride = whole / (level.columns, level.rows) if decode.even else np.full(2, float(decode.strides[i]))
        y, x = np.mgrid[: level.rows, : level.columns]
        cells.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2) * stride, level.anchors, axis=0))
        strides.append(np.tile(stride, (level.boxes, 1)))
        anchors = _sizes(decode, i) if decode.sizes else np.tile(stride, (level.anchors, 1))
        sizes.append(np.tile(anchors, (level.rows * level.columns, 1)))
    found = np.concatenate(sizes)
    return Priors(np.concatenate(cells), np.concatenate(strides), np.minimum(found, whole) if decode.clip else found)


def _sizes(decode: Decode, level: int) -> Floats:
    return np.array([s if isinstance(s, tuple) else (s, s) for s in decode.sizes[level]], np.float64)
