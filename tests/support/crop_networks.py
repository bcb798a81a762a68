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
