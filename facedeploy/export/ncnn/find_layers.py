"""Find the layers of ncnn that hold the weights of an ONNX graph: pnnx renames layers and keeps only the numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx
from facedeploy.export.ncnn.int8 import has_int8_form
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph


def find_int8_layers(
    network: str,
    wanted: Collection[str],
    model: onnx.ModelProto,
    layers: Sequence[graph.NcnnLayer],
    arrays: Mapping[str, weights.Arrays],
) -> dict[str, set[str]]:
    """Layer -> the wanted weights that it holds, of those with an int8 form in ncnn; the others stay float32.

    Raises:
        ConversionError: a weight is in no layer, or one that is to stay float32 is the same as one that is not.
    """
    data = {_published(t.name): onnx.numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) > 1}
    asked = {_published(name): name for name in wanted}
    able = {v.name for v in layers if has_int8_form(v)}
    held: dict[str, set[str]] = {}
    for name, weight in data.items():
        found = find_layers(weight, arrays)
        if name in asked and not found:
            msg = f"{network}: pnnx changed {name}, which is to be int8"
            raise ConversionError(msg)
        for layer in found & able:
            held.setdefault(layer, set()).add(name)
    if missing := sorted(asked.keys() - data.keys()):
        msg = f"{network} has no weight {missing[0]}, which is to be int8"
        raise ConversionError(msg)
    ours = {layer: names for layer, names in held.items() if not names.isdisjoint(asked)}
    for names in ours.values():
        if stays := sorted(names - asked.keys()):
            msg = f"{network}: {stays[0]} is to stay float32 and equals a weight that is to be int8"
            raise ConversionError(msg)
    return {layer: {asked[name] for name in names} for layer, names in ours.items()}


def _published(name: str) -> str:
    """The checkpoint's name of a weight, which the lowered form of a deformable convolution has under another."""
    return name.removesuffix(".columns")


def find_layers(weight: NDArray[Any], arrays: Mapping[str, weights.Arrays]) -> set[str]:
    """Names of the layers that hold a weight, be its first two axes exchanged or not.

    They are exchanged for a MatMul, a Gemm without transB and a ConvTranspose, whose inputs come first in ONNX.
    """
    forms = [weight.ravel()]
    if weight.ndim > 1:
        forms.append(np.swapaxes(weight, 0, 1).ravel())
    return {
        name
        for name, held in arrays.items()
        if any(np.array_equal(have, form) for have in held if have.size == weight.size for form in forms)
    }
