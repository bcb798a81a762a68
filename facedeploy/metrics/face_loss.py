"""What quantisation costs, in faces: the float pipeline's own answers on held-back pictures are the truth.

So no label is needed. What is measured is change: a face that int8 loses counts, whether or not it was one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.loss import Loss
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.boxes import areas
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.preprocess import Image
from facedeploy.metrics.average_precision import average_precision, boxes_and_scores
from facedeploy.metrics.face_matching import cosine, match
from facedeploy.metrics.landmarks import point_errors
from facedeploy.metrics.pose import angle_distance
from facedeploy.runtimes.base import Array, Arrays, Opener
from facedeploy.runtimes.wrapped import Seen, Watched

_LOW = 0.02  # Precision at every recall needs the detections below the threshold too.
_THRESHOLD = "score_threshold"
# A cascade gets slow when its stages let everything pass.
_STAGES, _LOWER = "thresholds", 0.15


@dataclass(frozen=True)
class Prediction:
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
        finds: Whether the pipeline finds faces, so that some may be lost.
    """

    truth: tuple[Prediction, ...]
    threshold: float
    finds: bool = True

    def loss(self, answers: Sequence[Prediction]) -> Loss:
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
        return Loss(
            100 * (1 - ap) if self.finds else None,
            _landmarks(found),
            _degrees(found),
            embedding=_embedding(found),
            classes=_classes(found),
        )

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


def judging(entry: PipelineEntry) -> PipelineEntry:
    """The pipeline to judge with: precision at every recall needs the detections below the threshold too."""
    low: dict[str, Any] = {}
    detector = pipelines.detector_of(entry)
    if _THRESHOLD in detector.config:
        low = {_THRESHOLD: min(_LOW, detector.config[_THRESHOLD])}
    elif _STAGES in detector.config:
        low = {_STAGES: [max(t - _LOWER, 0.0) for t in detector.config[_STAGES]]}
    return pipelines.with_detector(entry, PipelineEntry(detector.family, {**detector.config, **low}))


def threshold_of(entry: PipelineEntry) -> float:
    """The score from which faces count; of a cascade, the last stage's."""
    config = pipelines.detector_of(entry).config
    return float(config.get(_THRESHOLD, config.get(_STAGES, (0.0,))[-1]))


@contextlib.contextmanager
def asking(
    entry: PipelineEntry, networks: Mapping[str, Opener], threads: int
) -> Iterator[Callable[[Image], Prediction]]:
    """Open a pipeline with low thresholds, to be asked about pictures.

    Args:
        entry: The pipeline, as the user has it.
        networks: Network -> what opens its runtime.
        threads: CPU threads of each; 0 for every core.
    """
    low = judging(entry)
    kept: list[Arrays] = []

    def keep(_: Mapping[str, Array], outputs: Arrays) -> None:
        kept.append(outputs)

    if not pipelines.decodes(low):
        networks = {name: _watched(opened, keep) for name, opened in networks.items()}
    with pipelines.open_pipeline(low, networks, threads) as pipeline:

        def ask(image: Image) -> Prediction:
            kept.clear()
            faces = tuple(pipeline.detect(image))
            return Prediction(faces, tuple(kept))

        yield ask


def answers(
    entry: PipelineEntry, networks: Mapping[str, Opener], files: Iterable[Path], threads: int
) -> tuple[Prediction, ...]:
    """What a pipeline says to some picture files. Takes what `asking` does, and the files.

    Raises:
        InputError: a picture cannot be read.
    """
    with asking(entry, networks, threads) as ask:
        return tuple(ask(read_picture(file)) for file in files)


def judge_by(entry: PipelineEntry, truth: Sequence[Prediction]) -> Judge:
    """Take the float pipeline's answers for the truth.

    Raises:
        InputError: it finds no face.
    """
    judge = Judge(tuple(truth), threshold_of(entry), pipelines.finds(entry))
    judge.check()
    return judge


def _watched(opened: Opener, seen: Seen) -> Opener:
    return lambda options: Watched(opened(options), seen)


def _relative_l2(want: Prediction, have: Prediction) -> float:
    """Of all outputs the largest L2 of the difference over L2 of what is wanted."""
    return max(
        float(np.linalg.norm(b[k].astype(np.float64) - a[k]) / max(float(np.linalg.norm(a[k])), 1e-30))
        for a, b in zip(want.outputs, have.outputs, strict=True)
        for k in a
    )


def _solid(answer: Prediction) -> list[Face]:
    """The faces whose box has an area; one without overlaps nothing, not even itself."""
    return [f for f in answer.faces if f.box[0] < f.box[2] and f.box[1] < f.box[3]]


def _landmarks(pairs: Sequence[tuple[Face, Face]]) -> float | None:
    known = [(a, b) for a, b in pairs if a.landmarks is not None and b.landmarks is not None]
    if not known:
        return None
    truth, found = (np.array([pair[side].landmarks for pair in known]) for side in (0, 1))
    scale = np.sqrt(areas(boxes_and_scores([a for a, _ in known])[0]))
    return 100 * float(point_errors(found, truth, scale).mean())


def _degrees(pairs: Sequence[tuple[Face, Face]]) -> float | None:
    angles = [[(f.yaw, f.pitch, f.roll) for f in pair] for pair in pairs]
    known = np.array([p for p in angles if None not in (*p[0], *p[1])], float).reshape(-1, 2, 3)
    return float(angle_distance(known[:, 0], known[:, 1]).mean()) if len(known) else None


def _embedding(pairs: Sequence[tuple[Face, Face]]) -> float | None:
    known = [(a.embedding, b.embedding) for a, b in pairs if a.embedding is not None and b.embedding is not None]
    return 100 * float(np.mean([1 - cosine(a, b) for a, b in known])) if known else None


def _classes(pairs: Sequence[tuple[Face, Face]]) -> float | None:
    known = [(a.classes, b.classes) for a, b in pairs if a.classes is not None and b.classes is not None]
    return 100 * float(np.mean([abs(a[name] - b[name]) for a, b in known for name in a])) if known else None
