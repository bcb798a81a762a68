"""The sensitivity table as a picture: a row a layer, a column of bars for each unit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from facedeploy.artifact.loss import Loss
from facedeploy.calibration.report import CalibrationReport, LayerRow
from facedeploy.core.errors import InputError
from facedeploy.core.paths import StrPath
from facedeploy.core.preprocess import Image

_ROW, _TOP, _GAP, _BARS, _MARGIN = 22, 58, 28, 230, 14
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_INK, _GREY, _BAR, _RULE = (40, 40, 40), (150, 150, 150), (190, 120, 40), (225, 225, 225)

_COLUMNS: tuple[tuple[str, Callable[[Loss], float | None]], ...] = (
    ("AP, points lost", lambda loss: loss.ap),
    ("landmarks, % of the face", lambda loss: loss.landmarks),
    ("pose, degrees", lambda loss: loss.degrees),
    ("embedding, % of 1 - cosine", lambda loss: loss.embedding),
    ("classes, % of probability", lambda loss: loss.classes),
    ("outputs, % relative L2", lambda loss: None if loss.outputs is None else 100 * loss.outputs),
)


def chart(report: CalibrationReport) -> Image:
    """Draw the losses of a report's layers: (H, W, 3) uint8, BGR. Layers that stay in float have no bar."""
    rows = report.rows
    columns = [(title, value) for title, value in _COLUMNS if any(_known(row, value) for row in rows)]
    names = [f"{row.network}  {row.layer}" for row in rows]
    left = max(cv2.getTextSize(name, _FONT, _SIZE, 1)[0][0] for name in names) + 2 * _MARGIN
    canvas = np.full(
        (_TOP + _ROW * len(rows) + _MARGIN, left + (_BARS + _GAP) * len(columns) + _MARGIN, 3), 255, np.uint8
    )
    title = f"{report.table.model}: loss when one layer alone is int8, on {report.held_back} held-back pictures"
    _text(canvas, title, _MARGIN, 20, _INK)
    for i, name in enumerate(names):
        _text(canvas, name, _MARGIN, _middle(i), _GREY if rows[i].loss is None else _INK)
    for k, (heading, value) in enumerate(columns):
        x = left + k * (_BARS + _GAP)
        _text(canvas, heading, x, _TOP - 14, _INK)
        cv2.line(canvas, (x, _TOP - 6), (x, _TOP + _ROW * len(rows)), _RULE, 1)
        _bars(canvas, x, [value(row.loss) if row.loss else None for row in rows])
    return canvas


def write_chart(report: CalibrationReport, path: StrPath) -> None:
    """Draw the losses into a .png file; one that is there is replaced.

    Raises:
        InputError: it cannot be written.
    """
    if not cv2.imwrite(os.fspath(path), chart(report)):
        msg = f"OpenCV cannot write {path}"
        raise InputError(msg)


def _bars(canvas: Image, x: int, values: Sequence[float | None]) -> None:
    peak = max((v for v in values if v is not None), default=0.0)
    for i, value in enumerate(values):
        if value is None:
            _text(canvas, "float", x + 6, _middle(i), _GREY)
            continue
        end = x + round((_BARS - 60) * (value / peak if peak > 0 else 0.0))
        cv2.rectangle(canvas, (x, _TOP + i * _ROW + 4), (end, _TOP + (i + 1) * _ROW - 5), _BAR, cv2.FILLED)
        _text(canvas, f"{value:.2f}", end + 6, _middle(i), _INK)


def _known(row: LayerRow, value: Callable[[Loss], float | None]) -> bool:
    return row.loss is not None and value(row.loss) is not None


def _middle(row: int) -> int:
    return _TOP + row * _ROW + 15


def _text(canvas: Image, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, (x, y), _FONT, _SIZE, colour, 1, cv2.LINE_AA)
