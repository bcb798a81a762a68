"""`facedeploy verify`: is this artifact the model that it was made from, in tensors and in faces?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedeploy import parity, pipelines
from facedeploy.artifact import Artifact, Parity, sha256
from facedeploy.errors import InputError
from facedeploy.faces import FaceDifference, compare
from facedeploy.loading import check_manifest, load, load_reference
from facedeploy.models import registry
from facedeploy.pictures import expand, read_picture
from facedeploy.runtimes import Substitute
from facedeploy.target import Precision


@dataclass(frozen=True)
class FaceLimits:
    """How far the faces of an artifact may be from PyTorch's: pixels of any coordinate, score, degrees."""

    pixels: float
    score: float
    degrees: float


FACE_LIMITS: dict[Precision, FaceLimits] = {
    "fp32": FaceLimits(pixels=0.5, score=1e-3, degrees=0.1),
    "fp16": FaceLimits(pixels=1.5, score=1e-2, degrees=1.0),
}


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `problems` is empty when the artifact is right."""

    outputs: tuple[Parity, ...]
    faces: FaceDifference | None
    problems: tuple[str, ...]


def verify(
    artifact: str | os.PathLike[str] | Artifact,
    weights: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    *,
    threads: int = 0,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
) -> Verification:
    """Compare an artifact with PyTorch over the checkpoint that it came from.

    Every output of every network on drawn faces; then, where `images` (files or folders) are given, the faces that
    the two pipelines find. Without `weights` the checkpoint is the embedded one.

    Raises:
        InputError: the checkpoint is not the one that the artifact was made from, or a picture cannot be read.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    manifest = opened.manifest
    files = expand([Path(i) for i in images])
    check_manifest(opened)
    checkpoint = None if weights is None else Path(weights)
    _check_source(opened, checkpoint)
    pipeline = pipelines.configure(manifest.pipeline.family, options or {}, manifest.pipeline.config)
    precision = manifest.target.precision
    with (
        load(opened, threads=threads, runtime=runtime, options=pipeline.config) as candidate,
        load_reference(
            manifest.model,
            checkpoint,
            specs=[n.spec for n in manifest.networks],
            threads=threads,
            options=pipeline.config,
        ) as reference,
    ):
        prepare = pipelines.preprocess(pipeline)
        rows = tuple(
            row
            for network in manifest.networks
            for row in parity.measure(
                reference.runtimes[network.spec.name],
                candidate.runtimes[network.spec.name],
                parity.probe_inputs(network.spec, prepare, registry.get(manifest.model).define().probe),
                precision,
            )
        )
        faces = None
        if files:
            pairs = [(reference.detect(p), candidate.detect(p)) for p in map(read_picture, files)]
            faces = compare([a for a, _ in pairs], [b for _, b in pairs])
    return Verification(rows, faces, (*_output_problems(rows, precision), *_face_problems(faces, precision)))


def _check_source(artifact: Artifact, weights: Path | None) -> None:
    files = registry.get(artifact.manifest.model).find_weights(weights)
    for source in artifact.manifest.source:
        if sha256(files[source.part]) != source.sha256:
            msg = (
                f"{files[source.part]} is not the checkpoint of {artifact.path}, which was made from "
                f"{source.name} with SHA-256 {source.sha256[:12]}…"
            )
            raise InputError(msg)


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
