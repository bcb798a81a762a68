"""How well boxes overlap their counterparts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.boxes import iou
from facedeploy.runtimes.base import Array, Arrays

LIKELY = 0.3  # The score above which a box matters.
_NOTHING = 0.01  # The score below which it is no face to anybody, so that its digits say nothing.


@dataclass(frozen=True)
class BoxOutputs:
    """Which outputs are boxes, and which are their scores.

    Attributes:
        boxes: Name of the output (..., 4), corners in any unit.
        scores: Name of the output with their scores.
        face_class: Which of several scores of a box is that of a face.
    """

    boxes: str = "boxes"
    scores: str = "scores"
    face_class: int | None = None

    @staticmethod
    def of(pipeline: PipelineEntry) -> BoxOutputs:
        """The boxes of the networks of a pipeline."""
        if pipeline.family in ("tensors", "crop"):
            return BoxOutputs("", "")
        named = pipeline.config.get("outputs")
        return BoxOutputs(named["boxes"], named["scores"], named["face_class"]) if named else PUBLISHED

    def face_scores(self, outputs: Arrays) -> Array:
        """The score of a face of each box, (N,)."""
        count = outputs[self.boxes].size // 4
        scores: Array = outputs[self.scores].reshape(count, -1)[:, self.face_class or 0]
        return scores

    def overlap(self, want: Arrays, have: Arrays) -> float:
        """Smallest IoU of a box that is likely a face with its counterpart."""
        boxes = want[self.boxes].reshape(-1, 4)
        likely = self.face_scores(want) > LIKELY
        return float(iou(boxes[likely], have[self.boxes].reshape(-1, 4)[likely]).min(initial=1.0))

    def scored(self, want: Arrays, have: Arrays) -> tuple[Array, Array]:
        """Both scores, with 0 where both say that there is nothing: a root in the head makes 1e-8 a 1e-4."""
        a, b = want[self.scores], have[self.scores]
        if a.shape != b.shape:
            return a, b
        nothing = (abs(a) < _NOTHING) & (abs(b) < _NOTHING)
        return np.where(nothing, 0, a), np.where(nothing, 0, b)


PUBLISHED = BoxOutputs()
