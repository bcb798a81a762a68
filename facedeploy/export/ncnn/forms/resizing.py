"""Resize in the kinds that pnnx knows, or as the products that it is.

pnnx takes a linear Resize that samples `asymmetric` for one that does not, and nearest ones of other rounding for none
at all. A Resize is linear in its input, along each axis by itself, so any is a product with a matrix for each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx, onnxruntime
from facedeploy.export.ncnn.forms.writer import Form, Writer
from facedeploy.graph.index import attributes

_KNOWN = (b"half_pixel", b"pytorch_half_pixel", b"align_corners")
_CUBIC = -0.75


def _resize(w: Writer, node: onnx.NodeProto) -> bool:
    given, shape, out = attributes(node), w.shape(node.input[0]), w.shape(node.output[0])
    if len(shape) != 4 or len(out) != 4 or shape[:2] != out[:2] or _known(w, node):
        return False
    rows, columns = (_matrix(w, node, axis) for axis in (2, 3))
    factors = [_repeats(m) for m in (rows, columns)]
    if given.get("mode", b"nearest") == b"nearest" and all(factors):
        scales = w.hold(np.array([1, 1, *factors], np.float32), "scales")
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        w.emit("Resize", [node.input[0], "", scales], node.output[0], **how)
        return True
    wide = w.emit("MatMul", [node.input[0], w.hold(np.ascontiguousarray(columns.T), "columns")])
    w.emit("MatMul", [w.hold(rows, "rows"), wide], node.output[0])
    return True


def _known(w: Writer, node: onnx.NodeProto) -> bool:
    given = attributes(node)
    place = given.get("coordinate_transformation_mode", b"half_pixel")
    if given.get("antialias", 0) or "axes" in given or w.given(node, 1):
        return False
    if given.get("mode", b"nearest") == b"nearest":
        return place == b"asymmetric" and given.get("nearest_mode") == b"floor" and "mode" in given
    plain = given.get("cubic_coeff_a", _CUBIC) == _CUBIC and not given.get("exclude_outside", 0)
    return place in _KNOWN and plain


def _repeats(matrix: NDArray[np.float32]) -> int:
    """How often each value is repeated, if that is all that a matrix does; else 0."""
    wanted, size = matrix.shape
    count, rest = divmod(wanted, size)
    same = not rest and np.array_equal(matrix, np.repeat(np.eye(size, dtype=np.float32), count, axis=0))
    return count if same else 0


def _matrix(w: Writer, node: onnx.NodeProto, axis: int) -> NDArray[np.float32]:
    """What a Resize does along one axis, found by resizing the unit matrix with ONNX Runtime."""
    shape, out = w.shape(node.input[0]), w.shape(node.output[0])
    size, wanted = shape[axis], out[axis]
    scales = w.constant(node, 2)
    given = attributes(node)
    axes = [a % 4 for a in given.get("axes", range(4))]
    inputs = ["x", "", "", "to"]
    target = np.array([1, size, wanted, 1], np.int64)
    if scales is not None and scales.size:
        scale = float(scales[axes.index(axis)]) if axis in axes else 1.0
        inputs, target = ["x", "", "to"], np.array([1, 1, scale, 1], np.float32)
    alone = onnx.helper.make_node("Resize", inputs, ["y"])
    alone.attribute.extend(a for a in node.attribute if a.name not in ("axes", "keep_aspect_ratio_policy"))
    made = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [alone],
        "resize",
        [made("x", onnx.TensorProto.FLOAT, [1, size, size, 1])],
        [made("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(target, "to")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    unit = np.eye(size, dtype=np.float32)[None, :, :, None]
    answer: NDArray[np.float32] = session.run(None, {"x": unit})[0][0, :, :, 0].T
    return np.ascontiguousarray(answer)


FORMS: dict[str, Form] = {"Resize": _resize}
