"""Every notebook in `examples/` runs from its first cell to its last, and is stored without what it once gave."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
RUNNER = Path(__file__).with_name("run_notebook.py")


def read(notebook: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return made


def run(name: str, folder: Path) -> str:
    """What it prints, run on a small input in a folder of its own, beside its picture."""
    shutil.copy(EXAMPLES / "astronaut.jpg", folder)
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert text.count("SIZE = (480, 640)") == 1
    (folder / name).write_text(text.replace("SIZE = (480, 640)", "SIZE = (128, 128)"), encoding="utf-8")
    path = os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(RUNNER), name]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_finding_faces(tmp_path: Path) -> None:
    out = run("finding_faces.ipynb", tmp_path)
    counts = [int(n) for n in re.findall(r"^0\.\d: (\d+) faces$", out, flags=re.MULTILINE)]
    assert len(counts) == 3
    assert counts == sorted(counts, reverse=True)
    assert counts[1] == 1
    assert "Face" in out


@pytest.mark.slow
def test_int8_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = run("int8_side_by_side.ipynb", tmp_path)
    sizes = [int(n) for n in re.findall(r"^openvino-\w+: (\d+) kB$", out, flags=re.MULTILINE)]
    assert len(sizes) == 2
    assert sizes[1] < sizes[0]
    assert len(re.findall(r"times as fast \(\d", out)) == 2
    (apart,) = re.findall(r"^Out\[\d+\]: array\(\[(.+)\]\)$", out, flags=re.MULTILINE)
    assert max(float(v) for v in apart.split(",")) < 20


def test_a_cell_that_fails_fails_the_notebook(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": ["x = 1\n", "x.missing"]}
    (tmp_path / "wrong.ipynb").write_text(json.dumps({"cells": [cell]}))
    done = subprocess.run([sys.executable, str(RUNNER), "wrong.ipynb"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"cell 1" in done.stderr


def test_every_notebook_has_a_test_and_a_line_in_the_list() -> None:
    tests, listed = Path(__file__).read_text(encoding="utf-8"), (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 2
    for notebook in NOTEBOOKS:
        assert f"`{notebook.name}`" in listed
        assert f'run("{notebook.name}"' in tests


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_file_is_tidy(notebook: Path) -> None:
    """Without outputs, as format 4.5 has it, and written as the next one would be."""
    made = read(notebook)
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert set(made) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert made["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in made["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in made["cells"]:
        own = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source", *own}
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert notebook.read_text(encoding="utf-8") == json.dumps(made, indent=1, ensure_ascii=False) + "\n"
