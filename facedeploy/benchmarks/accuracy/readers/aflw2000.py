"""AFLW2000-3D (Zhu et al. 2016, "Face Alignment Across Large Poses"): head pose and 68 points of one face a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from facedeploy.benchmarks.accuracy.matfile import Value, read_mats
from facedeploy.benchmarks.accuracy.pose_and_landmarks import Portraits
from facedeploy.benchmarks.accuracy.tasks import Task
from facedeploy.core.errors import InputError
from facedeploy.metrics.labelled_images import LabelledImage, check_boxes, check_pictures
from facedeploy.metrics.landmark_schemes import hull, scale_of

WHERE = "AFLW2000-3D is had from the 3DDFA project page (Face Alignment Across Large Poses) as AFLW2000-3D.zip"
_FOLDERS = ("", "AFLW2000", "AFLW2000-3D")
_POINTS = 68


def read_aflw2000(path: Path, options: Mapping[str, str]) -> tuple[tuple[LabelledImage, ...], Task]:
    """Read a folder of image*.jpg and image*.mat.

    Errors of the pose are over the labels of at most 99 degrees, 1969 of the 2000 (Ruiz et al. 2018, "Fine-Grained Head
    Pose Estimation Without Keypoints"); those of points are over all. The labelled box is around the 68 points.

    Raises:
        InputError: something is missing or not what it must be.
    """
    if not path.is_dir():
        msg = f"there is no folder {path}: {WHERE}"
        raise InputError(msg)
    files = next((found for f in _FOLDERS if (found := sorted((path / f).glob("*.mat")))), [])
    contents = read_mats([(file, ("Pose_Para", "pt3d_68")) for file in files]) if files else []
    pictures = [_picture(file, content) for file, content in zip(files, contents, strict=True)]
    return check_pictures(pictures, path, WHERE), Portraits(normalisation="hull")


def _picture(file: Path, content: Mapping[str, Value]) -> LabelledImage:
    pose, points = content["Pose_Para"], content["pt3d_68"]
    shapes = np.shape(pose), np.shape(points)
    if len(shapes[0]) != 2 or shapes[0][1] < 3 or shapes[1] != (3, _POINTS) or not np.isfinite(points).all():
        msg = f"{file} is not a label of AFLW2000-3D: {WHERE}"
        raise InputError(msg)
    pitch, yaw, roll = np.degrees(pose[0, :3]).tolist()
    image = file.with_suffix(".jpg")
    labelled = np.ascontiguousarray(points[:2].T)[None]
    boxes = hull(labelled)
    check_boxes(image.name, boxes, None, file)
    return LabelledImage(
        image,
        image.name,
        boxes,
        points=labelled,
        scale=scale_of(labelled, boxes, "hull"),
        angles=np.array([[yaw, pitch, roll]]),
    )
