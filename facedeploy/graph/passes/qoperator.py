"""Operators on integers as float operators between Q/DQ pairs, which is the one form that `remove_qdq` knows.

    QLinearConv(x, w, ...)    becomes    DQ(x), DQ(w) -> Conv -> Q

A dynamic scale is not known before the network runs, and any scale gives the same sum but for rounding. So it is taken
for 1: the integers of a DynamicQuantizeLinear are then its float input, and what multiplies by the scale afterwards
multiplies by 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import attributes, tensor_of
from facedeploy.graph.rewrite import FreeNames, replace_nodes

# Of one quantised input and one output: (x, scale, zero, y scale, y zero).
_UNARY = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearReduceMean": "ReduceMean",
}
_BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul", "QLinearMatMul": "MatMul"}
# Attributes that only the integer form has.
_OWN = frozenset({"channels_last", "opset"})


def to_qdq(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model whose constants are initializers, without operators on integers. It need not be valid before
    its pairs are removed.

    Raises:
        ConversionError: an operator has no float form here.
    """
    return _Rewrite(model).run()


class _Rewrite:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = copy.deepcopy(model)
        self.names = FreeNames(self.model)
        self.arrays = {w.name: w for w in self.model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.dynamic: set[str] = set()  # Zero points that are not known before the network runs.
        self.forms: dict[str, Callable[[onnx.NodeProto], None]] = {
            "QLinearConv": self._conv,
            "QLinearConcat": self._concat,
            "QGemm": self._gemm,
            "DynamicQuantizeLinear": self._dynamic,
            "MatMulInteger": self._integer_sum,
            "ConvInteger": self._integer_sum,
            "DynamicQuantizeMatMul": self._dynamic_matmul,
            **dict.fromkeys(_UNARY, self._unary),
            **dict.fromkeys(_BINARY, self._binary),
        }

    def run(self) -> onnx.ModelProto:
        for node in list(self.model.graph.node):
            form = self.forms.get(node.op_type)
            if form is not None:
                form(node)
            elif node.domain == "com.microsoft" and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                msg = f"its operator {node.op_type} has no float form here"
                raise ConversionError(msg)
            elif node.op_type == "DequantizeLinear" and node.input[-1] in self.dynamic:
                self.nodes.append(onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
            else:
                node.domain = "" if node.op_type in ("QuantizeLinear", "DequantizeLinear") else node.domain
                self.nodes.append(node)
        replace_nodes(self.model, self.nodes)
        return self.model

    # Each of these adds the float form of a node.

    def _unary(self, node: onnx.NodeProto) -> None:
        x, scale, zero, y_scale, y_zero = _padded(node, 5)
        self._add(_UNARY[node.op_type], node, [self._real(x, scale, zero)], y_scale, y_zero)

    def _binary(self, node: onnx.NodeProto) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = _padded(node, 8)
        # A matrix has a scale a column, if not one for all of it.
        right = self._real(b, b_scale, b_zero, axis=-1)
        self._add(_BINARY[node.op_type], node, [self._real(a, a_scale, a_zero), right], scale, zero)

    def _concat(self, node: onnx.NodeProto) -> None:
        scale, zero, *rest = node.input
        parts = [self._real(*rest[i : i + 3]) for i in range(0, len(rest), 3)]
        self._add("Concat", node, parts, scale, zero)

    def _conv(self, node: onnx.NodeProto) -> None:
        x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, bias = _padded(node, 9)
        inputs = [self._real(x, x_scale, x_zero), self._real(w, w_scale, w_zero, axis=0)]
        if bias:
            inputs.append(self._bias(bias, self._array(x_scale) * self._array(w_scale)))
        self._add("Conv", node, inputs, scale, zero)

    def _gemm(self, node: onnx.NodeProto) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, bias, scale, zero = _padded(node, 9)
        alpha = float(attributes(node).get("alpha", 1))
        columns = 0 if attributes(node).get("transB") else -1
        inputs = [self._real(a, a_scale, a_zero), self._real(b, b_scale, b_zero, axis=columns)]
        if bias:
            inputs.append(self._bias(bias, alpha * self._array(a_scale) * self._array(b_scale)))
        self._add("Gemm", node, inputs, scale, zero)

    def _dynamic(self, node: onnx.NodeProto) -> None:
        stored, scale, zero = node.output
        self.nodes.append(onnx.helper.make_node("Identity", [node.input[0]], [stored], name=node.name))
        self._put(np.float32(1), scale)
        self._put(np.float32(0), zero)
        self.dynamic.add(zero)

    def _integer_sum(self, node: onnx.NodeProto) -> None:
        a, b, a_zero, b_zero = _padded(node, 4)
        # What is added up is in units of the integers: a scale of 1.
        left = a if a_zero in self.dynamic else self._real(a, self._store(np.float32(1), f"{a}_unit"), a_zero)
        weight = self._array(b).astype(np.float32)
        if b_zero:
            zero = self._array(b_zero).astype(np.float32)
            weight -= zero if node.op_type == "MatMulInteger" else zero.reshape(-1, *[1] * (weight.ndim - 1))
        inputs = [left, self._store(weight, _stem(b))]
        op = "Conv" if node.op_type == "ConvInteger" else "MatMul"
        self.nodes.append(_made(op, inputs, [node.output[0]], node))

    def _dynamic_matmul(self, node: onnx.NodeProto) -> None:
        a, b, scale, zero, bias = _padded(node, 5)
        product = self.names.free(f"{node.output[0]}_product") if bias else node.output[0]
        self.nodes.append(_made("MatMul", [a, self._real(b, scale, zero, axis=-1)], [product], node))
        if bias:
            self.nodes.append(onnx.helper.make_node("Add", [product, bias], [node.output[0]]))

    def _add(self, op: str, node: onnx.NodeProto, inputs: list[str], scale: str, zero: str) -> None:
        """The float operator, and the Q behind it where the node gives integers."""
        if attributes(node).get("channels_last"):
            msg = f"its operator {node.op_type} has the channels last, which is not read"
            raise ConversionError(msg)
        out = self.names.free(f"{node.output[0]}_real") if scale else node.output[0]
        self.nodes.append(_made(op, inputs, [out], node))
        if scale:
            self.nodes.append(
                onnx.helper.make_node("QuantizeLinear", [out, scale, *([zero] if zero else [])], [node.output[0]])
            )

    def _real(self, name: str, scale: str, zero: str = "", axis: int | None = None) -> str:
        """DQ of an integer tensor."""
        out = self.names.free(f"{name}_dequantized")
        node = onnx.helper.make_node("DequantizeLinear", [name, scale, *([zero] if zero else [])], [out])
        if axis is not None and name in self.arrays and self._array(scale).size > 1:
            rank = len(self.arrays[name].dims)
            node.attribute.append(onnx.helper.make_attribute("axis", axis % rank))
        self.nodes.append(node)
        return out

    def _bias(self, name: str, scale: NDArray[Any]) -> str:
        """An int32 bias in steps of `scale`."""
        return self._store((self._array(name) * scale.reshape(-1)).astype(np.float32), _stem(name))

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            msg = f"{name}, which is a scale or a weight, is not constant"
            raise ConversionError(msg)
        return onnx.numpy_helper.to_array(self.arrays[name])

    def _store(self, value: NDArray[Any] | np.generic, wish: str) -> str:
        name = self.names.free(wish)
        self._put(value, name)
        return name

    def _put(self, value: NDArray[Any] | np.generic, name: str) -> None:
        tensor = self.model.graph.initializer.add()
        tensor.CopyFrom(tensor_of(value, name))
        self.arrays[name] = tensor


def _made(op: str, inputs: list[str], outputs: list[str], like: onnx.NodeProto) -> onnx.NodeProto:
    node = onnx.helper.make_node(op, inputs, outputs, name=like.name)
    node.attribute.extend(a for a in like.attribute if a.name not in _OWN)
    return node


def _padded(node: onnx.NodeProto, count: int) -> list[str]:
    return [*node.input, *[""] * (count - len(node.input))]


def _stem(name: str) -> str:
    """What a quantised weight was called before."""
    return name.removesuffix("_quantized")
