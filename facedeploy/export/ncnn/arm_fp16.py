"""What a graph of half precision must say for ncnn's ARM kernels, where blobs are in half and are added in half.

On x86 none of this shows: halves are stored there at most, and every number is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from facedeploy.formats.ncnn.bin import FEATURE_MASK, NO_HALF, NO_WINOGRAD
from facedeploy.formats.ncnn.layouts import groups, number
from facedeploy.formats.ncnn.param import NcnnLayer

_IN_FLOAT32 = ("Input", "MemoryData")
_KERNEL, _DILATION, _STRIDE = (1, 11), (2, 12), (3, 13)  # Parameters of a convolution: across, and down if it differs.


def for_arm_fp16(layers: Sequence[NcnnLayer]) -> tuple[NcnnLayer, ...]:
    """The same graph with both of the below."""
    return _widen([_without_winograd(layer) for layer in layers])


def _without_winograd(layer: NcnnLayer) -> NcnnLayer:
    """The layer, which computes in half, without Winograd's algorithm, for which ncnn takes tiles of 8 in half
    (convolution_arm_asimdhp.cpp): that loses two of three digits. Measured in faces: docs/explanation/arm.md.
    """
    able = layer.type == "Convolution" or (layer.type == "ConvolutionDepthWise" and groups(layer) != number(layer, 0))
    if _masked(layer) or not able:
        return layer
    sides = [
        {number(layer, across, default), number(layer, down, number(layer, across, default))}
        for (across, down), default in ((_KERNEL, 0), (_DILATION, 1), (_STRIDE, 1))
    ]
    return _with_mask(layer, NO_WINOGRAD) if sides == [{3}, {1}, {1}] else layer


def _widen(layers: Sequence[NcnnLayer]) -> tuple[NcnnLayer, ...]:
    """The same graph with a layer on each way from half to a layer that stays in float32.

    ncnn (net.cpp, `convert_layout`, in 1.0.20261020) casts what a layer is given by the options of that layer alone:
    one whose mask forbids half would read halves as if they were float32, which gives other numbers, NaN, or, where
    they say what to sample, a crash. A layer that knows no half and has no mask is given float32, and a Dropout does
    nothing else.

    A Split keeps float32 where it is given that, since what it gives on may stay there.
    """
    made: list[NcnnLayer] = []
    wide: set[str] = set()
    for layer in layers:
        splits = layer.type == "Split" and set(layer.inputs) <= wide
        kept = _with_mask(layer, NO_HALF) if splits else layer
        if _masked(kept):
            casts = {blob: f"{blob}_float32" for blob in layer.inputs if blob not in wide}
            made += [NcnnLayer("Dropout", to, (blob,), (to,)) for blob, to in casts.items()]
            kept = replace(kept, inputs=tuple(casts.get(blob, blob) for blob in layer.inputs))
        if _masked(kept) or layer.type in _IN_FLOAT32:
            wide.update(layer.outputs)
        made.append(kept)
    return tuple(made)


def _masked(layer: NcnnLayer) -> bool:
    return number(layer, FEATURE_MASK) & NO_HALF == NO_HALF


def _with_mask(layer: NcnnLayer, bits: int) -> NcnnLayer:
    others = tuple((key, value) for key, value in layer.params if key != FEATURE_MASK)
    return replace(layer, params=(*others, (FEATURE_MASK, str(number(layer, FEATURE_MASK) | bits))))
