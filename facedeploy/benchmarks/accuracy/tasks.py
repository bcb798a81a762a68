"""What is measured on a data set, from labels and detections: no file is read here, and no network run."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedeploy.metrics.average_precision import verdicts
from facedeploy.metrics.box_matching import SAME_FACE
from facedeploy.metrics.labelled_images import Detections, Floats, LabelledImage
from facedeploy.metrics.resampled import Mean, RankedPrecision, Statistic
from facedeploy.metrics.widerface_ap import widerface_precision


@dataclass(frozen=True, eq=False)
class Measure:
    """One number of one artifact on one data set, in a form from which pictures can be drawn anew."""

    name: str
    unit: str
    higher_is_better: bool
    pictures: int
    faces: int
    statistic: Statistic


@dataclass(frozen=True)
class Reference:
    """Where the PyTorch side of an artifact comes from, as for `facedeploy verify`."""

    weights: Path | None = None
    factory: str | None = None


@dataclass(frozen=True, eq=False)
class Answers:
    """What an artifact found in each picture; and what PyTorch did, where that is the truth, with the score from which
    its faces count.
    """

    found: Sequence[Detections]
    reference: Sequence[Detections] = ()
    threshold: float = 0.0


@dataclass(frozen=True)
class Task(abc.ABC):
    """What is measured on a data set.

    Attributes:
        low: Whether detections below the artifact's own threshold count, as they do in average precision.
        details: Whether landmarks and angles are looked at.
        strict: Whether a labelled box outside of its picture is a mistake.
        reference: What to hold answers against, where there are no labels.
    """

    low: bool = False
    details: bool = True
    strict: bool = True
    reference: Reference | None = None

    @abc.abstractmethod
    def measures(self, pictures: Sequence[LabelledImage], answers: Answers) -> list[Measure]:
        """All that can be said.

        Raises:
            InputError: the artifact does not give what the data set is about.
        """


@dataclass(frozen=True)
class WiderFace(Task):
    """Average precision by the protocol of WIDER FACE, once for each setting of the labels."""

    low: bool = True
    details: bool = False
    strict: bool = False  # Some faces of the official lists have no size; they count there, and so here.

    def measures(self, pictures: Sequence[LabelledImage], answers: Answers) -> list[Measure]:
        found = []
        for setting in pictures[0].kept:
            statistic = widerface_precision(pictures, answers.found, setting)
            faces = int(statistic.truths.sum())
            found.append(Measure(f"AP {setting}", "points", True, len(pictures), faces, statistic))
        return found


@dataclass(frozen=True)
class BoxTask(Task):
    """All-point average precision at IoU 0.5."""

    low: bool = True
    details: bool = False

    def measures(self, pictures: Sequence[LabelledImage], answers: Answers) -> list[Measure]:
        truths = [p.boxes for p in pictures]
        statistic = ranked(answers.found, truths, [p.ignored for p in pictures])
        return [Measure("AP", "points", True, len(pictures), sum(map(len, truths)), statistic)]


def mean_of(values: Sequence[Floats], factor: float) -> Mean:
    """The mean over all values, of which each picture has any number."""
    return Mean(np.array([v.sum() for v in values]), np.array([len(v) for v in values], float), factor)


def ranked(found: Sequence[Detections], truths: Sequence[Floats], ignored: Sequence[Floats]) -> RankedPrecision:
    """Average precision at IoU 0.5, from boxes that are to be found and boxes that may be, of each picture."""
    scores, right, counted = verdicts([(d.boxes, d.scores) for d in found], truths, ignored, SAME_FACE)
    picture = np.repeat(np.arange(len(found)), [len(d.scores) for d in found])
    wanted = np.array([len(t) for t in truths], float)
    return RankedPrecision(scores[counted], right[counted], picture[counted], wanted)
