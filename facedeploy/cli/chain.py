"""`facedeploy chain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import Json, With, kilobytes, note, print_json


def command(
    detector: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="Artifact that finds faces.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.", show_default=False)],
    with_: With = None,
    json: Json = False,
) -> None:
    """Make one artifact of a detector and of networks that look at its faces."""
    from facedeploy.models.terms import cautions
    from facedeploy.pipelines.make_chain import make_chain

    made = make_chain(detector, with_ or (), output)
    if json:
        print_json({"artifact": str(made.path), "parts": list(made.parts), "size": made.size})
    else:
        print(f"{made.path}: {', '.join(made.parts)}, {kilobytes(made.size)}")
    for caution in cautions(made):
        note(caution)
