"""Landmarks and head pose of labelled faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.benchmarks.accuracy.tasks import Answers, Measure, Task, mean_of
from facedeploy.core.errors import InputError
from facedeploy.metrics.box_matching import nearest
from facedeploy.metrics.labelled_images import Bools, Detections, Floats, LabelledImage
from facedeploy.metrics.landmark_schemes import Normalisation, five_of
from facedeploy.metrics.landmarks import point_errors
from facedeploy.metrics.pose import countable
from facedeploy.metrics.resampled import Mean


@dataclass(frozen=True)
class Portraits(Task):
    """Landmarks and pose of labelled faces, where they were found.

    Attributes:
        normalisation: What the error of landmarks is divided by.
        required: Whether an artifact must give landmarks that fit the labels.
    """

    normalisation: Normalisation = "box"
    required: bool = False

    def measures(self, pictures: Sequence[LabelledImage], answers: Answers) -> list[Measure]:
        rows = [nearest(d.boxes, p.boxes) for p, d in zip(pictures, answers.found, strict=True)]
        counts = np.array([len(r) for r in rows], float)
        found = Mean(np.array([(r >= 0).sum() for r in rows], float), counts, 100.0)
        measures = [Measure("found", "percent", True, len(pictures), int(counts.sum()), found)]
        if self.required or any(p.points is not None for p in pictures):
            measures += self._landmarks(pictures, answers.found, rows)
        return [*measures, *_pose(pictures, answers.found, rows)]

    def _landmarks(
        self, pictures: Sequence[LabelledImage], found: Sequence[Detections], rows: Sequence[NDArray[np.intp]]
    ) -> list[Measure]:
        labelled = {p.points.shape[1] for p in pictures if p.points is not None}
        given = {d.points.shape[1] for d in found if d.points is not None}
        if len(given) != 1 or not (given <= labelled or given == {5}):
            if not self.required or not any(len(d.boxes) for d in found):
                return []
            have = f"{', '.join(map(str, sorted(given)))} landmarks" if given else "no landmarks"
            msg = f"it gives {have}, and the labels have {', '.join(map(str, sorted(labelled)))}"
            raise InputError(msg)
        (size,) = given
        errors = [_point_errors(p, d, r, size) for p, d, r in zip(pictures, found, rows, strict=True)]
        faces = sum(len(p.boxes) for p in pictures if p.points is not None)
        name = f"NME {size} ({self.normalisation})"
        return [Measure(name, "percent", False, len(pictures), faces, mean_of(errors, 100.0))]


def _point_errors(picture: LabelledImage, found: Detections, rows: NDArray[np.intp], size: int) -> Floats:
    """Mean distance of the landmarks of each face that was found, in units of its scale."""
    seen = rows >= 0
    if picture.points is None or picture.scale is None or found.points is None or not seen.any():
        return np.zeros(0)
    labels = picture.points if picture.points.shape[1] == size else five_of(picture.points)
    distance = point_errors(found.points[rows[seen]], labels[seen], picture.scale[seen])
    known = ~np.isnan(distance)
    faces = known.any(axis=1)
    errors: Floats = np.where(known, distance, 0).sum(axis=1)[faces] / known.sum(axis=1)[faces]
    return errors


def _pose(
    pictures: Sequence[LabelledImage], found: Sequence[Detections], rows: Sequence[NDArray[np.intp]]
) -> list[Measure]:
    """Mean absolute error of yaw, pitch and roll, over labels of at most 99 degrees, and the mean of the three."""
    counts = [_countable(p) for p in pictures]
    faces = sum(int(c.sum()) for c in counts)
    if not faces or all(d.angles is None for d in found):
        return []
    errors = [
        np.abs(d.angles[r[c & (r >= 0)]] - p.angles[c & (r >= 0)])
        if d.angles is not None and p.angles is not None
        else np.zeros((0, 3))
        for p, d, r, c in zip(pictures, found, rows, counts, strict=True)
    ]
    labelled = sum(bool(c.any()) for c in counts)
    columns = {name: [e[:, i] for e in errors] for i, name in enumerate(("yaw", "pitch", "roll"))}
    columns["pose"] = [e.mean(axis=1) for e in errors]
    return [Measure(name, "degrees", False, labelled, faces, mean_of(v, 1.0)) for name, v in columns.items()]


def _countable(picture: LabelledImage) -> Bools:
    if picture.angles is None:
        return np.zeros(len(picture.boxes), bool)
    return countable(picture.angles)
