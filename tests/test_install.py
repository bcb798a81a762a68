"""What is installed: what each extra asks for, which Python make takes, and what is in a wheel."""

from __future__ import annotations

import ast
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from facedeploy.core import optional_imports
from facedeploy.core.optional_imports import LazyModule
from facedeploy.core.serialization import read_toml_tables
from facedeploy.core.version_ranges import DISTRIBUTIONS

ROOT = Path(__file__).parents[1]
PROJECT = read_toml_tables(ROOT / "pyproject.toml")["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
RUNNING = ("onnx", "openvino", "ncnn", "tensorrt")
EXPORTING = {"torch", "pnnx", "onnx", "onnxscript", "onnxsim", "safetensors"}


def asked(extra: str, python: str = "3.11") -> dict[str, str]:
    """Each package that an extra asks for under a Python, and its range; extras that it names are followed."""
    found: dict[str, str] = {}
    for line in EXTRAS[extra]:
        one = Requirement(line)
        if one.name == PROJECT["name"]:
            for other in one.extras:
                found |= asked(other, python)
        elif one.marker is None or one.marker.evaluate({"python_version": python}):
            found[one.name] = str(one.specifier)
    return found


def all_that_comes(names: set[str]) -> set[str]:
    """These packages, and what they ask for in turn, as the metadata of those that are installed here says."""
    seen: set[str] = set()
    todo = [n.lower().replace("_", "-") for n in names]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted = [Requirement(line) for line in lines]
        todo += [
            r.name.lower().replace("_", "-") for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})
        ]
    return seen


@pytest.mark.parametrize("extra", RUNNING)
def test_what_runs_an_artifact_asks_for_nothing_of_the_exporter(extra: str) -> None:
    assert not asked(extra).keys() & EXPORTING
    assert not all_that_comes({*asked(extra)}) & EXPORTING


def test_the_exporter_does_ask_for_it() -> None:
    """The control of the test above: it follows what packages ask for."""
    assert asked("export").keys() >= EXPORTING
    if shutil.which("pnnx"):
        assert "torch" in all_that_comes({"pnnx"})


def test_only_for_python_310_running_asks_for_onnx() -> None:
    """ONNX Runtime without DeformConv: what has one is written anew when it is opened."""
    assert asked("onnx", "3.10").keys() == {"onnxruntime", "onnx"}
    for python in ("3.11", "3.12", "3.13"):
        assert asked("onnx", python).keys() == {"onnxruntime"}


def test_all_is_every_extra_for_users() -> None:
    everything = asked("all").keys()
    for extra in EXTRAS.keys() - {"all", "dev", "docs", "ray", "tensorrt"}:
        assert asked(extra).keys() <= everything, extra


@pytest.mark.parametrize("python", ["3.10", "3.11"])
def test_a_package_has_one_range(python: str) -> None:
    """`facedeploy doctor` compares with the range of the first extra that names a package."""
    ranges: dict[str, set[str]] = {}
    for extra in EXTRAS:
        for name, specifier in asked(extra, python).items():
            ranges.setdefault(name, set()).add(specifier)
    assert {n for n, s in ranges.items() if len(s) > 1} <= {"cuda-python"}


