"""What the shell gets after a Tab, through the protocol that bash speaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from facedeploy.core.target import TARGETS
from facedeploy.models.registry import MODELS
from tests.cli.test_cli import HEAVY

ASK = """
import json, sys
from facedeploy.cli.app import main
sys.argv = ["facedeploy"]
try:
    main()
finally:
    print("\\n" + json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "manifest.json").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "mine.onnx").touch()
    (tmp_path / "picture.png").touch()
    return tmp_path


def ask(line: str, folder: Path) -> tuple[list[str], set[str]]:
    """What is offered for the last word of a line, and what was imported for it."""
    words = f"facedeploy {line}"
    count = len(words.split()) - (not words.endswith(" "))
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_FACEDEPLOY_COMPLETE": "complete_bash"}
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    offered, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return offered.split(), set(json.loads(modules))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("export ", [*MODELS, "mine.onnx"]),
        ("export mos-s", ["mos-s", "mos-s-published"]),
        ("export --target ", [str(t) for t in TARGETS]),
        ("export --target ncnn-i", ["ncnn-int8"]),
        ("export --family yu", ["yunet"]),
        ("calibrate --method p", ["percentile"]),
        ("detect ", ["made"]),
        ("detect --with m", ["made"]),
        ("detect {here}/m", ["{here}/made"]),
        ("detect made ", []),
        ("export --weights ", []),
        ("exp", ["export"]),
        ("export --inp", ["--input-size"]),
    ],
)
def test_what_is_offered(line: str, offered: list[str], folder: Path) -> None:
    """Nothing means that the shell offers files."""
    found, modules = ask(line.format(here=folder), folder)
    assert found == [o.format(here=folder) for o in offered]
    assert "facedeploy.cli.app" in modules
    assert not HEAVY & modules


def test_the_shell_is_told_to_offer_files_where_nothing_else_is() -> None:
    environment = {**os.environ, "_FACEDEPLOY_COMPLETE": "source_bash"}
    command = [
        sys.executable,
        "-c",
        "import sys; from facedeploy.cli.app import main; sys.argv = ['facedeploy']; main()",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "complete -o default -F" in done.stdout
