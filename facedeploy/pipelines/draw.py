"""Draw faces on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.drawn import Drawn
from facedeploy.core.face import Face
from facedeploy.core.picture_check import check_picture
from facedeploy.core.preprocess import Image
from facedeploy.pipelines.draw_labels import FONT, picture_scale, place_labels

_BOX = (80, 220, 60)
_POINT = (60, 80, 255)
_AXES = ((60, 60, 230), (80, 200, 60), (230, 120, 50))  # x, y, z as red, green, blue
_INK = (20, 20, 20)
_FEW = 10  # More landmarks than these are drawn as fine dots.
_FINEST = 12.0  # A line is at most this part of its face, or a small face would be all line.
_SHIFT = 4  # OpenCV draws with sub-pixel corners given in 1/16 pixel.


def draw(image: NDArray[Any], faces: Sequence[Face]) -> Image:
    """Draw faces on a copy of a picture: boxes, landmarks, the axes of the head's pose, scores and likeliest classes.

    Lines, points and text follow the sizes of the face and of the picture, so that they are seen in a picture of any
    size. A label that would cover another face or label, or be too small to read, is left out. The red axis points to
    the face's right in the picture, the green one down, and the blue one out of the picture.

    Args:
        image: The picture, (H, W, 3) uint8, BGR. It stays as it is.
        faces: What to draw, in pixels of the picture.

    Returns:
        The drawn copy, (H, W, 3) uint8, BGR. A notebook shows it as a picture.

    Raises:
        InputError: `image` is no picture; the message says how to make one of it.
    """
    canvas = check_picture(image, empty=True).copy()
    height, width = canvas.shape[:2]
    unit = picture_scale(width, height)
    for face in faces:
        _draw_face(canvas, face, unit)
    for label in place_labels(faces, width, height):  # Last, so that no box crosses them.
        x1, y1, x2, y2 = label.plate
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _BOX, -1)
        cv2.putText(canvas, label.text, label.origin, FONT, label.scale, _INK, label.weight, cv2.LINE_AA)
    return canvas.view(Drawn)


def _draw_face(canvas: Image, face: Face, unit: float) -> None:
    side = max(face.box[2] - face.box[0], face.box[3] - face.box[1])
    line = max(1, int(min(np.clip(side / 60, unit, 6 * unit), side / _FINEST)))
    x1, y1, x2, y2 = (_fixed(v) for v in face.box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), _BOX, line, cv2.LINE_AA, _SHIFT)
    points = face.landmarks or ()
    dense = len(points) > _FEW
    least, part = (0.3, 160) if dense else (1.0, 40)
    radius = max(least, float(min(np.clip(side / part, least * unit, 8 * unit), side / _FINEST)))
    for x, y in points:
        cv2.circle(canvas, (_fixed(x), _fixed(y)), _fixed(radius), _POINT, -1, cv2.LINE_AA, _SHIFT)
    if face.yaw is not None and face.pitch is not None and face.roll is not None:
        centre = np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2
        for end, colour in zip(_axes(face.yaw, face.pitch, face.roll), _AXES, strict=True):
            tip = centre + end * side / 2
            start, stop = (tuple(_fixed(float(v)) for v in point) for point in (centre, tip))
            cv2.line(canvas, start, stop, colour, line, cv2.LINE_AA, _SHIFT)


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


def _fixed(value: float) -> int:
    return round(float(np.clip(value, -1e5, 1e5)) * (1 << _SHIFT))
