"""Paths as users write them: as text or as an object, one or several."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias, overload

StrPath: TypeAlias = str | os.PathLike[str]


def as_paths(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Several paths; a single one is a list of one, and not its letters."""
    return [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]


class AnyPath:
    """A field of a dataclass that takes a `str` or a path and holds a `Path`; None, the default, stays None."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> None: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Path | None: ...

    def __get__(self, instance: object | None, owner: type) -> Path | None:
        # A dataclass asks its class for the default.
        return None if instance is None else instance.__dict__[self._name]

    def __set__(self, instance: object, value: StrPath | None) -> None:
        instance.__dict__[self._name] = None if value is None else Path(value)
