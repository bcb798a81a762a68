"""From a decoded picture to a network's input, described as data so that a phone can do the same."""

from __future__ import annotations

from dataclasses import dataclass
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

    def picture(self, image: Image, height: int, width: int) -> NDArray[np.float32]:
        """Resize a whole picture: (H, W, 3) -> (1, 3, height, width)."""
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        planes = image.transpose(2, 0, 1)[:: 1 if self.colours == "bgr" else -1]
        tensor = np.empty((1, 3, height, width), np.float32)
        if any(self.mean):
            np.subtract(planes, np.array(self.mean, np.float32)[:, None, None], out=tensor[0])
            tensor *= np.float32(self.scale)
        else:
            np.multiply(planes, np.float32(self.scale), out=tensor[0])
        return tensor

    def crops(self, image: Image, corners: NDArray[np.integer], side: int) -> NDArray[np.float32]:
        """Cut and resize: (H, W, 3), (N, 4) inclusive corners inside the picture -> (N, 3, side, side).

        The loop over the boxes runs in C: `map` cuts the views, OpenCV does the rest in one call.
        """
        x1, y1, x2, y2 = corners.T
        rows = map(slice, y1.tolist(), (y2 + 1).tolist())
        columns = map(slice, x1.tolist(), (x2 + 1).tolist())
        views = list(map(image.__getitem__, zip(rows, columns, strict=True)))
        swap = self.colours == "rgb"
        return cv2.dnn.blobFromImages(views, self.scale, (side, side), self.mean, swapRB=swap)  # type: ignore[return-value]
