"""Where things live: each room knows only those below it, and no room, file or root grows out of hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "facedeploy"
LINES = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
LONGEST_FILE = 300
LARGEST_ROOM = 1 / 4

# File -> the line that is added to it, whose arrow goes up.
UPWARD = {
    "core/errors.py": "import facedeploy.export.exporter",
    "artifact/folder.py": "from facedeploy.devices.ssh import *",
    "pipelines/load.py": "def late():\n    import facedeploy.cli.app",
    "runtimes/base.py": "from facedeploy.export import compiler",
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """This package in a folder of its own, with the project's contract."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in LINES:
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return tmp_path


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `make lint` runs."""
    tool = str(Path(sys.executable).with_name("lint-imports"))
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(
        [tool, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_every_import_goes_down(copy: Path) -> None:
    result = check(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(("file", "line"), UPWARD.items())
def test_an_import_that_goes_up_is_named(file: str, line: str, copy: Path) -> None:
    with (copy / "facedeploy" / file).open("a", encoding="utf-8") as text:
        text.write(f"\n\n{line}\n")
    result = check(copy)
    assert result.returncode == 1
    source = "facedeploy." + file.removesuffix(".py").replace("/", ".")
    target = next(word for word in line.split() if word.startswith("facedeploy."))
    assert f"{source} -> {target}" in result.stdout


def test_a_room_that_no_layer_names_is_refused(copy: Path) -> None:
    (copy / "facedeploy" / "attic").mkdir()
    (copy / "facedeploy" / "attic" / "__init__.py").touch()
    result = check(copy)
    assert result.returncode == 1
    assert "attic" in result.stdout


def test_nothing_stands_at_the_root() -> None:
    assert {p.name for p in PACKAGE.iterdir() if p.is_file()} == {"__init__.py", "__main__.py", "py.typed"}


def test_no_room_is_above_a_quarter() -> None:
    rooms: Counter[str] = Counter()
    for path, lines in LINES.items():
        rooms[path.relative_to(PACKAGE).parts[0]] += lines
    room, lines = rooms.most_common(1)[0]
    assert lines <= LARGEST_ROOM * rooms.total(), f"{room} is {lines / rooms.total():.0%} of the package"


def test_no_file_is_long() -> None:
    long = {str(path.relative_to(ROOT)): lines for path, lines in LINES.items() if lines > LONGEST_FILE}
    assert not long, f"of above {LONGEST_FILE} lines; give each job a file of its own: {long}"
