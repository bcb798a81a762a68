"""What a user sees of the package: names, signatures, help, types, and how long the import takes."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import pkgutil
import pydoc
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import facedeploy
from facedeploy.core import errors

VERBS = ("benchmark", "detect", "draw", "export", "inspect", "load", "verify")
ROOT = Path(facedeploy.__file__).parents[1]
PACKAGES = sorted(
    m.name for m in pkgutil.walk_packages(facedeploy.__path__, "facedeploy.", onerror=lambda name: None) if m.ispkg
)
# What must not be there before it is used: backends, the exporter, and what takes long to import.
HEAVY = {
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "ncnn",
    "tensorrt",
    "tensorrt_rtx",
    "ray",
    "scipy",
    "rich",
    "typer",
}
IMPORTS = """
import facedeploy.export.exporter as exporter
import facedeploy.export.ncnn.convert as convert
import facedeploy
from facedeploy.export import compiler
from facedeploy import export
import sys
assert exporter is sys.modules["facedeploy.export.exporter"]
assert convert is sys.modules["facedeploy.export.ncnn.convert"]
assert compiler is sys.modules["facedeploy.export.compiler"]
assert facedeploy.export is export is exporter.export
assert facedeploy.export.exporter is exporter
"""
BINDING = """
import facedeploy
verb = facedeploy.export
import facedeploy.export.tensorrt
assert facedeploy.export is verb
"""
PROGRAM = """
from pathlib import Path

import numpy as np

import facedeploy
from facedeploy import Artifact, Face, FacedeployError

image = np.zeros((48, 64, 3), np.uint8)
try:
    artifact: Artifact = facedeploy.export("mos-tiny", "onnx-fp32", output=Path("out"))
    with facedeploy.load(artifact, threads=1, options={"score_threshold": 0.5}) as pipeline:
        found: list[Face] = pipeline.detect(image)
        again: list[Face] = facedeploy.detect(pipeline, image, threshold=0.5)
    one: list[Face] = facedeploy.detect("out", "picture.jpg")
    many: list[list[Face]] = facedeploy.detect(artifact, [image, "a.jpg", Path("b.jpg")])
    drawn = facedeploy.draw(image, found)
    problems: tuple[str, ...] = facedeploy.verify(artifact).problems
    names: list[str] = [m.name for m in facedeploy.benchmark(["out"], ["pictures"], threads=1).measurements]
    box: tuple[float, float, float, float] = found[0].box
except facedeploy.ParityError as error:
    raise SystemExit(error.exit_status) from error
except FacedeployError as error:
    print(facedeploy.__version__, error)
