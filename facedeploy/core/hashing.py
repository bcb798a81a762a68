"""SHA-256 of files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_folder(folder: Path, patterns: Iterable[str] = ("**/*",), without: Iterable[str] = ()) -> str:
    """Hex SHA-256 over files of a folder: of their paths in it and their contents, but for compiled Python.

    patterns: of the files, as in `Path.glob`. without: folders inside it whose files do not count.
    """
    total = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        inside = file.relative_to(folder)
        if file.is_file() and file.suffix != ".pyc" and not any(inside.is_relative_to(other) for other in without):
            total.update(f"{inside.as_posix()}\0{sha256(file)}\0".encode())
    return total.hexdigest()


@functools.cache
def code_digest(patterns: tuple[str, ...] = ("**/*",), without: tuple[str, ...] = ()) -> str:
    """Hex SHA-256 of this package's files, so that a change of its code does things anew; as `sha256_of_folder`."""
    return sha256_of_folder(_PACKAGE, patterns, without)
