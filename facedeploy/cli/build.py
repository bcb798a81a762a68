"""`facedeploy build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import step


def command(
    artifact: Annotated[Path, typer.Argument(help="A trt artifact.", show_default=False)],
) -> None:
    """Build the TensorRT engines of an artifact for this machine, on the device that will run them."""
    from facedeploy.export.build import build

    built = build(artifact, progress=step)
    print(f"{built.path}: {len(built.manifest.networks)} engines built")
