"""Which layers of a graph may be int8, and why the others may not. The graph has its deformable convolutions lowered,
or native; a rule that does not meet its case changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex
from facedeploy.graph.operators import INT8_LAYERS, LAYERS
from facedeploy.graph.passes.float16 import exact_nodes

# A step of int8 there moves a sample by whole pixels.
POSITIONS = "sampling positions"
# A step of 1/127 of a probability is degrees of an angle.
DECODING = "decoding"
# Its outputs are pixels and angles, and it is a hundredth of the work.
FINAL = "a final layer"

# A product of these is decoding, not a layer.
_PROBABILITIES = frozenset({"Softmax", "Sigmoid", "Exp"})
# Ops that only move values.
SHAPES = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Identity"})


@dataclass(frozen=True)
class QuantizableLayer:
    """A contraction with constant weights. index: of its node in the graph. input: the tensor that it reads. reason:
    why it stays in float; empty where it may be int8.
    """

    name: str
    index: int
    input: str
    reason: str = ""


def find_layers(model: onnx.ModelProto) -> tuple[QuantizableLayer, ...]:
    """Every layer of a float32 graph that int8 has a form for, in the order of computation."""
    nodes = model.graph.node
    index = GraphIndex.of(model)
    exact = exact_nodes(model)

    def source(name: str) -> str:
        """The op that made a tensor, through what only moves values."""
        while index.op_before(name) in SHAPES:
            name = index.producers[name].input[0]
        return index.op_before(name)

    decoding = {
        i for i, node in enumerate(nodes) if node.op_type in INT8_LAYERS and source(node.input[0]) in _PROBABILITIES
    }
    final = _final(nodes, decoding)

    def reason(i: int) -> str:
        if i in exact:
            return POSITIONS
        if i in decoding:
            return DECODING
        return FINAL if i in final else ""

    return tuple(
        QuantizableLayer(node.input[1], i, node.input[0], reason(i))
        for i, node in enumerate(nodes)
        if node.op_type in INT8_LAYERS and _is_layer(node, index)
    )


def choose(
    layers: Sequence[QuantizableLayer], keep_float: Sequence[str] = (), allow: Sequence[str] = ()
) -> tuple[str, ...]:
    """Names of the layers of a network to quantise: those without a reason against it and those that match `allow`, but
    for those that match `keep_float`. Both are shell patterns on names. Layers that share a weight are int8 together.
    """

    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, p) for p in patterns)

    names = dict.fromkeys(v.name for v in layers)
    reasoned = {v.name for v in layers if v.reason}
    return tuple(n for n in names if (n not in reasoned or matches(n, allow)) and not matches(n, keep_float))


def _is_layer(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether its weights are constant; a product with a stack of matrices has no scale a channel anywhere."""
    weight = index.weights.get(node.input[1])
    rank = 0 if weight is None else len(weight.dims)
    return rank > 2 if node.op_type == "Conv" else rank == 2


def _final(nodes: Sequence[onnx.NodeProto], decoding: Collection[int]) -> set[int]:
    """Layers with no layer after them, decoding aside."""
    leads: set[str] = set()  # Tensors that some later layer depends on.
    final = set()
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        before = any(name in leads for name in node.output)
        layer = node.op_type in (*LAYERS, "DeformConv") and i not in decoding
        if layer and not before:
            final.add(i)
        if before or layer:
            leads.update(node.input)
    return final
