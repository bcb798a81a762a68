"""From pixels to a network's input, described as data so that a phone can do the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocess:
    """How pixels become a network's input: value = (pixel - mean) * scale, channels first, float32.

    Attributes:
        colours: Order of the channels that the network takes.
        mean: Of each channel, in the order of `colours`, in pixel values 0..255.
        scale: Of all channels, or of each in the order of `colours`.
        resize: How a picture gets the network's size: "bilinear" is OpenCV's INTER_LINEAR on the 8-bit picture, before
            the arithmetic; "area" is the mean of the pixels that each new one touches, in float32.

    Raises:
        InputError: a scale is not positive and finite, or a mean is not finite.
    """

    colours: Literal["bgr", "rgb"] = "bgr"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float | tuple[float, float, float] = 1.0
    resize: Literal["bilinear", "area"] = "bilinear"

    def __post_init__(self) -> None:
        if not all(0 < v < math.inf for v in self.scales):
            msg = f"the scale of pixels must be positive, not {self.scale}"
            raise InputError(msg)
        if not all(map(math.isfinite, self.mean)):
            msg = f"the mean of pixels must be finite, not {self.mean}"
            raise InputError(msg)

    @property
    def scales(self) -> tuple[float, float, float]:
        """The scale of each colour."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,) * 3

    @property
    def eight_bits(self) -> bool:
        """Whether pictures still have 8 bits when they have the network's size."""
        return self.resize == "bilinear"

    @property
    def blank(self) -> tuple[int, int, int]:
        """The BGR pixel that comes closest to zero in the tensor."""
        first, second, third = (round(min(max(v, 0), 255)) for v in self.mean)
        return (first, second, third) if self.colours == "bgr" else (third, second, first)

    def tensor(self, pixels: Pixels | NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise pictures of the network's size.

        Args:
            pixels: (N, H, W, 3) uint8 or float32 in 0..255, BGR.

        Returns:
            (N, 3, H, W) float32.
        """
        planes = pixels.transpose(0, 3, 1, 2)[:, :: 1 if self.colours == "bgr" else -1]
        tensor = np.empty(planes.shape, np.float32)
        scale = np.array(self.scale, np.float32).reshape(-1, 1, 1)
        if any(self.mean):
            np.subtract(planes, np.array(self.mean, np.float32)[:, None, None], out=tensor)
            tensor *= scale
        else:
            np.multiply(planes, scale, out=tensor)
        return tensor


Image = Pixels
