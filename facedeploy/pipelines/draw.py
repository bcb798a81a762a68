"""Draw faces on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.face import Face
from facedeploy.core.images import check_picture
from facedeploy.core.preprocess import Image

_BOX = (80, 220, 60)
_POINT = (60, 80, 255)
_AXES = ((60, 60, 230), (80, 200, 60), (230, 120, 50))  # x, y, z as red, green, blue
_INK = (20, 20, 20)
_PLATE = 40  # Pixels: narrower faces get their score without a plate behind it.
_FEW = 10  # More landmarks than these are drawn as fine dots.
_SHIFT = 4  # OpenCV draws with sub-pixel corners given in 1/16 pixel.


def draw(image: NDArray[Any], faces: Sequence[Face]) -> Image:
    """Draw faces on a copy of a picture: boxes, landmarks, the axes of the head's pose, scores and likeliest classes.

    Line width and text follow the face's size. The red axis points to the face's right in the picture, the green one
    down, and the blue one out of the picture.

    Args:
        image: The picture, (H, W, 3) uint8, BGR. It stays as it is.
        faces: What to draw, in pixels of the picture.

    Returns:
        The drawn copy, (H, W, 3) uint8, BGR.

    Raises:
        InputError: `image` has another shape or dtype.
    """
    canvas = check_picture(image).copy()
    for face in faces:
        side = max(face.box[2] - face.box[0], face.box[3] - face.box[1])
        width = int(np.clip(side / 60, 1, 6))
        x1, y1, x2, y2 = (_fixed(v) for v in face.box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _BOX, width, cv2.LINE_AA, _SHIFT)
        points = face.landmarks or ()
        dense = len(points) > _FEW
        radius = _fixed(float(np.clip(side / (160 if dense else 40), 0.3 if dense else 1, 8)))
        for x, y in points:
            cv2.circle(canvas, (_fixed(x), _fixed(y)), radius, _POINT, -1, cv2.LINE_AA, _SHIFT)
        if face.yaw is not None and face.pitch is not None and face.roll is not None:
            centre = np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2
            for end, colour in zip(_axes(face.yaw, face.pitch, face.roll), _AXES, strict=True):
                tip = centre + end * side / 2
                start, stop = (tuple(_fixed(float(v)) for v in point) for point in (centre, tip))
                cv2.line(canvas, start, stop, colour, width, cv2.LINE_AA, _SHIFT)
    for face in faces:  # Labels last, so that no box crosses them.
        _label(canvas, face)
    return canvas


def _axes(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Where the head's x, y and z axes point in the picture, (3, 2), for angles in degrees as of 300W-LP.

    Positive yaw turns the face to the left of the picture, positive pitch up, positive roll clockwise.
    """
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians((-yaw, pitch, roll))) for f in (np.cos, np.sin))
    around_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    around_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    around_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    axes: NDArray[np.float64] = (around_x @ around_y @ around_z)[:2].T
    return axes


def _label(canvas: Image, face: Face) -> None:
    best = max(face.classes or {}, key=lambda name: (face.classes or {})[name], default="")
    text = f"{face.score:.2f} {best}".rstrip()
    side = face.box[2] - face.box[0]
    scale = float(np.clip(side / 180, 0.25, 1.0))
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
