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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import require
from facedeploy.graph.passes.shapes import shapes_of

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "Identity"})
_FLATTENING = frozenset({"Flatten", "Reshape"})
_LAYERS = ("Conv", "Gemm")
# Where the largest channel is not even that many times the median one, 8 bits are enough for all.
_SPREAD = 3.0
_LIMIT = 64.0  # Of a factor: beyond, float32's own rounding and dead channels take over.


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between them that minds a scale. Indices of nodes; repeat: how many inputs of the second
    layer each channel of the first becomes. axis: of the second weight, along which its inputs lie; in a depthwise
    convolution they are its outputs too.
    """

    first: int
    second: int
    repeat: int
    axis: int = 1


def find_pairs(model: onnx.ModelProto) -> dict[str, Pair]:
    """Name of the second layer's weight -> the pair. Every tensor between them has one reader."""
    nodes = model.graph.node
    weights = {w.name: w for w in model.graph.initializer}
    shapes = shapes_of(model)
    producer = {name: i for i, node in enumerate(nodes) for name in node.output}
    readers: dict[str, int] = {}
    for name in (*(n for node in nodes for n in node.input), *(v.name for v in model.graph.output)):
        readers[name] = readers.get(name, 0) + 1

    def constant(node: onnx.NodeProto) -> bool:
        return node.op_type in _LAYERS and all(n in weights and readers[n] == 1 for n in node.input[1:])

    pairs = {}
    for second, node in enumerate(nodes):
        if not constant(node) or (node.op_type == "Gemm" and not _is_plain(node)):
            continue
        shape = tuple(weights[node.input[1]].dims)
        depthwise = shape[1] == 1 and _groups(node) == shape[0]
        if _groups(node) != 1 and not depthwise:
            continue
        name, flat = node.input[0], False
        while name in producer and readers[name] == 1:
            above = nodes[producer[name]]
            if above.op_type not in _HOMOGENEOUS | _FLATTENING:
                break
            if above.op_type in _FLATTENING and not _flattens(shapes.get(above.input[0]), shapes.get(above.output[0])):
                break
            flat = flat or above.op_type in _FLATTENING
            name = above.input[0]
        if name not in producer or readers[name] != 1 or not constant(nodes[producer[name]]):
            continue
        first = producer[name]
        if nodes[first].op_type == "Gemm" and not _is_plain(nodes[first]):
            continue
        axis = 0 if depthwise else 1
        outputs, inputs = weights[nodes[first].input[1]].dims[0], shape[axis]
        if inputs % outputs == 0 and (inputs == outputs or flat):
            pairs[node.input[1]] = Pair(first, second, inputs // outputs, axis)
    return pairs


def choose_factors(model: onnx.ModelProto, peaks: Mapping[str, NDArray[np.floating]]) -> dict[str, Floats]:
    """What to divide each channel by, for the pairs where that is worth it.

    peaks: name of the second layer's weight -> largest magnitude of each input of it (C,).

    Returns:
        The same names -> factors (channels of the first layer,), with a geometric mean of 1.
    """
    numpy_helper = require("onnx", "export").numpy_helper
    weights = {w.name: w for w in model.graph.initializer}
    factors = {}
    for name, pair in find_pairs(model).items():
        if name not in peaks:
            continue
        seen = np.asarray(peaks[name], np.float64).reshape(-1, pair.repeat).max(axis=1)
        alive = seen > 0
        if not alive.any() or seen.max() < _SPREAD * np.median(seen[alive]):
            continue
        weight = np.abs(numpy_helper.to_array(weights[name]).astype(np.float64))
        inputs = np.moveaxis(weight, pair.axis, 0).reshape(weight.shape[pair.axis], -1).max(axis=1)
        met = inputs.reshape(-1, pair.repeat).max(axis=1)
        logarithm = np.zeros(len(seen))
        usable = alive & (met > 0)
        logarithm[usable] = (np.log(seen[usable]) - np.log(met[usable])) / 2
        logarithm[usable] -= logarithm[usable].mean()
        factors[name] = np.exp(logarithm.clip(-np.log(_LIMIT), np.log(_LIMIT))).astype(np.float32)
    return factors


def equalise(model: onnx.ModelProto, factors: Mapping[str, Sequence[float] | Floats]) -> onnx.ModelProto:
    """A copy with the factors between its pairs. Names that the graph has no pair for are left alone."""
    numpy_helper = require("onnx", "export").numpy_helper
    result = copy.deepcopy(model)
    nodes = result.graph.node
    weights = {w.name: w for w in result.graph.initializer}

    def scale(name: str, factor: Any) -> None:
        array = numpy_helper.to_array(weights[name])
        weights[name].CopyFrom(numpy_helper.from_array((array * factor).astype(np.float32), name))

    for name, pair in find_pairs(model).items():
        if name not in factors:
            continue
        factor = np.asarray(factors[name], np.float32)
        first = nodes[pair.first]
        rank = len(weights[first.input[1]].dims)
        scale(first.input[1], 1 / factor.reshape(-1, *[1] * (rank - 1)))
        for bias in first.input[2:]:
            scale(bias, 1 / factor)
        inputs = np.repeat(factor, pair.repeat)
        scale(name, inputs.reshape([-1 if i == pair.axis else 1 for i in range(len(weights[name].dims))]))
    return result


def _flattens(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> bool:
    """Whether (N, C, ...) becomes (N, C * ...), so that a channel's values stay side by side."""
    return bool(before and after) and len(after or ()) == 2 and 0 < math.prod((before or ())[1:]) == (after or ())[1]


def _groups(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def _is_plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is x W' + b."""
    values = {a.name: a.i if a.name.startswith("trans") else a.f for a in node.attribute}
    plain = values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0
    return plain and values.get("transB") == 1 and not values.get("transA")
