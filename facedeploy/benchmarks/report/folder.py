"""The folder of a report: written whole or not at all, and never over anything else."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedeploy.benchmarks.record import Record
from facedeploy.benchmarks.report.markdown import markdown
from facedeploy.benchmarks.report.page import page
from facedeploy.core.errors import InputError
from facedeploy.core.optional_imports import require
from facedeploy.core.paths import StrPath
from facedeploy.core.serialization import to_plain

FORMAT = "facedeploy-report"
VERSION = 1
DATA, TEXT, PAGE = "report.json", "report.md", "index.html"


@dataclass(frozen=True)
class Report:
    """What `report.json` says.

    Attributes:
        format: Of the file.
        version: Of the format.
        title: Of the report.
        notes: Sentences of what is not in the records.
        records: One for each model and input size.
    """

    format: str
    version: int
    title: str
    notes: tuple[str, ...]
    records: tuple[Record, ...]


def write_report(
    records: Sequence[Record],
    folder: StrPath,
    *,
    title: str,
    images: Mapping[str, StrPath] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write `index.html`, `report.md` and `report.json` into a new folder, or in the place of an older report.

    Args:
        records: One for each model and input size.
        folder: A new folder, or that of an older report.
        title: Of the report.
        images: Name of a picture in the records -> its file. A picture without one is not shown.
        notes: Sentences for the top, such as of an artifact that could not be made.

    Raises:
        InputError: no record, or a folder that is no report or cannot be written.
        BackendUnavailableError: Jinja is not installed.
    """
    if not records or not all(record.measurements for record in records):
        msg = "there is nothing to report: no artifact was measured"
        raise InputError(msg)
    folder = Path(folder)
    check_report_folder(folder)
    report = Report(FORMAT, VERSION, title, tuple(notes), tuple(records))
    contents = {
        PAGE: page(records, title, {name: Path(file) for name, file in (images or {}).items()}, notes),
        TEXT: markdown(records, title, notes),
        DATA: json.dumps(to_plain(report), separators=(",", ":"), allow_nan=False) + "\n",
    }
    try:
        _write(contents, folder.resolve())
    except OSError as error:
        msg = f"cannot write the report {folder}: {error.strerror}"
        raise InputError(msg) from error


def check_report_folder(folder: Path) -> None:
    """See before any work that a report can be written there.

    Raises:
        InputError: it is neither empty nor a report that this package wrote.
        BackendUnavailableError: Jinja is not installed.
    """
    require("jinja2", "report")
    try:
        names = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
        other = sorted(names - {DATA, TEXT, PAGE})
        if folder.exists() and not folder.is_dir():
            msg = f"{folder} is a file: choose another folder for the report"
            raise InputError(msg)
        if other or (names and not _is_report(folder / DATA)):
            msg = f"{folder} holds {(other or sorted(names))[0]}, which no report wrote: choose another folder for it"
            raise InputError(msg)
    except OSError as error:
        msg = f"cannot read {folder}: {error.strerror}"
        raise InputError(msg) from error


def _is_report(file: Path) -> bool:
    """Whether it begins as ours do; the rest may be some hundred megabytes."""
    try:
        with file.open("rb") as data:
            return data.read(64).startswith(f'{{"format":"{FORMAT}",'.encode())
    except OSError:
        return False


def _write(contents: Mapping[str, str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}"[:200], suffix=".partial"))
    old = temporary / "old"
    try:
        new = temporary / "new"
        new.mkdir()
        for name, text in contents.items():
            (new / name).write_text(text, encoding="utf-8")
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
