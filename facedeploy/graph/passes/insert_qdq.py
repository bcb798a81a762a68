"""INT8 in the graph, as Q/DQ pairs (QuantizeLinear, DequantizeLinear):

    x ─► Q ─► DQ ─► Conv ─► y          the weights of Conv: int8 ─► DQ, one scale a channel; its bias stays in float

A compiler that knows the pattern computes the convolution in integers. Pairs stand only where a layer reads: what is
between (ReLU, pooling, concatenation) is then fused into the producer, by TensorRT and OpenVINO alike, and outputs stay
in float. Where a residual sum adds what a quantised layer also reads, it adds the rounded values, so that the tensor
need not exist twice.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, tensor_of
from facedeploy.graph.operators import INT8_LAYERS
from facedeploy.graph.ranges import Range, Ranges, Scheme
from facedeploy.graph.rewrite import in_order, replace_nodes, replace_weights

_STORED = "_quantized"  # What the integer form of a tensor is called, after its name.


@dataclass(frozen=True)
class Steps:
    """real = (stored - zero) * scale; `zero` is int8 for the symmetric scheme and uint8 for the other."""

    scale: np.float32
    zero: np.int8 | np.uint8


def steps(values: Range, scheme: Scheme) -> Steps:
    """How a range is spread over 8 bits. A range of nothing, or next to it, gets a scale of 1."""
    if scheme == "symmetric":
        return Steps(_scale(values.threshold / 127), np.int8(0))
    scale = _scale((values.high - values.low) / 255)
    return Steps(scale, np.uint8(np.clip(np.round(-values.low / scale), 0, 255)))


def _scale(step: float) -> np.float32:
    """Runtimes divide by it, and may take what is no normal number for zero."""
    return np.float32(step if step >= np.finfo(np.float32).tiny else 1)


def quantize_weight(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Int8 weights, -127 to 127, and their scales, one for each index of `axis`: weight = stored * scale."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peak = np.abs(weight).max(axis=others)
    step = peak / np.float32(127)
    scale = np.where(step >= np.finfo(np.float32).tiny, step, 1).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.clip(np.round(weight / scale.reshape(shape)), -127, 127).astype(np.int8), scale


def insert_qdq(model: onnx.ModelProto, layers: Ranges, scheme: Scheme) -> onnx.ModelProto:
    """A copy of a float32 model in which some layers compute in int8.

    layers: names of weights, with the range of what their layers read. Names that the graph does not have are left
    alone.
    """
    return _Rewrite(model, layers, scheme).run()


def quantized(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the weights that a graph holds in int8, in the order of computation."""
    integers = {w.name for w in model.graph.initializer if w.name.endswith(_STORED)}
    rounded = {
        node.output[0]: node.input[0].removesuffix(_STORED)
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in integers
    }
    return tuple(dict.fromkeys(rounded[n] for node in model.graph.node for n in node.input if n in rounded))


class _Rewrite:
    def __init__(self, model: onnx.ModelProto, layers: Ranges, scheme: Scheme) -> None:
        self.model = copy.deepcopy(model)
        self.index = GraphIndex.of(self.model)
        self.layers, self.scheme = layers, scheme
        self.nodes: list[onnx.NodeProto] = []
        self.new: list[onnx.TensorProto] = []
        # (tensor, range) -> its rounded form; weight -> the same
        self.rounded: dict[tuple[str, Range], str] = {}
        self.rounded_weights: dict[str, str] = {}

    def run(self) -> onnx.ModelProto:
        nodes = list(self.model.graph.node)
        ours = {i for i, node in enumerate(nodes) if len(node.input) > 1 and self._is_layer(node)}
        for i, node in enumerate(nodes):
            if i in ours:
                name = node.input[1]
                node.input[0] = self._activation(node.input[0], self.layers[name])
                node.input[1] = self._weight(name, node)
            self.nodes.append(node)
        self._round_sums({nodes[i].output[0] for i in ours})
        replace_nodes(self.model, in_order(self.nodes))
        replace_weights(self.model, [*self.model.graph.initializer, *self.new])
        onnx.checker.check_model(self.model, full_check=True)
        return self.model

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        name = node.input[1]
        return node.op_type in INT8_LAYERS and name in self.layers and name in self.index.weights

    def _activation(self, name: str, values: Range) -> str:
        key = name, values
        if key not in self.rounded:
            made = steps(values, self.scheme)
            stem = name if all(n != name for n, _ in self.rounded) else f"{name}_{len(self.rounded)}"
            self.rounded[key] = self._pair(name, stem, made.scale, made.zero)
        return self.rounded[key]

    def _pair(self, source: str, stem: str, scale: np.float32, zero: np.int8 | np.uint8) -> str:
        parameters = [self._constant(f"{stem}_scale", scale), self._constant(f"{stem}_zero", zero)]
        stored, result = f"{stem}{_STORED}", f"{stem}_rounded"
        make = onnx.helper.make_node
        self.nodes += [
            make("QuantizeLinear", [source, *parameters], [stored], name=f"quantize_{stem}"),
            make("DequantizeLinear", [stored, *parameters], [result], name=f"dequantize_{stem}"),
        ]
        return result

    def _weight(self, name: str, node: onnx.NodeProto) -> str:
        if name not in self.rounded_weights:
            array = self.index.array(name)
            axis = _channel_axis(node, array.ndim)
            stored, scale = quantize_weight(array, axis)
            inputs = [
                self._constant(f"{name}{_STORED}", stored),
                self._constant(f"{name}_scale", scale),
                self._constant(f"{name}_zero", np.zeros(len(scale), np.int8)),
            ]
            result = f"{name}_rounded"
            make = onnx.helper.make_node
            self.nodes.append(make("DequantizeLinear", inputs, [result], name=f"dequantize_{name}", axis=axis))
            self.rounded_weights[name] = result
        return self.rounded_weights[name]

    def _constant(self, name: str, value: Any) -> str:
        self.new.append(tensor_of(value, name))
        return name

    def _round_sums(self, made: set[str]) -> None:
        """Sums of a quantised layer's result and a tensor that has a rounded form take that form."""
        forms = {name: form for (name, _), form in self.rounded.items()}
        for node in self.nodes:
            if node.op_type == "Add" and len({*node.input} & made) == 1:
                for i, name in enumerate(node.input):
                    if name not in made and name in forms:
                        node.input[i] = forms[name]


def _channel_axis(node: onnx.NodeProto, rank: int) -> int:
    if node.op_type == "Conv":
        return 0
    return 0 if attributes(node).get("transB") else rank - 1  # A MatMul has no such attribute.
