"""Deterministic weights: every tensor is a function of its key, so that recorded outputs can be compared.

u(key) is uniform in [-1, 1) from a generator seeded with the CRC-32 of the key. Biases are 0.05 u, PReLU slopes
0.25 + 0.05 u, other weights u * gain * sqrt(3 / fan_in).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GAIN = 1.4


def noise(key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    seed = zlib.crc32(key.encode()) & 0xFFFFFFFF
    return np.random.RandomState(seed).uniform(-1.0, 1.0, shape)


def fill(state: Mapping[str, Tensor], gain: float = GAIN) -> dict[str, Tensor]:
    """Weights for the keys and shapes of `state`."""
    return {key: torch.from_numpy(_values(key, tuple(t.shape), gain)).to(t.dtype) for key, t in state.items()}


def _values(key: str, shape: tuple[int, ...], gain: float) -> NDArray[np.float64]:
    u = noise(key, shape)
    if key.endswith(".bias"):
        return 0.05 * u
    if len(shape) < 2:
        return 0.25 + 0.05 * u
    return u * (gain * math.sqrt(3.0 / math.prod(shape[1:])))
