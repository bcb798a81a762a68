"""Constant nodes as initializers: where every tool, and every pass here, looks for weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from facedeploy.core.optional_imports import require

if TYPE_CHECKING:
    import onnx

_KINDS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def store_constants(model: onnx.ModelProto) -> None:
    """Make an initializer of every Constant node with numbers, in place."""
    library = require("onnx", "export")
    for node in [n for n in model.graph.node if n.op_type == "Constant"]:
        (attribute,) = node.attribute
        value = library.helper.get_attribute_value(attribute)
        if attribute.name in _KINDS:
            value = library.numpy_helper.from_array(np.asarray(value, _KINDS[attribute.name]))
        if isinstance(value, library.TensorProto):
            weight = model.graph.initializer.add()
            weight.CopyFrom(value)
            weight.name = node.output[0]
            model.graph.node.remove(node)
