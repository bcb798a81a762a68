"""-q prints the answer and errors; -v what is run, when, and with what. Both for every command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from facedeploy.cli.app import OPTIONS
from facedeploy.cli.output import listen, note, step
from tests.benchmarks.test_matrix import here  # noqa: F401  # The fixture.
from tests.cli.test_cli import Run, run  # noqa: F401  # The fixture.
from tests.support.measured import export_tiny

STAMP = re.compile(r"^ +\d+\.\d\d s  (.+)$", re.MULTILINE)


@pytest.mark.parametrize("command", OPTIONS)
def test_every_command_has_both(run: Run, command: str) -> None:  # noqa: F811
    help_text = run(command, "--help").out
    assert re.search(r"--quiet +-q ", help_text)
    assert re.search(r"--verbose +-v ", help_text)


def test_both_at_once_are_refused(run: Run) -> None:  # noqa: F811
    run("models", "-q", "-v").refused("-q", "-v")


def test_quiet_loses_notes_and_keeps_the_answer(run: Run, here: Path, tmp_path: Path) -> None:  # noqa: F811
    call = ("benchmark", export_tiny(tmp_path).path, "--rounds", "1", "--no-cold")
    usual, quiet = run(*call), run(*call, "-q")
    assert usual.status == quiet.status == 0
    assert "sample.jpg, a portrait that the package ships" in usual.err
    assert quiet.err == ""
    assert quiet.out.splitlines()[0] == usual.out.splitlines()[0]


def test_quiet_keeps_errors(run: Run, tmp_path: Path) -> None:  # noqa: F811
    assert run("detect", tmp_path, "p.png", "-q").refused("p.png")


def test_verbose_says_what_is_run_and_when(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    artifact = export_tiny(tmp_path)
    monkeypatch.setenv("FACEDEPLOY_THREADS", "1")
    result = run("benchmark", artifact.path, "--rounds", "1", "--no-cold", "-v")
    assert result.status == 0
    head, *rest = result.err.splitlines()
    assert head.startswith("facedeploy ")
    assert sys.executable in head
    assert f"  artifacts: {artifact.path} (command line)" in rest
    assert "  threads: 1 (FACEDEPLOY_THREADS)" in rest
    steps = STAMP.findall(result.err)
    assert "opening 1 of 1" in steps
    times = [float(t) for t in re.findall(r"^ +(\d+\.\d\d) s  ", result.err, re.MULTILINE)]
    assert times == sorted(times)
    assert "thread" in result.out


def test_verbose_says_which_programs_are_started(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose in (True, False):
        listen(quiet=False, verbose=verbose)
        subprocess.run([sys.executable, "-c", "pass # a b"], check=True)
        assert (f"run {sys.executable} -c 'pass # a b'" in capsys.readouterr().err) is verbose


def test_a_step_is_told_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    told = {}
    for name, choice in {"usual": (False, False), "quiet": (True, False), "verbose": (False, True)}.items():
        listen(quiet=choice[0], verbose=choice[1])
        step("compile")
        note("done")
        told[name] = capsys.readouterr().err
    listen(quiet=False, verbose=False)
    assert told["usual"] == "  compile\ndone\n"
    assert told["quiet"] == ""
    assert STAMP.findall(told["verbose"]) == ["compile"]
