"""What ONNX's own tools stop at, said in words that all of them take.

BatchNormalization up to opset 8 has `spatial`: 0 normalises each place of a map by itself. Behind a fully connected
layer there is one place, and both mean the same. GroupNormalization of opset 18, with a scale for each group, was
withdrawn, and the simplifier knows no later one. A Transpose that leaves its order out turns the axes round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, infer_shapes, tensor_of
from facedeploy.graph.passes.explicit_pads import set_attributes
from facedeploy.graph.rewrite import FreeNames, replace_nodes

_EPSILON = 1e-5  # Where a node says none.
_GROUP_NORMALIZATION = 21  # The opset with a scale for each channel.


def rewrite_old_forms(model: onnx.ModelProto) -> None:
    """Rewrite each such node, in place."""
    opset = next((o.version for o in model.opset_import if o.domain == ""), 1)
    if not {n.op_type for n in model.graph.node} & {"BatchNormalization", "GroupNormalization", "Transpose"}:
        return
    index, names = GraphIndex.of(model), FreeNames(model)
    try:
        shapes = infer_shapes(model)
    except onnx.shape_inference.InferenceError:  # The simplifier says what is wrong with such a graph.
        shapes = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        shape, given = shapes.get(node.input[0], ()) if node.input else (), attributes(node)
        known = all(name in index.weights for name in node.input[1:5])
        made = [node]
        if node.op_type == "BatchNormalization" and given.get("spatial", 1) == 0 and known:
            if len(index.weights[node.input[1]].dims) > 1:
                made = _each_place(model, index, names, node)
        elif node.op_type == "GroupNormalization" and known and opset < _GROUP_NORMALIZATION and all(shape[1:2]):
            made = _by_groups(model, index, names, node, shape)
        elif node.op_type == "Transpose" and "perm" not in given and shape:
            set_attributes(node, perm=list(range(len(shape)))[::-1])
        if node.op_type == "BatchNormalization" and (given.get("spatial", 1) == 1 or known):
            set_attributes(node, spatial=None)
        nodes += made
    replace_nodes(model, nodes)


def _hold(model: onnx.ModelProto, names: FreeNames, wish: str, values: NDArray[Any]) -> str:
    name = names.free(wish)
    model.graph.initializer.append(tensor_of(values, name))
    return name


def _each_place(
    model: onnx.ModelProto, index: GraphIndex, names: FreeNames, node: onnx.NodeProto
) -> list[onnx.NodeProto]:
    scale, shift, mean, variance = (index.array(name).astype(np.float64) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + attributes(node).get("epsilon", _EPSILON))
    output, scaled = node.output[0], names.free(f"{node.output[0]}_scaled")
    by = _hold(model, names, f"{output}_factor", factor.astype(np.float32)[None])
    to = _hold(model, names, f"{output}_shift", (shift - mean * factor).astype(np.float32)[None])
    return [
        onnx.helper.make_node("Mul", [node.input[0], by], [scaled]),
        onnx.helper.make_node("Add", [scaled, to], [output]),
    ]


def _by_groups(
    model: onnx.ModelProto, index: GraphIndex, names: FreeNames, node: onnx.NodeProto, shape: tuple[int, ...]
) -> list[onnx.NodeProto]:
    """Each group as one channel, normalised by itself; then a scale and a shift."""
    given = attributes(node)
    groups, output, axes = given["num_groups"], node.output[0], [1] * (len(shape) - 2)
    each = shape[1] // groups
    scale, shift = (np.repeat(index.array(name), each).reshape(1, -1, *axes) for name in node.input[1:3])
    flat, size, normal = (names.free(f"{output}_{k}") for k in ("flat", "size", "normal"))
    back, scaled = (names.free(f"{output}_{k}") for k in ("back", "scaled"))
    to = _hold(model, names, f"{output}_groups", np.array([0, groups, -1], np.int64))
    ones = _hold(model, names, f"{output}_ones", np.ones(groups, np.float32))
    zeros = _hold(model, names, f"{output}_zeros", np.zeros(groups, np.float32))
    by, more = (_hold(model, names, f"{output}_{k}", v) for k, v in (("scale", scale), ("shift", shift)))
    make = onnx.helper.make_node
    return [
        make("Reshape", [node.input[0], to], [flat]),
        make("InstanceNormalization", [flat, ones, zeros], [normal], epsilon=given.get("epsilon", _EPSILON)),
        make("Shape", [node.input[0]], [size]),
        make("Reshape", [normal, size], [back]),
        make("Mul", [back, by], [scaled]),
        make("Add", [scaled, more], [output]),
    ]
