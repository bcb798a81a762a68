"""From what the user asked for to the layers that an int8 target quantises, with their ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from facedeploy.artifact.loss import Loss
from facedeploy.artifact.manifest import Calibration
from facedeploy.calibration.face_crops import faces_of
from facedeploy.calibration.observed_graph import Graph, open_graphs
from facedeploy.calibration.quantizable_layers import SHAPES, QuantizableLayer, choose
from facedeploy.calibration.sensitivity import fit, judge_on, measure_loss, measure_sensitivity
from facedeploy.calibration.session import (
    DEFAULT_COUNT,
    DEFAULT_METHOD,
    Plan,
    Session,
    calibrate,
    choose_pictures,
)
from facedeploy.calibration.table import Method, RangeTable, check_table, range_of, read_table
from facedeploy.core.errors import InputError, ParityError
from facedeploy.core.paths import AnyPath
from facedeploy.core.progress import Progress, Watch, silent, unwatched
from facedeploy.graph.index import GraphIndex
from facedeploy.graph.ranges import Range, Ranges, union
from facedeploy.sources.source import Source

_MOST_AP, _MOST_OUTPUTS = 5.0, 30.0


@dataclass(frozen=True)
class Int8Options:
    """What an int8 export calibrates with, and what stays in float.

    Attributes:
        calibration: A table of ranges (.json), or pictures, or what ncnn2table wrote (.table); None for the model's own
            table.
        method: How clips are chosen.
        count: How many pictures at most.
        max_drop: Points of average precision that may be lost on held-back pictures; the worst layers then stay in
            float. None for no budget.
        keep_float: Shell patterns of layers that stay in float.
        allow: Shell patterns of layers that may be int8 whatever the rules say.
        force: Whether to write the artifact although it is far off.
        detector: Artifact whose faces a network that looks at faces is calibrated on; None where each picture is the
            crop of one.
        require_faster: Whether to refuse an artifact that is slower than float on this machine.
    """

    calibration: AnyPath = AnyPath()  # noqa: RUF009  # A descriptor.
    method: Method = DEFAULT_METHOD
    count: int = DEFAULT_COUNT
    max_drop: float | None = None
    keep_float: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    force: bool = False
    detector: AnyPath = AnyPath()  # noqa: RUF009  # A descriptor.
    require_faster: bool = False

    def __post_init__(self) -> None:
        if self.max_drop is not None and not self.max_drop >= 0:
            msg = f"--max-drop takes points of AP, not {self.max_drop}"
            raise InputError(msg)


@dataclass(frozen=True)
class Quantisation:
    """What is quantised, and from what.

    Attributes:
        plan: Network -> layers to quantise, with their ranges.
        calibration: For the manifest; None where nothing is quantised.
    """

    plan: dict[str, dict[str, Range]] = field(default_factory=dict)
    calibration: Calibration | None = None


def quantisation(
    source: Source,
    options: Int8Options,
    *,
    threads: int = 0,
    progress: Progress = silent,
    watch: Watch = unwatched,
) -> Quantisation:
    """Read or make the table, choose the layers, and keep the worst of them in float where a budget is set.

    Raises:
        InputError: nothing to calibrate with, or a table for another model or other weights.
    """
    path = options.calibration or source.ranges
    if path is None and source.known_ranges:
        return _from_file(source, options, progress)
    if path is None:
        msg = (
            f"{source.model} has no table of ranges: give --calibration a folder of pictures such as it will see, "
            "or a table from facedeploy calibrate"
        )
        raise InputError(msg)
    if path.suffix == ".json":
        return _from_table(source, path, options, progress)
    with faces_of(source, options.detector, [path], threads, progress, watch) as images:
        return _from_pictures(source, images, options, threads, progress, watch)


def _from_pictures(
    source: Source, images: Sequence[Path], options: Int8Options, threads: int, progress: Progress, watch: Watch
) -> Quantisation:
    pictures = choose_pictures(images, options.count)
    session = calibrate(source, pictures, method=options.method, threads=threads, progress=progress, watch=watch)
    plan = plan_of(session.graphs, session.table, options.keep_float, options.allow)
    if options.max_drop is not None:
        plan, loss = _fit(session, plan, options.max_drop, progress, watch)
    else:
        progress(f"what int8 costs on {len(session.held_back)} other pictures")
        loss = measure_loss(session, plan, judge_on(session))
        if not options.force:
            check_loss(source.model, loss, len(session.held_back))
    return Quantisation(plan, _entry(session.table, loss))


def _from_table(source: Source, path: Path, options: Int8Options, progress: Progress) -> Quantisation:
    if options.detector is not None:
        msg = "--detector is for pictures, and a table has its ranges already: leave it out"
        raise InputError(msg)
    if options.max_drop is not None:
        msg = "--max-drop needs pictures to judge on: give --calibration a folder of them"
        raise InputError(msg)
    table = read_table(path)
    check_table(table, source.model, source.digests)
    progress("the float32 graphs")
    plan = plan_of(open_graphs(source), table, options.keep_float, options.allow)
    # Layers that the rules keep in float were not among those that it was measured with.
    loss = None if options.allow else table.loss
    if loss is not None and not options.force:
        check_loss(source.model, loss, table.held_back)
    return Quantisation(plan, _entry(table, loss))


def _from_file(source: Source, options: Int8Options, progress: Progress) -> Quantisation:
    """From the ranges of a file that is quantised already; what it has in float stays so."""
    if options.max_drop is not None:
        msg = "--max-drop needs pictures to judge on: give --calibration a folder of them"
        raise InputError(msg)
    progress("the float32 graphs")
    graphs = open_graphs(source)
    check_patterns([v for g in graphs.values() for v in g.layers], (*options.keep_float, *options.allow))
    plan = {}
    for name, tensors in source.known_ranges.items():
        known = _known(graphs[name], tensors)
        chosen = choose(graphs[name].layers, options.keep_float, options.allow)
        plan[name] = {v: known[v] for v in chosen if v in known}
    if not any(plan.values()):
        msg = (
            f"no layer of {source.model} may be int8 by the rules, though the file has some: name them with "
            "--int8-layer, or take a float target"
        )
        raise InputError(msg)
    return Quantisation(plan, Calibration("file", 0, ""))


def _known(graph: Graph, tensors: Ranges) -> dict[str, Range]:
    """Layer -> its range, of those whose every input has one."""
    index = GraphIndex.of(graph.model)
    found: dict[str, Range] = {}
    without = set()
    for layer in graph.layers:
        name = layer.input
        while name not in tensors and index.op_before(name) in (*SHAPES, "MaxPool"):
            name = index.producers[name].input[0]
        if name not in tensors:
            without.add(layer.name)
        else:
            found[layer.name] = union(found.get(layer.name, tensors[name]), tensors[name])
    return {name: values for name, values in found.items() if name not in without}


def _fit(
    session: Session, plan: Plan, max_drop: float, progress: Progress, watch: Watch
) -> tuple[dict[str, dict[str, Range]], Loss]:
    """What of a plan stays inside the budget, and what that costs."""
    progress(f"sensitivity of each layer on {len(session.held_back)} other pictures")
    sensitivity = measure_sensitivity(session, plan, watch)

    def loss_of(some: Plan) -> Loss:
        progress(f"loss with {sum(map(len, some.values()))} layers in int8")
        return measure_loss(session, some, sensitivity.judge)

    return fit(plan, sensitivity, max_drop, loss_of)


def plan_of(
    graphs: Mapping[str, Graph], table: RangeTable, keep_float: Sequence[str] = (), allow: Sequence[str] = ()
) -> dict[str, dict[str, Range]]:
    """The layers that the rules, the user and the table let be int8, network by network.

    Args:
        graphs: Network -> its graph.
        table: Ranges of at least the layers that are chosen.
        keep_float: Shell patterns of layer names, over all networks, to stay in float.
        allow: The same, of layers to quantise whatever the rules say.

    Raises:
        InputError: a pattern matches nothing, or the table lacks a layer.
    """
    check_patterns([v for g in graphs.values() for v in g.layers], (*keep_float, *allow))
    return {
        name: {layer: range_of(table, name, layer) for layer in choose(graph.layers, keep_float, allow)}
        for name, graph in graphs.items()
    }


def check_patterns(layers: Sequence[QuantizableLayer], patterns: Sequence[str]) -> None:
    """Check that the user's patterns mean some of the layers.

    Raises:
        InputError: a pattern matches no layer.
    """
    names = list(dict.fromkeys(v.name for v in layers))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            msg = f"no layer matches {pattern!r}; layers are {', '.join(names)}"
            raise InputError(msg)


def check_loss(model: str, loss: Loss, pictures: int) -> None:
    """Refuse a loss that nobody wants unasked.

    Raises:
        ParityError: int8 costs more than 5 points of AP, or 5 percent or degrees of what is said of a face, or 30 % of
            the outputs.
    """
    limit, unit = _MOST_AP, "points of AP"
    if loss.outputs is not None:
        limit, unit = _MOST_OUTPUTS, "% of its outputs (relative L2)"
    elif loss.ap is None:
        unit = "percent or degrees of what it says of a face"
    if loss.points > limit:
        msg = (
            f"int8 costs {model} {loss.points:.1f} {unit} on {pictures} held-back pictures, over {limit:g}: keep its "
            "worst layers in float with --max-drop, calibrate with other pictures, or --force"
        )
        raise ParityError(msg)


def _entry(table: RangeTable, loss: Loss | None = None) -> Calibration:
    return Calibration(table.method, table.pictures, table.digest, loss)
