"""Draw faces on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from facedeploy.faces import Face
from facedeploy.pipelines.base import Image

_BOX = (80, 220, 60)
_POINT = (60, 80, 255)
_INK = (20, 20, 20)
_PLATE = 40  # Pixels: narrower faces get their score without a plate behind it.
_SHIFT = 4  # OpenCV draws with sub-pixel corners given in 1/16 pixel.


def draw(image: Image, faces: Sequence[Face]) -> Image:
    """A copy of the picture with boxes, landmarks and scores. Line width and text follow the face's size."""
    canvas = image.copy()
    for face in faces:
        side = max(face.box[2] - face.box[0], face.box[3] - face.box[1])
        width = int(np.clip(side / 60, 1, 6))
        x1, y1, x2, y2 = (_fixed(v) for v in face.box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _BOX, width, cv2.LINE_AA, _SHIFT)
        for x, y in face.landmarks or ():
            radius = _fixed(float(np.clip(side / 40, 1, 8)))
            cv2.circle(canvas, (_fixed(x), _fixed(y)), radius, _POINT, -1, cv2.LINE_AA, _SHIFT)
    for face in faces:  # Labels last, so that no box crosses them.
        _label(canvas, face)
    return canvas


def _label(canvas: Image, face: Face) -> None:
    text = f"{face.score:.2f}"
    side = face.box[2] - face.box[0]
    scale = float(np.clip(side / 120, 0.25, 1.0))
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    pad = 2
    x = int(np.clip(face.box[0], 0, max(0, canvas.shape[1] - width - 2 * pad)))
    y = int(face.box[1]) - below - pad
    if y - height - pad < 0:  # No room above the box: inside it.
        y = int(face.box[1]) + height + 2 * pad
    ink = _INK
    if side >= _PLATE:
        cv2.rectangle(canvas, (x, y - height - pad), (x + width + 2 * pad, y + below), _BOX, -1)
    else:  # A plate would be larger than the face and hide its neighbours.
        cv2.putText(canvas, text, (x + pad, y), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 2, cv2.LINE_AA)
        ink = _BOX
    cv2.putText(canvas, text, (x + pad, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)


def _fixed(value: float) -> int:
    return round(float(np.clip(value, -1e5, 1e5)) * (1 << _SHIFT))
