"""Answers on disk, a line per picture, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from facedeploy.core.errors import InputError
from facedeploy.core.system import lock
from facedeploy.metrics.labelled_images import Detections, Floats

_VERSION = 1


class Store:
    """Answers of one detector by the SHA-256 of the picture file. One process writes at a time.

    A file is named by what its answers depend on, so nothing in it can be out of date. A line that a kill tore is cut
    off when the file is opened again; any other line that cannot be read is left alone, and its picture computed anew.

    Raises:
        InputError: the folder cannot be written, or another run is at work on the same file.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60]
        self.path = folder / f"{safe}-{key[:24]}.jsonl"
        self.found: dict[str, Detections] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("ab+")
        except OSError as error:
            msg = f"cannot write answers to {folder}: {error.strerror}"
            raise InputError(msg) from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def add(self, digest: str, answer: Detections) -> None:
        """Keep an answer; it is on its way to the disk when this returns."""
        line = json.dumps({"version": _VERSION, "picture": digest, **_to_plain(answer)}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self.found[digest] = answer

    def _lock(self) -> None:
        if not lock(self._file):
            msg = f"another run is writing {self.path}: wait for it, or give another folder for the answers"
            raise InputError(msg)

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if line.endswith(b"\n"):
                whole += len(line)
                self._take(line)
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def _take(self, line: bytes) -> None:
        try:
            data = json.loads(line)
            if data["version"] == _VERSION:
                self.found[str(data["picture"])] = _from_plain(data)
        except (ValueError, KeyError, TypeError, RecursionError):
            return

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _to_plain(answer: Detections) -> dict[str, Any]:
    """JSON writes the shortest decimal that is read as the same double, so nothing is lost."""
    arrays = {name: getattr(answer, name) for name in ("boxes", "scores", "points", "angles")}
    plain = {name: None if v is None else v.tolist() for name, v in arrays.items()}
    return {"width": answer.width, "height": answer.height, **plain}


def _from_plain(data: dict[str, Any]) -> Detections:
    """Raises: ValueError, KeyError, TypeError: this is no answer."""
    scores = np.array(data["scores"], np.float64).reshape(-1)
    count = len(scores)

    def shaped(name: str, *shape: int) -> Floats | None:
        return None if data[name] is None else np.array(data[name], np.float64).reshape(count, *shape)

    points = data["points"]
    boxes = shaped("boxes", 4)
    if boxes is None:
        msg = "an answer without boxes"
        raise ValueError(msg)
    return Detections(
        int(data["width"]),
        int(data["height"]),
        boxes,
        scores,
        shaped("points", len(points[0]) if points else 0, 2),
        shaped("angles", 3),
    )
