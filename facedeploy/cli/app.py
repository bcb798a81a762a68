"""The command line. One file per command; each imports what it needs when it runs."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from facedeploy.cli import benchmark, build, detect, doctor, export, models, verify
from facedeploy.errors import FacedeployError

app = typer.Typer(
    name="facedeploy",
    help="Take a face model from a PyTorch checkpoint to TensorRT, OpenVINO, ncnn and ONNX Runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (models, export, verify, detect, benchmark, build, doctor):
    app.command(module.__name__.rpartition(".")[2])(module.command)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        import importlib.metadata

        typer.echo(importlib.metadata.version("facedeploy"))
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 2."""
    # So that a stopped export removes its temporary folder, as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except FacedeployError as error:
        print(f"facedeploy: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader of a pipe left. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
