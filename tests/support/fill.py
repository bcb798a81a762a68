"""Deterministic weights: every tensor is a function of its key, so that recorded outputs can be compared.

u(key) is uniform in [-1, 1) from a generator seeded with the CRC-32 of the key. Variances are 1 + 0.25 u, means 0.1 u,
biases 0.05 u, cross-stitch weights 0.3 + 0.1 u, scales of a normalisation 1 + 0.1 u, PReLU slopes 0.25 + 0.05 u, other
weights u * gain * sqrt(3 / fan_in), with a gain of 0.5 for offsets and masks; integers are 0.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GAIN, OFFSET_GAIN = 1.4, 0.5
# Ending of the key -> centre and spread.
_RULES = {
    ".running_var": (1.0, 0.25),
    ".running_mean": (0.0, 0.1),
    ".bias": (0.0, 0.05),
    ".param": (0.3, 0.1),
}
_NORM, _SLOPE = (1.0, 0.1), (0.25, 0.05)


def noise(key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    seed = zlib.crc32(key.encode()) & 0xFFFFFFFF
    return np.random.RandomState(seed).uniform(-1.0, 1.0, shape)


def fill(state: Mapping[str, Tensor], gain: float = GAIN) -> dict[str, Tensor]:
    """Weights for the keys and shapes of `state`."""
    return {
        key: torch.from_numpy(_values(key, tuple(t.shape), gain, state.keys())).to(t.dtype).reshape(t.shape)
        if t.is_floating_point()
        else torch.zeros_like(t)
        for key, t in state.items()
    }


def _values(key: str, shape: tuple[int, ...], gain: float, keys: Collection[str]) -> NDArray[np.float64]:
    u = noise(key, shape)
    rule = next((rule for ending, rule in _RULES.items() if key.endswith(ending)), None)
    if rule is None and len(shape) < 2:
        # A normalisation has a bias beside its scale, and a PReLU has none.
        rule = _NORM if key.removesuffix("weight") + "bias" in keys else _SLOPE
    if rule is not None:
        return np.asarray(rule[0] + rule[1] * u)
    own = OFFSET_GAIN if "conv_offset_mask" in key else gain
    return u * (own * math.sqrt(3.0 / math.prod(shape[1:])))
