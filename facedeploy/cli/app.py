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
from facedeploy.cli.defaults import FILE, Option, read_defaults
from facedeploy.cli.ending import end
from facedeploy.cli.everywhere import Command, Group, with_common_options
from facedeploy.core.errors import InputError
from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.system import on_signal, print_anything

app = typer.Typer(
    name="facedeploy",
    cls=Group,
    help="Take a face model from a PyTorch checkpoint to TensorRT, OpenVINO, ncnn and ONNX Runtime.",
    no_args_is_help=True,
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
OPTIONS: dict[str, dict[str, Option]] = {}
for module in _COMMANDS:
    name = module.__name__.rpartition(".")[2]
    function, OPTIONS[name] = with_common_options(name, module.command)
    app.command(name, cls=Command)(function)


def _print_version(wanted: bool) -> None:
    if wanted:
        if (version := installed_versions("facedeploy").get("facedeploy")) is None:
            msg = "facedeploy is not installed, so its version is not known: run `pip install .`"
            raise InputError(msg)
        typer.echo(version)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    context.default_map = read_defaults(FILE, OPTIONS)


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 2."""
    # So that a stopped export removes its temporary folder, as it does after Ctrl-C.
    on_signal("SIGTERM", lambda *_: sys.exit(143))
    # Typer answers a closed pipe with status 1, which here means that the answer is no. Die of it, as others do.
    on_signal("SIGPIPE", lambda *_: os._exit(141))
    print_anything()
    end(app)
