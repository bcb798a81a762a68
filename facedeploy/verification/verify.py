"""`facedeploy verify`: is this artifact the model that it was made from, in tensors and in faces?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from facedeploy import pipelines
from facedeploy.artifact.chain import pipeline_of
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import Manifest, Parity, PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.images import expand, read_picture
from facedeploy.core.progress import Progress, silent
from facedeploy.core.target import Precision
from facedeploy.metrics.face_matching import FaceDifference, compare_faces
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.composed import network_name
from facedeploy.pipelines.custom import TensorsPipeline
from facedeploy.pipelines.load import check_manifest, load
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import Arrays
from facedeploy.sources.parts import reopen_parts
from facedeploy.sources.source import Source
from facedeploy.verification import tensors as parity
from facedeploy.verification.configuration import other_values, same_families, set_on_purpose
from facedeploy.verification.faces import judge

_COARSER: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        outputs: How far each output of each network is off; empty where only faces were compared.
        faces: How far the faces of the pictures are off; None where there were none to compare_faces.
        problems: What is further off than the precision allows, and what of the configuration is not what the source
            says, a sentence each. Empty when the artifact is right.
        notes: What was set on purpose at export, and what else a person should know, a line each.
    """

    outputs: tuple[Parity, ...]
    faces: FaceDifference | None
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


class FaceFinder(Protocol):
    """Another place where an artifact finds faces, such as a device. name: as messages say it."""

    @property
    def name(self) -> str: ...

    def detect(
        self,
        artifact: Artifact,
        images: Sequence[Path],
        *,
        threads: int,
        runtime: Substitute | None,
        options: Mapping[str, Any],
        progress: Progress,
    ) -> list[list[Face]]:
        """The faces in each of some picture files."""


