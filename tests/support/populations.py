"""Populations of pictures whose average precision is known, to draw data sets from: does an interval hold the truth?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.metrics.resampled import RankedPrecision

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Population:
    """Detections of a detector in very many pictures, picture after picture.

    Attributes:
        whole: What average precision needs of all of them.
        first: (P + 1,), where the detections of each picture begin.
    """

    whole: RankedPrecision
    first: Rows

    @classmethod
    def of(cls, whole: RankedPrecision) -> Population:
        order = np.argsort(whole.picture, kind="stable")
        counts = np.bincount(whole.picture, minlength=len(whole.truths))
        sorted_ = RankedPrecision(whole.scores[order], whole.right[order], whole.picture[order], whole.truths)
        return cls(sorted_, np.concatenate([[0], np.cumsum(counts)]))

    @property
    def pictures(self) -> int:
        return len(self.whole.truths)

    @property
    def truth(self) -> float:
        return self.whole.value(self.pictures)

    def sample(self, pictures: Rows) -> RankedPrecision:
        """A data set of some of the pictures."""
        counts = np.diff(self.first)[pictures]
        ends = np.cumsum(counts)
        rows = np.repeat(self.first[pictures] - (ends - counts), counts) + np.arange(counts.sum())
        own = np.repeat(np.arange(len(pictures)), counts)
        whole = self.whole
        return RankedPrecision(whole.scores[rows], whole.right[rows], own, whole.truths[pictures])


@dataclass(frozen=True)
class Kind:
    """What pictures are like, and how well a detector sees their faces.

    Attributes:
        ease: Of a face in a middling picture, in logits: it is found with the chance that this stands for.
        spread: How much it differs from picture to picture, in logits; faces of one picture share it.
        crowd: Mean number of faces beyond the first; a few pictures have most of them.
        empty: Share of pictures without a face.
        stray: Mean number of detections of nothing; a few pictures have most of them.
    """

    ease: float
    spread: float
    crowd: float
    empty: float
    stray: float


KINDS = {
    "AP 70": Kind(1.3, 1.5, 5.0, 0.0, 0.6),
    "AP 90": Kind(3.2, 1.5, 2.5, 0.1, 0.25),
    "AP 90, one face": Kind(2.9, 1.2, 0.0, 0.0, 0.15),
    "AP 87, hard ones": Kind(4.0, 3.0, 4.0, 0.0, 0.3),
    "AP 99": Kind(6.0, 1.5, 2.5, 0.1, 0.1),
    "AP 99, hard ones": Kind(10.5, 3.5, 2.5, 0.0, 0.1),
    "AP 99.9": Kind(8.2, 1.7, 1.5, 0.1, 0.04),
}


def draw(kind: Kind, pictures: int = 20_000, seed: int = 0) -> tuple[Population, Population]:
    """A detector, and a compiled one that is nearly as good: scores have moved, most where pictures are hard."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, kind.spread, pictures)
    faces = 1 + rng.poisson(kind.crowd * rng.gamma(0.5, 2.0, pictures))
    faces[rng.random(pictures) < kind.empty] = 0
    stray = rng.poisson(kind.stray * rng.gamma(0.3, 1 / 0.3, pictures))
    picture = np.repeat(np.tile(np.arange(pictures), 2), np.concatenate([faces, stray]))
    right = np.arange(len(picture)) < faces.sum()
    seen = np.where(right, kind.ease + hard[picture], -1.0) + rng.logistic(0, 1, len(picture))
    moved = seen + rng.normal(0, 0.3, len(picture)) * (1 + np.abs(hard[picture])) - 0.05 * right
    one, other = (_population(logits, right, picture, faces) for logits in (seen, moved))
    return one, other


def _population(logits: Floats, right: NDArray[np.bool_], picture: Rows, faces: Rows) -> Population:
    shown = logits > np.where(right, 0.0, -3.0)
    scores = 1 / (1 + np.exp(-logits))
    return Population.of(RankedPrecision(scores[shown], right[shown], picture[shown], faces.astype(np.float64)))
