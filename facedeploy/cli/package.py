"""`facedeploy package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    artifact: Annotated[Path, typer.Argument(help="An ncnn artifact.", show_default=False)],
    cpp: Annotated[
        Path, typer.Option("--cpp", "-o", metavar="DIR", help="Folder to write: C++17 for a phone.", show_default=False)
    ],
) -> None:
    """Write a model as C++ for an app: headers, constants, ncnn's files, CMake (docs/mobile.md)."""
    from facedeploy.package.bundle import package_cpp

    print(package_cpp(artifact, cpp))
