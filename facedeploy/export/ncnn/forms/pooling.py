"""Pooling and transposed convolutions whose padding is not the same on all sides, and reductions to a maximum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx
from facedeploy.export.ncnn.forms.writer import Form, Writer
from facedeploy.graph.index import attributes
from facedeploy.graph.passes.explicit_pads import set_attributes, window


def _uneven(pads: Sequence[int]) -> bool:
    return list(pads[:2]) != list(pads[2:])


def _pool(w: Writer, node: onnx.NodeProto) -> bool:
    """The padding apart, and of a mean over what lies inside the picture the count as a factor."""
    given, shape, out = attributes(node), w.shape(node.input[0]), w.shape(node.output[0])
    pads = list(given.get("pads") or [0] * 4)
    mean, ceil = node.op_type == "AveragePool", given.get("ceil_mode", 0)
    counted = bool(given.get("count_include_pad", 0))
    if len(shape) != 4 or len(out) != 4 or len(node.output) > 1 or not (_uneven(pads) or (ceil and mean and any(pads))):
        return False
    kernel = given["kernel_shape"]
    reach, strides = window(node, kernel)
    # What the windows reach: more than there is where the size is rounded up, less where it is rounded down.
    sides = [
        (before, max((count - 1) * stride + extent - size - before, 0))
        for before, count, stride, extent, size in zip(pads[:2], out[2:], strides, reach, shape[2:], strict=True)
    ]
    whole = [0, 0, sides[0][0], sides[1][0], 0, 0, sides[0][1], sides[1][1]]
    # A window that reaches beyond the edge holds the edge, so that to repeat it changes no maximum.
    mode = "constant" if mean else "edge"
    padded = w.emit("Pad", [node.input[0], w.hold(np.array(whole, np.int64), "pads")], mode=mode)
    rest = {k: given[k] for k in ("kernel_shape", "strides", "dilations") if k in given}
    if not mean:
        w.emit("MaxPool", [padded], node.output[0], **rest)
        return True
    axes = zip(shape[2:], out[2:], kernel, strides, zip(pads[:2], pads[2:], strict=True), strict=True)
    inside = [_inside(size, count, extent, stride, around, counted) for size, count, extent, stride, around in axes]
    pooled = w.emit("AveragePool", [padded], count_include_pad=1, **rest)
    factor = (np.prod(kernel) / np.multiply.outer(*inside)).astype(np.float32)[None, None]
    w.emit("Mul", [pooled, w.hold(factor, "factor")], node.output[0])
    return True


def _inside(
    size: int, count: int, kernel: int, stride: int, around: tuple[int, int], counted: bool
) -> NDArray[np.int64]:
    """Of each window along an axis, how many places divide its sum."""
    before, after = around
    first = np.arange(count) * stride - before
    low, high = (-before, size + after) if counted else (0, size)
    return np.minimum(first + kernel, high) - np.maximum(first, low)


def _conv_transpose(w: Writer, node: onnx.NodeProto) -> bool:
    """Without padding, which takes away, and then cut."""
    given, out = attributes(node), w.shape(node.output[0])
    pads = list(given.get("pads") or [])
    if len(pads) != 4 or len(out) != 4 or not _uneven(pads):
        return False
    whole = w.emit("ConvTranspose", list(node.input))
    made = w.nodes[-1]
    made.attribute.extend(node.attribute)
    set_attributes(made, pads=None)
    for i, axis in enumerate((2, 3)):
        places = [w.hold(np.array([v], np.int64), "place") for v in (pads[i], pads[i] + out[axis], axis)]
        whole = w.emit("Slice", [whole, *places], node.output[0] if axis == 3 else "")
    return True


def _reduce_max(w: Writer, node: onnx.NodeProto) -> bool:
    """A pooling over all of what is reduced; pnnx reads a ReduceMax without axes only."""
    shape, axes = w.shape(node.input[0]), w.constant(node, 1)
    if attributes(node).get("noop_with_empty_axes", 0) and not w.given(node, 1):
        w.emit("Identity", [node.input[0]], node.output[0])
        return True
    if not shape or axes is None or not axes.size:
        return False
    reduced = sorted({int(a) % len(shape) for a in axes})
    kept = [a for a in range(len(shape)) if a not in reduced]
    name = node.input[0]
    if node.op_type == "ReduceMin":
        name = w.emit("Neg", [name])
    order = [*kept, *reduced]
    if 0 in reduced and shape[0] == 1:  # ncnn has no batch axis to move.
        order = [0, *kept, *(a for a in reduced if a)]
    if order != list(range(len(shape))):
        name = w.emit("Transpose", [name], perm=order)
    length = int(np.prod([shape[a] for a in reduced]))
    name = w.reshape(name, (1, 1, -1, length))
    name = w.emit("MaxPool", [name], kernel_shape=[1, length])
    if node.op_type == "ReduceMin":
        name = w.emit("Neg", [name])
    one = (1,) if attributes(node).get("keepdims", 1) else ()
    out = [side for a, size in enumerate(shape) for side in (one if a in reduced else (size,))]
    w.reshape(name, out or (1,), node.output[0])
    return True


FORMS: dict[str, Form] = {
    "MaxPool": _pool,
    "AveragePool": _pool,
    "ConvTranspose": _conv_transpose,
    "ReduceMax": _reduce_max,
    "ReduceMin": _reduce_max,
}
