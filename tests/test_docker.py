"""`docker/`: what can be known of a Dockerfile without an engine that builds it."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docker").iterdir())
INSTRUCTIONS = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions(file: Path) -> list[tuple[str, str]]:
    """Keyword and the rest, with the arguments that have defaults filled in."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.split(None, 1) for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    defaults = dict(rest.split("=", 1) for keyword, rest in lines if keyword == "ARG")
    return [(keyword, re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], rest)) for keyword, rest in lines]


def sources(file: Path) -> list[str]:
    """What is copied from the clone."""
    found = [rest.split()[:-1] for keyword, rest in instructions(file) if keyword == "COPY" and "--from" not in rest]
    return [name for names in found for name in names]


def sent(name: str) -> bool:
    """Whether .dockerignore lets a name at the root through: the last line that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(name, line.removeprefix("!")):
            kept = line.startswith("!")
    return kept


def test_there_is_one_for_servers_and_one_for_jetsons() -> None:
    assert [f.name for f in FILES] == ["Dockerfile", "Dockerfile.jetpack"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_instructions_are_known_and_bases_have_a_tag(file: Path) -> None:
    read = instructions(file)
    assert {keyword for keyword, _ in read} <= INSTRUCTIONS
    for base in (rest.split()[0] for keyword, rest in read if keyword == "FROM"):
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", base), base
    assert read[-2:] == [("ENTRYPOINT", '["facedeploy"]'), ("CMD", '["--help"]')]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_what_is_copied_is_there_and_is_sent(file: Path) -> None:
    for name in sources(file):
        found = [p.name for p in ROOT.glob(name)]
        assert found or "*" in name, f"{file.name} copies {name}"
        assert all(sent(each) for each in found), f".dockerignore leaves {name} out"


@pytest.mark.parametrize("name", [".git", "build", "examples", "photo.jpg", "weights", "mos-tiny-openvino-fp32"])
def test_what_lies_about_is_not_sent(name: str) -> None:
    assert not sent(name)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_its_steps_are_shell_and_its_extras_exist(file: Path) -> None:
    for keyword, rest in instructions(file):
        if keyword == "RUN":
            command = re.sub(r"--mount=\S+\s+", "", rest)
            subprocess.run(["sh", "-n", "-c", command], check=True)
            for extras in re.findall(r"\[([\w,-]+)\]", command):
                assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_a_wheel_of_what_is_copied_is_whole(file: Path, tmp_path: Path) -> None:
    """Built from nothing else, it has every file of the package that the clone has."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    source.mkdir()
    for path in (p for name in sources(file) for p in ROOT.glob(name)):
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    have = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("facedeploy/")}
    paths = [p for p in (ROOT / "facedeploy").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    want = {str(p.relative_to(ROOT)) for p in paths if p.suffix == ".py" or "mobile" in p.parts}
    assert want <= have, sorted(want - have)
