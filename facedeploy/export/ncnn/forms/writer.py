"""What a form is written with: the graph as it is, its shapes and constants, and the nodes that take a node's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, infer_shapes, tensor_of
from facedeploy.graph.rewrite import FreeNames

Array = NDArray[Any]


class Writer:
    """Nodes of a new graph, with what the old one says of its tensors.

    Attributes:
        nodes: What was written so far.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._index = GraphIndex.of(model)
        self._names = FreeNames(model)
        self._shapes = infer_shapes(model)
        self.nodes: list[onnx.NodeProto] = []

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; empty where it is not known, or has no axes."""
        if name in self._index.weights:
            return tuple(self._index.weights[name].dims)
        found = self._shapes.get(name, ())
        return found if all(found) else ()

    def constant(self, node: onnx.NodeProto, place: int) -> Array | None:
        """The values of an input that is a constant; None where there is no such input, or it is computed."""
        name = node.input[place] if len(node.input) > place else ""
        return self._index.array(name) if name in self._index.weights else None

    def given(self, node: onnx.NodeProto, place: int) -> bool:
        """Whether a node has an input."""
        return len(node.input) > place and bool(node.input[place])

    def alone(self, name: str) -> bool:
        """Whether a tensor is read once."""
        return self._index.uses(name) == 1

    def hold(self, values: Any, like: str = "constant") -> str:
        """A new constant; its name begins as asked."""
        name = self._names.free(f"facedeploy_{like}")
        self._model.graph.initializer.append(tensor_of(np.asarray(values), name))
        return name

    def replace_constant(self, name: str, values: Array) -> None:
        """Give a constant other values, under the name by which layers are known."""
        self._index.weights[name].CopyFrom(tensor_of(values, name))

    def emit(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Write a node, and say what its output is called: as asked, or a new name."""
        output = output or self._names.free(f"facedeploy_{op.lower()}")
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def reshape(self, name: str, shape: Sequence[int], output: str = "") -> str:
        return self.emit("Reshape", [name, self.hold(np.array(shape, np.int64), "shape")], output)


# Writes what takes a node's place; False where the node stays.
Form = Callable[[Writer, "onnx.NodeProto"], bool]
