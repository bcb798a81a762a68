"""How two sets of faces compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facedeploy.core.face import Face


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
    """

    pictures: int
    matched: int
    missing: int
    extra: int
    box: float
    landmarks: float
    score: float
    angle: float

    @property
    def same_faces(self) -> bool:
        return self.missing == 0 and self.extra == 0


def iou(a: Face, b: Face) -> float:
    """Intersection over union of two boxes, continuous coordinates."""
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    area_a, area_b = ((f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in (a, b))
    return width * height / (area_a + area_b - width * height)


def match(reference: Sequence[Face], found: Sequence[Face]) -> list[tuple[Face, Face]]:
    """Pair faces one to one, best overlap first. Pairs under IoU 0.5 are left out.

    Args:
        reference: Faces of one picture.
        found: Faces of the same picture.

    Returns:
        The pairs.
    """
    candidates = sorted(
        ((iou(a, b), i, j) for i, a in enumerate(reference) for j, b in enumerate(found)),
        key=lambda c: (-c[0], c[1], c[2]),
    )
    used_a: set[int] = set()
    used_b: set[int] = set()
    pairs = []
    for overlap, i, j in candidates:
        if overlap < 0.5:
            break
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            pairs.append((reference[i], found[j]))
    return pairs


def compare(reference: Sequence[Sequence[Face]], found: Sequence[Sequence[Face]]) -> FaceDifference:
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
        angle=max((_angle_difference(a, b) for a, b in pairs), default=0.0),
    )


def _angle_difference(a: Face, b: Face) -> float:
    angles = [(getattr(a, n), getattr(b, n)) for n in ("yaw", "pitch", "roll")]
    # 359 and 1 degree are 2 apart, not 358.
    return max((abs((p - q + 180) % 360 - 180) for p, q in angles if None not in (p, q)), default=0.0)
