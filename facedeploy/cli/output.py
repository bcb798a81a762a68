"""What the commands share: options, tables, progress."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import read_size

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document (docs/reference/json.md).")]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON Lines, a document for each answer (docs/reference/json.md).")
]
Threads = Annotated[int, typer.Option(min=0, metavar="N", help="CPU threads; 0 takes every core.", show_default=True)]
Device = Annotated[
    str,
    typer.Option(
        metavar="local|ssh://[USER@]HOST[:PORT]",
        help="Machine that does the work (docs/guides/devices.md).",
    ),
]
DeviceOrPhone = Annotated[
    str,
    typer.Option(
        metavar="local|ssh://[USER@]HOST[:PORT]|adb://[SERIAL]?runner=PATH",
        help="Machine that does the work (docs/guides/devices.md), or phone (docs/guides/phones.md).",
    ),
]
Processes = Annotated[int, typer.Option(min=0, metavar="N", help="That compute accuracy; 0 takes every core.")]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Ray cluster that computes accuracy; `local` starts one here."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "-O",
        "--option",
        metavar="KEY=VALUE",
        help="Pipeline option, e.g. -O min_face=20. Repeatable.",
    ),
]
RuntimeName = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="onnxruntime",
        help="Run a TensorRT artifact's ONNX file in ONNX Runtime.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIR",
        help="Checkpoint file, or the folder with a model's checkpoint files. The default model needs none.",
        show_default=False,
    ),
]

Detector = Annotated[
    Path | None,
    typer.Option(
        metavar="ARTIFACT",
        help="int8 of a network that looks at faces: calibrate on those that this artifact finds. "
        "Default: each picture is the crop of one.",
        show_default=False,
    ),
]
With = Annotated[
    list[Path] | None,
    typer.Option(
        "--with",
        metavar="ARTIFACT",
        help="Artifact that looks at the faces found: landmarks, pose, embedding, classes. Repeatable.",
        show_default=False,
    ),
]
AnArtifact = Annotated[
    Path,
    typer.Argument(metavar="ARTIFACT", help="Folder that `export` wrote.", show_default=False),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="TOML file that describes your network (docs/guides/own-model.md). Default: that beside the ONNX file.",
        show_default=False,
    ),
]
Family = Annotated[
    str | None,
    typer.Option(
        metavar="FAMILY",
        help="What the head of your network is, e.g. scrfd. Default: what its TOML file says, or what it looks like.",
        show_default=False,
    ),
]


JSON_VERSION = 1  # Of what --json prints; CONTRIBUTING.md says when it is raised.
_ENDLESS = 1 << 20  # Characters of a line.


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Read KEY=VALUE pairs; a value is JSON (`20`, `[0.6,0.7,0.7]`) or plain text.

    Raises:
        InputError: a pair has no `=`.
    """
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            msg = f"-O takes KEY=VALUE, not {pair!r}"
            raise InputError(msg)
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def parse_size(text: str | None) -> Any:
    """Read HEIGHTxWIDTH, or `any`.

    Raises:
        InputError: it is not two numbers between 1 and 16384.
    """
    if text in (None, "any"):
        return text
    size = read_size(text or "")
    if size is None:
        msg = f"--input-size takes HEIGHTxWIDTH such as 480x640, or any, not {text!r}"
        raise InputError(msg)
    return size


def parse_method(text: str) -> Any:
    """Read --method.

    Raises:
        InputError: it is not a way to choose clips.
    """
    if text not in ("mse", "kl", "percentile", "minmax"):
        msg = f"--method takes mse, kl, percentile or minmax, not {text!r}"
        raise InputError(msg)
    return text


def parse_deform_conv(text: str | None) -> Any:
    """Read --deform-conv.

    Raises:
        InputError: it is not a form of a deformable convolution.
    """
    if text not in (None, "native", "gridsample"):
        msg = f"--deform-conv takes native or gridsample, not {text!r}"
        raise InputError(msg)
    return text


def parse_runtime(text: str | None) -> Any:
    """Read --runtime.

    Raises:
        InputError: it is not a runtime that can stand in for another.
    """
    if text not in (None, "onnxruntime"):
        msg = f"--runtime takes onnxruntime, not {text!r}"
        raise InputError(msg)
    return text


def print_json(data: Mapping[str, Any]) -> None:
    """One line of JSON on stdout, with a version: that of the data where it has one."""
    print(json.dumps({"version": JSON_VERSION, **data}, allow_nan=False), flush=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns on stdout: numbers to the right, text to the left.

    A terminal folds what is wider than itself; anything else gets plain text, a line for each row, however long.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(force_terminal=terminal, highlight=False, width=None if terminal else _ENDLESS)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    cells = [[str(c) for c in row] for row in rows]
    for title, column in zip(header, zip(*cells, strict=True) if cells else ((),) * len(header), strict=True):
        numeric = bool(column) and all(re.fullmatch(r"[-+\d.,e%x ]*|-", c) for c in column)
        table.add_column(Text(title), justify="right" if numeric else "left", overflow="fold", no_wrap=not terminal)
    for row in cells:
        table.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip(" ") for line in captured.get().split("\n")), end="")


class _Voice:
    """How much is said on stderr."""

    quiet = False
    verbose = False
    audited = False
    began = time.monotonic()


def listen(*, quiet: bool, verbose: bool) -> None:
    """Say less, or more, from now on."""
    _Voice.quiet, _Voice.verbose, _Voice.began = quiet, verbose, time.monotonic()
    if quiet:
        sys.stderr.isatty = lambda: False  # type: ignore[method-assign]  # No progress bar, whoever draws it.
    if verbose and not _Voice.audited:
        _Voice.audited = True
        sys.addaudithook(_tell_processes)


def is_verbose() -> bool:
    return _Voice.verbose


def _tell_processes(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and _Voice.verbose:
        command = arguments[1]
        step(f"run {command if isinstance(command, str) else shlex.join(map(str, command))}")


def complain(text: str) -> None:
    """A line on stderr that is always printed: what is wrong."""
    with contextlib.suppress(OSError):  # A full stderr is no reason to lose the answer.
        print(text, file=sys.stderr, flush=True)


def note(text: str) -> None:
    """A line on stderr, for a person who watches."""
    if not _Voice.quiet:
        complain(text)


def step(text: str) -> None:
    """Progress of long work: shown on a terminal, silent in a pipe; with -v everywhere, and with the time."""
    if _Voice.verbose:
        note(f"{time.monotonic() - _Voice.began:8.2f} s  {text}")
    elif sys.stderr.isatty():
        note(f"  {text}")


def kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"


def watch(files: Sequence[Path], title: str) -> Iterable[Path]:
    """The files, behind a progress bar on a terminal."""
    from tqdm import tqdm

    shown: Iterable[Path] = tqdm(files, title, unit="picture", file=sys.stderr, disable=not sys.stderr.isatty())
    return shown
