"""`examples/ci/faces.yml`: its commands run, in its order and environment, and its gate stops what is too bad."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facedeploy.benchmarks.gate import read_gate

CI = Path(__file__).parents[2] / "examples" / "ci"
PHOTO = CI.parent / "astronaut.jpg"
SMALL = {"SIZE": "128x128"}


def workflow() -> dict[Any, Any]:
    yaml = pytest.importorskip("yaml")
    read: dict[Any, Any] = yaml.safe_load((CI / "faces.yml").read_text(encoding="utf-8"))
    return read


def steps() -> list[dict[str, Any]]:
    (job,) = workflow()["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def test_the_workflow_is_one() -> None:
    read = workflow()
    assert read[True] == ["push", "pull_request"]  # YAML takes `on` for a truth value; GitHub does not.
    assert all(("run" in step) != ("uses" in step) for step in steps())
    assert all(step["uses"].count("@v") == 1 for step in steps() if "uses" in step)
    assert any("--gate gate.toml" in step.get("run", "") for step in steps())
    read_gate(CI / "gate.toml")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that the workflow was copied to."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "photos").mkdir()
    shutil.copy(PHOTO, folder / "photos")
    shutil.copy(CI / "gate.toml", folder)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A step, by the shell that GitHub takes."""
    paths = [str(CI.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        **workflow()["env"],
        **SMALL,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
    return subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_its_commands_run_and_its_gate_stops(place: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("jinja2")
    commands = {step["name"]: step["run"] for step in steps() if "run" in step}
    assert list(commands) == ["Install", "Export", "Verify", "Measure", "Summary"]
    del commands["Install"]  # What is here is installed.
    for name, command in commands.items():
        done = run(command, place)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    assert "openvino-int8" in (place / "summary.md").read_text(encoding="utf-8")

    # A limit that nothing keeps: the job fails, and the report is there all the same.
    (place / "gate.toml").write_text("max_size = 0.1\n", encoding="utf-8")
    shutil.rmtree(place / "report")
    stopped = run(commands["Measure"], place)
    assert stopped.returncode == 1
    assert "max_size" in stopped.stdout + stopped.stderr or "0.1" in stopped.stdout + stopped.stderr
    assert (place / "report" / "index.html").is_file()
