"""Write MATLAB files of version 5, as small as tests need them: matrices, texts and cells."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

Order = Literal["<", ">"]
_TYPES = {"f8": (9, 6), "f4": (7, 7), "i4": (5, 12), "u1": (2, 9), "u2": (4, 11)}  # Element, class.


def write_mat(
    path: Path, variables: Mapping[str, Any], *, compressed: bool = True, order: Order = "<", version: int = 0x0100
) -> Path:
    """Variables are arrays, texts, or lists, which become cells of one column."""
    header = b"MATLAB 5.0 MAT-file, written by a test".ljust(124) + struct.pack(order + "H", version)
    body = b""
    for name, value in variables.items():
        data = matrix(value, name, order)
        body += element(15, zlib.compress(data), order) if compressed else data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + (b"IM" if order == "<" else b"MI") + body)
    return path


def element(kind: int, data: bytes, order: Order = "<") -> bytes:
    if 0 < len(data) <= 4 and kind not in (14, 15):
        return struct.pack(order + "I", kind | len(data) << 16) + data.ljust(4, b"\0")
    padding = b"" if kind == 15 else b"\0" * (-len(data) % 8)
    return struct.pack(order + "II", kind, len(data)) + data + padding


def matrix(value: Any, name: str = "", order: Order = "<") -> bytes:
    if isinstance(value, list):
        return _matrix(1, (len(value), 1), name, b"".join(matrix(v, "", order) for v in value), order)
    if isinstance(value, str):
        text = value.encode("utf-16-le" if order == "<" else "utf-16-be")
        return _matrix(4, (1, len(value)), name, element(4, text, order), order)
    array = np.atleast_2d(np.asarray(value))
    kind, number = _TYPES[array.dtype.str[1:]]
    data = array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")
    return _matrix(number, array.shape, name, element(kind, data, order), order)


def _matrix(number: int, shape: tuple[int, ...], name: str, data: bytes, order: Order) -> bytes:
    flags = element(6, struct.pack(order + "II", number, 0), order)
    dims = element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, flags + dims + element(1, name.encode(), order) + data, order)
