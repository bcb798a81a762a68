"""`facedeploy verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import (
    AnArtifact,
    DeviceOrPhone,
    Json,
    Options,
    RuntimeName,
    Threads,
    complain,
    note,
    parse_options,
    parse_runtime,
    print_json,
    print_table,
    step,
)


def command(
    artifact: AnArtifact,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Checkpoint file, folder of checkpoint files, or ONNX file. The default model needs none; of a chain "
            "those of its parts, repeatable.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="PICTURES", help="Picture or folder to compare the faces on. Repeatable."),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(metavar="PACKAGE.MODULE:CALLABLE", help="What makes the network, where a callable does."),
    ] = None,
    device: DeviceOrPhone = "local",
    threads: Threads = 0,
    runtime: RuntimeName = None,
    option: Options = None,
    json: Json = False,
) -> None:
    """Compare an artifact with what it was made from: configuration, outputs, faces. Exit status 1 when it is off."""
    from facedeploy.core.serialization import to_plain
    from facedeploy.devices.open import open_device
    from facedeploy.verification.verify import verify

    result = verify(
        artifact,
        weights or (),
        images or (),
        factory=factory,
        threads=threads,
        runtime=parse_runtime(runtime),
        options=parse_options(option),
        device=None if device == "local" else open_device(device),
        progress=step,
    )
    if json:
        print_json(to_plain(result))
    else:
        if result.outputs:
            rows = [
                (f"{r.network}.{r.output}", r.runtime, f"{r.max_abs:.2e}", f"{r.relative_l2:.2e}", f"{r.cosine:.8f}")
                for r in result.outputs
            ]
            print_table(("output", "runtime", "max abs", "relative L2", "cosine"), rows)
        if result.faces is not None:
            f = result.faces
            print(
                f"faces on {f.pictures} pictures: {f.matched} the same, {f.missing} missing, {f.extra} extra; "
                f"largest differences: box {f.box:.3f} px, landmark {f.landmarks:.3f} px, score {f.score:.1e}"
                + (f", angle {f.angle:.1e} degrees" if f.angle else "")
                + (f"; landmarks of a face {f.points:.3f} % of the box" if f.points else "")
                + (f", cosine {f.cosine:.6f}" if f.cosine < 1 else "")
                + (f", class {f.classes:.1e}" if f.classes else "")
            )
        for line in result.notes:
            note(f"facedeploy: {line}")
        if not result.problems:
            print("verified")
    if result.problems:
        for problem in result.problems:
            complain(f"facedeploy: {problem}")
        raise typer.Exit(1)
