"""From what the user asked for to the layers that an int8 target quantises, with their ranges."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from facedeploy.artifact.loss import Loss
from facedeploy.artifact.manifest import Calibration
from facedeploy.calibration.calibrate import DEFAULT_COUNT, DEFAULT_METHOD, calibrate, choose_pictures
from facedeploy.calibration.observed_graph import equalised, open_graphs
from facedeploy.calibration.sensitivity import Plan, fit, judge_on, measure_loss, measure_sensitivity, plan_of
from facedeploy.calibration.table import Method, Table, check_table, read_table
from facedeploy.core.errors import InputError, ParityError
from facedeploy.core.hashing import sha256
from facedeploy.core.progress import Progress, Watch, unwatched
from facedeploy.graph.ranges import Range
from facedeploy.models import registry
from facedeploy.sources.source import Source

_MOST_AP, _MOST_OUTPUTS = 5.0, 30.0


@dataclass(frozen=True)
class Int8Options:
    """calibration: a table of ranges (.json), or pictures, or what ncnn2table wrote (.table); None for the model's own
    table. count: of pictures at most. max_drop: points of AP that may be lost on held-back pictures; the worst layers
    then stay in float. keep_float, allow: shell patterns of layers that are, or are not, to stay in float whatever the
    rules say. force: write the artifact although it is slower than float, or far off.
    """

    calibration: Path | None = None
    method: Method = DEFAULT_METHOD
    count: int = DEFAULT_COUNT
    max_drop: float | None = None
    keep_float: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    force: bool = False

    def __post_init__(self) -> None:
        if self.max_drop is not None and not self.max_drop >= 0:
            msg = f"--max-drop takes points of AP, not {self.max_drop}"
            raise InputError(msg)


@dataclass(frozen=True)
class Quantisation:
    """plan: network -> layers to quantise. calibration: for the manifest."""

    plan: dict[str, dict[str, Range]] = field(default_factory=dict)
    calibration: Calibration | None = None


def embedded_table(model: str) -> Path | None:
    """The table that comes with the model in this package, or None."""
    known = registry.MODELS.get(model)
    return known.embedded_ranges if known else None


def quantisation(
    source: Source,
    options: Int8Options,
    *,
    threads: int = 0,
    progress: Progress = lambda step: None,
    watch: Watch = unwatched,
) -> Quantisation:
    """Read or make the table, choose the layers, and keep the worst of them in float where a budget is set.

    Raises:
        InputError: nothing to calibrate with, or a table for another model or other weights.
    """
    path = options.calibration or embedded_table(source.model)
    if path is None:
        msg = (
            f"{source.model} has no table of ranges: give --calibration a folder of pictures such as it will see, "
            "or a table from facedeploy calibrate"
        )
        raise InputError(msg)
    if tables := _ncnn_tables(path):
        return Quantisation(
            _imported(source, tables), Calibration("ncnn2table", 0, sha256(next(iter(tables.values()))))
        )
    if path.suffix == ".json":
        if options.max_drop is not None:
            msg = "--max-drop needs pictures to judge on: give --calibration a folder of them"
            raise InputError(msg)
        table = read_table(path)
        check_table(table, source.model, {part: sha256(file) for part, file in source.files.items()})
        progress("the float32 graphs")
        plan = plan_of(open_graphs(source), table, options.keep_float, options.allow)
        return Quantisation(plan, _entry(table))
    pictures = choose_pictures([path], options.count)
    progress("the float32 graphs")
    graphs = open_graphs(source)
    progress(f"calibrate on {len(pictures.calibration)} pictures")
    table = calibrate(source, graphs, pictures.calibration, method=options.method, threads=threads, watch=watch)
    graphs = equalised(graphs, table)
    plan = plan_of(graphs, table, options.keep_float, options.allow)
    if options.max_drop is None:
        progress(f"what int8 costs on {len(pictures.held_back)} other pictures")
        judge = judge_on(source.pipeline, graphs, pictures.held_back, threads=threads)
        loss = measure_loss(source.pipeline, graphs, plan, pictures.held_back, judge, threads=threads)
        if not options.force:
            check_loss(source.model, loss, len(pictures.held_back))
        return Quantisation(plan, _entry(table, loss))
    progress(f"sensitivity of each layer on {len(pictures.held_back)} other pictures")
    files = watch(pictures.held_back, "layer by layer")
    sensitivity = measure_sensitivity(source.pipeline, graphs, plan, files, threads=threads)

    def loss_of(some: Plan) -> Loss:
        progress(f"loss with {sum(map(len, some.values()))} layers in int8")
        judge = sensitivity.judge
        return measure_loss(source.pipeline, graphs, some, pictures.held_back, judge, threads=threads)

    left, loss = fit(plan, sensitivity, options.max_drop, loss_of)
    return Quantisation(left, _entry(table, loss))


def check_loss(model: str, loss: Loss, pictures: int) -> None:
    """Refuse a loss that nobody wants unasked.

    Raises:
        ParityError: int8 costs more than 5 points of AP, or 30 % of the outputs.
    """
    limit, unit = _MOST_AP, "points of AP"
    if loss.ap is None:
        limit, unit = _MOST_OUTPUTS, "% of its outputs (relative L2)"
    if loss.points > limit:
        msg = (
            f"int8 costs {model} {loss.points:.1f} {unit} on {pictures} held-back pictures, over {limit:g}: keep its "
            "worst layers in float with --max-drop, calibrate with other pictures, or --force"
        )
        raise ParityError(msg)


def _ncnn_tables(path: Path) -> dict[str, Path]:
    """Network -> its file of ncnn2table: `<network>.table`, or a folder of such."""
    files = [path] if path.suffix == ".table" else sorted(path.glob("*.table")) if path.is_dir() else []
    return {file.stem: file for file in files}


def _imported(source: Source, tables: Mapping[str, Path]) -> dict[str, dict[str, Range]]:
    from facedeploy.export.ncnn.ncnn2table import ranges_of

    names = [n.spec.name for n in source.networks]
    if unknown := sorted(tables.keys() - set(names)):
        msg = f"{tables[unknown[0]]} must be named after a network of {source.model}: {', '.join(names)}"
        raise InputError(msg)
    plan = {}
    with tempfile.TemporaryDirectory() as work:
        for network in source.networks:
            if network.spec.name in tables:
                onnx = Path(work) / f"{network.spec.name}.onnx"
                network.write(onnx)
                plan[network.spec.name] = ranges_of(network.spec, onnx, tables[network.spec.name])
    return plan


def _entry(table: Table, loss: Loss | None = None) -> Calibration:
    return Calibration(table.method, table.pictures, table.digest, loss)
