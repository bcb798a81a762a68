"""What the project keeps in step by hand: the changelog, the hooks before a commit, the templates for issues."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from facedeploy.cli.app import app

ROOT = Path(__file__).parents[1]
HOOKS = ROOT / ".pre-commit-config.yaml"
TEMPLATES = sorted((ROOT / ".github").rglob("*.*"))
RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_hooks_before_a_commit_are_what_make_lint_runs() -> None:
    (recipe,) = re.findall(r"^lint: install\n((?:\t.+\n)+)", text(ROOT / "Makefile"), re.MULTILINE)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    assert re.findall(r"^ +entry: (.+)$", text(HOOKS), re.MULTILINE) == commands
    assert len(commands) >= 4


def test_the_hooks_are_valid_and_download_nothing() -> None:
    pytest.importorskip("pre_commit")
    tool = [sys.executable, "-m", "pre_commit", "validate-config", str(HOOKS)]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r"repo: (.+)", text(HOOKS))) == {"local"}
    assert set(re.findall(r"language: (.+)", text(HOOKS))) == {"system"}


def test_the_changelog_begins_with_this_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', text(ROOT / "pyproject.toml"), re.MULTILINE)
    changelog = text(ROOT / "CHANGELOG.md")
    releases = RELEASE.findall(changelog)
    assert releases[0][0] == version
    assert len(releases) == len(re.findall(r"^## ", changelog, re.MULTILINE)) - changelog.count("\n## [Unreleased]\n")
    assert [d for _, d in releases] == sorted((d for _, d in releases), reverse=True)
    numbers = [tuple(map(int, v.split("."))) for v, _ in releases]
    assert numbers == sorted(set(numbers), reverse=True)
    assert set(re.findall(r"^### (.+)$", changelog, re.MULTILINE)) <= KINDS


def test_commands_that_templates_name_exist() -> None:
    known = typer.main.get_command(app)
    named = {name for path in TEMPLATES for name in re.findall(r"`facedeploy (\w+)", text(path))}
    assert "doctor" in named
    assert named <= set(known.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [p for p in TEMPLATES if p.suffix == ".yml"], ids=lambda p: p.stem)
def test_templates_are_readable(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load(text(path))
    if path.stem == "config":
        return
    assert form.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)
