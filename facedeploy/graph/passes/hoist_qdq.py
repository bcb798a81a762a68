"""Q/DQ pairs where OpenVINO fuses them: into the layer before, which then writes integers.

    Conv ─► Relu ─► MaxPool ─► Q ─► DQ ─► Conv      becomes      Conv ─► Q ─► DQ ─► MaxPool ─► Conv

Rounding commutes with what only moves or picks values. A ReLU before a Q whose zero point is the smallest integer is
the Q's own clipping. Both answers stay what they are; the measured gain is in docs/explanation/int8.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from facedeploy.core.optional_imports import require
from facedeploy.graph.passes.insert_qdq import in_order
from facedeploy.graph.passes.shapes import shapes_of

if TYPE_CHECKING:
    import onnx

_MOVES = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})
# OpenVINO's integer pooling of fewer channels is slower than the float one it replaces (seen at 10, not at 28).
_POOLED_CHANNELS = 16


def round_early(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an asymmetric Q/DQ model with its pairs as near to the layers before them as they can be."""
    result = copy.deepcopy(model)
    shapes = shapes_of(result)  # Before anything moves: shapes are inferred in the order of nodes.
    while _move_one(result, shapes):
        pass
    _drop_clamps(result)
    nodes = in_order([copy.deepcopy(node) for node in result.graph.node])
    result.graph.ClearField("node")
    result.graph.node.extend(nodes)
    require("onnx", "export").checker.check_model(result, full_check=True)
    return result


class _Wires:
    """Who makes and who reads each tensor of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.outputs = {v.name for v in graph.output}
        self.producer = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> bool:
        return len(self.readers[name]) == 1 and name not in self.outputs


def _move_one(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Move one pair up by one node; False where none can be."""
    wires = _Wires(model.graph)
    for quantize in model.graph.node:
        move = wires.producer.get(quantize.input[0]) if quantize.op_type == "QuantizeLinear" else None
        if move is None or move.op_type not in _MOVES or len(move.output) != 1:
            continue
        moved, source = move.output[0], move.input[0]
        if not (wires.only_reader(moved) and source in wires.producer and wires.only_reader(source)):
            continue
        if move.op_type == "MaxPool":
            shape = shapes.get(source, ())
            if len(shape) != 4 or shape[1] < _POOLED_CHANNELS:
                continue
        (dequantize,) = wires.readers[quantize.output[0]]
        for reader in wires.readers[dequantize.output[0]]:
            for i, name in enumerate(reader.input):
                if name == dequantize.output[0]:
                    reader.input[i] = moved
        quantize.input[0], move.input[0] = source, dequantize.output[0]
        return True
    return False


def _drop_clamps(model: onnx.ModelProto) -> None:
    """Remove every ReLU and Clip that cuts no more than the Q after it."""
    numpy_helper = require("onnx", "export").numpy_helper
    wires = _Wires(model.graph)
    weights = {w.name: w for w in model.graph.initializer}
    for quantize in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        clamp = wires.producer.get(quantize.input[0])
        if clamp is None or clamp.op_type not in ("Relu", "Clip") or not wires.only_reader(clamp.output[0]):
            continue
        scale, zero = (numpy_helper.to_array(weights[name]) for name in quantize.input[1:3])
        if zero.dtype != np.uint8 or zero != 0:
            continue
        if clamp.op_type == "Clip":
            bounds = [float(numpy_helper.to_array(weights[name])) for name in clamp.input[1:3] if name in weights]
            # The last integer may round to the limit from a step above it.
            if len(bounds) != 2 or bounds[0] != 0 or 255 * float(scale) > bounds[1] * 1.0001:
                continue
        quantize.input[0] = clamp.input[0]
        model.graph.node.remove(clamp)
