"""A detector, and a network that says more of the faces that it finds."""

from __future__ import annotations

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.landmarks106 import Landmarks106Pipeline


class ComposedPipeline(Pipeline):
    """Faces of the detector with a score of at least `threshold`, with the landmarks and the pose of the second.

    Closing it closes both.

    Attributes:
        detector: Finds the faces.
        landmarks: Looks at the faces that were found.
        threshold: Leaves out faces with a lower score, 0..1.
    """

    def __init__(self, detector: Pipeline, landmarks: Landmarks106Pipeline, threshold: float = 0.0) -> None:
        super().__init__({})
        self.detector = detector
        self.landmarks = landmarks
        self.threshold = threshold

    def detect(self, image: Image) -> list[Face]:
        return self.landmarks.locate(image, [f for f in self.detector.detect(image) if f.score >= self.threshold])

    def close(self) -> None:
        self.detector.close()
        self.landmarks.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.detector!r}, then {self.landmarks!r}>"
