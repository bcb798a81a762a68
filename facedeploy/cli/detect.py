"""`facedeploy detect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import (
    AnArtifact,
    JsonLines,
    Options,
    RuntimeName,
    Threads,
    With,
    note,
    parse_options,
    parse_runtime,
    print_json,
)


def command(
    artifact: AnArtifact,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="PICTURES", help="Pictures, folders, videos.", show_default=False)
    ],
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="SCORE", help="Leave out faces with a lower score.")
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for pictures with the faces drawn.")] = None,
    with_: With = None,
    landmarks: Annotated[
        Path | None, typer.Option(metavar="ARTIFACT", help="Deprecated: --with.", show_default=False)
    ] = None,
    threads: Threads = 0,
    runtime: RuntimeName = None,
    option: Options = None,
    json: JsonLines = False,
) -> None:
    """Find the faces in pictures, folders of pictures and videos."""
    if landmarks is not None:
        note("facedeploy: --landmarks is deprecated and goes in 0.3.0: use --with")
    from facedeploy.pipelines.detect_files import detect_files

    found = detect_files(
        artifact,
        inputs,
        threshold=threshold or 0.0,
        save=save,
        threads=threads,
        runtime=parse_runtime(runtime),
        options=parse_options(option),
        with_=[*(with_ or ()), *([landmarks] if landmarks else [])],
    )
    for picture in found:
        if json:
            print_json(picture.to_dict())
            continue
        place = str(picture.path) if picture.frame is None else f"{picture.path} frame {picture.frame}"
        print(f"{place}: {len(picture.faces)} {'face' if len(picture.faces) == 1 else 'faces'}")
        for face in picture.faces:
            box = " ".join(f"{v:8.1f}" for v in face.box)
            angles = "".join(
                f"  {n} {getattr(face, n):.0f}" for n in ("yaw", "pitch", "roll") if getattr(face, n) is not None
            )
            classes = "".join(f"  {name} {value:.2f}" for name, value in (face.classes or {}).items())
            print(f"  {face.score:.3f}  {box}{angles}{classes}", flush=True)
