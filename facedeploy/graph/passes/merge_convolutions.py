"""Two convolutions with nothing between them as one, where that is less work.

    x ─► Conv k x k, C to M ─► Conv 1x1, M to N ─► y    becomes    x ─► Conv k x k, C to N ─► y

MobileNetV2 ends in such a pair when the next layer is a projection: 960 to 320 to 64 channels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import require

if TYPE_CHECKING:
    import onnx

_PLAIN = {"group": 1, "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "auto_pad": b"NOTSET"}


def merge_convolutions(model: onnx.ModelProto) -> None:
    """Merge every such pair, in place. The products are computed in float64."""
    numpy_helper = require("onnx", "export").numpy_helper
    graph = model.graph
    weights = {w.name: w for w in graph.initializer}
    readers: dict[str, int] = {}
    for name in (*(n for node in graph.node for n in node.input), *(v.name for v in graph.output)):
        readers[name] = readers.get(name, 0) + 1
    producer = {name: node for node in graph.node for name in node.output}

    def array(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = numpy_helper.to_array(weights[name]).astype(np.float64)
        return values

    def constant(node: onnx.NodeProto) -> bool:
        """Whether a convolution's weights are constants of its own."""
        return all(n in weights and readers[n] == 1 for n in node.input[1:])

    for outer in [n for n in graph.node if n.op_type == "Conv"]:
        inner = producer.get(outer.input[0])
        if inner is None or inner.op_type != "Conv" or readers[outer.input[0]] != 1:
            continue
        if not (constant(inner) and constant(outer) and _is_plain(outer) and _attribute(inner, "group", 1) == 1):
            continue
        first, second = array(inner.input[1]), array(outer.input[1])
        if second.shape[2:] != (1, 1) or not _is_less(first.shape, second.shape):
            continue
        product = second[:, :, 0, 0]
        bias = array(outer.input[2]) if len(outer.input) > 2 else np.zeros(len(product))
        if len(inner.input) > 2:
            bias = bias + product @ array(inner.input[2])
        source, name = inner.input[:2]
        merged = {name: np.tensordot(product, first, axes=1), f"{name}.bias": bias}
        for old in (*inner.input[1:], *outer.input[1:]):
            graph.initializer.remove(weights.pop(old))
        for new, values in merged.items():
            weights[new] = graph.initializer.add()
            weights[new].CopyFrom(numpy_helper.from_array(values.astype(np.float32), new))
            readers[new] = 1
        del inner.input[:]
        inner.input.extend([source, *merged])
        inner.output[0] = outer.output[0]
        producer[outer.output[0]] = inner
        graph.node.remove(outer)


def _is_plain(node: onnx.NodeProto) -> bool:
    return all(_attribute(node, name, value) == value for name, value in _PLAIN.items())


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    helper = require("onnx", "export").helper
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _is_less(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether one convolution has fewer multiply-adds for a pixel than the two."""
    return second[0] * math.prod(first[1:]) < math.prod(first) + math.prod(second)