def verify(
    artifact: str | os.PathLike[str] | Artifact,
    weights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    *,
    factory: str | None = None,
    threads: int = 0,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
    device: FaceFinder | None = None,
    progress: Progress = silent,
) -> Verification:
    """Compare an artifact with what it came from: PyTorch over a checkpoint, or an ONNX file.

    First its configuration is compared with the one that its source says, but for what was set on purpose at export.
    Then every output of every network is, on drawn faces. With `images`, so are the faces that the two pipelines find,
    each by its own configuration, or the outputs where nothing decodes them.

    Args:
        artifact: The folder that `export` wrote, or an artifact that is open already.
        weights: The checkpoint or the ONNX file that the artifact was made from; None for the embedded model. Of a
            chain, those of its parts, in any order.
        images: Picture files and folders of them.
        factory: `package.module:callable` that makes the network, for an artifact that came from one.
        threads: CPU threads per network; 0 for every core of this process.
        runtime: "onnxruntime" runs the ONNX files of the artifact instead of what its target compiled.
        options: Changes to the configuration of both pipelines, such as {"min_face": 20}.
        device: Where to run the artifact; None for here. On a device only the faces are compared.
        progress: Called with the name of each step.

    Returns:
        The differences, and the problems: what is configured otherwise, or further off than the target's precision
        allows.

    Raises:
        InputError: the file is not the one that the artifact was made from, a picture cannot be read, or there is
            nothing to compare_faces on the device.
        ArtifactError: the artifact is damaged, or its engine is still to be built.
        BackendUnavailableError: a backend is not installed, or this machine cannot run it.
        DeviceError: the device cannot be reached, or was lost.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    manifest = opened.manifest
    files = expand(images)
    check_manifest(opened)
    given = [weights] if isinstance(weights, (str, os.PathLike)) else list(weights or ())
    compared = _compared(opened, [Path(w) for w in given], factory)
    pipeline = pipelines.reconfigure(manifest.pipeline, options)
    wanted = pipelines.reconfigure(_configured(compared), options)
    notes = tuple(n for c in compared for n in set_on_purpose(c.part, c.artifact.manifest, c.source))
    unlike = other_values(wanted, pipeline)
    if not same_families(wanted, pipeline):
        return Verification((), None, unlike, notes)
    networks = {c.name(n.spec.name): n.reference for c in compared for n in c.source.networks}
    precision = max((c.artifact.manifest.target.precision for c in compared), key=_COARSER.index)
    threshold = min(map(pipelines.score_threshold, (wanted, pipeline)))
    if device is not None:
        with pipelines.open_pipeline(wanted, networks, threads) as reference:
            if not files or not reference.decodes:
                what = "name pictures of some with --images" if reference.decodes else f"{opened.path} gives none"
                msg = f"on {device.name} only faces are compared, not tensors: {what}"
                raise InputError(msg)
            there = device.detect(
                opened, files, threads=threads, runtime=runtime, options=pipeline.config, progress=progress
            )
            here = [reference.detect(read_picture(file)) for file in files]
        wrong = judge(here, there, precision, threshold)
        return Verification((), compare_faces(here, there), (*unlike, *wrong), notes)
    try:
        loaded = load(opened, threads=threads, runtime=runtime, options=pipeline.config)
    except InputError as error:
        if not unlike:
            raise
        return Verification((), None, (*unlike, str(error)), notes)
    with (
        loaded as candidate,
        pipelines.open_pipeline(wanted, networks, threads) as reference,
    ):
        rows, problems = _compare_outputs(compared, reference, candidate, _seen(reference, files))
        problems = [*unlike, *problems]
        if not files or not reference.decodes:
            return Verification(tuple(rows), None, tuple(problems), notes)
        pairs = [(reference.detect(p), candidate.detect(p)) for p in map(read_picture, files)]
    want, have = [a for a, _ in pairs], [b for _, b in pairs]
    wrong = judge(want, have, precision, threshold)
    return Verification(tuple(rows), compare_faces(want, have), (*problems, *wrong), notes)


@dataclass(frozen=True)
class _Compared:
    """An artifact, or a part of a chain, and what it was made from. part: its name in the chain, or nothing."""

    part: str
    artifact: Artifact
    source: Source

    def name(self, network: str) -> str:
        return network_name(self.part, network) if self.part else network


def _compared(artifact: Artifact, weights: Sequence[Path], factory: str | None) -> list[_Compared]:
    parts = artifact.parts or {"": artifact}
    return [_Compared(name, parts[name], s) for name, s in reopen_parts(artifact, weights, factory).items()]


def _configured(compared: Sequence[_Compared]) -> PipelineEntry:
    """The pipeline as the sources say it."""
    if not compared[0].part:
        return compared[0].source.pipeline
    return pipeline_of({c.part: c.source.pipeline for c in compared})


def _compare_outputs(
    compared: Sequence[_Compared], reference: Pipeline, candidate: Pipeline, seen: Sequence[Arrays]
) -> tuple[list[Parity], list[str]]:
    """How far each output is off, and what is further off than its artifact's precision allows."""
    rows: list[Parity] = []
    problems: list[str] = []
    for each in compared:
        precision, source = each.artifact.manifest.target.precision, each.source
        for network in source.networks:
            name = each.name(network.spec.name)
            prepare = pipelines.preprocess(pipelines.reconfigure(source.pipeline, None))
            feeds = [*network.feeds(prepare), *seen]
            pair = reference.runtimes[name], candidate.runtimes[name]
            for row in parity.measure(*pair, feeds, precision, source.boxes):
                rows.append(replace(row, network=name))
                if not _accepts(each.artifact.manifest, row):
                    problems.append(parity.describe(rows[-1]))
    return rows, problems


def _seen(reference: Pipeline, files: Sequence[Path]) -> list[Arrays]:
    """What a network sees of pictures, where its tensors are all that can be compared."""
    if not isinstance(reference, TensorsPipeline) or reference.decodes:
        return []
    return [reference.feed(read_picture(file)) for file in files]


def _accepts(manifest: Manifest, row: Parity) -> bool:
    """Whether an output is no further off than its precision allows.

    Where pictures have judged what int8 costs, an output may be as far off as it was when the artifact was made, on the
    same drawn faces.
    """
    if parity.TOLERANCES[manifest.target.precision].accepts(row):
        return True
    calibration = manifest.calibration
    judged = calibration is not None and calibration.loss is not None
    then = [r for r in manifest.parity if (r.network, r.output) == (row.network, row.output)]
    return judged and any(parity.as_before(row, r) for r in then)
