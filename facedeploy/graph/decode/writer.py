"""Nodes and constants of a graph that is being written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.decode.description import runs
from facedeploy.graph.index import tensor_of

# How the names of all constants of a decoded head begin: what reads them computes positions.
PREFIX = "decode/"


class Writer:
    """Collects nodes. Every method that adds some returns the name of their result.

    Tensors of boxes are (1, P, numbers): `columns` and `join` work on the last axis.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: ArrayLike, dtype: Any = np.float32) -> str:
        name = f"{PREFIX}constant_{len(self.constants)}"
        self.constants.append(tensor_of(np.asarray(values, dtype), name))
        return name

    def add(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        name = f"{PREFIX}{op.lower()}_{len(self.nodes)}"
        output = to or name
        self.nodes.append(onnx.helper.make_node(op, [*inputs], [output], name=name, **attributes))
        return output

    def rename(self, source: str, to: str) -> None:
        """Call the result of the last node, `source`, something else."""
        assert self.nodes[-1].output[0] == source
        self.nodes[-1].output[0] = to

    def reshape(self, source: str, *shape: int) -> str:
        return self.add("Reshape", source, self.constant(shape, np.int64))

    def slice(self, source: str, start: int, stop: int, axis: int) -> str:
        return self.add("Slice", source, *(self.constant([v], np.int64) for v in (start, stop, axis)))

    def columns(self, source: str, wanted: Sequence[int], width: int) -> str:
        """Some numbers of each box; runs of them, because pnnx takes a Gather on the last axis for a Crop."""
        if tuple(wanted) == tuple(range(width)):
            return source
        return self.join([self.slice(source, start, stop, 2) for start, stop in runs(wanted)])

    def join(self, sources: Sequence[str], axis: int = 2) -> str:
        return sources[0] if len(sources) == 1 else self.add("Concat", *sources, axis=axis)
