"""`facedeploy build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import Device, Json, print_json, step


def command(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A trt artifact.", show_default=False)],
    device: Device = "local",
    json: Json = False,
) -> None:
    """Build the TensorRT engines of an artifact for the machine that will run them: this one, or a device."""
    from facedeploy.devices.open import open_device
    from facedeploy.export.build import build

    built = build(artifact, builder=None if device == "local" else open_device(device), progress=step)
    if json:
        print_json({"artifact": str(built.path), "networks": [n.spec.name for n in built.manifest.networks]})
        return
    print(f"{built.path}: {len(built.manifest.networks)} engines built")
