"""Read and write ncnn's `.bin`: weights in the order of the param's layers, without names or sizes.

A weight that may be stored in several types begins with a 4-byte tag: 0 for float32, 0x01306B47 for float16, whose
data is padded to 4 bytes. Biases and slopes are bare float32.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.errors import ConversionError
from facedeploy.export.ncnn.graph import Layer
from facedeploy.export.passes.float16 import half

_FLOAT32, _FLOAT16 = 0, 0x01306B47
_NO_HALF = 1 | 2  # Bits of the feature mask: no fp16 arithmetic, no fp16 storage.
_FEATURE_MASK = 31

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
# One factor of a Gemm is a tagged weight where parameter 5 says so; parameters 8 and 9 are its sides.
_GEMM, _GEMM_CONSTANT, _GEMM_SIDES = "Gemm", 5, (8, 9)
# layer type -> ids of the parameters whose product is the size of a bare array, and how many such arrays there are;
# a parameter of 0 is an axis that is not there.
_BARE = {"PReLU": ((0,), 1), "MemoryData": ((0, 1, 11, 2), 1), "BatchNorm": ((0,), 4)}

Arrays = tuple[NDArray[Any], ...]


def read(layers: Sequence[Layer], data: bytes) -> dict[str, Arrays]:
    """Arrays of each layer that has some, by layer name: the weight, then the bias.

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
            if tag not in (_FLOAT32, _FLOAT16):
                msg = f"the weight of ncnn layer {layer.name} has the unknown tag {tag:#x}"
                raise ConversionError(msg)
            weight = take(size, np.float16 if tag else np.float32, 4)
            bias = (take(_number(layer, 0), np.float32),) if _has_bias(layer) else ()
            arrays[layer.name] = (weight, *bias)
        elif layer.type in _BARE:
            keys, copies = _BARE[layer.type]
            count = math.prod(_number(layer, key) or 1 for key in keys)
            arrays[layer.name] = tuple(take(count, np.float32) for _ in range(copies))
    if offset != len(data):
        msg = f"{len(data) - offset} bytes of the ncnn weights belong to no layer that is known here"
        raise ConversionError(msg)
    return arrays


def write(layers: Sequence[Layer], arrays: dict[str, Arrays]) -> bytes:
    """The `.bin` of the layers; a tagged weight is stored in the type of its array."""
    parts = []
    for layer in layers:
        if _tagged_size(layer) is not None:
            weight, *rest = arrays[layer.name]
            half = weight.dtype == np.float16
            parts.append(np.uint32(_FLOAT16 if half else _FLOAT32).tobytes())
            parts.append(weight.tobytes() + b"\0" * (-weight.nbytes % 4))
            parts += [r.tobytes() for r in rest]
        elif layer.type in _BARE:
            parts += [r.tobytes() for r in arrays[layer.name]]
    return b"".join(parts)


def to_half(
    layers: Sequence[Layer], arrays: dict[str, Arrays], keep: Collection[str]
) -> tuple[tuple[Layer, ...], dict[str, Arrays]]:
    """Store the tagged weights as float16, but for the layers named in `keep`, which also compute in float32.

    Layers in `keep` without weights are marked as well.

    Raises:
        ConversionError: a weight is too large for float16.
    """
    halved = {
        v.name: (half(arrays[v.name][0], f"the weight of layer {v.name}"), *arrays[v.name][1:])
        for v in layers
        if _tagged_size(v) is not None and v.name not in keep
    }
    masked = tuple(_mask(v) if v.name in keep else v for v in layers)
    return masked, {**arrays, **halved}


def _tagged_size(layer: Layer) -> int | None:
    """How many numbers the tagged weight of a layer has; None where it has none."""
    if layer.type in _WITH_BIAS:
        return _number(layer, _WITH_BIAS[layer.type][0])
    if layer.type == _GEMM and _number(layer, _GEMM_CONSTANT):
        return math.prod(_number(layer, key) for key in _GEMM_SIDES)
    return None


def _has_bias(layer: Layer) -> bool:
    return layer.type in _WITH_BIAS and _number(layer, _WITH_BIAS[layer.type][1]) != 0


def _mask(layer: Layer) -> Layer:
    return replace(layer, params=(*layer.params, (_FEATURE_MASK, str(_NO_HALF))))


def _number(layer: Layer, key: int) -> int:
    text = dict(layer.params).get(key, "0")
    if not text.lstrip("-").isdigit():
        msg = f"parameter {key} of ncnn layer {layer.name} is {text!r}, not a number"
        raise ConversionError(msg)
    return int(text)
