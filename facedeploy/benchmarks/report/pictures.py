"""Pictures with the faces that one artifact found and another lost."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facedeploy.benchmarks.report.differences import Box, Compared, Difference
from facedeploy.benchmarks.report.numbers import listed
from facedeploy.core.errors import InputError
from facedeploy.core.images import read_picture
from facedeploy.core.preprocess import Image

VIEW = 480  # Units of width that a picture is drawn in, and pixels that it has at most.
_MARKS = 8
_LEAST, _PART = 200.0, 0.45  # Pixels, and part of the picture, that a crop shows at least, each way.
_QUALITY = 80
_FACE, _AROUND = 96, 2.0  # Pixels of a face's own picture, and how many times the box it shows.
_LEAST_FACE = 16  # Pixels of the picture that it shows at least.


@dataclass(frozen=True)
class Mark:
    """A face that was lost or gained.

    Attributes:
        number: What it is called in the picture.
        box: x, y, width, height, in the units of the view.
        lost: Whether it was lost and not gained.
        text: Who lost or gained it.
        crop: The face and what is around it, a JPEG as a URI.
    """

    number: int
    box: Box
    lost: bool
    text: str
    crop: str


@dataclass(frozen=True)
class Panel:
    """A picture to show.

    Attributes:
        name: Of the picture.
        height: Of the view, whose width is `VIEW`.
        data: A JPEG as a URI.
        kept: Boxes of faces that nobody lost.
        marks: Faces that were lost or gained.
        more: How many of those are not marked.
    """

    name: str
    height: float
    data: str
    kept: tuple[Box, ...]
    marks: tuple[Mark, ...]
    more: int


def panels(
    compared: Sequence[Compared], images: Mapping[str, Path], called: Mapping[str, str], most: int
) -> tuple[Panel, ...]:
    """The first `most` of some pictures, without those that are not there or cannot be read any more."""
    made: list[Panel] = []
    for c in compared:
        if len(made) == most:
            break
        if c.picture in images:
            try:
                image = read_picture(images[c.picture])
            except InputError:
                continue
            made.append(_panel(c, image, called))
    return tuple(made)


def _panel(c: Compared, image: Image, called: Mapping[str, str]) -> Panel:
    shown = c.differences[:_MARKS]
    x1, y1, x2, y2 = _crop([d.box for d in shown], image.shape[1], image.shape[0])
    part = image[y1:y2, x1:x2]
    scale = VIEW / (x2 - x1)
    height = scale * (y2 - y1)
    if scale < 1:
        # OpenCV types a result as any numbers; that of uint8 is uint8.
        part = cv2.resize(part, (VIEW, max(round(height), 1)), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]

    def view(box: Box) -> Box:
        low = np.clip((np.array(box[:2]) - (x1, y1)) * scale, 0, (VIEW, height))
        high = np.clip((np.array(box[2:]) - (x1, y1)) * scale, 0, (VIEW, height))
        left, top, wide, tall = np.round([*low, *(high - low)], 1).tolist()
        return left, top, wide, tall

    kept = (view(box) for box in c.kept)
    return Panel(
        c.picture,
        round(height, 1),
        _jpeg(part),
        tuple(box for box in kept if box[2] > 0 and box[3] > 0),
        tuple(
            Mark(i + 1, view(d.box), d.lost, _text(d, called), _jpeg(_face(image, d.box))) for i, d in enumerate(shown)
        ),
        len(c.differences) - len(shown),
    )


def _face(image: Image, box: Box) -> Image:
    """A square of the picture, with a face as far in its middle as the picture's edges allow, `_FACE` pixels wide."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.clip(np.array(box), 0, (width, height, width, height)).tolist()
    side = min(max(round(_AROUND * max(x2 - x1, y2 - y1)), _LEAST_FACE), width, height)
    left = min(max(round((x1 + x2 - side) / 2), 0), width - side)
    top = min(max(round((y1 + y2 - side) / 2), 0), height - side)
    method = cv2.INTER_AREA if side > _FACE else cv2.INTER_CUBIC
    # OpenCV types a result as any numbers; that of uint8 is uint8.
    return cv2.resize(image[top : top + side, left : left + side], (_FACE, _FACE), interpolation=method)  # type: ignore[return-value]


def _jpeg(image: Image) -> str:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _text(d: Difference, called: Mapping[str, str]) -> str:
    who = listed(called[name] for name in d.names)
    if d.lost:
        return f"lost by {who}; score {d.score:.2f}"
    return f"gained by {who}; score {d.score:.2f}" + (" at most" if len(d.names) > 1 else "")


def _crop(boxes: Sequence[Box], width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a picture around some boxes, neither a sliver nor without what is around the faces."""
    corners = np.clip(np.array(boxes), 0, (width, height, width, height))
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    side = np.maximum((high - low) * 1.6, np.maximum(_PART * np.array((width, height)), _LEAST))
    side = np.minimum(np.maximum(side, side[::-1] * (1.2, 0.6)), (width, height))
    start = np.clip((low + high - side) / 2, 0, (width, height) - side)
    x1, y1 = np.floor(start).astype(int).tolist()
    x2, y2 = np.ceil(start + side).astype(int).tolist()
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)
