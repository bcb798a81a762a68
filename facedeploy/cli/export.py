"""`facedeploy export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import (
    Json,
    Options,
    Weights,
    kilobytes,
    note,
    parse_deform_conv,
    parse_options,
    parse_size,
    print_json,
    step,
)
from facedeploy.models.registry import DEFAULT


def command(
    target: Annotated[str, typer.Option(help="Backend and precision, e.g. openvino-fp16.", show_default=False)],
    model: Annotated[str, typer.Argument(help="A model of `facedeploy models`.")] = DEFAULT,
    weights: Weights = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write. Default: MODEL-TARGET.")
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH|any",
            help="Size of the network's input; for MTCNN the largest picture that TensorRT is built for.",
        ),
    ] = None,
    deform_conv: Annotated[
        str | None,
        typer.Option(
            metavar="native|gridsample",
            help="Form of deformable convolutions. Default: what suits the backend.",
        ),
    ] = None,
    option: Options = None,
    json: Json = False,
) -> None:
    """Compile a model for a target, compare it with PyTorch, and write an artifact."""
    from facedeploy.export.exporter import export
    from facedeploy.plain import to_plain

    artifact = export(
        model,
        target,
        weights,
        output,
        input_size=parse_size(input_size),
        deform_conv=parse_deform_conv(deform_conv),
        options=parse_options(option),
        progress=step,
    )
    manifest = artifact.manifest
    if json:
        print_json(
            {
                "artifact": str(artifact.path),
                "size": artifact.size,
                "parity": to_plain(manifest.parity),
            }
        )
        return
    worst = max(manifest.parity, key=lambda row: row.max_abs)
    print(
        f"{artifact.path}: {len(manifest.networks)} networks, {kilobytes(artifact.size)}; largest difference from "
        f"PyTorch {worst.max_abs:.2g} ({worst.network}.{worst.output})"
    )
    if any(n.engine == "pending" for n in manifest.networks):
        note("engine: pending. No TensorRT here; run `facedeploy build` on the device to finish the artifact.")
    elif any(n.engine == "ready" for n in manifest.networks):
        note("engine: ready.")
