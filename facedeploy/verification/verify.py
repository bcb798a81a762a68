"""`facedeploy verify`: is this artifact the model that it was made from, in tensors and in faces?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from facedeploy.pipelines.custom import TensorsPipeline
from facedeploy.pipelines.load import check_manifest, load
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import Arrays
from facedeploy.sources.open import reopen
from facedeploy.verification import tensors as parity


@dataclass(frozen=True)
class FaceLimits:
    """How far the faces of an artifact may be from PyTorch's.

    Attributes:
        pixels: Of any coordinate of a box or a landmark, in pixels of the picture.
        score: Of the score, 0..1.
        degrees: Of yaw, pitch and roll.
    """

    pixels: float
    score: float
    degrees: float


FACE_LIMITS: dict[Precision, FaceLimits] = {
    "fp32": FaceLimits(pixels=0.5, score=1e-3, degrees=0.1),
    "fp16": FaceLimits(pixels=1.5, score=1e-2, degrees=1.0),
    "bf16": FaceLimits(pixels=1.5, score=1e-2, degrees=1.0),
    "int8": FaceLimits(pixels=5.0, score=0.1, degrees=5.0),
}


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
    weights: str | os.PathLike[str] | None = None,
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
        weights: The checkpoint or the ONNX file that the artifact was made from; None for the embedded model.
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
    source = reopen(opened, None if weights is None else Path(weights), factory)
    pipeline = pipelines.reconfigure(manifest.pipeline, options)
    precision = manifest.target.precision
    if device is not None:
        with source.open(threads, pipeline.config) as reference:
            if not files or not reference.decodes:
                what = "name pictures of some with --images" if reference.decodes else f"{opened.path} gives none"
                msg = f"on {device.name} only faces are compared, not tensors: {what}"
                raise InputError(msg)
            there = device.detect(
                opened, files, threads=threads, runtime=runtime, options=pipeline.config, progress=progress
            )
            compared = compare_faces([reference.detect(read_picture(file)) for file in files], there)
        return Verification((), compared, tuple(_face_problems(compared, precision)))
    with (
        load(opened, threads=threads, runtime=runtime, options=pipeline.config) as candidate,
        source.open(threads, pipeline.config) as reference,
    ):
        prepare = pipelines.preprocess(pipeline)
        rows = tuple(
            row
            for network in source.networks
            for row in parity.measure(
                reference.runtimes[network.spec.name],
                candidate.runtimes[network.spec.name],
                [*network.feeds(prepare), *_seen(reference, files)],
                precision,
                source.boxes,
            )
        )
        faces = None
        if files and reference.decodes:
            pairs = [(reference.detect(p), candidate.detect(p)) for p in map(read_picture, files)]
            faces = compare_faces([a for a, _ in pairs], [b for _, b in pairs])
    return Verification(rows, faces, (*_output_problems(rows, precision), *_face_problems(faces, precision)))


def _seen(reference: Pipeline, files: Sequence[Path]) -> list[Arrays]:
    """What a network sees of pictures, where its tensors are all that can be compared."""
    if not isinstance(reference, TensorsPipeline) or reference.decodes:
        return []
    return [reference.feed(read_picture(file)) for file in files]


def _output_problems(rows: Sequence[Parity], precision: Precision) -> list[str]:
    tolerance = parity.TOLERANCES[precision]
    return [parity.describe(row) for row in rows if not tolerance.accepts(row)]


def _face_problems(faces: FaceDifference | None, precision: Precision) -> list[str]:
    if faces is None:
        return []
    limits = FACE_LIMITS[precision]
    problems = []
    if not faces.same_faces:
        problems.append(f"of the faces, {faces.missing} missing and {faces.extra} extra")
    for name, value in (("box", faces.box), ("landmark", faces.landmarks)):
        if value > limits.pixels:
            problems.append(f"a {name} is off by {value:.2f} pixels; {precision} allows {limits.pixels:g}")
    if faces.score > limits.score:
        problems.append(f"a score is off by {faces.score:.2g}; {precision} allows {limits.score:g}")
    if faces.angle > limits.degrees:
        problems.append(f"an angle is off by {faces.angle:.2f} degrees; {precision} allows {limits.degrees:g}")
    return problems
