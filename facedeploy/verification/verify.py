"""`facedeploy verify`: is this artifact the model that it was made from, in tensors and in faces?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import Parity
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


@dataclass(frozen=True)
class FaceLimits:
    """How far the faces of an artifact may be from PyTorch's.

    Attributes:
        pixels: Of any coordinate of a box or a landmark, in pixels of the picture.
        score: Of the score, 0..1.
        degrees: Of yaw, pitch and roll.
        points: Of the landmarks of a face, in the mean, of a network that looks at faces, in percent of sqrt(w * h) of
            the box: how large a face is in the picture is not its doing.
        cosine: What the cosine of embeddings must reach.
    """

    pixels: float
    score: float
    degrees: float
    points: float
    cosine: float


FACE_LIMITS: dict[Precision, FaceLimits] = {
    "fp32": FaceLimits(pixels=0.5, score=1e-3, degrees=0.1, points=0.1, cosine=0.9999),
    "fp16": FaceLimits(pixels=1.5, score=1e-2, degrees=1.0, points=1.0, cosine=0.999),
    "bf16": FaceLimits(pixels=1.5, score=1e-2, degrees=1.0, points=1.0, cosine=0.99),
    "int8": FaceLimits(pixels=5.0, score=0.1, degrees=5.0, points=5.0, cosine=0.95),
}
_COARSER: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        outputs: How far each output of each network is off; empty where only faces were compared.
        faces: How far the faces of the pictures are off; None where there were none to compare_faces.
        problems: What is further off than the precision allows, a sentence each. Empty when the artifact is right.
    """

    outputs: tuple[Parity, ...]
    faces: FaceDifference | None
    problems: tuple[str, ...]


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

    First every output of every network is compared on drawn faces. With `images`, so are the faces that the two
    pipelines find in them, or the outputs where nothing decodes them.

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
        The differences, and the problems: what is further off than the target's precision allows.

    Raises:
        InputError: the file is not the one that the artifact was made from, a picture cannot be read, or there is
            nothing to compare_faces on the device.
        ArtifactError: the artifact is damaged, or its engine is still to be built.
        BackendUnavailableError: a backend is not installed, or this machine cannot run it.
        DeviceError: the device cannot be reached, or was lost.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    manifest = opened.manifest
    files = expand([Path(i) for i in images])
    check_manifest(opened)
    given = [weights] if isinstance(weights, (str, os.PathLike)) else list(weights or ())
    compared = _compared(opened, [Path(w) for w in given], factory)
    pipeline = pipelines.reconfigure(manifest.pipeline, options)
    networks = {c.name(n.spec.name): n.reference for c in compared for n in c.source.networks}
    precision = max((c.artifact.manifest.target.precision for c in compared), key=_COARSER.index)
    percent = any(c.artifact.manifest.pipeline.family == "crop" for c in compared)
    if device is not None:
        with pipelines.open_pipeline(pipeline, networks, threads) as reference:
            if not files or not reference.decodes:
                what = "name pictures of some with --images" if reference.decodes else f"{opened.path} gives none"
                msg = f"on {device.name} only faces are compared, not tensors: {what}"
                raise InputError(msg)
            there = device.detect(
                opened, files, threads=threads, runtime=runtime, options=pipeline.config, progress=progress
            )
            found = compare_faces([reference.detect(read_picture(file)) for file in files], there)
        return Verification((), found, tuple(_face_problems(found, precision, percent)))
    with (
        load(opened, threads=threads, runtime=runtime, options=pipeline.config) as candidate,
        pipelines.open_pipeline(pipeline, networks, threads) as reference,
    ):
        rows, problems = _compare_outputs(compared, reference, candidate, _seen(reference, files))
        faces = None
        if files and reference.decodes:
            pairs = [(reference.detect(p), candidate.detect(p)) for p in map(read_picture, files)]
            faces = compare_faces([a for a, _ in pairs], [b for _, b in pairs])
    return Verification(tuple(rows), faces, (*problems, *_face_problems(faces, precision, percent)))


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
            found = [replace(r, network=name) for r in parity.measure(*pair, feeds, precision, source.boxes)]
            rows += found
            problems += _output_problems(found, precision)
    return rows, problems


def _seen(reference: Pipeline, files: Sequence[Path]) -> list[Arrays]:
    """What a network sees of pictures, where its tensors are all that can be compared."""
    if not isinstance(reference, TensorsPipeline) or reference.decodes:
        return []
    return [reference.feed(read_picture(file)) for file in files]


def _output_problems(rows: Sequence[Parity], precision: Precision) -> list[str]:
    tolerance = parity.TOLERANCES[precision]
    return [parity.describe(row) for row in rows if not tolerance.accepts(row)]


def _face_problems(faces: FaceDifference | None, precision: Precision, percent: bool) -> list[str]:
    if faces is None:
        return []
    limits = FACE_LIMITS[precision]
    problems = []
    if not faces.same_faces:
        problems.append(f"of the faces, {faces.missing} missing and {faces.extra} extra")
    for name, value in (("box", faces.box), ("landmark", 0.0 if percent else faces.landmarks)):
        if value > limits.pixels:
            problems.append(f"a {name} is off by {value:.2f} pixels; {precision} allows {limits.pixels:g}")
    if percent and faces.points > limits.points:
        problems.append(
            f"the landmarks of a face are off by {faces.points:.2f} % of the box; {precision} allows {limits.points:g}"
        )
    if faces.score > limits.score:
        problems.append(f"a score is off by {faces.score:.2g}; {precision} allows {limits.score:g}")
    if faces.angle > limits.degrees:
        problems.append(f"an angle is off by {faces.angle:.2f} degrees; {precision} allows {limits.degrees:g}")
    if faces.cosine < limits.cosine:
        problems.append(f"the cosine of an embedding is {faces.cosine:.4f}; {precision} asks for {limits.cosine:g}")
    if faces.classes > limits.score:
        problems.append(f"a class's probability is off by {faces.classes:.2g}; {precision} allows {limits.score:g}")
    return problems
