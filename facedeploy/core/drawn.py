"""A picture that a notebook shows."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

_LONGEST = 2000  # Pixels: a larger one is shown smaller, as a page of 8K pictures is hundreds of megabytes.


class Drawn(np.ndarray[Any, np.dtype[np.uint8]]):
    """A picture (H, W, 3) uint8, BGR, like any other array, which a notebook shows as a picture and not as numbers."""

    def _repr_png_(self) -> bytes | None:
        """The picture as PNG, which IPython asks for; None of what was made of it and is no picture any more."""
        if self.dtype != np.uint8 or self.ndim != 3 or self.shape[2] != 3 or not self.size:
            return None
        image = np.ascontiguousarray(self)
        factor = _LONGEST / max(image.shape[:2])
        if factor < 1:
            height, width = (max(1, round(side * factor)) for side in image.shape[:2])
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        done, data = cv2.imencode(".png", image)
        return data.tobytes() if done else None
