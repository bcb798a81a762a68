"""Which layers of a graph may be int8, and why the others may not. The graph has its deformable convolutions lowered,
or native; a rule that does not meet its case changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from facedeploy.core.errors import InputError
from facedeploy.graph.passes.float16 import exact_nodes

if TYPE_CHECKING:
    import onnx

# A step of int8 there moves a sample by whole pixels.
POSITIONS = "sampling positions"
# A step of 1/127 of a probability is degrees of an angle.
DECODING = "decoding"
# Its outputs are pixels and angles, and it is a hundredth of the work.
FINAL = "a final layer"

# op -> input that holds the weights
_LAYERS = {"Conv": 1, "Gemm": 1, "MatMul": 1}
# A product of these is decoding, not a layer.
_PROBABILITIES = frozenset({"Softmax", "Sigmoid", "Exp"})
# Ops that only move values.
_SHAPES = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Identity"})


@dataclass(frozen=True)
class Layer:
    """A contraction with constant weights. index: of its node in the graph. input: the tensor that it reads. reason:
    why it stays in float; empty where it may be int8.
    """

    name: str
    index: int
    input: str
    reason: str = ""


def find_layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Every layer of a float32 graph that int8 has a form for, in the order of computation."""
    nodes = model.graph.node
    weights = {w.name: len(w.dims) for w in model.graph.initializer}
    producer = {name: node for node in nodes for name in node.output}
    exact = exact_nodes(model)

    def source(name: str) -> str:
        """The op that made a tensor, through what only moves values."""
        while name in producer and producer[name].op_type in _SHAPES:
            name = producer[name].input[0]
        return producer[name].op_type if name in producer else ""

    decoding = {
        i for i, node in enumerate(nodes) if node.op_type in _LAYERS and source(node.input[0]) in _PROBABILITIES
    }
    final = _final(nodes, decoding)

    def reason(index: int) -> str:
        if index in exact:
            return POSITIONS
        if index in decoding:
            return DECODING
        return FINAL if index in final else ""

    return tuple(
        Layer(node.input[_LAYERS[node.op_type]], i, node.input[0], reason(i))
        for i, node in enumerate(nodes)
        if node.op_type in _LAYERS and _is_layer(node, weights)
    )


def _is_layer(node: onnx.NodeProto, ranks: Mapping[str, int]) -> bool:
    """Whether its weights are constant; a product with a stack of matrices has no scale a channel anywhere."""
    rank = ranks.get(node.input[_LAYERS[node.op_type]], 0)
    return rank > 2 if node.op_type == "Conv" else rank == 2


def choose(layers: Sequence[Layer], keep_float: Sequence[str] = (), allow: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the layers of a network to quantise: those without a reason against it and those that match `allow`, but
    for those that match `keep_float`. Both are shell patterns on names. Layers that share a weight are int8 together.
    """

    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, p) for p in patterns)

    names = dict.fromkeys(v.name for v in layers)
    reasoned = {v.name for v in layers if v.reason}
    return tuple(n for n in names if (n not in reasoned or matches(n, allow)) and not matches(n, keep_float))


def check_patterns(layers: Sequence[Layer], patterns: Sequence[str]) -> None:
    """Check that the user's patterns mean some of the layers.

    Raises:
        InputError: a pattern matches no layer.
    """
    names = list(dict.fromkeys(v.name for v in layers))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            msg = f"no layer matches {pattern!r}; layers are {', '.join(names)}"
            raise InputError(msg)


def _final(nodes: Sequence[onnx.NodeProto], decoding: Collection[int]) -> set[int]:
    """Layers with no layer after them, decoding aside."""
    leads: set[str] = set()  # Tensors that some later layer depends on.
    final = set()
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        before = any(name in leads for name in node.output)
        layer = node.op_type in (*_LAYERS, "ConvTranspose", "DeformConv") and i not in decoding
        if layer and not before:
            final.add(i)
        if before or layer:
            leads.update(node.input)
    return final
