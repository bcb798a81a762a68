"""Automatic padding as the numbers that it stands for, which every tool reads alike.

`auto_pad` and `output_shape` are rules. pnnx, for one, knows some of them for some operators and ignores the others
without a word. The rules are those of the ONNX operators' documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import attributes, infer_shapes

POOLS = ("MaxPool", "AveragePool", "LpPool")
_RULES = ("auto_pad", "output_shape")
Sizes = tuple[int, ...]


def explicit_pads(model: onnx.ModelProto) -> None:
    """Write out the padding of every operator that leaves it to a rule, in place; shapes must be known."""
    found = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", *POOLS) and _by_rule(attributes(n))]
    if not found:
        return
    shapes = infer_shapes(model)
    shapes |= {w.name: tuple(w.dims) for w in model.graph.initializer}
    for node in found:
        size = shapes.get(node.input[0], ())[2:]
        if size and all(size):
            kernel = attributes(node).get("kernel_shape") or shapes.get(node.input[1], ())[2:]
            set_attributes(node, kernel_shape=list(kernel), **_pads(node, size, tuple(kernel)))


def set_attributes(node: onnx.NodeProto, **values: Any) -> None:
    """Give attributes other values; None takes one away."""
    kept = [a for a in node.attribute if a.name not in values]
    node.ClearField("attribute")
    node.attribute.extend(kept)
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in values.items() if v is not None)


def window(node: onnx.NodeProto, kernel: Sequence[int]) -> tuple[Sizes, Sizes]:
    """How far the window of a convolution or a pooling reaches, and how far it moves."""
    given = attributes(node)
    ones = [1] * len(kernel)
    dilations, strides = given.get("dilations") or ones, given.get("strides") or ones
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)), tuple(strides)


def _by_rule(given: Mapping[str, Any]) -> bool:
    """Whether padding is left to a rule; or to a size that is rounded up, where ONNX and ONNX Runtime differ."""
    moves = zip(given.get("strides", ()), given.get("kernel_shape", ()), strict=False)
    beyond = given.get("ceil_mode", 0) and any(stride > extent for stride, extent in moves)
    return bool(beyond) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"") or bool(given.get("output_shape"))


def _pads(node: onnx.NodeProto, size: Sizes, kernel: Sizes) -> dict[str, Any]:
    given = attributes(node)
    rule = given.get("auto_pad", b"NOTSET")
    reach, strides = window(node, kernel)
    before, after, more = [], [], list(given.get("output_padding") or [0] * len(size))
    if rule in (b"NOTSET", b"") and node.op_type in POOLS:
        return _rounded_up(given, size, reach, strides)
    for i, (have, extent, stride) in enumerate(zip(size, reach, strides, strict=True)):
        if node.op_type == "ConvTranspose":
            wanted = have * stride if rule != b"VALID" else (have - 1) * stride + extent + more[i]
            wanted = given["output_shape"][-len(size) + i] if given.get("output_shape") else wanted
            total = stride * (have - 1) + more[i] + extent - wanted
            more[i] += max(-total, 0)  # Less than no padding is more output.
        else:
            total = (-(-have // stride) - 1) * stride + extent - have if rule != b"VALID" else 0
        half = max(total, 0) // 2
        rest = max(total, 0) - half
        # A transposed convolution takes from the other side than a convolution adds to, but for SAME_UPPER.
        first = rest if rule == b"SAME_LOWER" or (node.op_type == "ConvTranspose" and rule != b"SAME_UPPER") else half
        before.append(first)
        after.append(half + rest - first)
    result: dict[str, Any] = dict.fromkeys(_RULES)
    result["pads"] = [*before, *after]
    return {**result, "output_padding": more} if any(more) else result


def _rounded_up(given: Mapping[str, Any], size: Sizes, reach: Sizes, strides: Sizes) -> dict[str, Any]:
    """A window may hang over the end, but must begin before it: ONNX Runtime's rule, and PyTorch's."""
    count = len(size)
    pads = list(given.get("pads") or [0] * 2 * count)
    for i, (have, extent, stride) in enumerate(zip(size, reach, strides, strict=True)):
        room = have + pads[i] + pads[count + i] - extent
        last = -(-room // stride) * stride
        last -= stride if last >= have + pads[i] else 0
        pads[count + i] = max(pads[count + i] + last - room, 0)
    return {"pads": pads, "ceil_mode": None}
