"""Windows and macOS as far as Linux can play them: nothing fails at import or at start, and ONNX Runtime finds the
faces. tests/support/other_system.py says what is hidden and what cannot be. No real Windows or macOS was run.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facedeploy
from facedeploy.artifact.folder import Artifact
from tests.support import other_system
from tests.support.exported import tiny

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "astronaut.jpg"
SYSTEMS = ("windows", "macos")
PROBE = """
import os, select, signal, sys
sys.path.insert(0, sys.argv[1])
from tests.support import other_system
other_system.hide_files()
getattr(other_system, sys.argv[2])()
found = []
for look in sys.argv[3:]:
    try:
        exec(look)
    except (AttributeError, ImportError, FileNotFoundError, EncodingWarning, UnicodeEncodeError):
        continue
    found.append(look)
sys.stdout.write(repr(found))
"""
ON_NEITHER = ("os.sched_getaffinity(0)", "select.epoll", "open('/proc/cpuinfo')", "os.stat('/sys')", "os.O_PATH")
ON_MACOS = ("import fcntl", "import resource", "signal.SIGPIPE", "signal.SIGKILL", "os.O_NOFOLLOW", "os.geteuid()")


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return tiny("onnx-fp32", (128, 160))


def played(on: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", str(other_system.__file__), on, *map(str, words)],
        capture_output=True,
        encoding="cp1252" if on == "windows" else "utf-8",
        timeout=300,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )


def run(on: str, *words: object) -> str:
    done = played(on, *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("on", SYSTEMS)
def test_what_is_not_there_is_really_hidden(on: str) -> None:
    words = (*ON_NEITHER, *ON_MACOS, "print('\\u2192')")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(ROOT), on, *words], capture_output=True, text=True, timeout=60, check=True
    )
    assert ast.literal_eval(done.stdout.rpartition("\n")[2]) == ([] if on == "windows" else [*ON_MACOS, words[-1]])


@pytest.mark.slow
@pytest.mark.parametrize("on", SYSTEMS)
def test_every_module_imports(on: str) -> None:
    imported = run(on, other_system.EVERYTHING).splitlines()
    assert len(imported) > 200
    assert "facedeploy.devices.ssh" in imported


@pytest.mark.parametrize("on", SYSTEMS)
def test_help_models_and_doctor(on: str) -> None:
    assert "detect" in run(on, "--help")
    assert "mos-tiny" in run(on, "models")
    rows = [row for line in run(on, "doctor", "--json").splitlines() for row in _rows(json.loads(line))]
    assert {row["backend"]: row["run"] for row in rows} == {
        "torch": False,
        "onnx": True,
        "openvino": False,
        "ncnn": False,
        "trt": False,
    }


def _rows(said: object) -> list[dict[str, object]]:
    """A line may be a backend, or the document of them all."""
    if isinstance(said, dict) and "backend" not in said:
        return next(value for value in said.values() if isinstance(value, list))
    return said if isinstance(said, list) else [said]  # type: ignore[list-item]


@pytest.mark.parametrize("on", SYSTEMS)
def test_the_same_faces(on: str, artifact: Artifact, tmp_path: Path) -> None:
    """The folder's name is none that the encoding of the country has."""
    folder = tmp_path / "人 → face"
    said = run(on, "detect", artifact.path, PHOTO, "--json", "--save", folder)
    wanted = facedeploy.detect(artifact, PHOTO)
    assert '"faces"' in said
    assert json.loads(said)["faces"] == json.loads(json.dumps([face.to_dict() for face in wanted]))
    assert (folder / PHOTO.name).is_file()
    assert "1 face" in run(on, "detect", artifact.path, PHOTO)


@pytest.mark.parametrize("on", SYSTEMS)
def test_a_mistake_is_a_sentence(on: str, tmp_path: Path) -> None:
    done = played(on, "detect", tmp_path / "→", PHOTO)
    assert done.returncode == 2
    assert "is not an artifact: give the folder that" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("on", SYSTEMS)
def test_a_benchmark_runs(on: str, artifact: Artifact) -> None:
    assert artifact.path.name in run(on, "benchmark", artifact.path, "--images", PHOTO, "--rounds", 2, "--no-cold")


def test_files_are_never_opened_in_the_encoding_of_the_country() -> None:
    for file in sorted((ROOT / "facedeploy").rglob("*.py")):
        found = list(_without_encoding(ast.parse(file.read_text(encoding="utf-8"))))
        assert not found, f"{file.relative_to(ROOT)} opens text without saying an encoding in lines {found}"


def test_a_file_without_an_encoding_is_seen() -> None:
    lines = (
        "Path('a').read_text()",
        "open('a', 'rb')",
        "open('a')",
        "f.open('w')",
        "p.write_text(t, encoding='utf-8')",
    )
    assert list(_without_encoding(ast.parse("\n".join((*lines, "source.open(threads)"))))) == [1, 3, 4]


def _without_encoding(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [str(a.value) for a in node.args if isinstance(a, ast.Constant) and set(str(a.value)) <= set("rwab+xt")]
        opens = name in ("open", "fdopen") and (isinstance(node.func, ast.Name) or modes)
        if name in ("read_text", "write_text") or (opens and not any("b" in mode for mode in modes)):
            yield node.lineno
