"""`facedeploy calibrate`: the table of ranges, and which layers INT8 hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facedeploy.artifact.chain import DETECTOR
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.given import open_artifact
from facedeploy.artifact.loss import Loss
from facedeploy.calibration.face_crops import faces_of
from facedeploy.calibration.quantize_plan import plan_of
from facedeploy.calibration.sensitivity import judge_on, measure_loss, measure_sensitivity
from facedeploy.calibration.session import DEFAULT_COUNT, DEFAULT_METHOD, Session, calibrate, choose_pictures
from facedeploy.calibration.table import Method, RangeTable
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import InputSize
from facedeploy.core.optional_imports import require
from facedeploy.core.paths import StrPath, as_paths
from facedeploy.core.progress import Progress, Watch, silent, unwatched
from facedeploy.sources.open import open_source
from facedeploy.sources.parts import reopen_parts
from facedeploy.sources.source import Source


@dataclass(frozen=True)
class Drawing:
    """How ranges are taken from pictures.

    Attributes:
        method: How clips are chosen.
        count: How many of the pictures are drawn; of crops, how many crops.
        seed: Of that draw.
    """

    method: Method = DEFAULT_METHOD
    count: int = DEFAULT_COUNT
    seed: int = 0


@dataclass(frozen=True)
class LayerRow:
    """A layer.

    Attributes:
        network: The network that it is in.
        layer: Name of its weight.
        loss: When it alone is int8; None for a layer that stays in float, and for all where sensitivity was not asked
            for.
        reason: Why it stays in float; empty where it does not.
    """

    network: str
    layer: str
    loss: Loss | None
    reason: str


@dataclass(frozen=True)
class CalibrationReport:
    """What `facedeploy calibrate` found.

    Attributes:
        table: For `export --calibration`.
        rows: In the order of computation.
        whole: The loss with every allowed layer in int8.
        held_back: How many pictures it was judged on.
    """

    table: RangeTable
    rows: tuple[LayerRow, ...]
    whole: Loss
    held_back: int


def calibrate_model(
    model: str,
    images: StrPath | Sequence[StrPath],
    weights: StrPath | None = None,
    *,
    input_size: InputSize | None = None,
    config: StrPath | None = None,
    family: str | None = None,
    drawing: Drawing | None = None,
    threads: int = 0,
    sensitivity: bool = True,
    detector: StrPath | None = None,
    progress: Progress = silent,
    watch: Watch = unwatched,
) -> CalibrationReport:
    """Calibrate a model on pictures. Four fifths make the table; on the others each layer's loss is measured.

    Args:
        model: As `export` takes it.
        images: Picture files and folders of them.
        weights: As `export` takes them.
        input_size: As `export` takes it.
        config: As `export` takes it.
        family: As `export` takes it.
        drawing: How ranges are taken from pictures; None for the defaults.
        threads: CPU threads per network; 0 for every core of this process.
        sensitivity: Whether to measure each layer's loss.
        detector: Artifact whose faces a network that looks at faces is calibrated on; None where each picture is the
            crop of one.
        progress: Called with the name of each step.
        watch: Shows the progress over picture files.

    Returns:
        The table, and the loss of each layer.

    Raises:
        InputError: the pictures are too few or useless, or what `export` raises of a model.
    """
    require("onnxruntime", "export")
    if input_size == "any":
        msg = "calibration needs one size: give --input-size HEIGHTxWIDTH"
        raise InputError(msg)
    source = open_source(
        model,
        None if weights is None else Path(weights),
        input_size=input_size,
        config=None if config is None else Path(config),
        family=family,
    )
    return _calibrate(source, detector, images, drawing or Drawing(), threads, sensitivity, progress, watch)


def calibrate_chain(
    chain: StrPath | Artifact,
    images: StrPath | Sequence[StrPath],
    weights: StrPath | Sequence[StrPath] = (),
    *,
    drawing: Drawing | None = None,
    threads: int = 0,
    sensitivity: bool = True,
    progress: Progress = silent,
    watch: Watch = unwatched,
) -> Mapping[str, CalibrationReport]:
    """Calibrate the parts of a chain: the detector on pictures, the others on the crops that it gives them.

    Args:
        chain: Its folder, or the artifact, of which only what its parts were made from, and its detector, matter.
        images: Picture files and folders of them.
        weights: What the parts were made from, in any order; the embedded model needs none.
        drawing: How ranges are taken from pictures; None for the defaults.
        threads: CPU threads per network; 0 for every core of this process.
        sensitivity: Whether to measure each layer's loss.
        progress: Called with the name of each step.
        watch: Shows the progress over picture files.

    Returns:
        Part -> its table, and the loss of each of its layers.

    Raises:
        InputError: the files are not those of the parts, or as `calibrate_model`.
    """
    require("onnxruntime", "export")
    chain = open_artifact(chain)
    for part in chain.parts.values():
        if part.manifest.origin == "factory":
            msg = (
                f"{part.path} comes from a callable: calibrate that by itself, with --detector {chain.path / DETECTOR}"
            )
            raise InputError(msg)
    reports = {}
    for name, source in reopen_parts(chain, as_paths(weights)).items():
        progress(name)
        detector = None if name == DETECTOR else chain.parts[DETECTOR].path
        reports[name] = _calibrate(
            source, detector, images, drawing or Drawing(), threads, sensitivity, progress, watch
        )
    return reports


def _calibrate(
    source: Source,
    detector: StrPath | None,
    images: StrPath | Sequence[StrPath],
    drawing: Drawing,
    threads: int,
    sensitivity: bool,
    progress: Progress,
    watch: Watch,
) -> CalibrationReport:
    with faces_of(source, detector, images, threads, progress, watch) as files:
        session = calibrate(
            source,
            choose_pictures(files, drawing.count, drawing.seed),
            method=drawing.method,
            threads=threads,
            progress=progress,
            watch=watch,
        )
        return _report(session, sensitivity, progress, watch)


def _report(session: Session, sensitivity: bool, progress: Progress, watch: Watch) -> CalibrationReport:
    plan = plan_of(session.graphs, session.table)
    losses: dict[tuple[str, str], Loss] = {}
    if sensitivity:
        measured = measure_sensitivity(session, plan, watch)
        losses = {(row.network, row.layer): row.loss for row in measured.layers}
        judge = measured.judge
    else:
        judge = judge_on(session)
    progress("all layers together")
    whole = measure_loss(session, plan, judge)
    table = replace(session.table, loss=whole, held_back=len(session.held_back))
    rows = {
        (name, layer.name): LayerRow(name, layer.name, losses.get((name, layer.name)), layer.reason)
        for name, graph in session.graphs.items()
        for layer in graph.layers
    }
    return CalibrationReport(table, tuple(rows.values()), whole, len(session.held_back))
