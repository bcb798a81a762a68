"""Small ONNX files that look at a face, whose answers are known: on any picture, nearly the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.runtimes.base import Array
from tests.support.own_networks import convolution, node, weights, write


def crop_network(path: Path, outputs: Mapping[str, Array], size: tuple[int, int] = (32, 32), **options: Any) -> Path:
    """A network for one face (1, 3, *size), each of whose outputs is a constant and something tiny of the picture.

    outputs: name -> the numbers of a face, without the batch.
    """
    constants: dict[str, Any] = {"w": weights(4, 3, 3, 3) / 1e7, "dense": weights(4, 8)}
    nodes = [convolution("x", "c", "w"), node("Relu", ["c"], ["r"]), node("GlobalAveragePool", ["r"], ["g"])]
    constants["flat"] = np.array([1, 4])
    nodes += [node("Reshape", ["g", "flat"], ["f"]), node("MatMul", ["f", "dense"], ["d"])]
    for name, values in outputs.items():
        numbers = np.asarray(values, np.float32).ravel()
        constants |= {f"{name}.w": weights(8, numbers.size) / 1e3, f"{name}.b": numbers}
        constants |= {f"{name}.shape": np.array([1, *np.shape(values)])}
        nodes += [node("Gemm", ["d", f"{name}.w", f"{name}.b"], [f"{name}.flat"])]
        nodes += [node("Reshape", [f"{name}.flat", f"{name}.shape"], [name])]
    shapes = {name: [1, *np.shape(values)] for name, values in outputs.items()}
    return write(path, nodes, constants, shapes, shape=(1, 3, *size), **options)


def colour_network(path: Path, size: tuple[int, int] = (16, 16)) -> Path:
    """Answers `mean` (1, 3), the mean colour of what it sees: it tells which part of a picture that is."""
    nodes = [node("GlobalAveragePool", ["x"], ["g"]), node("Flatten", ["g"], ["mean"])]
    return write(path, nodes, {}, {"mean": [1, 3]}, shape=(1, 3, *size))


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """About x, then y, then z."""
    (a, b, c) = np.radians((pitch, yaw, roll))
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned: Array = z @ y @ x
    return turned


ANGLES = np.array([[10.0, -20.0, 30.0], [-70.0, 5.0, -2.0], [0.0, 45.0, 80.0]])

_RNG = np.random.default_rng(0)
# Published layouts: the size that the network sees, and what it answers to any face.
CROP_FAMILIES: dict[str, tuple[tuple[int, int], Array]] = {
    "pfld-106": ((112, 112), _RNG.uniform(0.1, 0.9, 212)),
    "peppa-68": ((160, 160), _RNG.uniform(0.1, 0.9, 143)),
    "fsanet": ((64, 64), ANGLES[0]),
    "6drepnet": ((224, 224), rotation(*ANGLES[0])),
    "arcface": ((112, 112), _RNG.normal(0, 1, 512)),
}
