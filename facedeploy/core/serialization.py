"""Frozen dataclasses to plain data (what JSON can hold) and back, strictly.

Manifests come from other machines, so reading one checks every type and refuses unknown keys instead of
guessing; the error names the place, as in `networks[0].files[1].size`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from facedeploy.core.errors import FacedeployError, InputError, brief
from facedeploy.core.optional_imports import find

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Turn dataclasses, tuples and mappings into dicts and lists of JSON scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    msg = f"{type(value).__name__} has no plain form"
    raise TypeError(msg)


def write_json(value: Any, path: Path) -> None:
    """Write a value as JSON, in one step. A file that is there is replaced.

    Args:
        value: Dataclasses, tuples and mappings of what JSON can hold.
        path: The file.

    Raises:
        OSError: it cannot be written; then nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(json.dumps(to_plain(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def from_plain(cls: type[T], data: Any, where: str = "") -> T:
    """Build a dataclass from plain data, strictly.

    Args:
        cls: The dataclass.
        data: What JSON holds.
        where: Where the data is from, for messages.

    Returns:
        An instance of `cls`.

    Raises:
        InputError: a key is missing or unknown, or a value has another type than its field.
    """
    return typing.cast(T, _read(cls, data, where))


def _read(hint: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _read_dataclass(hint, data, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _read_union(args, data, where)
    if origin is typing.Literal:
        return data if data in args else _refuse(f"one of {', '.join(map(repr, args))}", data, where)
    if origin is tuple:
        if not isinstance(data, list):
            return _refuse("a list", data, where)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_read(args[0], v, f"{where}[{i}]") for i, v in enumerate(data))
        if len(data) != len(args):
            return _refuse(f"a list of {len(args)}", data, where)
        return tuple(_read(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, data, strict=True)))
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            return _refuse("an object", data, where)
        return {k: _read(args[1], v, _join(where, k)) for k, v in data.items()}
    if hint is Any:
        return data
    if hint is float and isinstance(data, int) and not isinstance(data, bool) and abs(data) < 1 << 1000:
        return float(data)
    if isinstance(data, hint) and not (isinstance(data, bool) and hint is not bool):
        return data
    return _refuse(f"a value of type {hint.__name__}", data, where)


def _read_dataclass(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        return _refuse("an object", data, where)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(data.keys() - fields.keys()):
        msg = f"{_join(where, unknown[0])} is not a known key; known are {', '.join(fields)}"
        raise InputError(msg)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _read(hints[name], data[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            msg = f"{_join(where, name)} is missing"
            raise InputError(msg)
    return cls(**values)


def _read_union(options: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in options:
        return None
    problems = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _read(option, data, where)
        except InputError as error:
            problems.append(str(error))
    raise InputError(problems[-1] if len(problems) == 1 else f"{where}: " + "; or ".join(problems))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _refuse(expected: str, data: Any, where: str) -> Any:
    shown = repr(data)
    msg = f"{where or 'the document'} must be {expected}, not {shown[:40]}"
    raise InputError(msg)


@dataclass(frozen=True)
class Document(Generic[T]):
    """A kind of JSON file that holds a dataclass, and what is said of a file that is none.

    name: as in "is not a table of ranges". advice: what to do about such a file. format: what stands under that key;
    None where there is no such key. limit: bytes that no such file reaches.
    """

    kind: type[T]
    name: str
    version: int
    advice: str
    limit: int
    format: str | None = None
    error: type[FacedeployError] = InputError


def read_document(document: Document[T], path: Path) -> T:
    """Read a JSON file strictly: its size, its JSON, its format and version, and every field.

    Raises:
        FacedeployError: the document's `error`, with one sentence that names the file.
    """
    return check_document(document, read_plain(document, path), path)


def read_plain(document: Document[Any], path: Path) -> Any:
    """What a JSON file holds, before any of it is checked.

    Raises:
        FacedeployError: the document's `error`: it cannot be read, or is too large or no JSON.
    """
    data = _content(path, document.name, document.limit, document.error)
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not valid JSON ({brief(error)}), so it is not a {document.name}: {document.advice}"
        raise document.error(msg) from error


def read_format(path: Path, limit: int) -> object:
    """What stands under `format` in a JSON file of at most `limit` bytes; None where that cannot be read."""
    try:
        data = json.loads(path.read_bytes()) if path.stat().st_size <= limit else None
    except (OSError, ValueError, RecursionError):
        return None
    return data.get("format") if isinstance(data, dict) else None


def check_document(document: Document[T], data: Any, where: object) -> T:
    """Build what a document holds from plain data. where: it is from, for messages.

    Raises:
        FacedeployError: the document's `error`: another format or version, or a wrong field.
    """
    if not isinstance(data, dict) or data.get("format") != document.format or "version" not in data:
        msg = f"{where} is not a {document.name}: {document.advice}"
        raise document.error(msg)
    if data["version"] != document.version:
        msg = (
            f"{where} has version {data['version']!r} and this release reads version {document.version}: "
            f"update facedeploy, or {document.advice}"
        )
        raise document.error(msg)
    try:
        return from_plain(document.kind, data)
    except InputError as error:
        msg = f"{where}: {error}; {document.advice}"
        raise document.error(msg) from error


def _content(path: Path, name: str, limit: int, error: type[FacedeployError]) -> bytes:
    try:
        if path.stat().st_size > limit:
            msg = f"{path} is too large to be a {name}"
            raise error(msg)
        return path.read_bytes()
    except OSError as problem:
        msg = f"cannot read the {name} {path}: {problem.strerror}"
        raise error(msg) from problem


def _refuse_constant(name: str) -> Any:
    msg = f"{name} is no number"
    raise ValueError(msg)


_MAX_SETTINGS = 1 << 20  # What a person writes by hand is some kilobytes.


def read_toml(cls: type[T], path: Path) -> T:
    """Read a TOML file into a dataclass, strictly.

    Args:
        cls: The dataclass.
        path: The file.

    Returns:
        An instance of `cls`.

    Raises:
        InputError: the file is missing, is no TOML, or has an unknown key or a wrong value; the sentence names it.
    """
    plain = read_toml_tables(path)
    try:
        return from_plain(cls, plain)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def read_toml_tables(path: Path) -> dict[str, Any]:
    """Read a TOML file as it stands.

    Raises:
        InputError: the file is missing, or is no TOML; the sentence names it.
    """
    tomllib: Any = find("tomllib", "tomli")
    if tomllib is None:
        msg = f"Python before 3.11 needs tomli to read {path}: run `pip install tomli`"
        raise InputError(msg)
    data = _content(path, "file of settings", _MAX_SETTINGS, InputError)
    try:
        plain: dict[str, Any] = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError.
        msg = f"{path} is not valid TOML: {error}"
        raise InputError(msg) from error
    return plain


def check_output(path: Path, suffix: str = "") -> None:
    """Check that a file can be written where the user wants it.

    Args:
        path: The file.
        suffix: What its name must end in, such as ".json"; "" for anything.

    Raises:
        InputError: its folder is missing or may not be written to, it is a folder itself, or of another kind.
    """
    if suffix and path.suffix.lower() != suffix:
        msg = f"{path} must end in {suffix}"
        raise InputError(msg)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        msg = f"cannot write {path}: it is a folder" if path.is_dir() else f"cannot write in the folder {path.parent}"
        raise InputError(msg)
