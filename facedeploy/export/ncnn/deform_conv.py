"""ncnn's own DeformableConv2D.

pnnx copies a DeformConv node as a layer that ncnn does not have, with the weights as data beside it, and drops its
attributes:

    MemoryData w, MemoryData b, DeformConv (x, w, offset, b, mask) -> y
becomes
    DeformableConv2D (x, offset, mask) -> y, with its weights in the bin
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx
from facedeploy.formats.ncnn.bin import Arrays
from facedeploy.formats.ncnn.param import NcnnLayer, producers
from facedeploy.graph.index import GraphIndex
from facedeploy.graph.passes.deform_conv import DeformConv, find_deform_convs, geometry_of

COPIED = "DeformConv"  # What pnnx calls the layer.


def refuse(op: DeformConv) -> str:
    """Why ncnn's layer cannot express an operator."""
    if op.groups != 1 or op.offset_groups != 1:
        return f"ncnn's layer has one group and one offset group, not {op.groups} and {op.offset_groups}"
    if op.outputs == 1:
        return "pnnx loses the bias of a single output channel"
    return ""


def restore(
    layers: Sequence[NcnnLayer], arrays: dict[str, Arrays], model: onnx.ModelProto
) -> tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]:
    """Put ncnn's layer in the place of each DeformConv that pnnx left.

    Raises:
        ConversionError: pnnx changed a node beyond recognition.
    """
    copies = [layer for layer in layers if layer.type == COPIED]
    nodes = _by_weight(model)
    made_by = producers(layers)
    made: dict[str, NcnnLayer] = {}
    weights: dict[str, Arrays] = {}
    for layer in copies:
        image, weight, offset, *rest = layer.inputs
        data = [arrays[_data(made_by, blob, layer)][0] for blob in (weight, *rest[:1])]
        op = nodes.get(data[0].tobytes())
        if op is None:
            msg = f"pnnx changed the weight of a deformable convolution ({layer.name})"
            raise ConversionError(msg)
        made[layer.name] = replace(
            layer,
            type="DeformableConv2D",
            inputs=(image, offset, *rest[1:]),
            params=_params(op, outputs=data[1].size if rest else 0, weight=data[0].size),
        )
        weights[layer.name] = tuple(data)
    if len(copies) != (count := len(find_deform_convs(model))):
        msg = f"pnnx kept {len(copies)} of {count} deformable convolutions"
        raise ConversionError(msg)
    return _prune([made.get(v.name, v) for v in layers], {**arrays, **weights})


def _by_weight(model: onnx.ModelProto) -> dict[bytes, DeformConv]:
    """Attributes of each node, by the bytes of its weight, which is all that pnnx keeps of it.

    Raises:
        ConversionError: two nodes share a weight and not their attributes.
    """
    index = GraphIndex.of(model)
    found: dict[bytes, DeformConv] = {}
    for node in find_deform_convs(model):
        op = geometry_of(model, node)
        if found.setdefault(index.array(node.input[1]).tobytes(), op) != op:
            msg = f"{node.name} shares its weight with one of other attributes; use --deform-conv gridsample"
            raise ConversionError(msg)
    return found


def _data(made_by: Mapping[str, NcnnLayer], blob: str, layer: NcnnLayer) -> str:
    """Name of the MemoryData layer that a blob comes from, straight or through a Split."""
    source = made_by[blob]
    if source.type == "Split":
        source = made_by[source.inputs[0]]
    if source.type != "MemoryData":
        msg = f"the weight of {layer.name} is no constant after pnnx, but the output of {source.type} {source.name}"
        raise ConversionError(msg)
    return source.name


def _params(op: DeformConv, outputs: int, weight: int) -> tuple[tuple[int, str], ...]:
    top, left, bottom, right = op.pads
    values = {
        0: outputs,
        1: op.kernel[1],
        11: op.kernel[0],
        2: op.dilation[1],
        12: op.dilation[0],
        3: op.stride[1],
        13: op.stride[0],
        4: left,
        15: right,
        14: top,
        16: bottom,
        5: 1,
        6: weight,
    }
    return tuple((key, str(value)) for key, value in values.items())


def _prune(layers: Sequence[NcnnLayer], arrays: dict[str, Arrays]) -> tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]:
    """Drop the constants that nothing reads any more, and the Splits of them."""
    kept = tuple(layers)
    while True:
        read = {blob for layer in kept for blob in layer.inputs}
        # pnnx gives some layers one name, so they are told apart by what they write.
        alive = tuple(v for v in kept if v.type not in ("MemoryData", "Split") or read & set(v.outputs))
        if len(alive) == len(kept):
            names = {v.name for v in kept}
            return kept, {name: a for name, a in arrays.items() if name in names}
        kept = alive
