"""Read and write ncnn's `.bin`: weights in the order of the param's layers, without names or sizes.

A weight that may be stored in several types begins with a 4-byte tag: 0 for float32, 0x01306B47 for float16,
0x000D4B38 for int8; the data of the last two are padded to 4 bytes. Biases, slopes and scales are bare float32.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.formats.ncnn.param import NcnnLayer
from facedeploy.graph.passes.float16 import to_float16

_TAGS: dict[int, type[np.generic]] = {0: np.float32, 0x01306B47: np.float16, 0x000D4B38: np.int8}
FEATURE_MASK = 31
NO_HALF = 1 | 2  # Bits of it: no fp16 arithmetic, no fp16 storage.
NO_WINOGRAD = 64  # Known to ncnn since October 2022.

# layer type -> ids of the parameters that hold the size of the tagged weight, and whether there is a bias; the
# bias has as many numbers as parameter 0 says.
_WITH_BIAS = {
    "Convolution": (6, 5),
    "ConvolutionDepthWise": (6, 5),
    "Deconvolution": (6, 5),
    "DeconvolutionDepthWise": (6, 5),
    "DeformableConv2D": (6, 5),
    "InnerProduct": (2, 1),
}
# Parameter 8 of these, ncnn's int8_scale_term, says which scales follow the bias. A scale is how many int8 steps one
# unit is. In a depthwise layer 1 is a scale for each group (parameter 7) and 2 one scale for all.
INT8_TERM = 8
INT8_STEPS = 127
REQUANTIZE = 100  # Added to the term where the output is int8 as well.
INT8_TYPES = ("Convolution", "ConvolutionDepthWise", "InnerProduct")
_GROUPS = 7
DYNAMIC_WEIGHT = 19  # Of the convolutions: whether weight and bias are inputs, and not in the bin.
LOAD_TYPE = 21  # Of MemoryData: 0 where its array is tagged.
# One factor of a Gemm is a tagged weight where parameter 5 says so; parameters 8 and 9 are its sides.
_GEMM, _GEMM_CONSTANT, _GEMM_SIDES = "Gemm", 5, (8, 9)
# layer type -> ids of the parameters whose product is the size of a bare array, and how many such arrays there are;
# a parameter of 0 is an axis that is not there.
_BARE = {"PReLU": ((0,), 1), "MemoryData": ((0, 1, 11, 2), 1), "BatchNorm": ((0,), 4), "GroupNorm": ((1,), 2)}

Arrays = tuple[NDArray[Any], ...]


def read(layers: Sequence[NcnnLayer], data: bytes) -> dict[str, Arrays]:
    """Arrays of each layer that has some, by layer name: the weight, then the bias, then the scales of an int8 layer:
    those of the weight (one for each output channel, or each group), that of the input, that of an int8 output.

    Raises:
        ConversionError: the bytes do not fit the layers, as when a layer with weights is not known here.
    """
    offset = 0

    def take(count: int, dtype: type, padding: int = 1) -> NDArray[Any]:
        nonlocal offset
        size = -(-count * np.dtype(dtype).itemsize // padding) * padding
        if count < 0 or offset + size > len(data):
            msg = "the ncnn weights end early: the bin does not belong to the param"
            raise ConversionError(msg)
        array: NDArray[Any] = np.frombuffer(data, dtype, count, offset)
        offset += size
        return array

    arrays: dict[str, Arrays] = {}
    for layer in layers:
        if (size := _tagged_size(layer)) is not None:
            tag = int(take(1, np.uint32)[0])
            counts = _scale_counts(layer)
            if tag not in _TAGS or (_TAGS[tag] is np.int8 and not counts):
                msg = f"the weight of ncnn layer {layer.name} has the unknown tag {tag:#x}"
                raise ConversionError(msg)
            weight = take(size, _TAGS[tag], 4)
            bias = (number(layer, 0),) if has_bias(layer) else ()
            arrays[layer.name] = (weight, *(take(count, np.float32) for count in (*bias, *counts)))
        elif layer.type in _BARE:
            count = _bare_size(layer)
            arrays[layer.name] = tuple(take(count, np.float32) for _ in range(_BARE[layer.type][1]))
    if offset != len(data):
        msg = f"{len(data) - offset} bytes of the ncnn weights belong to no layer that is known here"
        raise ConversionError(msg)
    return arrays


def write(layers: Sequence[NcnnLayer], arrays: Mapping[str, Arrays]) -> bytes:
    """The `.bin` of the layers; a tagged weight is stored in the type of its array."""
    parts = []
    for layer in layers:
        if _tagged_size(layer) is not None:
            weight, *rest = arrays[layer.name]
            tag = next(tag for tag, kind in _TAGS.items() if weight.dtype == kind)
            parts.append(np.uint32(tag).tobytes())
            parts.append(weight.tobytes() + b"\0" * (-weight.nbytes % 4))
            parts += [r.tobytes() for r in rest]
        elif layer.type in _BARE:
            parts += [r.tobytes() for r in arrays[layer.name]]
    return b"".join(parts)


def to_half(
    layers: Sequence[NcnnLayer], arrays: dict[str, Arrays], keep: Collection[str]
) -> tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]:
    """Store the tagged weights as float16, but for the layers named in `keep`, which also compute in float32.

    Layers in `keep` without weights are marked as well.

    Raises:
        ConversionError: a weight is too large for float16.
    """
    halved = {
        v.name: (to_float16(arrays[v.name][0], f"the weight of layer {v.name}"), *arrays[v.name][1:])
        for v in layers
        if _tagged_size(v) is not None and v.name not in keep
    }
    masked = tuple(_mask(v) if v.name in keep else v for v in layers)
    return masked, {**arrays, **halved}


def _tagged_size(layer: NcnnLayer) -> int | None:
    """How many numbers the tagged weight of a layer has; None where it has none."""
    if is_dynamic(layer):
        return None
    if layer.type in _WITH_BIAS:
        return number(layer, _WITH_BIAS[layer.type][0])
    if layer.type == "MemoryData" and not number(layer, LOAD_TYPE, 1):
        return _bare_size(layer)
    if layer.type == _GEMM and number(layer, _GEMM_CONSTANT):
        return math.prod(number(layer, key) for key in _GEMM_SIDES)
    return None


def _bare_size(layer: NcnnLayer) -> int:
    return math.prod(number(layer, key) or 1 for key in _BARE[layer.type][0])


def _scale_counts(layer: NcnnLayer) -> tuple[int, ...]:
    """How many scales of each kind an int8 layer has: weight, input, output."""
    term = number(layer, INT8_TERM) if layer.type in INT8_TYPES else 0
    if not term:
        return ()
    rows = number(layer, 0)
    if layer.type == "ConvolutionDepthWise":
        rows = groups(layer) if term % REQUANTIZE == 1 else 1
    # An InnerProduct has no int8 output.
    return (rows, 1, 1) if term > REQUANTIZE and layer.type != "InnerProduct" else (rows, 1)


def has_weights(layer: NcnnLayer) -> bool:
    """Whether a layer has arrays in the bin. Its name does not tell: pnnx may give one to several layers."""
    return _tagged_size(layer) is not None or layer.type in _BARE


def groups(layer: NcnnLayer) -> int:
    """Groups of a ConvolutionDepthWise."""
    return number(layer, _GROUPS, 1)


def has_bias(layer: NcnnLayer) -> bool:
    return layer.type in _WITH_BIAS and number(layer, _WITH_BIAS[layer.type][1]) != 0


def is_dynamic(layer: NcnnLayer) -> bool:
    """Whether a layer gets its weight as an input."""
    return layer.type in ("Convolution", "ConvolutionDepthWise") and number(layer, DYNAMIC_WEIGHT) != 0


def _mask(layer: NcnnLayer) -> NcnnLayer:
    return replace(layer, params=(*layer.params, (FEATURE_MASK, str(NO_HALF))))


def number(layer: NcnnLayer, key: int, default: int = 0) -> int:
    """A whole number among the parameters of a layer; `default` is ncnn's own for it.

    Raises:
        ConversionError: it is not a whole number.
    """
    text = dict(layer.params).get(key, str(default))
    if not text.lstrip("-").isdigit():
        msg = f"parameter {key} of ncnn layer {layer.name} is {text!r}, not a number"
        raise ConversionError(msg)
    return int(text)
