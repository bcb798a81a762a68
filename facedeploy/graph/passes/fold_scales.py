"""Constant factors behind a layer, multiplied into its weights: what a dynamically quantised layer leaves behind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, tensor_of
from facedeploy.graph.rewrite import replace_weights

_FOLDED = frozenset({"Conv", "MatMul"})


def fold_scales(model: onnx.ModelProto) -> None:
    """Multiply constants with each other, and into the weights of the layer that they follow, in place."""
    while _fold_one(model):
        pass
    replace_weights(model, list(model.graph.initializer))


def _fold_one(model: onnx.ModelProto) -> bool:
    index = GraphIndex.of(model)
    for node in model.graph.node:
        if node.op_type == "Cast":
            layer = index.producers.get(node.input[0])
            same = attributes(node)["to"] == onnx.TensorProto.FLOAT
            if same and layer is not None and _is_last(index, layer) and node.output[0] not in index.outputs:
                layer.output[0] = node.output[0]
                model.graph.node.remove(node)
                return True
        if node.op_type != "Mul":
            continue
        constant = [n for n in node.input if n in index.weights]
        if len(constant) == 2 and node.output[0] not in index.outputs:
            value = index.array(constant[0]) * index.array(constant[1])
            model.graph.initializer.append(tensor_of(value, node.output[0]))
            model.graph.node.remove(node)
            return True
        if len(constant) == 1 and _into_layer(index, node, constant[0]):
            model.graph.node.remove(node)
            return True
    return False


def _into_layer(index: GraphIndex, node: onnx.NodeProto, constant: str) -> bool:
    (value,) = [n for n in node.input if n != constant] or [""]
    layer = index.producers.get(value)
    if layer is None or not _is_last(index, layer) or not index.has_own_weights(layer):
        return False
    weight = index.array(layer.input[1])
    factor = _per_channel(index.array(constant), layer.op_type)
    channels = weight.shape[0] if layer.op_type == "Conv" else weight.shape[-1]
    if factor is None or factor.size not in (1, channels):
        return False
    for i, name in enumerate(layer.input[1:]):
        array = index.array(name)
        shaped = factor.reshape(-1, *[1] * (array.ndim - 1)) if layer.op_type == "Conv" and i == 0 else factor
        index.weights[name].CopyFrom(tensor_of((array * shaped).astype(np.float32), name))
    layer.output[0] = node.output[0]
    return True


def _is_last(index: GraphIndex, layer: onnx.NodeProto) -> bool:
    """Whether a node is a layer whose result only one node reads."""
    return layer.op_type in _FOLDED and layer.input[1] in index.weights and index.uses(layer.output[0]) == 1


def _per_channel(array: NDArray[Any], op: str) -> NDArray[Any] | None:
    """A factor (C,), or (1,) for all channels; None where it differs along other axes than the layer's channels."""
    if array.size == 1:
        return array.reshape(1)
    if op == "MatMul":
        return array.reshape(-1) if array.shape[-1] == array.size else None
    return array.reshape(-1) if array.ndim > 2 and array.shape[-3] == array.size else None
