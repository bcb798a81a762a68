"""How a command ends where something is wrong with stdout, with the machine, or with this program."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from facedeploy.benchmarks.record_file import write_record
from facedeploy.runtimes import doctor as diagnosis
from tests.cli.test_cli import Run, run  # noqa: F401  # The fixture.
from tests.support.records import make_record

FULL = Path("/dev/full")
QUICK = (
    "facedeploy --version",
    "facedeploy --help",
    "facedeploy export --help",
    "facedeploy compare a.json b.json --json",
)
full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def shell(command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = command.replace("facedeploy", f"{sys.executable} -m facedeploy", 1)
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@full
@pytest.mark.parametrize("command", QUICK)
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_stdout_ends_in_a_sentence(command: str, buffered: bool, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_record(make_record(), tmp_path / name)
    done = shell(f"{'' if buffered else 'PYTHONUNBUFFERED=1 '}{command} >{FULL}", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "facedeploy: cannot write the answer to stdout (No space left on device): give it another place\n"
    )


def test_a_closed_stdout_is_told_before_the_work() -> None:
    done = shell("facedeploy export nonsense --target nonsense >&-")
    assert done.returncode == 2
    assert done.stderr.startswith("facedeploy: stdout is closed")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_stderr_stdout_has_the_answer_alone() -> None:
    done = shell("facedeploy detect absent absent.png 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    assert shell("facedeploy --version 2>&-").returncode == 0


@full
def test_a_full_stderr_does_not_cost_the_answer(tmp_path: Path) -> None:
    write_record(make_record(), tmp_path / "a.json")
    done = shell(f"facedeploy compare a.json a.json -v --json 2>{FULL}", tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith('{"version": 1, "changes": ')


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` has a fault."""

    def diagnose() -> None:
        msg = "one\ntwo"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(diagnosis, "diagnose", diagnose)


def test_a_fault_of_the_program_is_told_as_such(run: Run, broken: None) -> None:  # noqa: F811
    quiet, loud = run("doctor"), run("doctor", "-v")
    assert quiet.status == loud.status == 70
    assert len(quiet.err.splitlines()) == 1
    assert quiet.err.startswith(f"facedeploy: unexpected ZeroDivisionError in {Path(__file__).name}, line ")
    assert "one two" in quiet.err
    assert "-v" in quiet.err
    assert "Traceback (most recent call last)" in loud.err
    assert "-v" not in loud.err.splitlines()[-1]


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 2), (errno.EACCES, 2), (errno.EILSEQ, 70)])
def test_a_full_disk_is_no_fault_of_the_program(
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
) -> None:
    def diagnose() -> None:
        raise OSError(number, "no good", "here.bin")

    monkeypatch.setattr(diagnosis, "diagnose", diagnose)
    result = run("doctor")
    assert result.status == status
    assert len(result.err.splitlines()) == 1
    assert "no good" in result.err
    assert "here.bin" in result.err


def test_a_mistake_has_no_traceback_even_with_v(run: Run, tmp_path: Path) -> None:  # noqa: F811
    result = run("detect", tmp_path, tmp_path / "p.png", "-v")
    result.refused(tmp_path)
