"""What int8 costs on pictures, as a manifest and a report have it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """What int8 costs on pictures, against the float pipeline.

    Attributes:
        ap: Points of average precision lost, at IoU 0.5, where the float pipeline's faces are the truth; None for a
            network without faces.
        landmarks: Mean distance between landmarks, in percent of sqrt(w * h) of the box, over faces that both find;
            None for a model without landmarks.
        degrees: Mean difference of yaw, pitch and roll, in degrees, over faces that both find; None for a model without
            pose.
        outputs: Largest relative L2 of an output, for a network without faces.
        embedding: Mean of 1 - cosine of the embeddings of faces that both find, in percent; None for a model without.
        classes: Mean difference of the classes' probabilities of such faces, in percent; None for a model without.
    """

    ap: float | None = None
    landmarks: float | None = None
    degrees: float | None = None
    outputs: float | None = None
    embedding: float | None = None
    classes: float | None = None

    @property
    def score(self) -> float:
        """What layers are ranked by: points of AP, and where they tie the rest; else what a budget is held against."""
        if self.ap is None:
            return self.points
        return self.ap + 0.01 * (self.landmarks or 0.0) + 0.01 * (self.degrees or 0.0)

    @property
    def points(self) -> float:
        """What a budget is held against: points of AP; of a network that finds no faces the largest of what it says of
        them, in percent and degrees; of one without faces percent of relative L2.
        """
        if self.ap is not None:
            return self.ap
        said = (self.landmarks, self.degrees, self.embedding, self.classes, 100 * (self.outputs or 0.0))
        return max(v for v in said if v is not None)
