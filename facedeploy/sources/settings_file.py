"""Settings as the TOML file that a person would write: what is not said is the default."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facedeploy.core.errors import InputError
from facedeploy.core.serialization import check_output, to_plain
from facedeploy.sources.settings import NetworkSettings

_WIDTH = 100
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def check_place(path: Path) -> None:
    """Check that a file of settings can be written.

    Raises:
        InputError: it is there already, is no .toml, or its folder is not there or may not be written to.
    """
    check_output(path, ".toml")
    if path.exists():
        msg = f"{path} exists: choose another name, or remove it"
        raise InputError(msg)


def write_settings(settings: NetworkSettings, path: Path, about: str) -> None:
    """Write settings as a new file, which `settings.read_settings` reads as the same.

    Args:
        settings: What the file is to say.
        path: The file.
        about: What stands at its top, a line.

    Raises:
        InputError: as `check_place`.
    """
    check_place(path)
    text = render(settings, about)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise InputError(msg) from error


def render(settings: NetworkSettings, about: str) -> str:
    """The text of the file. about: a line of comment at its top."""
    plain = _said(settings)
    lines = [f"# {''.join(c if c.isprintable() else ' ' for c in about)}"]
    lines += [f"{_key(k)} = {_value(v)}" for k, v in plain.items() if not isinstance(v, Mapping)]
    for name, table in plain.items():
        if isinstance(table, Mapping) and table:
            lines += ["", f"[{_key(name)}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _said(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not their defaults, as plain data."""
    said: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        have = getattr(value, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if have != default:
            said[field.name] = _said(have) if dataclasses.is_dataclass(have) else to_plain(have)
    return said


def _lines(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        text = f"{_key(name)} = {_value(value)}"
        if len(text) > _WIDTH and isinstance(value, list):
            items = "".join(f"    {_value(item)},\n" for item in value)
            text = f"{_key(name)} = [\n{items}]"
        yield text


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's text is TOML's, but for the one control character that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
    return str(value)
