"""Channels of like size: int8 has one scale for a whole tensor, so a channel a tenth of the largest has 13 steps.

    x ─► Conv a ─► PRelu ─► Conv b ─► y      channel c of a's weights and bias divided by s[c], of b's multiplied by it

The answers stay what they are, because what stands between is positively homogeneous: f(x / s) = f(x) / s for s > 0.
Nagel et al. 2019 (arXiv 1906.04721) choose s from the weights alone; here it is from the activations that were seen
and the weights that meet them, each having half a say (Xiao et al. 2022, arXiv 2211.10438).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, infer_shapes, tensor_of
from facedeploy.graph.operators import takes_bias

Floats = NDArray[np.float32]

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "Identity"})
_FLATTENING = frozenset({"Flatten", "Reshape"})
# Where the largest channel is not even that many times the median one, 8 bits are enough for all.
_SPREAD = 3.0
_LIMIT = 64.0  # Of a factor: beyond, float32's own rounding and dead channels take over.


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between them that minds a scale.

    Attributes:
        first: Index of the node.
        second: Index of the node.
        repeat: How many inputs of the second layer each channel of the first becomes.
        axis: Of the second weight, along which its inputs lie; in a depthwise convolution they are its outputs too.
    """

    first: onnx.NodeProto
    second: onnx.NodeProto
    repeat: int
    axis: int = 1


def find_pairs(model: onnx.ModelProto) -> dict[str, Pair]:
    """Name of the second layer's weight -> the pair. Every tensor between them has one reader."""
    index = GraphIndex.of(model)
    shapes = infer_shapes(model)
    pairs = {}
    for second in filter(_is_layer, model.graph.node):
        weight = index.weights.get(second.input[1])
        if weight is None or not index.has_own_weights(second):
            continue
        groups = attributes(second).get("group", 1)
        depthwise = weight.dims[1] == 1 and groups == weight.dims[0]
        if groups != 1 and not depthwise:
            continue
        first, flat = _layer_before(index, shapes, second.input[0])
        if first is None or not index.has_own_weights(first):
            continue
        axis = 0 if depthwise else 1
        outputs, inputs = index.weights[first.input[1]].dims[0], weight.dims[axis]
        if inputs % outputs == 0 and (inputs == outputs or flat):
            pairs[weight.name] = Pair(first, second, inputs // outputs, axis)
    return pairs


def _layer_before(
    index: GraphIndex, shapes: Mapping[str, tuple[int, ...]], name: str
) -> tuple[onnx.NodeProto | None, bool]:
    """The layer that makes a tensor, if nothing between minds a scale; and whether its channels are flattened there."""
    flat = False
    while name in index.producers and index.uses(name) == 1:
        node = index.producers[name]
        if _is_layer(node):
            return node, flat
        if node.op_type in _FLATTENING and _flattens(shapes.get(node.input[0]), shapes.get(node.output[0])):
            flat = True
        elif node.op_type not in _HOMOGENEOUS:
            break
        name = node.input[0]
    return None, flat


def choose_factors(model: onnx.ModelProto, peaks: Mapping[str, NDArray[np.floating]]) -> dict[str, Floats]:
    """Choose what to divide each channel by, for the pairs where that is worth it.

    Args:
        model: The graph.
        peaks: Name of the second layer's weight -> largest magnitude of each input of it (C,).

    Returns:
        The same names -> factors (channels of the first layer,), with a geometric mean of 1.
    """
    index = GraphIndex.of(model)
    factors = {}
    for name, pair in find_pairs(model).items():
        if name not in peaks:
            continue
        seen = np.asarray(peaks[name], np.float64).reshape(-1, pair.repeat).max(axis=1)
        alive = seen > 0
        if not alive.any() or seen.max() < _SPREAD * np.median(seen[alive]):
            continue
        weight = np.abs(index.array(name).astype(np.float64))
        inputs = np.moveaxis(weight, pair.axis, 0).reshape(weight.shape[pair.axis], -1).max(axis=1)
        met = inputs.reshape(-1, pair.repeat).max(axis=1)
        logarithm = np.zeros(len(seen))
        usable = alive & (met > 0)
        logarithm[usable] = (np.log(seen[usable]) - np.log(met[usable])) / 2
        logarithm[usable] -= logarithm[usable].mean()
        factors[name] = np.exp(logarithm.clip(-np.log(_LIMIT), np.log(_LIMIT))).astype(np.float32)
    return factors


def equalize_channels(model: onnx.ModelProto, factors: Mapping[str, Sequence[float] | Floats]) -> onnx.ModelProto:
    """A copy with the factors between its pairs. Names that the graph has no pair for are left alone."""
    result = copy.deepcopy(model)
    index = GraphIndex.of(result)

    def scale(name: str, factor: Any) -> None:
        index.weights[name].CopyFrom(tensor_of((index.array(name) * factor).astype(np.float32), name))

    for name, pair in find_pairs(result).items():
        if name not in factors:
            continue
        factor = np.asarray(factors[name], np.float32)
        weight, *biases = pair.first.input[1:]
        rank = len(index.weights[weight].dims)
        scale(weight, 1 / factor.reshape(-1, *[1] * (rank - 1)))
        for bias in biases:
            scale(bias, 1 / factor)
        inputs = np.repeat(factor, pair.repeat)
        scale(name, inputs.reshape([-1 if i == pair.axis else 1 for i in range(len(index.weights[name].dims))]))
    return result


def _flattens(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> bool:
    """Whether (N, C, ...) becomes (N, C * ...), so that a channel's values stay side by side."""
    return bool(before and after) and len(after or ()) == 2 and 0 < math.prod((before or ())[1:]) == (after or ())[1]


def _is_layer(node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution, or a Gemm that is x W' + b."""
    return takes_bias(node) and (node.op_type != "Gemm" or attributes(node).get("transB") == 1)
