"""How far the faces of an artifact are from those of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedeploy.benchmarks.accuracy.tasks import Answers, Measure, Task, mean_of, ranked
from facedeploy.core.boxes import areas, iou
from facedeploy.core.errors import InputError
from facedeploy.metrics.box_matching import SAME_FACE, match_by_score
from facedeploy.metrics.labelled_images import Detections, Floats, LabelledImage
from facedeploy.metrics.landmarks import point_errors
from facedeploy.metrics.pose import angle_distance


@dataclass(frozen=True)
class TorchParity(Task):
    """How far the faces are from those of the same model in PyTorch, which are the truth; labels are not needed."""

    low: bool = True

    def measures(self, pictures: Sequence[LabelledImage], answers: Answers) -> list[Measure]:
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
            ("box 1-IoU", "percent", 100.0): [1 - iou(a.boxes, b.boxes) for a, b in pairs],
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
    return detections.where(areas(detections.boxes) > 0)


def _pairs(reference: Detections, found: Detections) -> tuple[Detections, Detections]:
    """The faces that both have, in the same order."""
    taken = match_by_score(found.boxes, found.scores, reference.boxes, SAME_FACE)
    return reference.where(taken[taken >= 0]), found.where(np.flatnonzero(taken >= 0))


def _point_distance(a: Detections, b: Detections) -> Floats:
    if a.points is None or b.points is None:
        return np.zeros(0)
    distance: Floats = point_errors(b.points, a.points, np.sqrt(areas(a.boxes))).mean(axis=1)
    return distance


def _angle_distance(a: Detections, b: Detections) -> Floats:
    if a.angles is None or b.angles is None:
        return np.zeros(0)
    distance: Floats = angle_distance(a.angles, b.angles).mean(axis=1)
    return distance
