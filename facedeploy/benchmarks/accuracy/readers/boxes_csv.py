"""Boxes in a table: a line per face."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from facedeploy.benchmarks.accuracy.tasks import BoxTask, Task
from facedeploy.core.errors import InputError
from facedeploy.metrics.labelled_images import LabelledImage, check_boxes, check_pictures, find_picture

_PICTURE = ("image", "name", "file", "filename", "path", "picture")
_CORNERS, _SIZED = ("xmin", "ymin", "xmax", "ymax"), ("x", "y", "w", "h")
_CORNERS_SHORT = ("x1", "y1", "x2", "y2")
_IGNORE, _SIZE = "ignore", ("width", "height")
_NEEDED = "a column image and the columns xmin, ymin, xmax, ymax (or x1, y1, x2, y2; or x, y, w, h)"


def read_csv(path: Path, options: Mapping[str, str]) -> tuple[tuple[LabelledImage, ...], Task]:
    """Read a .csv file with a header: the picture, relative to the file or to the folder `images`, and a box in pixels.

    A line without a box stands for a picture without a face. Pictures that are not named are not measured on. ignore: 1
    where a detection shall count as neither right nor wrong. width, height: of the picture.

    Raises:
        InputError: something is missing or not what it must be.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = {(name or "").strip().lower(): name for name in table.fieldnames or ()}
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read the table {path}: {error}"
        raise InputError(msg) from error
    named = next((columns[n] for n in _PICTURE if n in columns), None)
    box = next((k for k in (_CORNERS, _CORNERS_SHORT, _SIZED) if all(n in columns for n in k)), None)
    if named is None or box is None:
        msg = f"{path} needs {_NEEDED}; it has {', '.join(columns) or 'no header'}"
        raise InputError(msg)
    groups: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, row in enumerate(rows, 2):
        short = {key: (row[name] or "").strip() for key, name in columns.items()}
        groups.setdefault((row[named] or "").strip(), []).append((line, short))
    folder = Path(options.get("images", path.parent))
    pictures = [_picture(path, folder, name, box, lines) for name, lines in groups.items()]
    if not any(len(p.boxes) for p in pictures):
        msg = f"{path} labels no face, so there is nothing to find"
        raise InputError(msg)
    return check_pictures(pictures, path, "give their folder with images="), BoxTask()


def _picture(
    path: Path, folder: Path, name: str, columns: Sequence[str], lines: Sequence[tuple[int, Mapping[str, str]]]
) -> LabelledImage:
    boxes: list[list[float]] = []
    ignored: list[list[float]] = []
    for line, row in lines:
        if not any(row[c] for c in columns):
            continue
        values = [_number(path, line, c, row[c]) for c in columns]
        if columns is _SIZED:
            values = [*values[:2], values[0] + values[2], values[1] + values[3]]
        (ignored if row.get(_IGNORE, "").lower() in ("1", "true", "yes") else boxes).append(values)
    line, first = lines[0]
    size = None
    if columns is not _SIZED and all(first.get(c) for c in _SIZE):
        width, height = (_number(path, line, c, first[c]) for c in _SIZE)
        size = int(width), int(height)
    kept, skipped = (np.array(v, np.float64).reshape(-1, 4) for v in (boxes, ignored))
    check_boxes(name, np.concatenate([kept, skipped]), size, path)
    return LabelledImage(find_picture(folder, name, path), name, kept, skipped, size=size)


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        msg = f"{path}, line {line}: {column} must be a number, not {text[:40]!r}"
        raise InputError(msg) from error
