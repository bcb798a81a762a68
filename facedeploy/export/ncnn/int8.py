"""INT8 in ncnn's two files: layers with 8-bit weights, and the scales that tie them together.

A layer with the parameter 8 quantises what it reads with one scale, multiplies with int8 weights of a scale for each
output channel, adds up in int32 and leaves float32, or int8 where its term is 100 more and all its readers are int8
too. Rounding is half away from zero, the range -127..127, everything symmetric.

Convolution, ConvolutionDepthWise and InnerProduct have this form. Deconvolution, DeconvolutionDepthWise and
DeformableConv2D have none in ncnn; the int8 of Gemm, MultiHeadAttention and the recurrent layers finds the scale of
its input anew at each call, so a range has no place in it. All of these stay float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.formats.ncnn.bin import FEATURE_MASK, INT8_STEPS, NO_WINOGRAD, Arrays
from facedeploy.formats.ncnn.layouts import INT8_TERM, INT8_TYPES, REQUANTIZE, groups, is_dynamic, number
from facedeploy.formats.ncnn.param import NcnnLayer

_KERNEL_WIDTH, _KERNEL_HEIGHT, _WEIGHT_SIZE, _PAD_VALUE = 1, 11, 6, 18
# What may write and read an int8 blob: the pairs that ncnn2int8 makes. An InnerProduct writes none, and pooling,
# concatenation, PReLU and sums read none.
_CHAINED = ("Convolution", "ConvolutionDepthWise")


def has_int8_form(layer: NcnnLayer) -> bool:
    """Whether ncnn can compute a layer in int8, and does it right.

    Padding that is not zero is put around the int8 values without being scaled. A grouped convolution that is not
    depthwise leaves its output unwritten on x86 with AVX, where a group has 8 outputs or more (seen in 20261020).
    """
    if layer.type not in INT8_TYPES or is_dynamic(layer):
        return False
    depthwise = layer.type != "ConvolutionDepthWise" or _is_depthwise(layer)
    return depthwise and not float(dict(layer.params).get(_PAD_VALUE, "0"))


def scale_of(magnitude: float) -> np.float32:
    """Int8 steps per unit, where `magnitude` is the last value that is not clipped; 1 for zero, which fits any scale.

    Raises:
        ConversionError: float32 has no such scale.
    """
    with np.errstate(over="ignore", under="ignore"):
        scale = np.float32(INT8_STEPS / magnitude if magnitude > 0 else np.inf)
    if not 0 <= magnitude < np.inf or scale < np.finfo(np.float32).tiny:
        msg = f"ncnn's int8 cannot hold values up to {magnitude}"
        raise ConversionError(msg)
    return scale if np.isfinite(scale) else np.float32(1)


def to_int8(
    layers: Sequence[NcnnLayer], arrays: Mapping[str, Arrays], inputs: Mapping[str, float]
) -> tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]:
    """Quantise the layers named in `inputs`.

    Args:
        layers: a float32 graph.
        arrays: its weights, as `weights.read` gives them.
        inputs: layer name -> the magnitude at which what it reads is clipped; 0 where it only ever saw zeros.

    Raises:
        ConversionError: a layer is not there or has no int8 form, or a magnitude is none.
    """
    named = {layer.name: layer for layer in layers}
    for name in inputs:
        if name not in named or not has_int8_form(named[name]):
            what = f"a {named[name].type}, which has no int8 form in ncnn" if name in named else "not in the graph"
            msg = f"layer {name} cannot be int8: it is {what}"
            raise ConversionError(msg)
    scales = {name: scale_of(threshold) for name, threshold in inputs.items()}
    readers = _readers(layers)
    changed: list[NcnnLayer] = []
    quantised: dict[str, Arrays] = {}
    for layer in layers:
        if layer.name not in scales:
            changed.append(layer)
            continue
        top = _common_scale(layer, readers, scales)
        weight, *bias = arrays[layer.name]
        ends = [np.array([s], np.float32) for s in (scales[layer.name], *(() if top is None else (top,)))]
        integers, steps = quantize_weight(weight, number(layer, 0))
        quantised[layer.name] = (integers, *bias, steps, *ends)
        changed.append(_mark(layer, requantize=top is not None))
    return tuple(changed), {**arrays, **quantised}


def quantize_weight(weight: NDArray[np.float32], rows: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Int8 weights, in the shape that `weight` has, and the scale of each of its `rows`, which is an output channel."""
    matrix = weight.astype(np.float32).reshape(rows, -1)
    scales = np.array([scale_of(float(v)) for v in np.abs(matrix).max(axis=1)], np.float32)
    return round_to_int8(matrix * scales[:, None]).reshape(weight.shape), scales


def round_to_int8(values: NDArray[np.float32]) -> NDArray[np.int8]:
    """Half away from zero, clipped to -127..127: as ncnn does it."""
    rounded = np.trunc(values + np.copysign(np.float32(0.5), values))
    return np.clip(rounded, -INT8_STEPS, INT8_STEPS).astype(np.int8)


def _readers(layers: Sequence[NcnnLayer]) -> dict[str, list[NcnnLayer | None]]:
    """Who reads each blob, through any Split; None stands for the caller, who reads what no layer reads."""
    found: dict[str, list[NcnnLayer | None]] = {blob: [] for layer in layers for blob in layer.outputs}
    for layer in reversed(layers):  # In ncnn's files readers stand after writers.
        through = [v for b in layer.outputs for v in found[b] or [None]] if layer.type == "Split" else [layer]
        for blob in layer.inputs:
            found[blob] += through
    return found


def _common_scale(
    layer: NcnnLayer, readers: Mapping[str, Sequence[NcnnLayer | None]], scales: Mapping[str, np.float32]
) -> np.float32 | None:
    """The scale of a layer's output if all that read it are int8 with one scale, so that it need never be float."""
    if layer.type not in _CHAINED:
        return None
    found = {scales.get(v.name) if v is not None and v.type in _CHAINED else None for v in readers[layer.outputs[0]]}
    return found.pop() if len(found) == 1 else None


def _is_depthwise(layer: NcnnLayer) -> bool:
    height = number(layer, _KERNEL_HEIGHT, number(layer, _KERNEL_WIDTH))
    size = number(layer, _WEIGHT_SIZE)
    return number(layer, 0) == groups(layer) and size == groups(layer) * number(layer, _KERNEL_WIDTH) * height


def _mark(layer: NcnnLayer, *, requantize: bool) -> NcnnLayer:
    term = (1 if layer.type == "ConvolutionDepthWise" else 2) + (REQUANTIZE if requantize else 0)
    params = {**dict(layer.params), INT8_TERM: str(term)}
    if layer.type in _CHAINED:
        # Winograd in int8 multiplies integers so large that the sum over channels leaves 32 bits, so ncnn2table spends
        # only 6 bits on the weights of such layers. The mask leaves all 8, whatever the options of the app.
        params[FEATURE_MASK] = str(number(layer, FEATURE_MASK) | NO_WINOGRAD)
    return replace(layer, params=tuple(params.items()))
