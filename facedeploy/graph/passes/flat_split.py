"""A Split of channels that costs nothing in OpenVINO.

    x (N, C, H, W) ─► Split      becomes      x ─► Reshape (N, C, H * W) ─► Split ─► Reshape (N, c, H, W) each

Behind a convolution OpenVINO keeps channels last, and splits them value by value: 5 % of MOS-M, whose 17 deformable
convolutions each part offsets from a mask.
"""

from __future__ import annotations

import copy

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import attributes, infer_shapes, tensor_of
from facedeploy.graph.rewrite import replace_nodes


def split_flat(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which channels of known size are split flat; the answers are the same bits."""
    result = copy.deepcopy(model)
    shapes = infer_shapes(model)
    nodes = []

    def reshape(value: str, made: str, name: str, shape: tuple[int, ...]) -> None:
        """Make the tensor `made` of another one; its shape is the constant `name`."""
        result.graph.initializer.append(tensor_of(np.array(shape, np.int64), name))
        nodes.append(onnx.helper.make_node("Reshape", [value, name], [made]))

    for node in result.graph.node:
        wanted = [shapes.get(name, ()) for name in (node.input[0], *node.output)] if node.op_type == "Split" else []
        channels = attributes(node).get("axis", 0) == 1
        if not wanted or not channels or not all(len(shape) == 4 and all(shape) for shape in wanted):
            nodes.append(node)
            continue
        n, c, height, width = wanted[0]
        flat = f"{node.output[0]}/whole"
        reshape(node.input[0], flat, f"{flat}_shape", (n, c, height * width))
        names = list(node.output)
        node.input[0] = flat
        node.output[:] = [f"{name}/flat" for name in names]
        nodes.append(node)
        for name, shape in zip(names, wanted[1:], strict=True):
            reshape(f"{name}/flat", name, f"{name}/flat_shape", shape)
    replace_nodes(result, nodes)
    onnx.checker.check_model(result, full_check=True)
    return result
