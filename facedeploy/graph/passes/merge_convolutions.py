"""Two convolutions with nothing between them as one, where that is less work.

    x ─► Conv k x k, C to M ─► Conv 1x1, M to N ─► y    becomes    x ─► Conv k x k, C to N ─► y

MobileNetV2 ends in such a pair when the next layer is a projection: 960 to 320 to 64 channels.
"""

from __future__ import annotations

import math

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, tensor_of

_PLAIN = {"group": 1, "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "auto_pad": b"NOTSET"}


def merge_convolutions(model: onnx.ModelProto) -> None:
    """Merge every such pair, in place. The products are computed in float64."""
    while pair := _find_pair(model):
        _merge(model, *pair)


def _find_pair(model: onnx.ModelProto) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The first two convolutions that can be one."""
    index = GraphIndex.of(model)
    for outer in model.graph.node:
        inner = index.producers.get(outer.input[0]) if outer.op_type == "Conv" and _is_plain(outer) else None
        if inner is None or inner.op_type != "Conv" or index.uses(outer.input[0]) != 1:
            continue
        if attributes(inner).get("group", 1) != 1 or not all(map(index.has_own_weights, (inner, outer))):
            continue
        first, second = (tuple(index.weights[node.input[1]].dims) for node in (inner, outer))
        if second[2:] == (1, 1) and _is_less(first, second):
            return inner, outer
    return None


def _merge(model: onnx.ModelProto, inner: onnx.NodeProto, outer: onnx.NodeProto) -> None:
    graph, index = model.graph, GraphIndex.of(model)
    first, *first_bias = (index.array(name).astype(np.float64) for name in inner.input[1:])
    second, *second_bias = (index.array(name).astype(np.float64) for name in outer.input[1:])
    product = second[:, :, 0, 0]
    bias = second_bias[0] if second_bias else np.zeros(len(product))
    if first_bias:
        bias = bias + product @ first_bias[0]
    source, name = inner.input[:2]
    merged = {name: np.tensordot(product, first, axes=1), f"{name}.bias": bias}
    for old in (*inner.input[1:], *outer.input[1:]):
        graph.initializer.remove(index.weights[old])
    graph.initializer.extend(tensor_of(values.astype(np.float32), new) for new, values in merged.items())
    inner.input[:] = [source, *merged]
    inner.output[0] = outer.output[0]
    graph.node.remove(outer)


def _is_plain(node: onnx.NodeProto) -> bool:
    values = attributes(node)
    return all(values.get(name, value) == value for name, value in _PLAIN.items())


def _is_less(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether one convolution has fewer multiply-adds for a pixel than the two."""
    return second[0] * math.prod(first[1:]) < math.prod(first) + math.prod(second)
