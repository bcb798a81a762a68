"""Where the scores of drawn faces can stand, so that they can be read and hide nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.face import Face

FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEGIBLE, _LARGEST = 0.35, 1.0  # Scales of OpenCV's font, in a picture that a screen shows pixel by pixel.
_WIDER = 2.0  # A label is at most so many times as wide as its face: it must be clear whose it is.
_FULL_SIZE = 1280  # Pixels: of a longer picture a screen shows less than every pixel.
_PAD = 2

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Label:
    """A face's score and likeliest class, as they are drawn.

    Attributes:
        text: What is written.
        plate: (x1, y1, x2, y2) of what is behind it, in pixels, the corners included.
        origin: (x, y) of the left end of the text's base line, pixels.
        scale: Of the font.
        weight: Width of the letters' strokes, pixels.
    """

    text: str
    plate: tuple[int, int, int, int]
    origin: tuple[int, int]
    scale: float
    weight: int


def picture_scale(width: int, height: int) -> float:
    """How many pixels of a picture make one of a screen that shows all of it; at least 1."""
    return max(1.0, max(width, height) / _FULL_SIZE)


def place_labels(faces: Sequence[Face], width: int, height: int) -> tuple[Label, ...]:
    """Labels for the faces of a picture, those of the largest faces first.

    No label meets another one or another face, none leaves the picture, and none is too small to be read. A label that
    fits with its score alone has no class, and a face whose label fits nowhere has none.

    Args:
        faces: In pixels of the picture.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
    """
    unit = picture_scale(width, height)
    boxes = np.array([face.box for face in faces], np.float64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    taken, placed = np.empty((0, 4)), []
    for i in np.argsort(-areas, kind="stable"):
        hidden = np.concatenate([np.delete(boxes, i, axis=0), taken])
        label = next((c for c in _candidates(faces[i], unit, width, height) if not _meets(c.plate, hidden)), None)
        if label is not None:
            placed.append(label)
            taken = np.concatenate([taken, [label.plate]])
    return tuple(placed)


def _candidates(face: Face, unit: float, width: int, height: int) -> Iterator[Label]:
    """Above the box, below it, and inside it, at its top; the fullest text first."""
    left, top, right, bottom = face.box
    side = right - left
    scale = float(np.clip(side / 180, _LEGIBLE * unit, _LARGEST * unit))
    weight, pad = max(1, round(scale)), round(_PAD * unit)
    for text in _texts(face):
        (long, tall), below = cv2.getTextSize(text, FONT, scale, weight)
        if long + 2 * pad > min(_WIDER * side, width - 1):
            continue
        x = int(np.clip(left, 0, width - 1 - long - 2 * pad))
        for y in (int(top) - below - pad, int(bottom) + tall + 2 * pad, int(top) + tall + 2 * pad):
            plate = (x, y - tall - pad, x + long + 2 * pad, y + below)
            if plate[1] >= 0 and plate[3] < height:
                yield Label(text, plate, (x + pad, y), scale, weight)


def _texts(face: Face) -> Iterator[str]:
    classes = face.classes or {}
    if classes:
        yield f"{face.score:.2f} {max(classes, key=lambda name: classes[name])}"
    yield f"{face.score:.2f}"


def _meets(plate: tuple[int, int, int, int], boxes: Boxes) -> bool:
    x1, y1, x2, y2 = plate
    return bool(((boxes[:, 0] <= x2) & (x1 <= boxes[:, 2]) & (boxes[:, 1] <= y2) & (y1 <= boxes[:, 3])).any())
