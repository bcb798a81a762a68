"""Gemm, norms, activations and sums in the one form of each that pnnx reads."""

from __future__ import annotations

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.export.ncnn.forms.writer import Form, Writer
from facedeploy.graph.index import attributes

_TINY = 1e-30  # In place of a norm of zero.


def _gemm(w: Writer, node: onnx.NodeProto) -> bool:
    """X @ weight.T + bias, without factors, of a bias for each column; what else there is stands apart."""
    given = attributes(node)
    weight, bias = w.constant(node, 1), w.constant(node, 2)
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
    turned = given.get("transB", 0)
    columns = 0 if weight is None else weight.shape[0 if turned else 1]
    plain = not w.given(node, 2) or (bias is not None and bias.shape == (columns,))
    if weight is not None and turned and not given.get("transA", 0) and alpha == beta == 1 and plain:
        return False
    left, right = node.input[:2]
    if given.get("transA", 0):
        left = w.emit("Transpose", [left], perm=[1, 0])
    if weight is not None and w.alone(right):
        # Layers are known by the names of their weights.
        w.replace_constant(right, np.ascontiguousarray((weight if turned else weight.T) * np.float32(alpha)))
        factor = 1.0
    elif weight is not None:
        right = w.hold(np.ascontiguousarray((weight if turned else weight.T) * np.float32(alpha)), "weight")
        factor = 1.0
    else:
        factor = alpha
    last = node.output[0]
    if weight is not None:
        added = bias is not None and bias.size in (1, columns) and (bias.ndim < 2 or bias.shape[-1] == bias.size)
        inputs = [left, right]
        if added and bias is not None:
            inputs.append(w.hold(np.broadcast_to(bias.ravel() * np.float32(beta), (columns,)).copy(), "bias"))
        done = added or not w.given(node, 2)
        name = w.emit("Gemm", inputs, last if done else "", transB=1)
    else:
        if turned:
            right = w.emit("Transpose", [right], perm=[1, 0])
        done = not w.given(node, 2) and factor == 1
        name = w.emit("MatMul", [left, right], last if done else "")
        if factor != 1:
            scale = w.hold(np.float32(factor), "factor")
            name = w.emit("Mul", [name, scale], "" if w.given(node, 2) else last)
    if w.given(node, 2) and not done:
        summand = node.input[2]
        if bias is not None:
            size = w.shape(last) or bias.shape
            summand = w.hold(np.broadcast_to(bias * np.float32(beta), size).astype(np.float32), "bias")
        elif beta != 1:
            summand = w.emit("Mul", [summand, w.hold(np.float32(beta), "factor")])
        w.emit("Add", [name, summand], last)
    return True


def _variadic(w: Writer, node: onnx.NodeProto) -> bool:
    """Two at a time."""
    if node.op_type != "Mean" and len(node.input) == 2:
        return False
    op, name = "Add" if node.op_type in ("Mean", "Sum") else node.op_type, node.input[0]
    for other in node.input[1:]:
        name = w.emit(op, [name, other])
    if node.op_type == "Mean":
        name = w.emit("Mul", [name, w.hold(np.float32(1 / len(node.input)), "share")])
    w.emit("Identity", [name], node.output[0])
    return True


def _prelu(w: Writer, node: onnx.NodeProto) -> bool:
    """Slopes that are not one for each channel."""
    shape, slope = w.shape(node.input[0]), w.constant(node, 1)
    if slope is None or not shape or slope.size in (1, shape[1] if len(shape) > 1 else 1):
        return False
    positive = w.emit("Relu", [node.input[0]])
    negative = w.emit("Relu", [w.emit("Neg", [node.input[0]])])
    w.emit("Sub", [positive, w.emit("Mul", [negative, node.input[1]])], node.output[0])
    return True


def _selu(w: Writer, node: onnx.NodeProto) -> bool:
    given = attributes(node)
    if not given:
        return False
    curve = w.emit("Elu", [node.input[0]], alpha=given.get("alpha", 1.6732632))
    w.emit("Mul", [curve, w.hold(np.float32(given.get("gamma", 1.0507010)), "gamma")], node.output[0])
    return True


def _softsign(w: Writer, node: onnx.NodeProto) -> bool:
    """A quotient would be put together again."""
    below = w.emit("Add", [w.emit("Abs", [node.input[0]]), w.hold(np.float32(1), "one")])
    w.emit("Mul", [node.input[0], w.emit("Reciprocal", [below])], node.output[0])
    return True


def _lp_normalization(w: Writer, node: onnx.NodeProto) -> bool:
    given, shape = attributes(node), w.shape(node.input[0])
    if not shape:
        return False
    axis = given.get("axis", -1) % len(shape)
    axes = w.hold(np.array([axis, axis], np.int64), "axes")
    norm = w.emit(f"ReduceL{given.get('p', 2)}", [node.input[0], axes], keepdims=1)
    w.emit("Div", [node.input[0], w.emit("Max", [norm, w.hold(np.float32(_TINY), "tiny")])], node.output[0])
    return True


def _layer_normalization(w: Writer, node: onnx.NodeProto) -> bool:
    """Over the last axis, with a shift."""
    shape, given = w.shape(node.input[0]), attributes(node)
    scale, shift = w.constant(node, 1), w.constant(node, 2)
    axis = given.get("axis", -1) % max(len(shape), 1)
    last = axis == len(shape) - 1
    if not shape or scale is None or len(node.output) > 1 or (last and shift is not None):
        return False
    flat = (*shape[:axis], int(np.prod(shape[axis:])))
    held = scale.ravel(), np.zeros(scale.size, np.float32) if shift is None else shift.ravel()
    inputs = [node.input[0] if last else w.reshape(node.input[0], flat), *(w.hold(v, "norm") for v in held)]
    epsilon = given.get("epsilon", 1e-5)
    name = w.emit("LayerNormalization", inputs, node.output[0] if last else "", axis=-1, epsilon=epsilon)
    if not last:
        w.reshape(name, shape, node.output[0])
    return True


def _reduction(w: Writer, node: onnx.NodeProto) -> bool:
    """ReduceSumSquare over axes, and what reduces over nothing."""
    if attributes(node).get("noop_with_empty_axes", 0) and not w.given(node, 1):
        if node.op_type == "ReduceSumSquare":
            w.emit("Mul", [node.input[0], node.input[0]], node.output[0])
        elif node.op_type in ("ReduceL1", "ReduceL2"):
            w.emit("Abs", [node.input[0]], node.output[0])
        else:  # A logarithm of an exponential is what it was.
            w.emit("Identity", [node.input[0]], node.output[0])
        return node.op_type != "ReduceLogSum"
    if node.op_type != "ReduceSumSquare" or not w.given(node, 1):
        return False
    square = w.emit("Mul", [node.input[0], node.input[0]])
    w.emit("ReduceSum", [square, node.input[1]], node.output[0], keepdims=attributes(node).get("keepdims", 1))
    return True


FORMS: dict[str, Form] = {
    "Gemm": _gemm,
    **dict.fromkeys(("Max", "Min", "Mean", "Sum"), _variadic),
    "PRelu": _prelu,
    "Selu": _selu,
    "Softsign": _softsign,
    "LpNormalization": _lp_normalization,
    "LayerNormalization": _layer_normalization,
}
REDUCTIONS = ("L1", "L2", "LogSumExp", "Mean", "Prod", "Sum", "SumSquare")
FORMS |= {f"Reduce{name}": _reduction for name in REDUCTIONS}
