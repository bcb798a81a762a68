"""A TOML file to a frozen dataclass, strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from facedeploy.errors import InputError
from facedeploy.extras import find
from facedeploy.plain import from_plain

T = TypeVar("T")

_MAX_BYTES = 1 << 20  # What a person writes by hand is some kilobytes.


def read_toml(cls: type[T], path: Path) -> T:
    """Read a file into `cls`, a dataclass.

    Raises:
        InputError: the file is missing, is no TOML, or has an unknown key or a wrong value; the sentence names it.
    """
    tomllib: Any = find("tomllib", "tomli")
    if tomllib is None:
        msg = f"Python before 3.11 needs tomli to read {path}: run `pip install tomli`"
        raise InputError(msg)
    try:
        if path.stat().st_size > _MAX_BYTES:
            msg = f"{path} is too large for a file of settings"
            raise InputError(msg)
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InputError(msg) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError.
        msg = f"{path} is not valid TOML: {error}"
        raise InputError(msg) from error
    try:
        return from_plain(cls, data)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error
