"""Pictures turned so that a face in them is upright: points to and fro, and crops of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.preprocess import Pixels

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Turn:
    """N ways to turn a picture about its middle. angles (N,): radians, counter-clockwise as seen, so that eyes with
    this slope become level.

    The canvas is the picture's own size and the middle (width // 2, height // 2), as in published code.
    """

    angles: Floats
    height: int
    width: int

    @property
    def _matrices(self) -> Floats:
        cos, sin = np.cos(self.angles), np.sin(self.angles)
        return np.stack([cos, sin, -sin, cos], axis=1).reshape(-1, 2, 2)

    @property
    def _middle(self) -> Floats:
        return np.array([self.width // 2, self.height // 2], np.float64)

    def apply(self, points: Floats) -> Floats:
        """Points (N, P, 2) of the picture where they are on the canvas."""
        turned: Floats = (points - self._middle) @ self._matrices.transpose(0, 2, 1) + self._middle
        return turned

    def undo(self, points: Floats) -> Floats:
        """Points (N, P, 2) of the canvas where they are in the picture."""
        back: Floats = (points - self._middle) @ self._matrices + self._middle
        return back

    @property
    def canvas(self) -> Floats:
        """The canvas (N, 4), as corners."""
        return np.tile([0.0, 0.0, self.width, self.height], (len(self.angles), 1))

    @property
    def extent(self) -> Floats:
        """The canvas, enlarged so that nothing of the turned picture is outside: (N, 4), whole numbers."""
        x, y = np.array([0.0, self.width]), np.array([0.0, self.height])
        corners = np.stack([x[[0, 1, 0, 1]], y[[0, 0, 1, 1]]], axis=1)
        turned = self.apply(np.tile(corners, (len(self.angles), 1, 1)))
        low = np.minimum(np.floor(turned.min(axis=1) + 1e-6), 0.0)
        return np.hstack([low, np.maximum(np.ceil(turned.max(axis=1) - 1e-6), corners[3])])

    def crops(self, image: Pixels, boxes: Floats, side: int) -> Pixels:
        """Cut boxes (N, 4), corners on the canvas, out of the turned picture, resized: (N, side, side, 3).

        Turning, cutting and resizing are one bilinear look at the picture. Outside of it a turned one is black; one
        that is not turned goes on as at its edge, which cv2.resize of the box does too. The loop over the boxes runs in
        C, in the map.
        """
        step = (boxes[:, 2:] - boxes[:, :2]) / side
        first = boxes[:, :2] + step / 2 - 0.5  # The centre of the first pixel.
        turned = self._matrices.transpose(0, 2, 1)
        origin = self.undo(first[:, None])[:, 0]
        matrices = np.concatenate([turned * step[:, None], origin[:, :, None]], axis=2)
        made = np.empty((len(boxes), side, side, 3), np.uint8)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        edges = np.where(self.angles == 0, cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT).tolist()
        warped = map(cv2.warpAffine, repeat(image), matrices, repeat((side, side)), made, repeat(flags), edges)
        deque(warped, maxlen=0)
        return made
