"""Tables: whole and plain in a pipe, folded on a terminal."""

from __future__ import annotations

import re
import sys

import pytest

from facedeploy.cli.output import print_table

HEADER = ("name", "ms", "", "note")
ROWS = [("a", "1.5", "x", "-"), ("[red]b[/red] :smile:", "12.25", "", "n" * 300 + " and more")]


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "COLUMNS": "40"}, {"TERM": "dumb"}])
def test_a_pipe_gets_a_plain_line_for_each_row(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    print_table(HEADER, ROWS)
    assert capsys.readouterr().out.split("\n") == [
        "name                     ms     note",
        "a                       1.5  x  -",
        f"[red]b[/red] :smile:  12.25     {'n' * 300} and more",
        "",
    ]


def test_a_table_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADER, [])
    assert capsys.readouterr().out == "name  ms    note\n"


def test_a_terminal_folds_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(HEADER, ROWS)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 40
    assert sum(line.count("n") for line in lines) == 300 + "name note and".count("n")
