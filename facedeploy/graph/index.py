"""Who makes and who reads each tensor of a graph, and which tensors are constants.

The passes work on ONNX's own messages, because all that stands around them does: the checker, shape inference, the
version converter, onnxsim, the compilers. onnx-ir has the same index, but a graph that goes through it loses its
sparse initializers and quantization annotations, and every weight gets a shape annotation (seen in 1.1.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx


@dataclass(frozen=True)
class GraphIndex:
    """What a graph was when it was looked at; after a change, make a new one.

    Attributes:
        weights: name -> initializer.
        producers: tensor -> the node that makes it.
        readers: tensor -> the nodes that read it, in the graph's order; a node is there once for each time it does.
        outputs: names of the graph's outputs.
    """

    weights: Mapping[str, onnx.TensorProto]
    producers: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, tuple[onnx.NodeProto, ...]]
    outputs: frozenset[str]

    @staticmethod
    def of(model: onnx.ModelProto) -> GraphIndex:
        graph = model.graph
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in reads(node):
                readers.setdefault(name, []).append(node)
        return GraphIndex(
            weights={w.name: w for w in graph.initializer},
            producers={name: node for node in graph.node for name in node.output},
            readers={name: tuple(nodes) for name, nodes in readers.items()},
            outputs=frozenset(v.name for v in graph.output),
        )

    def array(self, name: str) -> NDArray[Any]:
        """The values of an initializer."""
        return onnx.numpy_helper.to_array(self.weights[name])

    def uses(self, name: str) -> int:
        """How often a tensor is read; the caller reads an output once."""
        return len(self.readers.get(name, ())) + (name in self.outputs)

    def op_before(self, name: str) -> str:
        """The operator that makes a tensor; empty for an input and a weight."""
        return self.producers[name].op_type if name in self.producers else ""

    def has_own_weights(self, node: onnx.NodeProto) -> bool:
        """Whether all that a layer reads after its first input are initializers that nothing else reads."""
        return all(name in self.weights and self.uses(name) == 1 for name in node.input[1:])


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, its subgraphs included, once for each time."""
    yield from filter(None, node.input)  # An optional input that is not given has an empty name.
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from reads(inner)
            yield from (v.name for v in graph.output)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node, by name: what it leaves out is not there."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def weight_names(model: onnx.ModelProto) -> set[str]:
    """Names of the initializers of a graph, the sparse ones too."""
    return {w.name for w in model.graph.initializer} | {w.values.name for w in model.graph.sparse_initializer}


def infer_values(model: onnx.ModelProto, *, strict: bool = False) -> dict[str, onnx.ValueInfoProto]:
    """Tensor -> its type and shape, as far as ONNX can infer them; weights are not among them.

    strict: let ONNX raise where an operator contradicts itself, rather than leave its outputs out.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True).graph
    return {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}


def infer_shapes(model: onnx.ModelProto, *, strict: bool = False) -> dict[str, tuple[int, ...]]:
    """Tensor -> its shape, with 0 for an axis that is not known. As `infer_values`."""
    return {name: shape_of(value) for name, value in infer_values(model, strict=strict).items()}


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape that a graph gives a tensor, with 0 for an axis that is not known."""
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def tensor_of(array: NDArray[Any] | np.generic, name: str) -> onnx.TensorProto:
    """An array as an initializer."""
    return onnx.numpy_helper.from_array(np.asarray(array), name)
