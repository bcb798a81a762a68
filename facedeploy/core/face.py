"""The result type of every pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Point = tuple[float, float]
_ANGLES = ("yaw", "pitch", "roll")


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the original picture.

    Attributes:
        box: (x1, y1, x2, y2), pixels.
        score: How sure the model is, 0..1.
        landmarks: (x, y) of each point, pixels; None for a model without landmarks. Five are the left eye, the right
            eye, the nose, and the left and the right mouth corner, as seen in the picture.
        yaw: Degrees; positive turns the face to the left of the picture. None for a model without pose.
        pitch: Degrees; positive is up. None for a model without pose.
        roll: Degrees; positive is clockwise. None for a model that does not give it.
        embedding: What a recognition network says of the face, compared by cosine. None for a model without one.
        classes: Probability 0..1 of each class, by name. None for a model without classes.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[Point, ...] | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    embedding: tuple[float, ...] | None = field(default=None, kw_only=True)
    classes: Mapping[str, float] | None = field(default=None, hash=False, kw_only=True)

    def __repr__(self) -> str:
        """Say it on one line, rounded: `to_dict` has the numbers."""
        said = [f"box ({', '.join(f'{v:.1f}' for v in self.box)})", f"score {self.score:.3f}"]
        if self.landmarks is not None:
            said.append(f"{len(self.landmarks)} landmarks")
        said += [f"{name} {angle:.1f}" for name in _ANGLES if (angle := getattr(self, name)) is not None]
        if self.embedding is not None:
            said.append(f"embedding of {len(self.embedding)}")
        said += [f"{name} {value:.2f}" for name, value in (self.classes or {}).items()]
        return f"<Face: {', '.join(said)}>"

    def to_dict(self, digits: int = 4) -> dict[str, Any]:
        """Turn the face into plain data, rounded, as `detect --json` prints it.

        Args:
            digits: Decimal places; the score keeps two more.

        Returns:
            `box`, `score`, and those of `landmarks`, `yaw`, `pitch`, `roll`, `embedding` and `classes` that the model
            gives.
        """
        out: dict[str, Any] = {
            "box": [round(v, digits) for v in self.box],
            "score": round(self.score, digits + 2),
        }
        if self.landmarks is not None:
            out["landmarks"] = [[round(x, digits), round(y, digits)] for x, y in self.landmarks]
        for name in _ANGLES:
            if (angle := getattr(self, name)) is not None:
                out[name] = round(angle, digits)
        if self.embedding is not None:
            out["embedding"] = [round(v, digits + 2) for v in self.embedding]
        if self.classes is not None:
            out["classes"] = {name: round(value, digits + 2) for name, value in self.classes.items()}
        return out
