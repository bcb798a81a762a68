"""Help says what a value is in a word that speaks, and never in a type of Python."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pytest
import typer

from facedeploy.cli.app import OPTIONS, app
from facedeploy.cli.everywhere import Command
from tests.cli.test_cli import Run, run  # noqa: F401  # The fixture.

TYPES = re.compile(
    r"<\w|\b(list|tuple|Path|path|str|int|float|bool|INTEGER|TEXT|BOOLEAN|FLOAT)\b(?=[\]>]| range)|list\["
)
WORD = re.compile(r"[A-Z.|]|\[|^onnxruntime$|^native\|gridsample$|^local\|")


def parameters(command: str) -> list[Any]:
    found = typer.main.get_command(app)
    commands: Any = found
    return list(commands.commands[command].params)


@pytest.mark.parametrize("command", ["", *OPTIONS])
@pytest.mark.parametrize("width", [80, 200])
def test_no_help_has_a_type_of_python(
    run: Run,  # noqa: F811
    command: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = run(*command.split(), "--help")
    assert result.status == 0
    assert not TYPES.search(result.out), TYPES.search(result.out)


@pytest.mark.parametrize("command", OPTIONS)
def test_every_value_has_a_word_and_every_option_a_sentence(command: str) -> None:
    for parameter in parameters(command):
        assert parameter.help, parameter.name
        if not getattr(parameter, "is_flag", False):
            assert parameter.metavar, f"{command} {parameter.name} has no word for its value"
            assert WORD.search(parameter.metavar), parameter.metavar


def test_typer_by_itself_shows_types(capsys: pytest.CaptureFixture[str]) -> None:
    """What the first test would find."""
    shown = []
    for kind in (None, Command):
        plain = typer.Typer()

        def command(flag: Annotated[bool, typer.Option("--flag")], names: list[str]) -> None: ...

        plain.command(cls=kind)(command)
        with pytest.raises(SystemExit):
            plain(["--help"])
        shown.append(bool(TYPES.search(capsys.readouterr().out)))
    assert shown == [True, False]
