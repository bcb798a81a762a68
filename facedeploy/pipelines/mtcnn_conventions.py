"""Where the published MTCNN cascades differ: Enderfga/mtCNN_sysu (detect.py) and timesler/facenet-pytorch
(detect_face.py). Weights go with the cascade that they are published with.

Boxes are (N, 4) corners in pixels.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
Mask = NDArray[np.bool_]
Name = Literal["sysu", "facenet"]

CELL = 12  # P-Net's field of view and the stride of its output, in pixels of a level.
STRIDE = 2


class Conventions(abc.ABC):
    """The rules of one cascade.

    Attributes:
        smallest: The pyramid ends before the shorter side is less, pixels.
        longer: Added to the sides of a level before they are truncated, pixels.
        pixel: Added to a side of P's windows, and in the union of R's, pixels.
        exact: Whether suppression compares scores to the last bit.
        own_scores: Whether R and O rank by their own score, or by that of the network before.
        calibrated_first: Whether O's boxes are calibrated before they are suppressed.
        first_pixel: What the pixel at the left edge is called.
    """

    smallest: ClassVar[float]
    longer: ClassVar[int]
    pixel: ClassVar[float]
    exact: ClassVar[bool]
    own_scores: ClassVar[bool]
    calibrated_first: ClassVar[bool]
    first_pixel: ClassVar[int]

    @abc.abstractmethod
    def above(self, scores: NDArray[np.float32], threshold: float) -> Mask:
        """Which of P's scores are high enough."""

    @abc.abstractmethod
    def windows(self, cells: NDArray[np.integer], scale: Boxes) -> Boxes:
        """What P saw in the picture, of cells (N, 2) as column and row on levels of a scale (N,)."""

    @abc.abstractmethod
    def plausible(self, boxes: Boxes, height: int, width: int) -> Mask:
        """Which calibrated boxes of P and R go on."""

    @abc.abstractmethod
    def square(self, boxes: Boxes) -> Boxes:
        """The squares that R and O see."""

    @abc.abstractmethod
    def visible(self, squares: Boxes, height: int, width: int) -> Mask:
        """Which squares can be cut out."""

    @abc.abstractmethod
    def cut(self, squares: Boxes, height: int, width: int) -> NDArray[np.int64]:
        """Inclusive corners of what is cut out; what is outside of the picture is black."""

    @abc.abstractmethod
    def after_cut(self, squares: Boxes, height: int, width: int) -> Boxes:
        """The boxes that are suppressed and calibrated later."""


class Sysu(Conventions):
    """Corners are pixels of the box. Squares are whole, black outside of the picture, and clipped afterwards."""

    smallest, longer = CELL + 1, 0
    pixel = 1.0
    exact = False
    own_scores = False
    calibrated_first = False
    first_pixel = 0

    def above(self, scores: NDArray[np.float32], threshold: float) -> Mask:
        return scores > threshold

    def windows(self, cells: NDArray[np.integer], scale: Boxes) -> Boxes:
        corner = cells * STRIDE
        return np.hstack([np.round(corner / scale[:, None]), np.round((corner + CELL) / scale[:, None])])

    def plausible(self, boxes: Boxes, height: int, width: int) -> Mask:
        return plausible(boxes, height, width)

    def square(self, boxes: Boxes) -> Boxes:
        return square(boxes)

    def visible(self, squares: Boxes, height: int, width: int) -> Mask:
        # The published code has no such limit and runs out of memory where a regression runs away.
        limited: Mask = squares[:, 2] - squares[:, 0] < 4 * max(height, width)
        return limited & np.isfinite(squares).all(axis=1)

    def cut(self, squares: Boxes, height: int, width: int) -> NDArray[np.int64]:
        return squares.astype(np.int64)

    def after_cut(self, squares: Boxes, height: int, width: int) -> Boxes:
        return clip(squares, height, width)


class Facenet(Conventions):
    """Pixels count from 1. Squares have fractions, are clipped only to be cut out, and are stretched then."""

    smallest, longer = CELL, 1
    pixel = 0.0
    exact = True
    own_scores = True
    calibrated_first = True
    first_pixel = 1

    def above(self, scores: NDArray[np.float32], threshold: float) -> Mask:
        return scores >= threshold

    def windows(self, cells: NDArray[np.integer], scale: Boxes) -> Boxes:
        # In float32 as published: where the quotient is whole, rounding decides.
        corner, single = (cells * STRIDE).astype(np.float32), scale.astype(np.float32)[:, None]
        return np.floor(np.hstack([(corner + 1) / single, (corner + CELL) / single])).astype(np.float64)

    def plausible(self, boxes: Boxes, height: int, width: int) -> Mask:
        return np.ones(len(boxes), bool)

    def square(self, boxes: Boxes) -> Boxes:
        size = boxes[:, 2:] - boxes[:, :2]
        side = size.max(axis=1, keepdims=True)
        corner = boxes[:, :2] + size * 0.5 - side * 0.5
        return np.hstack([corner, corner + side])

    def visible(self, squares: Boxes, height: int, width: int) -> Mask:
        # The published code stops with an error where a square has no pixel of the picture.
        finite = np.atleast_1d(np.isfinite(squares).all(axis=1))
        x1, y1, x2, y2 = self._clipped(np.where(finite[:, None], squares, 0), height, width).T
        seen: Mask = finite & (x1 <= x2) & (y1 <= y2)
        return seen

    def cut(self, squares: Boxes, height: int, width: int) -> NDArray[np.int64]:
        return self._clipped(squares, height, width).astype(np.int64)

    def _clipped(self, squares: Boxes, height: int, width: int) -> Boxes:
        return clip(np.trunc(squares) - self.first_pixel, height, width)

    def after_cut(self, squares: Boxes, height: int, width: int) -> Boxes:
        return squares


CONVENTIONS: Mapping[Name, Conventions] = {"sysu": Sysu(), "facenet": Facenet()}


def calibrate(boxes: Boxes, offsets: NDArray[np.float32], pixel: float = 1.0) -> Boxes:
    """Move the corners (N, 4) by offsets (N, 4), fractions of the box's sides, which are longer by `pixel`."""
    size = boxes[:, 2:] - boxes[:, :2] + pixel
    moved: Boxes = boxes + offsets * np.hstack([size, size])
    return moved


def square(boxes: Boxes) -> Boxes:
    """The square around the centre with the longer side, rounded half to even to whole pixels."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size * 0.5 - side * 0.5
    return np.round(np.hstack([corner, corner + side - 1]))


def clip(boxes: Boxes, height: int, width: int) -> Boxes:
    """Clip the corners: the first to the top and left edge, the second to the bottom and right one."""
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(boxes[:, 2:], (width - 1, height - 1))
    return np.hstack([low, high])


def plausible(boxes: Boxes, height: int, width: int) -> Mask:
    """Which boxes are larger than 3 pixels and touch the inside of the picture."""
    x1, y1, x2, y2 = boxes.T
    inside = (x2 >= 1) & (x1 <= width - 2) & (y2 >= 1) & (y1 <= height - 2)
    kept: Mask = (x2 - x1 > 3) & (y2 - y1 > 3) & inside
    return kept
