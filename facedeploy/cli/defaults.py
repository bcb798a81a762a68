"""Defaults of options: environment variables and facedeploy.toml. docs/reference/defaults.md has the one rule."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedeploy.core.errors import InputError
from facedeploy.core.serialization import read_toml_tables

FILE = Path("facedeploy.toml")  # In the folder where the command is called, and nowhere else.


@dataclass(frozen=True)
class Option:
    """What a default must fit.

    Attributes:
        parameter: What the command calls it.
        flag: Whether it is said or not said, and has no value.
        repeatable: Whether it may be given several times.
    """

    parameter: str
    flag: bool
    repeatable: bool


# Command -> option without its dashes in front -> the option.
Options = Mapping[str, Mapping[str, Option]]


def variables(command: str, option: str) -> list[str]:
    """The environment variables that set an option of a command; the first that is there counts."""
    return [f"FACEDEPLOY_{name}".upper().replace("-", "_") for name in (f"{command}_{option}", option)]


def read_defaults(path: Path, options: Options) -> dict[str, dict[str, Any]]:
    """Read the defaults that a file has for each command.

    Args:
        path: The file; where there is none, there are no defaults.
        options: Of all commands.

    Returns:
        Command -> parameter -> value, as the command line would have it.

    Raises:
        InputError: it is no TOML, or has an unknown key or a wrong value; the sentence names the file and the key.
    """
    if not path.is_file():
        return {}
    content = read_toml_tables(path)
    tables = {key: value for key, value in content.items() if key in options}
    for_all = {key: value for key, value in content.items() if key not in options}
    defaults: dict[str, dict[str, Any]] = {command: {} for command in options}
    for key, value in for_all.items():
        having = [command for command, known in options.items() if _dashed(key) in known]
        if not having:
            every = {option for known in options.values() for option in known}
            msg = f"{path}: {key} is neither a command nor an option{_meant(key, {*every, *options})}"
            raise InputError(msg)
        for command in having:
            option = options[command][_dashed(key)]
            defaults[command][option.parameter] = _value(value, option, f"{path}: {key}")
    for command, table in tables.items():
        if not isinstance(table, dict):
            msg = f"{path}: {command} is a command, so its options stand below [{command}]"
            raise InputError(msg)
        for key, value in table.items():
            if (found := options[command].get(_dashed(key))) is None:
                msg = f"{path}: {command}.{key} is no option of {command}{_meant(key, set(options[command]))}"
                raise InputError(msg)
            defaults[command][found.parameter] = _value(value, found, f"{path}: {command}.{key}")
    return defaults


def _dashed(key: str) -> str:
    return key.replace("_", "-")


def _meant(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(_dashed(key), sorted(known), n=1)
    return f": is {close[0]} meant?" if close else ": `facedeploy COMMAND --help` lists them"


def _value(value: Any, option: Option, where: str) -> Any:
    if option.flag:
        if isinstance(value, bool):
            return value
        msg = f"{where} must be true or false, not {value!r}"
        raise InputError(msg)
    several = value if isinstance(value, list) and option.repeatable else [value]
    for one in several:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            msg = f"{where} must be a text or a number{' or a list of them' if option.repeatable else ''}, not {one!r}"
            raise InputError(msg)
    texts = [str(one) for one in several]
    return texts if option.repeatable else texts[0]
