"""`facedeploy export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedeploy.cli.models import note_fetched
from facedeploy.cli.output import (
    Config,
    Detector,
    Family,
    Json,
    Options,
    Weights,
    kilobytes,
    note,
    parse_deform_conv,
    parse_method,
    parse_options,
    parse_size,
    print_json,
    step,
    watch,
)
from facedeploy.models.registry import DEFAULT

if TYPE_CHECKING:
    from facedeploy.artifact.manifest import Calibration
    from facedeploy.core.target import Target


def command(
    target: Annotated[
        str, typer.Option(metavar="TARGET", help="Backend and precision, e.g. openvino-fp16.", show_default=False)
    ],
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model of `facedeploy models`, an ONNX file, or package.module:callable."
        ),
    ] = DEFAULT,
    weights: Weights = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Folder to write. Default: MODEL-TARGET, of a file STEM-TARGET."
        ),
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
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURES|FILE.json",
            help="int8: pictures such as the model will see, or a table of `facedeploy calibrate`. The default model "
            "has its own table.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="int8: how clips are chosen: mse, kl, percentile or minmax.")
    ] = "mse",
    count: Annotated[int, typer.Option(min=1, metavar="N", help="int8: pictures to draw from --calibration.")] = 300,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="int8: points of AP that may be lost on held-back pictures; the worst layers stay in float.",
            show_default=False,
        ),
    ] = None,
    float_layer: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="int8: layers that stay in float. Repeatable.")
    ] = None,
    int8_layer: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="int8: layers to quantise against the rules. Repeatable."),
    ] = None,
    detector: Detector = None,
    force: Annotated[bool, typer.Option(help="int8: write the artifact even if it is far off.")] = False,
    require_faster: Annotated[
        bool, typer.Option("--require-faster", help="int8: refuse it where it is slower than fp32 on this machine.")
    ] = False,
    config: Config = None,
    family: Family = None,
    option: Options = None,
    json: Json = False,
) -> None:
    """Compile a model for a target, compare it with the original, and write an artifact."""
    from facedeploy.calibration.quantize_plan import Int8Options
    from facedeploy.core.serialization import to_plain
    from facedeploy.export.exporter import export
    from facedeploy.models.terms import cautions

    note_fetched(model, weights)
    int8 = Int8Options(
        calibration,
        parse_method(method),
        count,
        max_drop,
        tuple(float_layer or ()),
        tuple(int8_layer or ()),
        force,
        detector,
        require_faster,
    )
    artifact = export(
        model,
        target,
        weights,
        output,
        input_size=parse_size(input_size),
        deform_conv=parse_deform_conv(deform_conv),
        config=config,
        options=parse_options(option),
        family=family,
        int8=None if int8 == Int8Options() else int8,
        progress=step,
        watch=watch,
    )
    manifest = artifact.manifest
    for text in manifest.notes:
        note(text)
    if json:
        print_json(
            {
                "artifact": str(artifact.path),
                "size": artifact.size,
                "parity": to_plain(manifest.parity),
            }
        )
        return
    if manifest.recognised:
        taken = manifest.settings["family"]
        note(f"taken as {taken}: {manifest.recognised}; --family or a TOML file says otherwise")
    worst = max(manifest.parity, key=lambda row: row.max_abs)
    networks = f"{len(manifest.networks)} network{'' if len(manifest.networks) == 1 else 's'}"
    original = "the ONNX file" if manifest.origin == "onnx" else "PyTorch"
    print(
        f"{artifact.path}: {networks}, {kilobytes(artifact.size)}; largest difference from {original} "
        f"{worst.max_abs:.2g} ({worst.network}.{worst.output})"
    )
    if manifest.calibration and manifest.calibration.faster:
        note(_speed(manifest.target, manifest.calibration))
    if manifest.origin != "registry" and any("" in n.float32 for n in manifest.networks):
        note("half precision changes the answers too much, so all of it stays in float32; are mean and scale right?")
    if any(n.engine == "pending" for n in manifest.networks):
        note("engine: pending. No TensorRT here; run `facedeploy build` on the device to finish the artifact.")
    elif any(n.engine == "ready" for n in manifest.networks):
        note("engine: ready.")
    for caution in cautions(artifact):
        note(caution)


def _speed(target: Target, calibration: Calibration) -> str:
    """What int8 gains on the machine that exported it, in a sentence."""
    assert calibration.faster is not None
    times = f"{1 / calibration.faster:.2f} times as long as {target.backend}-fp32"
    here = f"{target} takes {times} here ({calibration.machine})"
    if target.backend == "ncnn":
        return f"{here}; what it takes on a phone, `facedeploy benchmark --device adb://SERIAL` tells"
    return f"{here}; --require-faster refuses what is slower" if calibration.faster < 1 else here
