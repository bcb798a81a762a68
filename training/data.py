"""Labelled pictures in memory, and the batches that are drawn from them.

Every training picture is a function of the seed and its number, so a run that was killed goes on exactly where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from facedeploy.core.preprocess import Image
from training import augment
from training.config import Config
from training.losses import Labels

Floats = NDArray[np.float64]

_TEACHER_TRUST = 0.3  # Weight of a pose that a teacher gave, beside one that was labelled.


@dataclass(frozen=True)
class Picture:
    """boxes (N, 4), landmarks (N, 5, 2), pose (N, 3) in degrees and trust (N,) of it; NaN where not known.

    ignored (M, 4): boxes of what may be a face.
    """

    image: Image
    boxes: Floats
    landmarks: Floats
    pose: Floats
    trust: Floats
    ignored: Floats


def read(labels: Path, images: Path, split: str) -> dict[str, list[Picture]]:
    """The pictures of one split, by source, from the lines that `training.labels` writes."""
    found: dict[str, list[Picture]] = {}
    for line in labels.read_text().splitlines():
        record = json.loads(line)
        if record["split"] == split:
            found.setdefault(record["source"], []).append(_picture(record, images))
    return found


def _picture(record: dict[str, Any], images: Path) -> Picture:
    image = cv2.imread(str(images / record["image"]))
    if image is None:
        msg = f"{images / record['image']} is missing or no picture"
        raise FileNotFoundError(msg)
    faces = record["faces"]

    def known(name: str, shape: tuple[int, ...]) -> Floats:
        empty = np.full(shape, np.nan)
        return np.array([empty if f[name] is None else f[name] for f in faces], float).reshape(len(faces), *shape)

    return Picture(
        image=np.ascontiguousarray(image, np.uint8),
        boxes=known("box", (4,)),
        landmarks=known("landmarks", (5, 2)),
        pose=known("pose", (3,)),
        trust=np.array([1.0 if f["pose_from"] == "label" else _TEACHER_TRUST for f in faces]),
        ignored=np.array(record["ignore"], float).reshape(-1, 4),
    )


class Samples(Dataset[Picture]):
    """Training pictures by number: sources drawn by their shares, then altered."""

    def __init__(self, pictures: dict[str, list[Picture]], config: Config) -> None:
        self.pictures = pictures
        self.config = config
        self.sources = [s for s in sorted(pictures) if config.shares.get(s, 0) > 0]
        shares = np.array([config.shares[s] for s in self.sources])
        self.chances = shares / shares.sum()

    def __len__(self) -> int:
        return self.config.steps * self.config.batch

    def __getitem__(self, number: int) -> Picture:
        rng = np.random.default_rng([self.config.seed, number])

        def draw() -> tuple[str, Picture]:
            source = self.sources[int(rng.choice(len(self.sources), p=self.chances))]
            mine = self.pictures[source]
            return source, mine[int(rng.integers(len(mine)))]

        return augment.compose(rng, draw, self.config.side)


def batches(samples: Samples, first: int) -> Iterator[tuple[torch.Tensor, Labels]]:
    """8-bit pictures (B, 3, S, S) and labels of the steps from `first` on."""
    config = samples.config
    numbers = range(first * config.batch, len(samples))
    cv2.setNumThreads(1)
    return iter(
        DataLoader(
            samples, config.batch, sampler=numbers, num_workers=config.workers, collate_fn=collate, drop_last=True
        )
    )


def collate(pictures: list[Picture]) -> tuple[torch.Tensor, Labels]:
    """Stack pictures of one size; what they have more or fewer of is filled with NaN, or with empty regions."""
    count = max(1, *(len(p.boxes) for p in pictures))

    def stack(name: str, shape: tuple[int, ...], length: int, fill: float) -> torch.Tensor:
        out = np.full((len(pictures), length, *shape), fill, np.float32)
        for row, picture in zip(out, pictures, strict=True):
            values = getattr(picture, name)
            row[: len(values)] = values.reshape(-1, *shape)
        return torch.from_numpy(out)

    image = torch.from_numpy(np.stack([p.image for p in pictures])).permute(0, 3, 1, 2)
    labels = Labels(
        faces=stack("boxes", (4,), count, np.nan),
        landmarks=stack("landmarks", (10,), count, np.nan),
        pose=stack("pose", (3,), count, np.nan),
        trust=stack("trust", (), count, 0),
        ignored=stack("ignored", (4,), max(1, *(len(p.ignored) for p in pictures)), 0),
    )
    return image, labels
