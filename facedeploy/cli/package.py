"""`facedeploy package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import Json, note, print_json
from facedeploy.core.errors import InputError


def command(
    artifact: Annotated[
        Path,
        typer.Argument(
            metavar="ARTIFACT",
            help="For apps one of ncnn; for Triton one of onnx, openvino or trt.",
            show_default=False,
        ),
    ],
    android: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write: Kotlin, for Gradle.", show_default=False)
    ] = None,
    ios: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write: a Swift package.", show_default=False)
    ] = None,
    cpp: Annotated[
        Path | None,
        typer.Option("--cpp", "-o", metavar="DIR", help="Folder to write: C++17, for CMake.", show_default=False),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write: a model repository, for Triton.", show_default=False),
    ] = None,
    embed: Annotated[bool, typer.Option("--embed", help="Compile the networks in: no file to find.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Layers and blobs get names that say nothing.")] = False,
    json: Json = False,
) -> None:
    """Write a model for an app (docs/guides/mobile-app.md): sources, constants, ncnn's files, a build for each; or for
    Triton Inference Server (docs/guides/serving.md).
    """
    from facedeploy.artifact.folder import Artifact
    from facedeploy.core.terms import TERMS_FILE
    from facedeploy.models.terms import cautions
    from facedeploy.package.bundle import package_android, package_cpp, package_ios
    from facedeploy.package.triton.repository import package_triton

    if android is ios is cpp is triton is None:
        msg = "give --android DIR, --ios DIR, --cpp DIR or --triton DIR, or several of them"
        raise InputError(msg)
    if (embed or strip) and android is ios is cpp is None:
        msg = "--embed and --strip are for apps: leave them out for Triton"
        raise InputError(msg)
    written = []
    for package, folder in ((package_android, android), (package_ios, ios), (package_cpp, cpp)):
        if folder is not None:
            written.append(package(artifact, folder, embed=embed, strip_names=strip))
    if triton is not None:
        written.append(package_triton(artifact, triton))
    if json:
        print_json({"artifact": str(artifact), "written": list(map(str, written))})
    else:
        print(*written, sep="\n")
    for caution in cautions(Artifact.open(artifact)):
        note(f"{caution}; {TERMS_FILE} says so there")
