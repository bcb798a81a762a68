"""Where RoIAlign samples a feature pyramid: the positions, for one GridSample over all levels under each other.

As torchvision's MultiScaleRoIAlign with 7x7 bins of 2x2 samples and `aligned=False`: a level for each box, 14x14
positions evenly over it, in cells of that level, with no half-cell offset.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRIDES = (4, 8, 16, 32)
SAMPLES = 14  # Along a side of a box: two for each of seven bins.
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 2  # Lin et al. 2017, equation 1, counted from the finest map here.
_EPSILON = 1e-6  # torchvision's LevelMapper.
_OUTSIDE = -3.0  # No cell is near, so what is sampled is zero.


def level_of(boxes: NDArray[np.floating]) -> NDArray[np.intp]:
    """Which map each box (N, 4) is sampled in: 0, the finest, to 3."""
    side = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    with np.errstate(divide="ignore"):  # A box of no area is sampled in the finest.
        level = np.floor(_CANONICAL_LEVEL + np.log2(side / _CANONICAL_SIDE) + _EPSILON)
    chosen: NDArray[np.intp] = level.clip(0, len(STRIDES) - 1).astype(np.intp)
    return chosen


def sample_grid(boxes: NDArray[np.floating], size: tuple[int, int], count: int) -> NDArray[np.float32]:
    """Positions (1, 14, 14 * count, 2) for boxes (N, 4), N at most `count`, in pixels of a picture of `size`: x and y,
    -1..1 from the first cell to the last of the maps under each other. Places without a box are outside of them.
    """
    rows = np.array([size[0] // s for s in STRIDES])
    columns = np.array([size[1] // s for s in STRIDES])
    level = level_of(boxes)
    scaled = boxes / np.array(STRIDES)[level, None]
    x, inside_x = _positions(scaled[:, 0], scaled[:, 2], columns[level])
    y, inside_y = _positions(scaled[:, 1], scaled[:, 3], rows[level])
    first = np.cumsum(rows) - rows
    inside = inside_y[:, :, None] & inside_x[:, None]
    grid = np.full((SAMPLES, count, SAMPLES, 2), _OUTSIDE, np.float32)
    across = np.where(inside, _normalised(x, columns[0])[:, None], _OUTSIDE)
    down = np.where(inside, _normalised(y + first[level, None], rows.sum())[:, :, None], _OUTSIDE)
    grid[:, : len(boxes), :, 0] = across.transpose(1, 0, 2)
    grid[:, : len(boxes), :, 1] = down.transpose(1, 0, 2)
    return grid.reshape(1, SAMPLES, -1, 2)


def _positions(
    low: NDArray[np.floating], high: NDArray[np.floating], cells: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Positions (N, 14) between two sides, in cells, and which of them count; those within a cell of the map are moved
    onto it.
    """
    extent = np.maximum(high - low, 1.0)
    position = low[:, None] + extent[:, None] * ((np.arange(SAMPLES) + 0.5) / SAMPLES)
    inside = (position >= -1) & (position <= cells[:, None])
    return position.clip(0, cells[:, None] - 1), inside


def _normalised(position: NDArray[np.floating], cells: int) -> NDArray[np.floating]:
    result: NDArray[np.floating] = 2 * position / (cells - 1) - 1
    return result
