"""What the readers of data sets and the measures have in common: labelled pictures, and what was found in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def no_boxes() -> Floats:
    """None, (0, 4)."""
    return np.zeros((0, 4))


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A picture file and its labels. Only those arrays are there that its data set has.

    Attributes:
        path: The file.
        name: As the annotations call it.
        boxes: (N, 4), x1, y1, x2, y2 in pixels, of every labelled face.
        ignored: (M, 4), where a detection counts as neither right nor wrong.
        kept: Setting -> which of the N faces count, (N,).
        points: (N, K, 2) in pixels, NaN where not visible.
        scale: (N,), pixels that an error of the points is divided by.
        angles: (N, 3), yaw, pitch and roll in degrees.
        size: (width, height) that the annotations state.
    """

    path: Path
    name: str
    boxes: Floats
    ignored: Floats = field(default_factory=no_boxes)
    kept: Mapping[str, Bools] = field(default_factory=dict)
    points: Floats | None = None
    scale: Floats | None = None
    angles: Floats | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """The faces that a pipeline finds in a picture, best score first.

    Attributes:
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        scores: (N,).
        points: (N, L, 2) in pixels; None where the pipeline gives none, or nobody asked.
        angles: (N, 3), yaw, pitch and roll in degrees; None where the pipeline gives none, or nobody asked.
    """

    width: int
    height: int
    boxes: Floats
    scores: Floats
    points: Floats | None = None
    angles: Floats | None = None

    def where(self, rows: Bools | NDArray[np.intp]) -> Detections:
        """Some of the faces, in the order of `rows`."""
        points, angles = (None if v is None else v[rows] for v in (self.points, self.angles))
        return replace(self, boxes=self.boxes[rows], scores=self.scores[rows], points=points, angles=angles)


def find_picture(folder: Path, name: str, source: Path) -> Path:
    """Where a picture is that annotations in `source` name, inside `folder`; it need not exist.

    Raises:
        InputError: the name leaves the folder.
    """
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\0" in name:
        msg = f"{source} names the picture {name[:80]!r}, which is not a path inside {folder}: correct the name"
        raise InputError(msg)
    return folder / pure


def check_pictures(pictures: list[LabelledImage], source: Path, advice: str) -> tuple[LabelledImage, ...]:
    """Check that a data set has pictures, and that they exist.

    Raises:
        InputError: there is none, or one is missing; `advice` says what to do.
    """
    if not pictures:
        msg = f"{source} has no picture to measure on: {advice}"
        raise InputError(msg)
    missing = [p for p in pictures if not p.path.is_file()]
    if missing:
        count = f"{len(missing)} of {len(pictures)} pictures that {source} names are missing, such as"
        msg = (
            f"{count if len(missing) > 1 else f'a picture that {source} names is missing:'} {missing[0].path}: {advice}"
        )
        raise InputError(msg)
    return tuple(pictures)


def check_boxes(name: str, boxes: Floats, size: tuple[int, int] | None, source: Path) -> None:
    """Check the labelled boxes (N, 4) of a picture.

    One that hangs over the edge is kept as it is: labels do that by a pixel, and cutting them would give other numbers
    than other tools get from the same file.

    Raises:
        InputError: a box without area, or one that lies wholly outside of its picture of `size` (width, height).
    """
    width, height = size or (np.inf, np.inf)
    wrong = {
        "is not made of numbers": ~np.isfinite(boxes).all(axis=1),
        "has no area": ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1),
        f"lies outside of the picture of {width}x{height}" if size else "lies outside of the picture": (
            (boxes[:, 2:] <= 0).any(axis=1) | (boxes[:, 0] >= width) | (boxes[:, 1] >= height)
        ),
    }
    for problem, rows in wrong.items():
        if rows.any():
            first = int(rows.argmax())
            shown = ", ".join(f"{v:g}" for v in boxes[first].tolist())
            msg = f"{source}: box {first + 1} of {name}, ({shown}) as x1, y1, x2, y2, {problem}: correct or remove it"
            raise InputError(msg)


def check_size(picture: LabelledImage, found: Detections, source: Path) -> None:
    """Check labels against the picture as it was decoded.

    Raises:
        InputError: the annotations are for another size, or a box lies outside.
    """
    size = found.width, found.height
    if picture.size is not None and picture.size != size:
        stated = f"{picture.size[0]}x{picture.size[1]}"
        msg = (
            f"{source} says that {picture.name} has {stated} pixels, and it has {size[0]}x{size[1]}: "
            "these are not the pictures that were labelled, or they were resized or turned since"
        )
        raise InputError(msg)
    check_boxes(picture.name, np.concatenate([picture.boxes, picture.ignored]), size, source)
