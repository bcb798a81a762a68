"""Let a graph for one picture take several: what fixes the batch to one is its input, and the shapes of Reshape."""

from __future__ import annotations

import copy

import numpy as np

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex
from facedeploy.graph.rewrite import FreeNames, replace_weights

_COPIED = 0  # In the shape of a Reshape: as that dimension of what is reshaped.


def free_batch(model: onnx.ModelProto, spec: NetworkSpec) -> onnx.ModelProto:
    """A copy of a graph of fixed shapes that takes the batches of the spec, where its operators do.

    Nothing says that they do: run it on several pictures and compare.

    Args:
        model: The graph, for a batch of one, with its constants as weights.
        spec: Names the batch as the first axis of each input and output.
    """
    model = copy.deepcopy(model)
    graph = model.graph
    index, names = GraphIndex.of(model), FreeNames(model)
    graph.ClearField("value_info")
    seen = {v.name for v in graph.input}
    for node in graph.node:
        if not seen.intersection(node.input):
            continue
        seen.update(node.output)
        if node.op_type == "Reshape" and node.input[1] in index.weights:
            shape = onnx.numpy_helper.to_array(index.weights[node.input[1]])
            if shape.size and shape[0] == 1:
                name = names.free(f"{node.output[0]}.shape")
                free = np.array([_COPIED, *shape[1:]], np.int64)
                graph.initializer.append(onnx.numpy_helper.from_array(free, name))
                node.input[1] = name
    replace_weights(model, list(graph.initializer))
    for values, tensors in ((graph.input, spec.inputs), (graph.output, spec.outputs)):
        for value, tensor in zip(values, tensors, strict=True):
            value.type.tensor_type.shape.dim[0].dim_param = str(tensor.shape[0])
    return model
