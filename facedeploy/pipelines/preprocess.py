"""From a decoded picture to a network's input, described as data so that a phone can do the same."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.pipelines.base import Image


@dataclass(frozen=True)
class Preprocess:
    """value = (pixel - mean) * scale, channels first, float32. `mean` is in the order of `colours`.

    resize: OpenCV's INTER_LINEAR on the 8-bit picture, before the arithmetic.
    """

    colours: Literal["bgr", "rgb"] = "bgr"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    resize: Literal["bilinear"] = "bilinear"

    def picture(
        self, image: Image, height: int, width: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Resize a whole picture: (H, W, 3) -> (1, 3, height, width), into `out` where that is given."""
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        return self._normalise(image.transpose(2, 0, 1)[None], out)

    def crops(self, image: Image, corners: NDArray[np.integer], side: int) -> NDArray[np.float32]:
        """Cut and resize: (H, W, 3), (N, 4) inclusive corners inside the picture -> (N, 3, side, side).

        The loop over the boxes runs in C, in the maps. One call of OpenCV for all of them exists (blobFromImages)
        and takes three times as long: it fills memory that the system has yet to hand out.
        """
        x1, y1, x2, y2 = corners.T
        rows = map(slice, y1.tolist(), (y2 + 1).tolist())
        columns = map(slice, x1.tolist(), (x2 + 1).tolist())
        views = map(image.__getitem__, zip(rows, columns, strict=True))
        resized = np.empty((len(corners), side, side, 3), np.uint8)
        deque(map(cv2.resize, views, repeat((side, side)), resized), maxlen=0)
        return self._normalise(resized.transpose(0, 3, 1, 2))

    def _normalise(self, planes: NDArray[np.uint8], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """(N, 3, H, W) in the picture's own order -> float32 in the network's."""
        planes = planes[:, :: 1 if self.colours == "bgr" else -1]
        tensor = np.empty(planes.shape, np.float32) if out is None else out
        if any(self.mean):
            np.subtract(planes, np.array(self.mean, np.float32)[:, None, None], out=tensor)
            tensor *= np.float32(self.scale)
        else:
            np.multiply(planes, np.float32(self.scale), out=tensor)
        return tensor
