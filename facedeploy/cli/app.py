"""The command line. One file per command; each imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from facedeploy.cli import (
    benchmark,
    build,
    calibrate,
    chain,
    compare,
    detect,
    doctor,
    export,
    inspect,
    matrix,
    models,
    package,
    verify,
)
from facedeploy.core.errors import FacedeployError
from facedeploy.core.system import on_signal, print_anything

app = typer.Typer(
    name="facedeploy",
    help="Take a face model from a PyTorch checkpoint to TensorRT, OpenVINO, ncnn and ONNX Runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    models,
    inspect,
    export,
    verify,
    detect,
    chain,
    calibrate,
    benchmark,
    compare,
    matrix,
    build,
    package,
    doctor,
)
for module in _COMMANDS:
    app.command(module.__name__.rpartition(".")[2])(module.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(importlib.metadata.version("facedeploy"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 2."""
    # So that a stopped export removes its temporary folder, as it does after Ctrl-C.
    on_signal("SIGTERM", lambda *_: sys.exit(143))
    # Typer answers a closed pipe with status 1, which here means that the answer is no. Die of it, as others do.
    on_signal("SIGPIPE", lambda *_: os._exit(141))
    print_anything()
    try:
        app()
    except FacedeployError as error:
        print(f"facedeploy: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
