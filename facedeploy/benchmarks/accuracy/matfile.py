"""Read the arrays of a MATLAB file of version 5, as WIDER FACE and AFLW2000-3D come in.

SciPy's reader is, by its own documentation, not hardened against files that nobody vouches for. This one knows
matrices, texts and cells, and trusts no size: whatever it allocates is in the file, or is counted while it is unpacked.
Format: MathWorks, "MAT-File Format", chapter 1, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.core.errors import InputError

# A matrix is an array of float64; a text is a str; a cell is the list of its entries, down the columns.
Value = Any

_HEADER = 128
_MAX_FILE = 64 << 20  # The lists of WIDER FACE are 0.4 MB.
_MAX_UNPACKED = 32 << 20  # The lists unpack to 3 MB.
_MAX_DEPTH = 8
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHAR, _NUMERIC = 1, 4, range(6, 16)
_COMPLEX = 0x0800


class _BrokenFileError(ValueError):
    """The file is not what its header says."""


@dataclass(frozen=True)
class _Element:
    kind: int
    data: memoryview


def read_mat(path: Path, names: Collection[str]) -> dict[str, Value]:
    """Read some variables of a file.

    Raises:
        InputError: the file is missing, damaged, of another version, or has not all of the variables.
    """
    try:
        if path.stat().st_size > _MAX_FILE:
            msg = f"{path} is too large to be a list of labels"
            raise InputError(msg)
        data = path.read_bytes()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InputError(msg) from error
    try:
        found = _variables(data, names)
    except (_BrokenFileError, struct.error, zlib.error, ValueError) as error:
        msg = f"{path} is no MATLAB file of version 5, or a damaged one ({error}): get it again"
        raise InputError(msg) from error
    if missing := [n for n in names if n not in found]:
        msg = f"{path} has no variable {', '.join(missing)}: it is another file than the data set's"
        raise InputError(msg)
    return found


def _variables(data: bytes, names: Collection[str]) -> dict[str, Value]:
    if data[126:128] not in (b"IM", b"MI") or len(data) < _HEADER:
        msg = "the header is another"
        raise _BrokenFileError(msg)
    order = "<" if data[126:128] == b"IM" else ">"
    if struct.unpack_from(order + "H", data, 124)[0] != 0x0100:
        msg = "the version is another"
        raise _BrokenFileError(msg)
    found: dict[str, Value] = {}
    left = _MAX_UNPACKED
    for element in _elements(memoryview(data)[_HEADER:], order):
        inner = element
        if element.kind == _COMPRESSED:
            unpacked = _unpack(element.data, left)
            left -= len(unpacked)
            inner = next(_elements(memoryview(unpacked), order), element)
        if inner.kind == _MATRIX:
            name = _name(inner, order)
            if name in names:
                found[name] = _value(inner, order, 0)
    return found


def _unpack(data: memoryview, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, max(limit, 1))  # 0 would be no limit.
    if not unpacker.eof:
        msg = "a variable is cut off or too large"
        raise _BrokenFileError(msg)
    return unpacked


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Tagged pieces, one after the other. A small one has its size and up to four bytes in the tag itself."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        start, step = at + 8, size
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            start, step = at + 4, 4
            if size > 4:
                msg = "a small element is too large"
                raise _BrokenFileError(msg)
        elif kind != _COMPRESSED:
            step += -size % 8
        if start + size > len(data):
            msg = "an element is cut off"
            raise _BrokenFileError(msg)
        yield _Element(kind, data[start : start + size])
        at = start + step


def _name(matrix: _Element, order: str) -> str:
    parts = _elements(matrix.data, order)
    next(parts, None)
    next(parts, None)
    named = next(parts, None)
    return bytes(named.data).decode("latin-1") if named else ""


def _value(matrix: _Element, order: str, depth: int) -> Value:
    """A matrix, text or cell; None for what labels do not have (structures, objects, complex and sparse matrices)."""
    if not matrix.data:
        return np.zeros((0, 0))
    parts = _elements(matrix.data, order)
    flags, dims, _ = (next(parts, None) for _ in range(3))
    if flags is None or dims is None or len(flags.data) < 4 or depth > _MAX_DEPTH:
        msg = "a matrix has no header, or cells are too deep"
        raise _BrokenFileError(msg)
    (word,) = struct.unpack_from(order + "I", flags.data)
    shape = tuple(np.frombuffer(dims.data, order + "i4").tolist())
    kind = word & 0xFF
    if kind == _CELL:
        return [_value(part, order, depth + 1) for part in parts if part.kind == _MATRIX]
    body = next(parts, None)
    if kind == _CHAR:
        return _text(body, order)
    if kind not in _NUMERIC or word & _COMPLEX:
        return None
    if body is None:
        return np.zeros((0, 0))
    if body.kind not in _NUMBERS:
        msg = f"numbers of the unknown type {body.kind}"
        raise _BrokenFileError(msg)
    # A shape that does not fit the numbers, or a negative one, is a ValueError of NumPy.
    values = np.frombuffer(body.data, order + _NUMBERS[body.kind]).astype(np.float64)
    if any(d < 0 for d in shape):
        msg = "a matrix has a negative size"
        raise _BrokenFileError(msg)
    return values.reshape(shape, order="F")


def _text(body: _Element | None, order: str) -> str:
    if body is None or not body.data:
        return ""
    if body.kind not in _TEXTS:
        msg = f"a text of the unknown type {body.kind}"
        raise _BrokenFileError(msg)
    code = _TEXTS[body.kind]
    suffix = ("-le" if order == "<" else "-be") if code in ("utf-16", "utf-32") else ""
    return bytes(body.data).decode(code + suffix)
