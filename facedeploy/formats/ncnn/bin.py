"""Read and write ncnn's `.bin`: weights in the order of the param's layers, without names or sizes.

A weight that may be stored in several types begins with a 4-byte tag: 0 for float32, 0x01306B47 for float16,
0x000D4B38 for int8; the data of the last two are padded to 4 bytes. Biases, slopes and scales are bare float32.
`layouts` says which layer has which.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.formats.ncnn.layouts import blocks, may_be_int8
from facedeploy.formats.ncnn.param import NcnnLayer
from facedeploy.graph.passes.float16 import to_float16

_TAGS: dict[int, type[np.generic]] = {0: np.float32, 0x01306B47: np.float16, 0x000D4B38: np.int8}
FEATURE_MASK = 31
NO_HALF = 1 | 2  # Bits of it: no fp16 arithmetic, no fp16 storage.
NO_WINOGRAD = 64  # Known to ncnn since October 2022.
INT8_STEPS = 127

Arrays = tuple[NDArray[Any], ...]


def read(layers: Sequence[NcnnLayer], data: bytes) -> dict[str, Arrays]:
    """Arrays of each layer that has some, by layer name, in ncnn's order: of a convolution the weight, then the bias,
    then the scales of an int8 layer: those of the weight (one for each output channel, or each group), that of the
    input, that of an int8 output.

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

    def take_tagged(layer: NcnnLayer, count: int) -> NDArray[Any]:
        tag = int(take(1, np.uint32)[0])
        if tag not in _TAGS or (_TAGS[tag] is np.int8 and not may_be_int8(layer)):
            msg = f"the weight of ncnn layer {layer.name} has the unknown tag {tag:#x}"
            raise ConversionError(msg)
        return take(count, _TAGS[tag], 4)

    arrays: dict[str, Arrays] = {}
    for layer in layers:
        if found := blocks(layer):
            if layer.name in arrays:
                msg = f"two ncnn layers with weights have the name {layer.name}"
                raise ConversionError(msg)
            arrays[layer.name] = tuple(
                take_tagged(layer, b.size) if b.tagged else take(b.size, np.float32) for b in found
            )
    if offset != len(data):
        msg = f"{len(data) - offset} bytes of the ncnn weights belong to no layer that is known here"
        raise ConversionError(msg)
    return arrays


def write(layers: Sequence[NcnnLayer], arrays: Mapping[str, Arrays]) -> bytes:
    """The `.bin` of the layers; a tagged weight is stored in the type of its array."""
    parts = []
    for layer in layers:
        found = blocks(layer)
        for block, array in zip(found, arrays[layer.name] if found else (), strict=True):
            if block.tagged:
                tag = next(tag for tag, kind in _TAGS.items() if array.dtype == kind)
                parts.append(np.uint32(tag).tobytes())
            parts.append(array.tobytes() + b"\0" * (-array.nbytes % 4))
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
        v.name: tuple(
            to_float16(array, f"the weight of layer {v.name}") if block.tagged else array
            for block, array in zip(blocks(v), arrays[v.name], strict=True)
        )
        for v in layers
        if v.name not in keep and blocks(v)
    }
    masked = tuple(_mask(v) if v.name in keep else v for v in layers)
    return masked, {**arrays, **halved}


def _mask(layer: NcnnLayer) -> NcnnLayer:
    return replace(layer, params=(*layer.params, (FEATURE_MASK, str(NO_HALF))))
