"""One cell: an artifact that is exported once for what goes into it, and verified."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.matrix.plan import Cell
from facedeploy.core.errors import ArtifactError, ConversionError, InputError, ParityError, SlowerError
from facedeploy.core.hashing import code_digest, sha256, sha256_of_folder
from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.progress import Progress
from facedeploy.core.serialization import from_plain, to_plain, write_json
from facedeploy.machine.linux import PACKAGES
from facedeploy.runtimes import Substitute
from facedeploy.verification.verify import verify

# What may change the bytes of an artifact, or what is thought of it.
_PACKAGES = ("onnx", "onnxsim", "pnnx", *PACKAGES)
_KEY_DIGITS = 12


@dataclass(frozen=True)
class Made:
    """What became of a cell.

    Attributes:
        name: Of the cell.
        path: Of its artifact; None where there is none.
        refused: Why there is no artifact; None where there is one.
        problems: What `verify` objects to.
    """

    name: str
    path: Path | None
    refused: str | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Kept:
    """What is kept of a cell between runs."""

    refused: str | None
    problems: tuple[str, ...]


def make(
    cell: Cell, images: Sequence[Path], folder: Path, *, runtime: Substitute | None = None, progress: Progress
) -> Made:
    """Export a cell and verify it, or take what an earlier run left under the same key.

    Args:
        cell: What to make.
        images: Pictures to compare the faces on.
        folder: Of all cells.
        runtime: "onnxruntime" runs the ONNX file of a `trt` artifact where there is no GPU.
        progress: Called with the name of each step.

    Returns:
        What became of the cell.

    Raises:
        InputError, CheckpointError, BackendUnavailableError: the matrix asks for what cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, kept = _place(cell, folder)
    found = _read(kept, path)
    if found is None:
        refused = None
        if not _whole(path):
            shutil.rmtree(path, ignore_errors=True)
            progress(f"export {cell.name}")
            refused = _export(cell, path)
        problems: tuple[str, ...] = ()
        if refused is None:
            progress(f"verify {cell.name}")
            problems = verify(path, _weights(cell), images, runtime=runtime, options=cell.options).problems
        found = _Kept(refused, problems)
        write_json(found, kept)
    return Made(cell.name, None if found.refused else path, found.refused, found.problems)


def is_exported(cell: Cell, folder: Path) -> bool:
    """Whether an earlier run exported the cell, or was refused it."""
    path, kept = _place(cell, folder)
    return _read(kept, path) is not None or _whole(path)


def _place(cell: Cell, folder: Path) -> tuple[Path, Path]:
    """The artifact of a cell, and what is kept beside it."""
    stem = f"{cell.name.replace(os.sep, '_').replace(':', '_')}-{key(cell)}"
    return folder / stem, folder / f"{stem}.json"


def key(cell: Cell) -> str:
    """Of the contents of all that goes into a cell: its checkpoint, its pictures, the code, the backends."""
    contents: dict[str, Any] = {
        "model": cell.model if not cell.model.endswith(".onnx") else _content(Path(cell.model)),
        "target": str(cell.target),
        "input_size": cell.input_size,
        "weights": _content(cell.weights),
        "config": _content(cell.config),
        "calibration": None if cell.int8 is None else _content(cell.int8.calibration),
        "int8": None if cell.int8 is None else to_plain(replace(cell.int8, calibration=None)),
        "options": cell.options,
        "code": code_digest(without=("benchmarks", "cli")),
        "packages": installed_versions(*_PACKAGES),
    }
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]


def _content(path: Path | None) -> str | None:
    """SHA-256 of a file, or of all files of a folder with their names."""
    if path is None:
        return None
    return sha256(path) if path.is_file() else sha256_of_folder(path)


def _export(cell: Cell, path: Path) -> str | None:
    """Export; the reason where a backend, parity or speed says no."""
    try:
        facedeploy.export(
            cell.model,
            cell.target,
            _weights(cell) if not cell.model.endswith(".onnx") else None,
            path,
            input_size=cell.input_size,
            config=cell.config,
            options=cell.options,
            int8=cell.int8,
        )
    except (ConversionError, ParityError, SlowerError) as error:
        return str(error)
    return None


def _weights(cell: Cell) -> Path | None:
    return Path(cell.model) if cell.model.endswith(".onnx") else cell.weights


def _read(kept: Path, path: Path) -> _Kept | None:
    """What an earlier run left, if it is whole."""
    try:
        found = from_plain(_Kept, json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, InputError):
        return None
    return found if found.refused is not None or _whole(path) else None


def _whole(path: Path) -> bool:
    try:
        Artifact.open(path)
    except (InputError, ArtifactError):
        return False
    return True
