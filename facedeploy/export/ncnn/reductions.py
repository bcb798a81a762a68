"""A reduction over one axis, in a form that pnnx gets right.

From opset 13 on the axes are an input. pnnx takes an array of one axis there for a number and writes a Reduction of
no axes at all, which ncnn runs without a word. An axis that is named twice is an array, and means the same.
"""

from __future__ import annotations

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import tensor_of


def repeat_axes(model: onnx.ModelProto) -> None:
    """Name the axis twice in every reduction over one, in place."""
    graph = model.graph
    integers = [w for w in graph.initializer if w.data_type == onnx.TensorProto.INT64 and len(w.dims) < 2]
    axes = {w.name: onnx.numpy_helper.to_array(w).ravel() for w in integers}
    added: set[str] = set()
    for node in graph.node:
        if node.op_type.startswith("Reduce") and len(node.input) > 1 and len(axes.get(node.input[1], ())) == 1:
            (axis,) = axes[node.input[1]].tolist()
            name = f"facedeploy_axis_{axis}_twice"
            if name not in added:
                graph.initializer.append(tensor_of(np.array([axis, axis]), name))
                added.add(name)
            node.input[1] = name
