"""How far the worst face of a picture may be off in a test, a precision each."""

from __future__ import annotations

from dataclasses import dataclass

from facedeploy.core.target import Precision


@dataclass(frozen=True)
class Worst:
    """pixels: of any coordinate. degrees: of any angle."""

    pixels: float
    score: float
    degrees: float


WORST: dict[Precision, Worst] = {
    "fp32": Worst(0.5, 1e-3, 0.1),
    "fp16": Worst(1.5, 1e-2, 1.0),
    "bf16": Worst(1.5, 1e-2, 1.0),
    "int8": Worst(5.0, 0.1, 5.0),
}
