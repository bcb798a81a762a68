"""Can the description of a network that looks at faces be meant? It is shown drawn faces, and what it says is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.face import Face
from facedeploy.core.serialization import from_plain
from facedeploy.core.synthetic_faces import portrait
from facedeploy.pipelines.crop import CropConfig, CropPipeline
from facedeploy.pipelines.crop_settings import Classes, Points, Pose
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Array, Runtime

_SIDE = 128
_PICTURES = 3
_MARGIN = 0.5  # Of the crop: points may be a little outside.
_CORNER = 0.05
_BENT = 0.3  # How far from orthonormal a rotation may be.
_TOLERANCE = 0.01


def implausible_look(runtime: Runtime, entry: PipelineEntry) -> str:
    """What is wrong with a description, as a sentence that names the setting; empty where it can be meant.

    Args:
        runtime: The network, for one face at a time.
        entry: A pipeline of the family "crop". Nothing is closed.
    """
    config = from_plain(CropConfig, entry.config)
    pipeline = CropPipeline({NETWORK: runtime}, config)
    rng = np.random.default_rng(0)
    pictures = [portrait(rng, _SIDE) for _ in range(_PICTURES)]
    faces = [face for picture in pictures for face in pipeline.detect(picture)]
    meaning = pipeline.meaning
    problems = []
    if meaning.points is not None:
        problems.append(_points(meaning.points, faces))
    if meaning.pose is not None:
        height, width = pipeline.size
        blank = np.zeros((1, height, width, 3), np.uint8)
        outputs = runtime.run_pictures([blank])[0]
        problems.append(_pose(meaning.pose, faces, outputs[meaning.pose.outputs[0]]))
    if meaning.embedding is not None:
        vectors = np.array([f.embedding for f in faces], np.float64)
        if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
            problems.append("meaning.embedding is no vector of finite numbers on drawn faces: name another output")
    if meaning.classes is not None:
        problems.append(_classes(meaning.classes, faces))
    return next(filter(None, problems), "")


def _points(points: Points, faces: list[Face]) -> str:
    found: NDArray[np.float64] = np.array([f.landmarks for f in faces], np.float64) / _SIDE
    inside = ((found > -_MARGIN) & (found < 1 + _MARGIN)).all(axis=2)
    said = f"meaning.points.points_in = {points.points_in!r} puts"
    if inside.mean() < 0.5:
        return (
            f"{said} most points of drawn faces far outside of the crop: say the unit, the order and the first number"
        )
    if points.count != 1 and (np.ptp(found, axis=1) < _CORNER).all():
        return f"{said} all points of a drawn face into one place: say the unit that the network has"
    return ""


def _pose(pose: Pose, faces: list[Face], output: Array) -> str:
    angles = np.array([[f.yaw, f.pitch, f.roll] for f in faces], np.float64)
    if not np.isfinite(angles).all() or (np.abs(angles) > 180).any():
        return f"meaning.pose.form = {pose.form!r} gives drawn faces angles beyond 180 degrees: it is another form"
    if pose.form == "matrix":
        rotation = output.reshape(-1)[pose.first : pose.first + 9].reshape(3, 3).astype(np.float64)
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > _BENT:
            return "meaning.pose.form = 'matrix', and the nine numbers are no rotation: name another output, or first"
    return ""


def _classes(classes: Classes, faces: list[Face]) -> str:
    values = np.array([list((f.classes or {}).values()) for f in faces])
    if np.isfinite(values).all() and (values > -_TOLERANCE).all() and (values < 1 + _TOLERANCE).all():
        return ""
    return (
        f"meaning.classes.activation = {classes.activation!r} gives drawn faces numbers outside of 0 and 1: "
        "say softmax or sigmoid, or name another output"
    )
