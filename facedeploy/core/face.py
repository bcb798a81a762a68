"""The result type of every pipeline, and how two sets of faces compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the original picture.

    box: (x1, y1, x2, y2). score: 0..1. landmarks: (x, y) each; five are left eye, right eye, nose, left and
    right mouth corner as seen in the picture. yaw, pitch, roll: degrees.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[Point, ...] | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None

    def to_dict(self, digits: int = 4) -> dict[str, Any]:
        """Plain data, rounded; what the model does not give is left out."""
        out: dict[str, Any] = {
            "box": [round(v, digits) for v in self.box],
            "score": round(self.score, digits + 2),
        }
        if self.landmarks is not None:
            out["landmarks"] = [[round(x, digits), round(y, digits)] for x, y in self.landmarks]
        for name in ("yaw", "pitch", "roll"):
            if (angle := getattr(self, name)) is not None:
                out[name] = round(angle, digits)
        return out
