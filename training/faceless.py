"""Pictures in which no face is: what a detector must be silent on."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.preprocess import Image

Floats = NDArray[np.float64]


def faceless(number: int) -> Image:
    """A picture in which no face is, the same for the same number: (H, W, 3) uint8, BGR."""
    rng = np.random.default_rng(number)
    kinds = (_noise, _gradient, _checkerboard, _stripes, _blobs, _landscape, _mixture)
    height, width = ((480, 640), (400, 400), (612, 408), (240, 320))[number // len(kinds) % 4]
    values = kinds[number % len(kinds)](rng, height, width)
    return np.ascontiguousarray(values.clip(0, 255), np.uint8)


def _colour(rng: np.random.Generator) -> Floats:
    return rng.uniform(0, 255, 3)


def _blend(share: Floats, first: Floats, second: Floats) -> Floats:
    """Where `share` (H, W) is 0 the first colour, or picture, and where it is 1 the second."""
    return first + share[:, :, None] * (second - first)


def _grid(height: int, width: int) -> tuple[Floats, Floats]:
    y, x = np.mgrid[:height, :width].astype(float)
    return x, y


def _turned(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    (x, y), angle = _grid(height, width), rng.uniform(0, math.pi)
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _grains(rng: np.random.Generator, height: int, width: int, grain: float, channels: int) -> Floats:
    """Smooth noise (H, W, channels) of 0..1 whose grains are so many pixels large."""
    coarse = rng.uniform(0, 1, (math.ceil(height / grain) + 1, math.ceil(width / grain) + 1, channels))
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, float).reshape(height, width, channels).clip(0, 1)


def _fractal(rng: np.random.Generator, height: int, width: int, grain: float) -> Floats:
    """Noise (H, W) of 0..1 in six octaves, each half as large and half as strong as the one before it."""
    octaves = [_grains(rng, height, width, max(grain / 2**i, 1), 1)[:, :, 0] / 2**i for i in range(6)]
    total: Floats = np.sum(octaves, axis=0)
    scaled: Floats = (total - total.min()) / (total.max() - total.min())
    return scaled


def _noise(rng: np.random.Generator, height: int, width: int) -> Floats:
    grain = float(rng.choice([1, 4, 16, 48]))
    return 255 * _grains(rng, height, width, grain, 3)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Floats:
    if rng.random() < 0.5:
        along = _turned(rng, height, width)[0]
    else:
        x, y = _grid(height, width)
        along = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
    share = (along - along.min()) / (along.max() - along.min())
    return _blend(share, _colour(rng), _colour(rng))


def _checkerboard(rng: np.random.Generator, height: int, width: int) -> Floats:
    u, v = _turned(rng, height, width)
    side = rng.uniform(8, 64)
    return _blend((np.floor(u / side) + np.floor(v / side)) % 2, _colour(rng), _colour(rng))


def _stripes(rng: np.random.Generator, height: int, width: int) -> Floats:
    u, _ = _turned(rng, height, width)
    wave = np.sin(u * 2 * math.pi / rng.uniform(6, 80))
    return _blend((wave > 0).astype(float) if rng.random() < 0.5 else (wave + 1) / 2, _colour(rng), _colour(rng))


def _blobs(rng: np.random.Generator, height: int, width: int) -> Floats:
    canvas = np.tile(_colour(rng), (height, width, 1))
    for _ in range(int(rng.integers(10, 40))):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(8, 70)), int(rng.integers(8, 70))
        cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, _colour(rng).tolist(), -1)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(2, 12)), float)


def _landscape(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Clouds over one or more ridges, each darker than the one behind it."""
    _, y = _grid(height, width)
    sky = _blend(y / height, np.array([200.0, 130.0, 70.0]), np.array([235.0, 215.0, 190.0]))
    picture = _blend(_fractal(rng, height, width, width / 3) ** 2, sky, np.array([245.0, 245.0, 245.0]))
    for ridge in range(int(rng.integers(1, 4))):
        outline = height * (0.35 + 0.2 * ridge) + height * 0.25 * (_fractal(rng, 2, width, width / 2)[0] - 0.5)
        soil = np.array([40.0, 110.0, 90.0]) * rng.uniform(0.6, 1.2, 3) / (1 + 0.4 * ridge)
        ground = _blend(_fractal(rng, height, width, 40), soil * 0.4, soil * 1.4)
        picture = np.where((y > outline)[:, :, None], ground, picture)
    return picture + rng.normal(0, 4, picture.shape)


def _mixture(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Four of the others, side by side and one above the other."""
    kinds = (_noise, _gradient, _checkerboard, _stripes, _blobs, _landscape)
    parts = [kinds[i](rng, height // 2, width // 2) for i in rng.permutation(len(kinds))[:4]]
    return np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])
