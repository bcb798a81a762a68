"""Q/DQ pairs where OpenVINO fuses them: into the layer before, which then writes integers.

    Conv ─► Relu ─► MaxPool ─► Q ─► DQ ─► Conv      becomes      Conv ─► Q ─► DQ ─► MaxPool ─► Conv

Rounding commutes with what only moves or picks values. A ReLU before a Q whose zero point is the smallest integer is
the Q's own clipping. Both answers stay what they are; the measured gain is in docs/explanation/int8.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, infer_shapes
from facedeploy.graph.rewrite import in_order, replace_nodes

_MOVES = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})
# OpenVINO's integer pooling of fewer channels is slower than the float one it replaces (seen at 10, not at 28).
_POOLED_CHANNELS = 16


def hoist_qdq(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an asymmetric Q/DQ model with its pairs as near to the layers before them as they can be."""
    result = copy.deepcopy(model)
    shapes = infer_shapes(result)  # Before anything moves: shapes are inferred in the order of nodes.
    while _move_one(result, shapes):
        pass
    _drop_clamps(result)
    replace_nodes(result, in_order(result.graph.node))
    onnx.checker.check_model(result, full_check=True)
    return result


def _move_one(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Move one pair up by one node; False where none can be."""
    index = GraphIndex.of(model)
    for quantize in model.graph.node:
        move = index.producers.get(quantize.input[0]) if quantize.op_type == "QuantizeLinear" else None
        if move is None or move.op_type not in _MOVES or len(move.output) != 1:
            continue
        moved, source = move.output[0], move.input[0]
        if index.uses(moved) != 1 or index.uses(source) != 1 or source not in index.producers:
            continue
        if move.op_type == "MaxPool":
            shape = shapes.get(source, ())
            if len(shape) != 4 or shape[1] < _POOLED_CHANNELS:
                continue
        (dequantize,) = index.readers[quantize.output[0]]
        for reader in index.readers[dequantize.output[0]]:
            for i, name in enumerate(reader.input):
                if name == dequantize.output[0]:
                    reader.input[i] = moved
        quantize.input[0], move.input[0] = source, dequantize.output[0]
        return True
    return False


def _drop_clamps(model: onnx.ModelProto) -> None:
    """Remove every ReLU and Clip that cuts no more than the Q after it."""
    index = GraphIndex.of(model)
    for quantize in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        clamp = index.producers.get(quantize.input[0])
        if clamp is None or clamp.op_type not in ("Relu", "Clip") or index.uses(clamp.output[0]) != 1:
            continue
        scale, zero = map(index.array, quantize.input[1:3])
        if zero.dtype != np.uint8 or zero != 0:
            continue
        if clamp.op_type == "Clip":
            bounds = [float(index.array(name)) for name in clamp.input[1:3] if name in index.weights]
            # The last integer may round to the limit from a step above it.
            if len(bounds) != 2 or bounds[0] != 0 or 255 * float(scale) > bounds[1] * 1.0001:
                continue
        quantize.input[0] = clamp.input[0]
        model.graph.node.remove(clamp)
