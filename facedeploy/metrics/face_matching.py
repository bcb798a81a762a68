"""How two sets of faces compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedeploy.core.boxes import areas
from facedeploy.core.face import Face
from facedeploy.metrics.average_precision import boxes_and_scores
from facedeploy.metrics.box_matching import match_by_overlap
from facedeploy.metrics.pose import angle_distance


@dataclass(frozen=True)
class FaceDifference:
    """How the faces of one pipeline differ from a reference's, over some pictures.

    Attributes:
        pictures: How many were compared.
        matched: Pairs of faces, of which the rest is measured.
        missing: Reference faces without a partner (IoU < 0.5).
        extra: Faces without a partner in the reference.
        box: Largest difference of a coordinate of a box, pixels.
        landmarks: Largest difference of a coordinate of a landmark, pixels.
        score: Largest difference of a score, 0..1.
        angle: Largest difference of an angle, degrees.
        points: Mean distance of a face's landmarks, of the face where it is largest, percent of sqrt(w * h) of the
            reference's box.
        cosine: Smallest cosine of embeddings.
        classes: Largest difference of a class's probability, 0..1.
    """

    pictures: int
    matched: int
    missing: int
    extra: int
    box: float
    landmarks: float
    score: float
    angle: float
    points: float = 0.0
    cosine: float = 1.0
    classes: float = 0.0

    @property
    def same_faces(self) -> bool:
        return self.missing == 0 and self.extra == 0


def match(reference: Sequence[Face], found: Sequence[Face]) -> list[tuple[Face, Face]]:
    """Pair faces one to one, best overlap first. Pairs under IoU 0.5 are left out.

    Args:
        reference: Faces of one picture.
        found: Faces of the same picture.

    Returns:
        The pairs.
    """
    pairs = match_by_overlap(boxes_and_scores(reference)[0], boxes_and_scores(found)[0])
    return [(reference[i], found[j]) for i, j in pairs]


def compare_faces(reference: Sequence[Sequence[Face]], found: Sequence[Sequence[Face]]) -> FaceDifference:
    """Compare faces picture by picture.

    Args:
        reference: One entry per picture.
        found: One entry per picture, in the same order.

    Returns:
        The largest differences over all pictures.
    """
    pairs = [p for a, b in zip(reference, found, strict=True) for p in match(a, b)]
    return FaceDifference(
        pictures=len(reference),
        matched=len(pairs),
        missing=sum(map(len, reference)) - len(pairs),
        extra=sum(map(len, found)) - len(pairs),
        box=max((abs(p - q) for a, b in pairs for p, q in zip(a.box, b.box, strict=True)), default=0.0),
        landmarks=max(
            (
                abs(p - q)
                for a, b in pairs
                for s, t in zip(a.landmarks or (), b.landmarks or (), strict=True)
                for p, q in zip(s, t, strict=True)
            ),
            default=0.0,
        ),
        score=max((abs(a.score - b.score) for a, b in pairs), default=0.0),
        angle=max((v for a, b in pairs for v in angle_distances(a, b)), default=0.0),
        points=max((_finite(v) for a, b in pairs for v in point_distances(a, b)), default=0.0),
        cosine=min((cosine(a.embedding, b.embedding) for a, b in pairs if a.embedding and b.embedding), default=1.0),
        classes=max((v for a, b in pairs for v in class_distances(a, b)), default=0.0),
    )


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two vectors; -1, as far off as can be, where one is not finite or has no length."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    found = float(first @ second) / lengths if lengths > 0 else float("nan")
    return found if math.isfinite(found) else -1.0


def side(face: Face) -> float:
    """sqrt(w * h) of the box, pixels; 0 where it has no area."""
    return math.sqrt(float(areas(np.array(face.box, float))))


def point_distances(a: Face, b: Face) -> list[float]:
    """The mean distance of their landmarks, in percent of the first one's side; empty where one has none.

    NaN where the box has no area.
    """
    if a.landmarks is None or b.landmarks is None:
        return []
    distances = np.linalg.norm(np.asarray(a.landmarks, float) - np.asarray(b.landmarks, float), axis=1)
    return [100 * float(distances.mean()) / (side(a) or math.nan)]


def angle_distances(a: Face, b: Face) -> list[float]:
    """How far each angle that both have is off, degrees."""
    angles = [(getattr(a, n), getattr(b, n)) for n in ("yaw", "pitch", "roll")]
    return [float(angle_distance(p, q)) for p, q in angles if None not in (p, q)]


def class_distances(a: Face, b: Face) -> list[float]:
    """How far the probability of each class is off, 0..1."""
    return [abs(value - (b.classes or {})[name]) for name, value in (a.classes or {}).items()]


def _finite(value: float) -> float:
    """JSON has no NaN, and what is no number is as far off as can be."""
    return value if math.isfinite(value) else float(np.finfo(np.float32).max)
