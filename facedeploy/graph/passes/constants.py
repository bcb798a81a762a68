"""Constant nodes as initializers: where every tool, and every pass here, looks for weights."""

from __future__ import annotations

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import attributes

_KINDS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def store_constants(model: onnx.ModelProto) -> None:
    """Make an initializer of every Constant node with numbers, in place."""
    for node in [n for n in model.graph.node if n.op_type == "Constant"]:
        ((name, value),) = attributes(node).items()
        if name in _KINDS:
            value = onnx.numpy_helper.from_array(np.asarray(value, _KINDS[name]))
        if isinstance(value, onnx.TensorProto):
            weight = model.graph.initializer.add()
            weight.CopyFrom(value)
            weight.name = node.output[0]
            model.graph.node.remove(node)
