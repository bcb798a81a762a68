"""What quantisation costs, in faces: the float pipeline's own answers on held-back pictures are the truth.

So no label is needed. What is measured is change: a face that int8 loses counts, whether or not it was one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedeploy.artifact.loss import Loss
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.metrics.average_precision import average_precision, boxes_and_scores
from facedeploy.metrics.face_matching import match
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.recorded_outputs import Recorder
from facedeploy.runtimes.base import Arrays


@dataclass(frozen=True)
class Answer:
    """What a pipeline says to a picture.

    Attributes:
        faces: What it found.
        outputs: What its network gave, one entry a call, where no faces come out.
    """

    faces: tuple[Face, ...]
    outputs: tuple[Arrays, ...] = ()


@dataclass(frozen=True)
class Judge:
    """Says what an answer has lost.

    Attributes:
        truth: The float pipeline's answers.
        threshold: Score from which its faces count, 0..1.
    """

    truth: tuple[Answer, ...]
    threshold: float

    def loss(self, answers: Sequence[Answer]) -> Loss:
        """Compare another pipeline's answers to the same pictures, in the same order."""
        pairs = list(zip(self.truth, answers, strict=True))
        if any(a.outputs for a in self.truth):
            return Loss(outputs=max(_relative_l2(a, b) for a, b in pairs))
        certain = [[f for f in _solid(a) if f.score >= self.threshold] for a in self.truth]
        doubtful = [[f for f in _solid(a) if f.score < self.threshold] for a in self.truth]
        ap = average_precision(
            [boxes_and_scores(_solid(a)) for a in answers],
            [boxes_and_scores(f)[0] for f in certain],
            [boxes_and_scores(f)[0] for f in doubtful],
        ).value
        found = [p for a, b in zip(certain, answers, strict=True) for p in match(a, b.faces)]
        return Loss(100 * (1 - ap), _landmarks(found), _degrees(found))

    def check(self) -> None:
        """Check that there is something to lose.

        Raises:
            InputError: the float pipeline finds no face.
        """
        if not any(a.outputs or any(f.score >= self.threshold for f in _solid(a)) for a in self.truth):
            msg = (
                f"the float model finds no face on {len(self.truth)} held-back pictures: "
                "calibrate with pictures that show faces"
            )
            raise InputError(msg)


def answer(pipeline: Pipeline, image: Image) -> Answer:
    """Ask a pipeline; without faces, its runtimes are recorders."""
    recorders = [r for r in pipeline.runtimes.values() if isinstance(r, Recorder)]
    for recorder in recorders:
        recorder.kept.clear()
    faces = tuple(pipeline.detect(image))
    return Answer(faces, tuple(o for r in recorders for o in r.kept))


def _relative_l2(want: Answer, have: Answer) -> float:
    """Of all outputs the largest L2 of the difference over L2 of what is wanted."""
    return max(
        float(np.linalg.norm(b[k].astype(np.float64) - a[k]) / max(float(np.linalg.norm(a[k])), 1e-30))
        for a, b in zip(want.outputs, have.outputs, strict=True)
        for k in a
    )


def _solid(answer: Answer) -> list[Face]:
    """The faces whose box has an area; one without overlaps nothing, not even itself."""
    return [f for f in answer.faces if f.box[2] > f.box[0] and f.box[3] > f.box[1]]


def _landmarks(pairs: Sequence[tuple[Face, Face]]) -> float | None:
    errors = []
    for a, b in pairs:
        if a.landmarks is not None and b.landmarks is not None:
            size = np.sqrt((a.box[2] - a.box[0]) * (a.box[3] - a.box[1]))
            errors.append(np.linalg.norm(np.array(a.landmarks) - np.array(b.landmarks), axis=1).mean() / size)
    return 100 * float(np.mean(errors)) if errors else None


def _degrees(pairs: Sequence[tuple[Face, Face]]) -> float | None:
    angles = [[(f.yaw, f.pitch, f.roll) for f in pair] for pair in pairs]
    known = np.array([p for p in angles if None not in (*p[0], *p[1])], float).reshape(-1, 2, 3)
    # 359 and 1 degree are 2 apart, not 358.
    return float(np.abs((known[:, 0] - known[:, 1] + 180) % 360 - 180).mean()) if len(known) else None