def _requires() -> Iterator[tuple[str, str, str]]:
    """Where the code names an extra: the place, the module and the extra."""
    for path in sorted((ROOT / "facedeploy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                if len(words) == 2:
                    yield f"{path.name}:{node.lineno}", str(words[0]), str(words[1])
    for name in optional_imports.__all__:
        lazy = getattr(optional_imports, name)
        if isinstance(lazy, LazyModule):
            yield name, vars(lazy)["_module"], vars(lazy)["_extra"]


def test_an_error_names_an_extra_that_brings_the_module() -> None:
    named, come_from = list(_requires()), metadata.packages_distributions()
    assert len(named) > 15
    for place, module, extra in named:
        top = module.split(".")[0]
        brought = all_that_comes({*asked(extra, "3.10")})  # onnx is in [onnx] for that Python only.
        packages = DISTRIBUTIONS.get(top) or come_from.get(top, [top])
        assert brought & {p.lower() for p in packages}, f"{place}: {module} is not in [{extra}]"


@pytest.mark.parametrize(("name", "found"), [("facedeploy", True), ("facedeploy-of-nobody", False)])
def test_the_command_that_messages_name_needs_no_index(name: str, found: bool) -> None:
    """Pip keeps the package that is installed, from wherever it came, and gets what the extra asks for."""
    if find_spec("pip") is None:
        pytest.skip("there is no pip here")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", f"{name}[onnx]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is found, done.stderr


def make(*words: str, path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make with nothing but `path` to find Python in, and do nothing."""
    tools = path / "tools"
    tools.mkdir(exist_ok=True)
    for tool in ("sed", "sh"):
        if not (tools / tool).exists():
            (tools / tool).symlink_to(shutil.which(tool) or tool)
    command = [shutil.which("make") or "make", "-n", *words, *(f"{k}={v}" for k, v in variables.items())]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTHON"))}
    environment = {**kept, "PATH": f"{path}:{tools}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def offer(folder: Path, name: str, *, suits: bool = True) -> None:
    """A Python in a folder: this one, or one that is too old, or has no venv."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n' if suits else "#!/bin/sh\nexit 1\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@needs_make
@pytest.mark.parametrize(
    ("suit", "others", "taken"),
    [
        (("python3.13", "python3"), (), "python3.13"),
        (("python3.11", "python3.12"), (), "python3.11"),
        (("python3.12",), ("python3.11", "python3"), "python3.12"),
        (("python3",), ("python3.10",), "python3"),
    ],
)
def test_make_finds_a_python(suit: tuple[str, ...], others: tuple[str, ...], taken: str, tmp_path: Path) -> None:
    for name in suit:
        offer(tmp_path, name)
    for name in others:
        offer(tmp_path, name, suits=False)
    done = make("-B", "install", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{taken} -m venv .venv\n" in done.stdout
    assert f"is made with {taken}," in done.stdout


@needs_make
def test_make_says_that_there_is_no_python(tmp_path: Path) -> None:
    offer(tmp_path, "python3", suits=False)
    for target in ("install", "wheel"):
        done = make("-B", target, path=tmp_path)
        assert done.returncode == 2
        assert "there is no Python 3.10 to 3.13 with venv here: install one" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    named = make("-B", "install", path=tmp_path, PYTHON="/opt/mine/python")
    assert "/opt/mine/python -m venv .venv\n" in named.stdout


@needs_make
def test_make_takes_pytorch_for_the_cpu(tmp_path: Path) -> None:
    offer(tmp_path, "python3.11")
    (version,) = re.findall(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    plain = make("-B", "install", path=tmp_path).stdout
    assert f" torch=={version}+cpu 2>" in plain


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheel` packs, unpacked; with the setuptools that is here, which downloads nothing."""
    # Not imported: it must come before distutils, which anything may have imported here.
    if find_spec("setuptools") is None or int(metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("there is no setuptools from 77 on here")
    folder = tmp_path_factory.mktemp("wheel")
    files = [p for p in ROOT.iterdir() if p.name in ("facedeploy", "mobile", "tests", "training") or p.is_file()]
    for path in files:
        if path.is_dir():
            shutil.copytree(path, folder / path.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name != ".git":
            shutil.copy(path, folder)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next((folder / "dist").glob("*.whl"))) as packed:
        packed.extractall(folder / "installed")
    return folder / "installed"


def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    tops = {p.name for p in wheel.iterdir()}
    assert tops == {"facedeploy", f"facedeploy-{PROJECT['version']}.dist-info"}
    for path in sorted(p for p in (ROOT / "facedeploy").rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        place = wheel / "facedeploy" / path.relative_to(ROOT / "facedeploy")
        assert place.is_file(), place
    assert (wheel / f"facedeploy-{PROJECT['version']}.dist-info" / "licenses" / "LICENSE").is_file()


def test_a_wheel_works_from_where_it_is(wheel: Path, tmp_path: Path) -> None:
    """And doctor compares with what that wheel asks for."""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    code = "import facedeploy, facedeploy.core.version_ranges as v; print(facedeploy.__file__, v.wanted('onnxruntime'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.stdout.split() == [str(wheel / "facedeploy" / "__init__.py"), asked("onnx", python)["onnxruntime"]]
    version = [sys.executable, "-m", "facedeploy", "--version"]
    told = subprocess.run(version, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == PROJECT["version"]
