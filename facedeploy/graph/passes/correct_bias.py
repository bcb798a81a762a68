"""Int8 moves the mean of what a layer gives, and the layers after it add up such shifts. Another bias takes them back.

    x ─► Conv w, b ─► y          b + c, where c is the mean over pictures and places of y in float, less y in int8

Nagel et al. 2019 (arXiv 1906.04721, section 4.2) show it for weights; here the mean is that of the whole layer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, tensor_of
from facedeploy.graph.operators import takes_bias
from facedeploy.graph.ranges import Ranges, Scheme
from facedeploy.graph.rewrite import replace_weights


def correctable(model: onnx.ModelProto) -> Mapping[str, tuple[onnx.NodeProto, ...]]:
    """Name of a weight -> the layers of that weight, where all of them have a constant bias, or none."""
    index = GraphIndex.of(model)
    found: dict[str, tuple[onnx.NodeProto, ...]] = {}
    refused = set()
    for node in model.graph.node:
        if len(node.input) < 2 or node.input[1] not in index.weights:
            continue
        name, bias = node.input[1], _bias(node)
        if not takes_bias(node) or (bias and bias not in index.weights):
            refused.add(name)
        found[name] = (*found.get(name, ()), node)
    return {name: nodes for name, nodes in found.items() if name not in refused}


def correct_biases(model: onnx.ModelProto, layers: Ranges, scheme: Scheme) -> onnx.ModelProto:
    """A copy with the biases that go with int8.

    Args:
        model: The float32 graph, with channels of their own size.
        layers: Name of a weight -> the range of what its layers read, with their correction. Names that the graph does
            not have, and those without a correction, are left alone.
        scheme: Of the int8 that is to come.
    """
    changes = {name: values.correction(scheme) for name, values in layers.items() if values.correction(scheme)}
    if not changes:
        return model
    result = copy.deepcopy(model)
    index = GraphIndex.of(result)
    new: list[onnx.TensorProto] = []
    for name, nodes in correctable(result).items():
        for node in nodes if name in changes else ():
            bias, change = _bias(node), np.asarray(changes[name], np.float32)
            old = index.array(bias) if bias else np.zeros(len(change), np.float32)
            corrected = f"{node.output[0]}_corrected"
            new.append(tensor_of((old + change).astype(np.float32), corrected))
            del node.input[2:]
            node.input.append(corrected)
    replace_weights(result, [*result.graph.initializer, *new])
    return result


def _bias(node: onnx.NodeProto) -> str:
    """Name of a layer's bias, empty where it has none."""
    return node.input[2] if len(node.input) > 2 else ""
