"""Write MATLAB files with SciPy, and the pieces of one by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat


def write_mat(path: Path, variables: Mapping[str, Any], *, compressed: bool = True) -> Path:
    """Variables are arrays, texts, or lists, which become cells of one column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: _cells(value) for name, value in variables.items()}, do_compression=compressed)
    return path


def _cells(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    column = np.empty((len(value), 1), object)
    for row, entry in enumerate(value):
        column[row, 0] = _cells(entry)
    return column


def header(body: bytes, version: int = 0x0100) -> bytes:
    """A file of version 5, or that says that it is of another."""
    return b"MATLAB 5.0".ljust(124) + struct.pack("<H", version) + b"IM" + body


def element(kind: int, data: bytes) -> bytes:
    """A tagged piece of a file, such as 14, a matrix, or 15, something compressed."""
    return struct.pack("<II", kind, len(data)) + data + (b"" if kind == 15 else b"\0" * (-len(data) % 8))


def matrix(number: int, shape: tuple[int, ...], data: bytes, name: str = "") -> bytes:
    """A matrix of a class, such as 1, cells, or 6, doubles; `data` are elements."""
    flags = element(6, struct.pack("<II", number, 0))
    dims = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + dims + element(1, name.encode()) + data)
