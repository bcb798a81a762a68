"""What finds the faces: an artifact, or the PyTorch pipeline that it was made from, as a process can open it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.folder import MANIFEST, Artifact
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.benchmarks.accuracy.tasks import Reference, Task
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.hashing import code_digest, sha256
from facedeploy.core.images import read_picture
from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.serialization import to_plain
from facedeploy.metrics.face_loss import judging
from facedeploy.metrics.labelled_images import Detections
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.load import check_manifest, load
from facedeploy.runtimes import Substitute
from facedeploy.sources.open import reopen

# Whatever a face depends on; none of these sees a label.
_CODE = tuple(
    f"{room}/**/*.py" for room in ("core", "artifact", "models", "formats", "runtimes", "pipelines", "sources")
)
_TOOLS = (
    "facedeploy",
    "numpy",
    "ncnn",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "opencv-python-headless",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "torch",
)
_THRESHOLDS = ("score_threshold", "thresholds")
_NO_FACES = "tensors"  # The family of pipelines that do not decode.


@dataclass(frozen=True, eq=False)
class EvaluatedPipeline:
    """What finds the faces, as a process can open it.

    Attributes:
        artifact: Its folder.
        config: Of the pipeline, complete.
        runtime: "onnxruntime" runs the ONNX file of a `trt` artifact where there is no GPU.
        details: Whether landmarks and angles are kept.
        reference: Where to find what the artifact was made from, to run that in its stead; None for the artifact.
    """

    artifact: Path
    config: Mapping[str, Any]
    runtime: Substitute | None = None
    details: bool = True
    reference: Reference | None = None

    @property
    def name(self) -> str:
        """Of the artifact's folder."""
        return self.artifact.resolve().name + ("" if self.reference is None else " in PyTorch")

    def open(self) -> Pipeline:
        """The pipeline, on one thread: processes share the cores.

        Raises:
            FacedeployError: it cannot be opened.
        """
        if self.reference is None:
            return load(self.artifact, threads=1, runtime=self.runtime, options=self.config)
        artifact = Artifact.open(self.artifact)
        return reopen(artifact, self.reference.weights, self.reference.factory).open(1, self.config)

    def key(self) -> str:
        """SHA-256 of all that its answers depend on, but for the processor."""
        manifest = Artifact.open(self.artifact).manifest
        what: Any = sha256(self.artifact / MANIFEST)
        if self.reference is not None:
            specs = [to_plain(n.spec) for n in manifest.networks]
            what = {"specs": specs, "source": to_plain(manifest.source), "factory": self.reference.factory}
        about = [what, self.config, self.runtime, self.details, installed_versions(*_TOOLS), code_digest(_CODE)]
        return hashlib.sha256(json.dumps(to_plain(about), sort_keys=True).encode()).hexdigest()


def make_detector(
    path: Path, task: Task, options: Mapping[str, Any], runtime: Substitute | None
) -> tuple[EvaluatedPipeline, PipelineEntry]:
    """The detector that a task needs of an artifact, and the pipeline as the user wants it.

    Average precision needs the detections below the threshold too, unless `options` set one.

    Raises:
        FacedeployError: the artifact cannot be used, or gives no faces.
    """
    artifact = Artifact.open(path)
    check_manifest(artifact)
    usual = pipelines.reconfigure(artifact.manifest.pipeline, options)
    if usual.family == _NO_FACES:
        msg = (
            f"{path} gives tensors and no faces, so there is nothing to compare with labels: name its outputs under "
            "[outputs] in the TOML file of the model and export it again (docs/guides/own-model.md)"
        )
        raise InputError(msg)
    low = task.low and not any(name in options for name in _THRESHOLDS)
    config = (judging(usual) if low else usual).config
    return EvaluatedPipeline(path, config, runtime, task.details), usual


def detections(faces: Sequence[Face], width: int, height: int, *, details: bool) -> Detections:
    """Faces as arrays, best score first as pipelines give them.

    Raises:
        InputError: a value is not finite.
    """
    boxes = np.array([f.box for f in faces], np.float64).reshape(-1, 4)
    scores = np.array([f.score for f in faces], np.float64)
    points = angles = None
    if details and faces and all(f.landmarks is not None for f in faces):
        points = np.array([f.landmarks for f in faces], np.float64)
    if details and faces and all(None not in (f.yaw, f.pitch, f.roll) for f in faces):
        angles = np.array([[f.yaw, f.pitch, f.roll] for f in faces], np.float64)
    if not all(np.isfinite(v).all() for v in (boxes, scores, points, angles) if v is not None):
        msg = "a box, score, landmark or angle is not a finite number: check the artifact with `facedeploy verify`"
        raise InputError(msg)
    return Detections(width, height, boxes, scores, points, angles)


def look(pipeline: Pipeline, path: Path, details: bool) -> Detections:
    """The faces in a picture file.

    Raises:
        FacedeployError: it cannot be read, or the artifact fails on it.
    """
    image = read_picture(path)
    try:
        return detections(pipeline.detect(image), image.shape[1], image.shape[0], details=details)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error
