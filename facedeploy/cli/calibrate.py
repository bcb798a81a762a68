"""`facedeploy calibrate`."""

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
    Threads,
    note,
    parse_method,
    parse_size,
    print_json,
    print_table,
    step,
    watch,
)
from facedeploy.models.registry import DEFAULT

if TYPE_CHECKING:
    from facedeploy.artifact.loss import Loss
    from facedeploy.calibration.report import CalibrationReport

_COLUMNS = ("AP lost", "landmarks %", "degrees", "embedding %", "classes %", "outputs %")


def command(
    images: Annotated[
        list[Path],
        typer.Option(
            metavar="PICTURES",
            help="Pictures such as the model will see: a file or a folder. Repeatable.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model of `facedeploy models`, an ONNX file, package.module:callable, or a chain."
        ),
    ] = DEFAULT,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Checkpoint file, or the folder with a model's checkpoint files. The default model needs none; of a "
            "chain the files that its parts were made from, repeatable.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.json",
            help="Table to write. Default: MODEL.ranges.json; of a chain a folder of them, MODEL.ranges.",
        ),
    ] = None,
    chart: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Picture of the losses to write.")] = None,
    input_size: Annotated[str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Size of the network's input.")] = None,
    config: Config = None,
    family: Family = None,
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="How clips are chosen: mse, kl, percentile or minmax.")
    ] = "mse",
    count: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures to draw; a fifth of them are judged on.")
    ] = 300,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the drawing.")] = 0,
    sensitivity: Annotated[bool, typer.Option(help="Measure the loss of each layer.")] = True,
    detector: Detector = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Observe a model's activations on pictures: the table of ranges for int8, and which layers int8 hurts."""
    from facedeploy.artifact.folder import find_chain, staged
    from facedeploy.calibration.chart import write_chart
    from facedeploy.calibration.report import Drawing, calibrate_chain, calibrate_model
    from facedeploy.calibration.table import write_table
    from facedeploy.core.errors import InputError
    from facedeploy.core.serialization import check_output, to_plain

    drawing = Drawing(parse_method(method), count, seed)
    if chain := find_chain(model):
        mine = {"chart": chart, "input-size": input_size, "config": config, "family": family, "detector": detector}
        if given := [name for name, value in mine.items() if value is not None]:
            msg = f"{model} is a chain, whose parts say that themselves: leave --{given[0]} out"
            raise InputError(msg)
        written = output or Path(f"{chain.path.name}.ranges")
        with staged(written) as folder:
            reports = calibrate_chain(
                chain,
                images,
                weights or (),
                drawing=drawing,
                threads=threads,
                sensitivity=sensitivity,
                progress=step,
                watch=watch,
            )
            tables = {part: written / f"{part}.json" for part in reports}
            for part, report in reports.items():
                write_table(report.table, folder / tables[part].name)
        if json:
            print_json({"path": str(written), "parts": to_plain(reports)})
            return
        for part, report in reports.items():
            _print(report, tables[part])
        return
    if output is not None:
        check_output(output, ".json")
    if chart is not None:
        check_output(chart, ".png")
    if len(weights or ()) > 1:
        msg = f"{model} is one model: give --weights once"
        raise InputError(msg)
    note_fetched(model, weights[0] if weights else None)
    report = calibrate_model(
        model,
        images,
        weights[0] if weights else None,
        input_size=parse_size(input_size),
        config=config,
        family=family,
        drawing=drawing,
        threads=threads,
        sensitivity=sensitivity or chart is not None,
        detector=detector,
        progress=step,
        watch=watch,
    )
    table = output or Path(f"{report.table.model}.ranges.json")
    write_table(report.table, table)
    if chart is not None:
        write_chart(report, chart)
    if json:
        print_json({"path": str(table), **to_plain(report)})
        return
    _print(report, table)


def _print(report: CalibrationReport, table: Path) -> None:
    print_table(
        ("network", "layer", *_COLUMNS, "stays in float"),
        [(row.network, row.layer, *_values(row.loss), row.reason or "-") for row in report.rows],
    )
    lost = ", ".join(f"{name} {value}" for name, value in zip(_COLUMNS, _values(report.whole), strict=True))
    print(f"all together, on {report.held_back} held-back pictures: {lost}")
    note(f"{table}: ranges of {report.table.pictures} pictures; use it with `facedeploy export --calibration {table}`")


def _values(loss: Loss | None) -> tuple[str, ...]:
    if loss is None:
        return ("-",) * len(_COLUMNS)
    outputs = None if loss.outputs is None else 100 * loss.outputs
    values = (loss.ap, loss.landmarks, loss.degrees, loss.embedding, loss.classes, outputs)
    return tuple("-" if v is None else f"{v:.2f}" for v in values)
