"""How the PyTorch modules of a model become the networks that are deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from facedeploy.core.network_spec import Shape

Modules = dict[str, nn.Module]
Probe = Callable[[str, Mapping[str, Shape], np.random.Generator], dict[str, NDArray[np.float32]]]


def _unchanged(modules: Modules) -> Modules:
    return modules


@dataclass(frozen=True)
class Architecture:
    """Three steps, each from modules by name to modules by name.

    Attributes:
        build: Makes fresh modules, by part of the checkpoint.
        networks: Makes the networks that compute as published: the reference.
        fold: Makes networks that compute the same for less, with the same inputs and outputs. These are exported.
        probe: Makes inputs of a network that takes something else than a picture, from its name, the inputs' shapes and
            a generator.
    """

    build: Callable[[], Modules]
    networks: Callable[[Modules], Modules] = _unchanged
    fold: Callable[[Modules], Modules] = _unchanged
    probe: Probe | None = None
