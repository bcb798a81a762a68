"""The README is executed: its shell lines one by one, its Python as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def executed_blocks(language: str, mark: str = "tested", page: str = README) -> list[str]:
    blocks = re.findall(rf"<!-- {mark}(?:: .*?)? -->\n```{language}\n(.*?)```", page, flags=re.DOTALL)
    assert blocks, f"the page has no {mark} {language} block"
    return blocks


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """What the README supposes: a folder of photos."""
    (tmp_path / "photos").mkdir()
    shutil.copy(ROOT / "examples" / "astronaut.jpg", tmp_path / "photos")
    return tmp_path


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.mark.slow
def test_every_command_of_the_readme_works(workplace: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    for block in executed_blocks("sh"):
        for line in block.strip().splitlines():
            run(["sh", "-c", line], workplace)
    assert (workplace / "drawn" / "astronaut.jpg").is_file()


@pytest.mark.slow
def test_every_command_with_published_weights_works(workplace: Path, published: Path) -> None:
    (workplace / "weights").mkdir()
    (workplace / "weights" / "mtcnn").symlink_to(published, target_is_directory=True)
    for block in executed_blocks("sh", "tested with published weights"):
        for line in block.strip().splitlines():
            run(["sh", "-c", line], workplace)


@pytest.mark.slow
def test_the_python_of_the_readme_works(workplace: Path) -> None:
    for block in executed_blocks("python"):
        result = run([sys.executable, "-c", block], workplace)
        assert len(result.stdout.splitlines()) == 1


@pytest.mark.slow
def test_the_demo_finds_the_face(tmp_path: Path) -> None:
    """`make demo`, in the environment that is there."""
    pytest.importorskip("openvino")
    pytest.importorskip("ncnn")
    made = run(
        ["make", "demo", "-o", "install", f"BIN={Path(sys.executable).parent}", f"DEMO={tmp_path / 'out'}"], ROOT
    )
    assert "verified" in made.stdout
    assert "astronaut.jpg: 1 face" in made.stdout
    assert (tmp_path / "out" / "astronaut.jpg").is_file()


def test_set_up_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
