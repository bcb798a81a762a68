"""MkDocs hooks: what the site shows and no file in docs/ holds.

- reference/command-line.md gets the options of every command from typer, and reference/python.md gets one entry for
  each name of the public interface, so that neither can be out of date.
- Pages that live elsewhere in the repository, such as the model card, become pages of the site.
"""

from __future__ import annotations

import html
import importlib
import inspect
import posixpath
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Where they lie in the repository, and where in the site.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "facedeploy/models/weights/mos-tiny.md": "explanation/mos-tiny-card.md",
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live outside of docs/."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill the two generated references, and point links that leave docs/ at the site's own pages."""
    at = page.file.src_uri
    if at == "reference/command-line.md":
        return markdown + commands()
    if at == "reference/python.md":
        return markdown + interface()
    # A page from elsewhere has links that are relative to where it lies in the repository.
    lies = next((source for source, name in ELSEWHERE.items() if name == at), f"docs/{at}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(lies), link[1]))
        target = ELSEWHERE.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(at) or ".") + (link[2] or "")

    return _LINK.sub(moved, markdown)


def commands() -> str:
    """Every command with its arguments and options, as Markdown, from typer's own tool."""
    tool = [sys.executable, "-m", "typer", "facedeploy.cli.app", "utils", "docs", "--name", "facedeploy"]
    text = subprocess.run(tool, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    # From the first command on: the page itself has the heading, and its table of contents lists the commands.
    text = html.unescape(text[text.index("\n## ") :])
    return re.sub(r"docs/([\w/-]+\.md)", r"[docs/\1](../\1)", text)


def interface() -> str:
    """One mkdocstrings entry for each name of `facedeploy.__all__`, wherever in the package it is defined.

    Verbs come first, then types, then errors.
    """
    package = importlib.import_module("facedeploy")
    found = {name: _definition(getattr(package, name)) for name in package.__all__}
    # `__version__` is a text, which has no docstring.
    shown = {name: value for name, value in found.items() if inspect.isclass(value) or inspect.isfunction(value)}
    return "".join(_entry(name, shown[name]) for name in sorted(shown, key=lambda name: _rank(shown[name])))


def _definition(value: Any) -> Any:
    if isinstance(value, types.ModuleType):  # The verb `export` may be a folder that can be called.
        return importlib.import_module(f"{value.__name__}.exporter").export
    return value


def _rank(value: Any) -> int:
    return inspect.isclass(value) + (inspect.isclass(value) and issubclass(value, Exception))


def _entry(name: str, value: Any) -> str:
    return f'\n::: {value.__module__}.{value.__qualname__}\n    options:\n      heading: "facedeploy.{name}"\n'
