"""Attributes of old opsets that the version converter stops at, said in today's words.

BatchNormalization up to opset 8 has `spatial`: 0 normalises each place of a map by itself. Behind a fully connected
layer there is one place, and both mean the same.
"""

from __future__ import annotations

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, tensor_of
from facedeploy.graph.passes.explicit_pads import set_attributes
from facedeploy.graph.rewrite import FreeNames, replace_nodes

_EPSILON = 1e-5  # Where a node says none.


def drop_old_attributes(model: onnx.ModelProto) -> None:
    """Rewrite every BatchNormalization that says `spatial`, in place; of several places it becomes Mul and Add."""
    index, names = GraphIndex.of(model), FreeNames(model)
    nodes = []
    for node in model.graph.node:
        given = attributes(node) if node.op_type == "BatchNormalization" else {}
        known = all(name in index.weights for name in node.input[1:5])
        if given.get("spatial", 1) == 0 and known and len(index.weights[node.input[1]].dims) > 1:
            nodes += _each_place(model, index, names, node)
            continue
        if "spatial" in given and (given["spatial"] == 1 or known):
            set_attributes(node, spatial=None)
        nodes.append(node)
    replace_nodes(model, nodes)


def _each_place(
    model: onnx.ModelProto, index: GraphIndex, names: FreeNames, node: onnx.NodeProto
) -> list[onnx.NodeProto]:
    scale, shift, mean, variance = (index.array(name).astype(np.float64) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + attributes(node).get("epsilon", _EPSILON))
    parts = [names.free(f"{node.output[0]}_{part}") for part in ("factor", "shift", "scaled")]
    for name, values in zip(parts, (factor, shift - mean * factor), strict=False):
        model.graph.initializer.append(tensor_of(values.astype(np.float32)[None], name))
    return [
        onnx.helper.make_node("Mul", [node.input[0], parts[0]], [parts[2]]),
        onnx.helper.make_node("Add", [parts[2], parts[1]], [node.output[0]]),
    ]
