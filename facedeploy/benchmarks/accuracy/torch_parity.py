"""How far the faces of an artifact are from those of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedeploy.benchmarks.accuracy.tasks import AP_IOU, Answers, Measure, Task, mean_of, ranked
from facedeploy.core.errors import InputError
from facedeploy.metrics.average_precision import iou_matrix, match
from facedeploy.metrics.labelled_images import Detections, Floats, Picture


@dataclass(frozen=True)
class Parity(Task):
    """How far the faces are from those of the same model in PyTorch, which are the truth; labels are not needed."""

    low: bool = True

    def measures(self, pictures: Sequence[Picture], answers: Answers) -> list[Measure]:
        found, reference = [_solid(d) for d in answers.found], [_solid(d) for d in answers.reference]
        sure = [d.where(d.scores >= answers.threshold) for d in reference]
        doubtful = [d.boxes[d.scores < answers.threshold] for d in reference]
        faces = sum(len(d.boxes) for d in sure)
        if not faces:
            msg = f"PyTorch finds no face in any picture, of {len(pictures)}, so there is nothing to compare with"
            raise InputError(msg)
        pairs = [_pairs(a, b) for a, b in zip(sure, found, strict=True)]
        ap = ranked(found, [d.boxes for d in sure], doubtful)
        distances = {
            ("box 1-IoU", "percent", 100.0): [1 - iou_matrix(a.boxes, b.boxes).diagonal() for a, b in pairs],
            ("score", "percent", 100.0): [np.abs(a.scores - b.scores) for a, b in pairs],
            ("landmarks (box)", "percent", 100.0): [_point_distance(a, b) for a, b in pairs],
            ("angles", "degrees", 1.0): [_angle_distance(a, b) for a, b in pairs],
        }
        return [
            Measure("AP to PyTorch", "points", True, len(pictures), faces, ap),
            *(
                Measure(
                    f"{name} to PyTorch", unit, False, len(pictures), sum(map(len, values)), mean_of(values, factor)
                )
                for (name, unit, factor), values in distances.items()
                if sum(map(len, values))
            ),
        ]


def _solid(detections: Detections) -> Detections:
    """Those whose box has an area; one without overlaps nothing, not even itself."""
    return detections.where(np.asarray((detections.boxes[:, 2:] > detections.boxes[:, :2]).all(axis=1)))


def _pairs(reference: Detections, found: Detections) -> tuple[Detections, Detections]:
    """The faces that both have, in the same order."""
    taken = match(found.boxes, found.scores, reference.boxes, AP_IOU)
    return reference.where(taken[taken >= 0]), found.where(np.flatnonzero(taken >= 0))


def _point_distance(a: Detections, b: Detections) -> Floats:
    if a.points is None or b.points is None:
        return np.zeros(0)
    sides = np.sqrt((a.boxes[:, 2:] - a.boxes[:, :2]).prod(axis=1))
    distance: Floats = np.linalg.norm(a.points - b.points, axis=2).mean(axis=1) / sides
    return distance


def _angle_distance(a: Detections, b: Detections) -> Floats:
    if a.angles is None or b.angles is None:
        return np.zeros(0)
    # 359 and 1 degree are 2 apart, not 358.
    distance: Floats = np.abs((a.angles - b.angles + 180) % 360 - 180).mean(axis=1)
    return distance
