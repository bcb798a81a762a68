"""`facedeploy benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedeploy.cli.output import (
    Json,
    Options,
    RuntimeName,
    Threads,
    kilobytes,
    parse_options,
    parse_runtime,
    print_json,
    print_table,
)


def command(
    artifacts: Annotated[
        list[Path],
        typer.Argument(help="Artifacts; the first is the one to compare with.", show_default=False),
    ],
    images: Annotated[
        list[Path],
        typer.Option(help="Picture or folder of pictures. Repeatable.", show_default=False),
    ],
    threads: Threads = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Times each picture is measured.")] = 30,
    warmup: Annotated[int, typer.Option(min=0, help="Times before that, not measured.")] = 5,
    max_drop: Annotated[
        float, typer.Option(min=0, metavar="POINTS", help="AP that the fastest may lose against the first.")
    ] = 0.5,
    runtime: RuntimeName = None,
    option: Options = None,
    json: Json = False,
) -> None:
    """Time whole pipelines, picture in and faces out, side by side in one run."""
    from facedeploy.benchmarks.latency import benchmark
    from facedeploy.plain import to_plain

    report = benchmark(
        artifacts,
        images,
        threads=threads,
        rounds=rounds,
        warmup=warmup,
        runtime=parse_runtime(runtime),
        options=parse_options(option),
        max_drop=max_drop,
    )
    if json:
        print_json(to_plain(report))
        return
    first = report.rows[0]
    print(
        f"{len(report.pictures)} pictures, {report.rounds} rounds after {report.warmup} of warm-up, "
        f"{first.runtime['threads']} threads; milliseconds; "
        f"faster: times {first.model} {first.target}; than network: times its networks alone"
    )
    print_table(
        (
            "model",
            "target",
            "version",
            "size",
            "load",
            "first",
            "p50",
            "p90",
            "p99",
            "network",
            "host",
            "faces",
            "AP lost",
            "faster",
            "than network",
        ),
        [
            (
                r.model,
                r.target,
                str(r.runtime["version"]).split("-")[0],
                kilobytes(r.size),
                f"{r.load:.0f}",
                f"{r.first:.1f}",
                f"{r.p50:.1f}",
                f"{r.p90:.1f}",
                f"{r.p99:.1f}",
                f"{r.network:.1f}",
                f"{r.host:.0%}",
                r.faces,
                "-" if r.lost is None else f"{r.lost:.1f}",
                f"{r.ratio:.2f}",
                f"{r.network_ratio:.2f}",
            )
            for r in report.rows
        ],
    )
    if report.fastest is not None:
        chosen = next(r for r in report.rows if r.artifact == report.fastest)
        print(
            f"fastest with at most {max_drop:g} points of AP lost against {first.target} on these pictures: "
            f"{chosen.artifact} ({chosen.target}, {chosen.ratio:.2f} times)"
        )
