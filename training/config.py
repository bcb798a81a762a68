"""What a training run is: read from a TOML file, kept in every checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tomllib


@dataclass(frozen=True)
class Config:
    """side: of the square training pictures, in pixels, a multiple of 32. steps: of so many pictures each.

    rate: AdamW's highest learning rate, after `warmup` steps; a cosine takes it to a hundredth. decay: of weights.
    ema: decay of the averaged weights, which are what is shipped.
    shares: how often a picture of each source is drawn. score, box, landmarks, pose: weights of the losses.
    bfloat16: convolutions in bf16, weights in float32. keep_every: steps between checkpoints.
    """

    seed: int = 1
    side: int = 256
    batch: int = 32
    steps: int = 12000
    rate: float = 2e-3
    warmup: int = 500
    decay: float = 0.02
    ema: float = 0.999
    score: float = 2.0
    box: float = 2.0
    landmarks: float = 3.0
    pose: float = 0.15
    bfloat16: bool = True
    workers: int = 2
    keep_every: int = 250
    shares: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"face_counting": 0.60, "aflw2000": 0.32, "wider_face": 0.08}
    )


def read(path: Path) -> Config:
    """Read a TOML file of some of the fields.

    Raises:
        ValueError: an unknown field.
    """
    values = tomllib.loads(path.read_text())
    known = {f.name for f in dataclasses.fields(Config)}
    if unknown := sorted(set(values) - known):
        msg = f"{path}: there is no setting {unknown[0]!r}; settings are {', '.join(sorted(known))}"
        raise ValueError(msg)
    return Config(**values)
