"""What the documents say of the code is true: links, paths, messages, the list of rooms."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib

from facedeploy.core import errors
from tests.cli.test_readme import ROOT

PAGES = sorted([*ROOT.glob("[A-Z]*.md"), *(ROOT / "docs").rglob("*.md")])
CARD = ROOT / "facedeploy" / "models" / "weights" / "mos-tiny.md"
_GAP = "…"  # In a quoted message: anything.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_heading_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        target = page.parent / link if link else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in headings(target), f"{page.name} links to {link}#{anchor}"
    for path in re.findall(r"`((?:facedeploy|tests|docs|mobile|training|examples)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def headings(page: Path) -> set[str]:
    """The anchors that a page has, as Markdown makes them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = (
        re.sub(r"[^\w\s-]", "", line).strip().lower() for line in re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)
    )
    return {re.sub(r"[\s-]+", "-", line) for line in found}


def test_every_page_that_the_code_names_exists() -> None:
    files = (*(ROOT / "facedeploy").rglob("*.py"), *(ROOT / "training").rglob("*.py"), *(ROOT / "mobile").rglob("*.*"))
    for file in (*files, CARD, ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "mkdocs.yml"):
        if file.is_file() and file.suffix not in {".safetensors"}:
            for path in re.findall(r"\bdocs/[\w./-]+\.(?:md|py)", file.read_text(encoding="utf-8")):
                assert (ROOT / path).is_file(), f"{file.relative_to(ROOT)} names {path}"


def test_every_message_that_is_explained_can_be_said() -> None:
    page = (ROOT / "docs" / "reference" / "messages.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+…[^`]*|[^`…]+ [^`]*)`(?= \|)", page, flags=re.MULTILINE)
    assert len(quoted) > 40
    said = list(texts())
    for message in quoted:
        parts = [re.escape(part.strip()) for part in message.split(_GAP)]
        pattern = re.compile(".*".join(parts), flags=re.DOTALL)
        assert any(pattern.search(text) for text in said), f"nothing says {message!r}"


def texts() -> Iterator[str]:
    """Every text of the package; what is put into one stands as a gap."""
    for file in (ROOT / "facedeploy").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(v.value if isinstance(v, ast.Constant) else _GAP for v in node.values)  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_error_is_explained_with_its_status() -> None:
    page = (ROOT / "docs" / "reference" / "messages.md").read_text(encoding="utf-8")
    kinds = {e.__name__: e.exit_status for e in errors.FacedeployError.__subclasses__()}
    assert {n: int(s) for n, s in re.findall(r"^\| `(\w+Error)` \| (\d) \|", page, flags=re.MULTILINE)} == kinds


def test_the_rooms_are_those_of_the_contract() -> None:
    """Explained in the order in which imports go."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == rooms


@pytest.mark.slow
def test_the_site_builds_and_every_command_and_name_is_in_it(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    commands = (tmp_path / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert "facedeploy detect" in commands
    assert "--calibration" in commands
    python = (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("export", "load", "verify", "benchmark"):
        assert f"facedeploy.{name}" in python
