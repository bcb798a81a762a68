"""`facedeploy matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import Json, Processes, Ray, complain, print_json, step


def command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.toml", help="TOML file: models, targets, sizes, pictures.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Folder of artifacts, records and the report. Default: STEM-matrix."
        ),
    ] = None,
    processes: Processes = 0,
    ray: Ray = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="TOML file of limits; exit status 1 where one is broken.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Export, verify and measure models x targets x sizes, and write one report. Goes on where it was stopped."""
    from facedeploy.benchmarks.gate import check, read_gate
    from facedeploy.benchmarks.matrix.plan import read_plan
    from facedeploy.benchmarks.matrix.run import run

    limits = None if gate is None else read_gate(gate)
    plan = read_plan(file)
    result = run(plan, output or Path(f"{file.stem}-matrix"), processes=processes, ray=ray, progress=step)
    broken = () if limits is None else check(limits, *result.records)
    if json:
        cells = [
            {"cell": c.name, "artifact": c.path and str(c.path), "refused": c.refused, "problems": list(c.problems)}
            for c in result.cells
        ]
        print_json({"cells": cells, "report": str(result.report), "gate": list(broken)})
    else:
        print(f"{result.report / 'index.html'}: {len(result.cells)} cells, {len(result.records)} records")
    for sentence in (*result.problems, *broken):
        complain(f"facedeploy: {sentence}")
    if result.problems or broken:
        raise typer.Exit(1)
