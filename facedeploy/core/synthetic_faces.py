"""Drawn faces: pictures that a face network really answers to, with no photograph of anybody.

They feed the parity checks (a score head that only ever sees noise says 0 whether it is right or wrong), the tests
and the README's picture. They are no measure of accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image

Canvas = NDArray[Any]


def portrait(rng: np.random.Generator, side: int) -> Image:
    """Draw one face that fills a square picture.

    Args:
        rng: What the face is drawn from.
        side: Pixels.

    Returns:
        (side, side, 3) uint8, BGR.
    """
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = rng.uniform(40, 200, 3) + np.linspace(0, 1, side)[:, None, None] * rng.uniform(-60, 60, 3)
    centre = side / 2 + rng.uniform(-0.03, 0.03, 2) * side
    return _finish(rng, _face(rng, canvas, centre, side * rng.uniform(0.36, 0.46)), side * 0.014)


def group_photo(rng: np.random.Generator, height: int, width: int, faces: int) -> Image:
    """Draw several faces of different sizes, in a row of cells.

    Args:
        rng: What the faces are drawn from.
        height: Pixels.
        width: Pixels.
        faces: How many.

    Returns:
        (height, width, 3) uint8, BGR.
    """
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = rng.uniform(60, 190, 3) + np.linspace(-40, 40, width)[None, :, None]
    cell = width / faces
    for i in range(faces):
        half = min(cell, height) * rng.uniform(0.2, 0.36)
        centre = np.array([(i + 0.5) * cell, rng.uniform(1.25 * half, max(1.25 * half, height - 1.1 * half))])
        canvas = _face(rng, canvas, centre, half)
    return _finish(rng, canvas, min(cell, height) * 0.008)


# Half heights of the heads of a scene, as shares of its shorter side.
CROWD = (0.3, 0.2, 0.14, 0.1, 0.1, 0.07, 0.07, 0.05, 0.05, 0.035, 0.035, 0.025)
CLOSE_UP = (0.44,)
_SMALLEST = 4.0
_TRIES = 60


def scene(
    rng: np.random.Generator, height: int, width: int, light: float = 1.0, heads: Sequence[float] = CROWD
) -> tuple[Image, list[Face]]:
    """Draw faces, some cut by the edge. A crowd has all sizes, the smallest 8 pixels high.

    Args:
        rng: What it is drawn from.
        height: Pixels.
        width: Pixels.
        light: What all brightness is multiplied by.
        heads: Half heights of the heads, as shares of the shorter side.

    Returns:
        (height, width, 3) uint8, BGR, and the faces that were drawn, with five points each.
    """
    side = min(height, width)
    slope = rng.uniform(-1, 1, 2)
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = rng.uniform(60, 190, 3) + 40 * slope[0] * np.linspace(-1, 1, width)[None, :, None]
    canvas += 40 * slope[1] * np.linspace(-1, 1, height)[:, None, None]
    coarse = rng.normal(0, 12, (max(2, height // 16), max(2, width // 16), 3)).astype(np.float32)
    canvas += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    taken: list[tuple[float, float, float]] = []
    turns: list[_Turn] = []
    for share in heads:
        half = share * side * rng.uniform(0.85, 1.15)
        place = _place(rng, taken, half, height, width) if half >= _SMALLEST else None
        if place is not None:
            taken.append((*place, half))
            turns.append(_Turn(*rng.uniform(-1, 1, 3) * _TURNED))
            canvas = _face(rng, canvas, np.array(place), half, turns[-1])
    lit = cv2.GaussianBlur(canvas, (0, 0), 0.6) * light + rng.normal(0, 2, canvas.shape)
    return np.clip(lit, 0, 255).astype(np.uint8), [_drawn(*each, turn) for each, turn in zip(taken, turns, strict=True)]


# Of a head of half height 1 around (0, 0): the face, and its eyes, nose and corners of the mouth.
_BOX = (-0.78, -0.75, 0.78, 1.05)
_POINTS = ((-0.33, -0.15), (0.33, -0.15), (0.0, 0.37), (-0.27, 0.62), (0.27, 0.62))


@dataclass(frozen=True)
class _Turn:
    """How a head is turned. side, up: how far its features are moved, of its half height. roll: degrees, clockwise."""

    side: float = 0.0
    up: float = 0.0
    roll: float = 0.0

    def rolled(self, x: float, y: float) -> tuple[float, float]:
        c, s = math.cos(math.radians(self.roll)), math.sin(math.radians(self.roll))
        return c * x - s * y, s * x + c * y


_TURNED = np.array([0.35, 0.15, 30.0])


def _place(
    rng: np.random.Generator, taken: list[tuple[float, float, float]], half: float, height: int, width: int
) -> tuple[float, float] | None:
    """Where a head fits between the others; a quarter of them may be cut by the left or right edge."""
    for _ in range(_TRIES):
        inset = 0.3 * half if rng.random() < 0.25 else half
        x = rng.uniform(inset, max(inset + 1, width - inset))
        y = rng.uniform(1.25 * half, max(1.25 * half + 1, height - 1.1 * half))
        if all(abs(x - a) > 1.15 * (half + h) or abs(y - b) > 1.3 * (half + h) for a, b, h in taken):
            return x, y
    return None


def _drawn(x: float, y: float, half: float, turn: _Turn) -> Face:
    box = (x + _BOX[0] * half, y + _BOX[1] * half, x + _BOX[2] * half, y + _BOX[3] * half)
    points = [turn.rolled(a + turn.side, b + turn.up) for a, b in _POINTS]
    return Face(box, 1.0, tuple((x + a * half, y + b * half) for a, b in points))


def _finish(rng: np.random.Generator, canvas: Canvas, blur: float) -> Image:
    canvas = cv2.GaussianBlur(canvas, (0, 0), max(0.5, blur))
    return np.clip(canvas + rng.normal(0, 3, canvas.shape), 0, 255).astype(np.uint8)


def _face(rng: np.random.Generator, canvas: Canvas, centre: NDArray[Any], half: float, turn: _Turn = _Turn()) -> Canvas:
    """Draw a head of half-height `half`, in pixels, around `centre` (x, y)."""
    skin = np.array([110, 150, 205]) * rng.uniform(0.6, 1.15)
    hair = np.full(3, rng.uniform(10, 70)) + (0, 10, 20)

    def at(x: float, y: float) -> tuple[int, int]:
        x, y = turn.rolled(x, y)
        return int(centre[0] + x * half), int(centre[1] + y * half)

    def ellipse(x: float, y: float, a: float, b: float, colour: ArrayLike, angle: float = 0.0) -> None:
        axes = max(1, int(a * half)), max(1, int(b * half))
        cv2.ellipse(canvas, at(x, y), axes, angle + turn.roll, 0, 360, tuple(np.ravel(colour).tolist()), -1)

    def feature(x: float, y: float, a: float, b: float, colour: ArrayLike, angle: float = 0.0) -> None:
        ellipse(x + turn.side, y + turn.up, a, b, colour, angle)

    ellipse(0, -0.25, 0.95, 1.0, hair)
    ellipse(0, 0.05, 0.78, 1.0, skin)
    for side in (-1, 1):
        feature(side * 0.33, -0.18, 0.17, 0.09, skin * 0.75)
        feature(side * 0.33, -0.15, 0.13, 0.07, (225, 230, 235))
        feature(side * 0.33, -0.15, 0.065, 0.065, (30, 30, 35))
        feature(side * 0.33, -0.36, 0.2, 0.05, hair, side * 6.0)
    feature(0, 0.2, 0.1, 0.22, skin * 0.9)
    feature(0, 0.37, 0.13, 0.05, skin * 0.7)
    feature(0, 0.62, 0.27, 0.08, (80, 75, 150))
    feature(0, 0.62, 0.24, 0.02, (50, 40, 90))
    return canvas
