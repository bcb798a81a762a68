"""Modulated deformable convolution in NumPy, in double precision, one sample at a time from its definition."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Everything about a deformable convolution but its numbers. Pairs are vertical, horizontal."""

    size: Pair
    in_channels: int = 2
    out_channels: int = 2
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    offset_groups: int = 1

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def output(self) -> Pair:
        """Rows and columns of the output: as many places as the whole kernel fits in the padded input."""
        rows, columns = ((self.size[i] + 2 * self.padding[i] - self.reach(i)) // self.stride[i] + 1 for i in range(2))
        return rows, columns

    def reach(self, axis: int) -> int:
        """Pixels from the first tap to the last, both counted."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def start(self, axis: int, tap: int, cell: int) -> int:
        """Where tap `tap` of output `cell` reads along an axis if its offset is zero."""
        return cell * self.stride[axis] - self.padding[axis] + tap * self.dilation[axis]


def deform_conv(
    geometry: Geometry,
    image: NDArray[Any],
    weight: NDArray[Any],
    offset: NDArray[Any],
    mask: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
) -> Floats:
    image, weight, offset = (array.astype(float) for array in (image, weight, offset))
    result = np.zeros((len(image), geometry.out_channels, *geometry.output))
    for n, y, x in np.ndindex(len(image), *geometry.output):
        samples = np.zeros((geometry.in_channels, *geometry.kernel))
        for g, i, j in np.ndindex(geometry.offset_groups, *geometry.kernel):
            k = g * geometry.taps + i * geometry.kernel[1] + j
            dy, dx = offset[n, 2 * k : 2 * k + 2, y, x].tolist()
            channels = _part(g, geometry.offset_groups, geometry.in_channels)
            value = bilinear(image[n, channels], geometry.start(0, i, y) + dy, geometry.start(1, j, x) + dx)
            samples[channels, i, j] = value if mask is None else value * float(mask[n, k, y, x])
        for g in range(geometry.groups):
            outputs = _part(g, geometry.groups, geometry.out_channels)
            inputs = _part(g, geometry.groups, geometry.in_channels)
            result[n, outputs, y, x] = np.tensordot(weight[outputs], samples[inputs], axes=3)
    return result if bias is None else result + bias.astype(float)[:, None, None]


def bilinear(channels: NDArray[Any], y: float, x: float) -> Floats:
    """A sample of each channel: of the four pixels around it, those outside count as zero."""
    count, height, width = channels.shape
    top, left = math.floor(y), math.floor(x)
    result = np.zeros(count)
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            result += channels[:, row, column] * ((1 - abs(y - row)) * (1 - abs(x - column)))
    return result


def _part(index: int, parts: int, total: int) -> slice:
    size = total // parts
    return slice(index * size, (index + 1) * size)
