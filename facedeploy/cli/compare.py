"""`facedeploy compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import Json, print_json


def command(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="Record that `benchmark --save` wrote.", show_default=False)
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A later one.", show_default=False)],
    json: Json = False,
) -> None:
    """Compare two records of `benchmark`: what became faster or slower, and what is only noise."""
    from facedeploy.benchmarks.compare import compare_records
    from facedeploy.benchmarks.record_file import read_record
    from facedeploy.core.serialization import to_plain

    result = compare_records(read_record(old), read_record(new))
    if json:
        print_json(to_plain(result))
        return
    for line in result.lines:
        print(line)
    for which, names in (("old", result.only_old), ("new", result.only_new)):
        if names:
            print(f"only in the {which} record: {', '.join(names)}")
    for remark in result.remarks:
        print(f"note: {remark}")