wrong: int = facedeploy.load(3)  # type: ignore[arg-type, assignment]
facedeploy.nothing  # type: ignore[attr-defined]
reveal_type(facedeploy.export)
reveal_type(drawn)
"""


def in_fresh_python(program: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def parameters(docstring: str) -> list[str]:
    """The names that the list under `Args:` explains."""
    block = docstring.partition("Args:\n")[2].partition("\n\n")[0]
    return re.findall(r"^    (\w+): \S", block, re.MULTILINE)


def test_names_are_complete() -> None:
    assert sorted(facedeploy.__all__) == [*facedeploy.__all__]
    assert {*VERBS, "Artifact", "Face", "__version__"} < {*facedeploy.__all__}
    assert {n for n, v in vars(errors).items() if inspect.isclass(v)} < {*facedeploy.__all__}
    assert {*facedeploy.__all__} <= {*dir(facedeploy)}
    for name in facedeploy.__all__:
        assert not isinstance(getattr(facedeploy, name), ModuleType), name
    with pytest.raises(AttributeError, match="module 'facedeploy' has no attribute 'nothing'"):
        _ = facedeploy.nothing  # type: ignore[attr-defined]


def test_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert facedeploy.__version__ == metadata.version("facedeploy")

    def version(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", version)
    assert not hasattr(facedeploy, "__version__")


@pytest.mark.parametrize("name", VERBS)
def test_verb_explains_itself(name: str) -> None:
    verb = getattr(facedeploy, name)
    assert inspect.isfunction(verb)
    signature = inspect.signature(verb)
    docstring = inspect.getdoc(verb) or ""
    assert parameters(docstring) == list(signature.parameters), name
    assert "Returns:\n" in docstring
    assert "Raises:\n" in docstring
    shown = pydoc.plain(pydoc.render_doc(verb))
    assert shown.startswith(f"Python Library Documentation: function {name} in module facedeploy.")
    assert all(f"{parameter}: " in shown for parameter in signature.parameters)
    assert docstring.splitlines()[0] in shown
    assert pickle.loads(pickle.dumps(verb)) is verb


@pytest.mark.parametrize("name", sorted({*facedeploy.__all__} - {*VERBS, "__version__"}))
def test_class_explains_itself(name: str) -> None:
    cls = getattr(facedeploy, name)
    assert inspect.isclass(cls)
    assert inspect.getdoc(cls)
    assert "__doc__" in vars(cls)
    assert name in pydoc.plain(pydoc.render_doc(cls))


def test_help_of_the_package_shows_every_verb() -> None:
    shown = pydoc.plain(pydoc.render_doc(facedeploy))
    for name in VERBS:
        assert re.search(rf"^    {name}\(", shown, re.MULTILINE), name
        assert (inspect.getdoc(getattr(facedeploy, name)) or "?").splitlines()[0] in shown
    assert f"VERSION\n    {facedeploy.__version__}\n" in shown


def test_export_is_the_verb_and_its_folder_is_imported_all_the_same() -> None:
    in_fresh_python(IMPORTS)
    in_fresh_python("import facedeploy.export\nimport facedeploy\nassert facedeploy.export.__name__ == 'export'")
    in_fresh_python(BINDING)


def test_verb_can_be_replaced_in_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    before = facedeploy.export
    with monkeypatch.context() as patch:
        patch.setattr("facedeploy.export.exporter._NAME_LIMIT", 3)
        assert importlib.import_module("facedeploy.export.exporter")._NAME_LIMIT == 3
        patch.setattr(facedeploy, "export", len)
        assert vars(facedeploy)["export"] is len
    assert facedeploy.export is before


def test_import_needs_nothing_and_names_need_no_backend() -> None:
    loaded = "import sys, facedeploy\nprint(*{m.partition('.')[0] for m in sys.modules})"
    assert not ({"numpy", "cv2"} | HEAVY) & {*in_fresh_python(loaded).split()}
    used = f"import sys, facedeploy\nfor n in facedeploy.__all__: getattr(facedeploy, n)\n{loaded.splitlines()[1]}"
    assert not HEAVY & {*in_fresh_python(used).split()}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_says_what_it_is_for(package: str) -> None:
    room = importlib.import_module(package)
    assert room.__doc__, f"{package} has no docstring"
    assert room.__all__, f"{package} has no __all__"
    assert len({*room.__all__}) == len(room.__all__)
    for name in room.__all__:
        thing = getattr(room, name, None) or importlib.import_module(f"{package}.{name}")
        assert inspect.getdoc(thing) or not (inspect.ismodule(thing) or inspect.isroutine(thing)), (package, name)


def test_rooms_import_no_backend() -> None:
    program = f"import importlib, sys\nfor name in {PACKAGES}: importlib.import_module(name)\n"
    assert not HEAVY & {*in_fresh_python(program + "print(*{m.partition('.')[0] for m in sys.modules})").split()}


@pytest.mark.slow
def test_users_program_is_typed(tmp_path: Path) -> None:
    """The package says `py.typed`, so a type checker believes it: each name has its own type, and none is Any."""
    assert (ROOT / "facedeploy" / "py.typed").is_file()
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    run = subprocess.run(
        [*command, str(tmp_path / "program.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout
    verb, drawn = [line for line in run.stdout.splitlines() if "note: Revealed type" in line]
    assert "def (model: str, target: str | facedeploy.core.target.Target" in verb
    assert "-> facedeploy.artifact.folder.Artifact" in verb
    assert "numpy.dtype[numpy.unsignedinteger" in drawn
