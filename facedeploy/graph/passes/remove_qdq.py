"""The float graph of a quantised one: weights read as float, pairs around activations removed, their ranges kept.

    weight (int8) ─► DQ ─► Conv            becomes    weight (float) ─► Conv
    Conv ─► Q ─► DQ ─► Conv                becomes    Conv ─► Conv, and what the second one reads has a range

A quantiser drops the ReLU before a Q whose smallest integer is zero, since the Q clips there by itself. It is put back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, tensor_of
from facedeploy.graph.passes.constants import store_constants
from facedeploy.graph.passes.fold_scales import fold_scales
from facedeploy.graph.passes.qoperator import to_qdq
from facedeploy.graph.ranges import Range, union
from facedeploy.graph.rewrite import FreeNames, rename_reads, replace_nodes, replace_weights

# Operators that give of integers what they give of the values these stand for.
_SAME = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat", "Gather"}
    | {"Identity", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "ArgMax", "ArgMin", "Pad", "Resize", "Upsample"}
)
_NOT_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "Exp", "Abs", "HardSigmoid", "Sqrt"})
_KEEP_SIGN = frozenset({*_SAME, "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Add", "Mul", "ReduceMean"})
_SIX = 6.0  # Of ReLU6, which a quantiser drops as well.
_CLIP_WITH_INPUTS = 11


@dataclass(frozen=True)
class Dequantized:
    """The float form of a graph. ranges: name of a tensor -> the range that the file gives it."""

    model: onnx.ModelProto
    ranges: dict[str, Range]


@dataclass(frozen=True)
class _Scale:
    """real = (stored - zero) * scale, of integers of a type; float32 arrays of one axis, or none."""

    scale: NDArray[Any]
    zero: NDArray[Any]
    kind: np.dtype[Any]

    def ends(self) -> tuple[float, float]:
        """What the smallest and the largest integer stand for."""
        least, most = _limits(self.kind)
        return float(np.min((least - self.zero) * self.scale)), float(np.max((most - self.zero) * self.scale))

    def range(self, *, positive: bool) -> Range:
        """What a tensor has that is stored so. positive: whether it has nothing below zero anyway."""
        low, high = self.ends()
        # Of -128 to 127 around zero the scale is that of 127.
        symmetric = low < 0 and bool(np.all(self.zero == 0))
        threshold = high if symmetric else max(-low, high)
        low = 0.0 if positive else min(low, 0.0)
        return Range(low, high, threshold, low, max(high, 0.0))


def dequantize(model: onnx.ModelProto) -> Dequantized:
    """Make a float model of a quantised one, in any of its forms.

    Raises:
        ConversionError: it computes something on integers that has no float form here.
    """
    result = copy.deepcopy(model)
    store_constants(result)
    return _Rewrite(to_qdq(result)).run()


class _Rewrite:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.names = FreeNames(model)
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.weights = {w.name: w for w in model.graph.initializer}
        # Integers that give their name to what they stand for, because nothing else reads them.
        readers = GraphIndex.of(model).readers
        self.stored = {
            name: w
            for name, w in self.weights.items()
            if {n.op_type for n in readers.get(name, ())} == {"DequantizeLinear"}
        }
        self.outputs = {v.name for v in model.graph.output}
        self.inputs = {v.name for v in model.graph.input} - set(self.weights)
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[str, onnx.NodeProto] = {}
        # A tensor -> what is read in its place; integers -> the float tensor that they stand for, and how.
        self.alias: dict[str, str] = {}
        self.real: dict[str, tuple[str, _Scale]] = {}
        self.ranges: dict[str, Range] = {}

    def run(self) -> Dequantized:
        for node in list(self.model.graph.node):
            if node.op_type == "QuantizeLinear":
                self._quantize(node)
            elif node.op_type == "DequantizeLinear":
                self._dequantize(node)
            elif any(name in self.real for name in node.input):
                self._on_integers(node)
            else:
                self._keep(node)
        self._deliver_integers()
        replace_nodes(self.model, self.nodes)
        self.model.graph.ClearField("value_info")
        replace_weights(self.model, self.weights.values())
        fold_scales(self.model)
        return Dequantized(self.model, self.ranges)

    def _keep(self, node: onnx.NodeProto) -> None:
        rename_reads([node], self.alias)
        self._append(node)

    def _know(self, name: str, found: Range) -> None:
        """Keep the range of a tensor, and of what it is a constant times of: a simplifier moves that into weights."""
        self.ranges[name] = union(self.ranges[name], found) if name in self.ranges else found
        node = self.made.get(name)
        if node is not None and node.op_type in ("Mul", "Div") and node.input[1] in self.weights:
            factor = self._array(node.input[1])
            if factor.size == 1 and factor.item() > 0:
                times = factor.item() if node.op_type == "Div" else 1 / factor.item()
                self._know(node.input[0], found.times(float(times)))

    def _append(self, node: onnx.NodeProto) -> None:
        self.nodes.append(node)
        self.made.update(dict.fromkeys(node.output, node))

    def _make(self, op: str, inputs: list[str], wish: str, **options: Any) -> str:
        out = self.names.free(wish)
        self._append(onnx.helper.make_node(op, inputs, [out], name=out, **options))
        return out

    def _quantize(self, node: onnx.NodeProto) -> None:
        x, scale = self.alias.get(node.input[0], node.input[0]), self._scale(node)
        if x in self.weights:
            value = self._array(x)
            axis = int(attributes(node).get("axis", 1))
            steps, zero = (_shaped(v, value.ndim, axis, value.shape) for v in (scale.scale, scale.zero))
            stored = np.clip(np.round(value / steps) + zero, *_limits(scale.kind)).astype(scale.kind)
            self.weights[node.output[0]] = tensor_of(stored, node.output[0])
            return
        low, high = scale.ends()
        if low == 0 and not self._is_positive(x, inputs=True):
            six = abs(high - _SIX) < 0.01 * _SIX
            x = self._clip(x) if six else self._make("Relu", [x], f"{x}_relu")
        self.real[node.output[0]] = x, scale

    def _clip(self, x: str) -> str:
        if self.opset < _CLIP_WITH_INPUTS:
            return self._make("Clip", [x], f"{x}_relu6", min=0.0, max=_SIX)
        ends = [self._store(np.float32(v), f"{x}_{v:g}") for v in (0, _SIX)]
        return self._make("Clip", [x, *ends], f"{x}_relu6")

    def _dequantize(self, node: onnx.NodeProto) -> None:
        stored, out, scale = node.input[0], node.output[0], self._scale(node)
        if stored in self.weights:
            self._weight(node, scale)
            return
        if stored in self.real and _equal(self.real[stored][1], scale):
            form = self.real[stored][0]
        else:
            # Integers that come from elsewhere, or were made in another unit.
            if stored in self.real:
                source, before = self.real[stored]
                form = self._affine(source, 1 / before.scale, before.zero, out)
            else:
                form = self._make("Cast", [self.alias.get(stored, stored)], f"{out}_float", to=onnx.TensorProto.FLOAT)
            form = self._affine(form, scale.scale, -scale.zero * scale.scale, out)
        self.alias[out] = form
        self._know(form, scale.range(positive=self._is_positive(form)))
        if out in self.outputs:
            self._append(onnx.helper.make_node("Identity", [form], [out], name=out))

    def _affine(self, x: str, factor: NDArray[Any], shift: NDArray[Any], wish: str) -> str:
        """Multiply and add, where that does something."""
        for op, value, neutral in (("Mul", factor, 1), ("Add", shift, 0)):
            if np.any(value != neutral):
                x = self._make(op, [x, self._store(value.astype(np.float32), f"{wish}_{op.lower()}")], f"{wish}_real")
        return x

    def _weight(self, node: onnx.NodeProto, scale: _Scale) -> None:
        name = node.input[0]
        stored = self.stored.get(name, self.weights[name])
        value = onnx.numpy_helper.to_array(stored).astype(np.float32)
        given = attributes(node)
        axis, block = int(given.get("axis", 1)), int(given.get("block_size", 0))
        steps, zero = (_shaped(v, value.ndim, axis, value.shape, block) for v in (scale.scale, scale.zero))
        result = ((value - zero) * steps).astype(np.float32)
        out = node.output[0]
        if out in self.outputs:
            self.weights[out] = tensor_of(result, out)
        else:
            stem = name.removesuffix("_quantized")
            if stem == name and self.weights[name] is self.stored.get(name):
                self.weights[name] = tensor_of(result, name)
                self.alias[out] = name
            else:
                self.alias[out] = self._store(result, stem)

    def _on_integers(self, node: onnx.NodeProto) -> None:
        """A node that reads integers whose float form is known."""
        if node.op_type not in _SAME:
            msg = f"its operator {node.op_type} computes on integers, which is not read"
            raise ConversionError(msg)
        _, scale = next(self.real[name] for name in node.input if name in self.real)
        for i, name in enumerate(node.input):
            node.input[i] = self.real[name][0] if name in self.real else self.alias.get(name, name)
        if node.op_type == "Pad" and len(node.input) > 2 and node.input[2] in self.weights:
            value = (self._array(node.input[2]).astype(np.float32) - scale.zero) * scale.scale
            node.input[2] = self._store(value.astype(np.float32).reshape(()), f"{node.input[2]}_real")
        if not node.op_type.startswith("Arg"):
            for i, name in enumerate(node.output):
                node.output[i] = self.names.free(f"{name}_real")
                self.real[name] = node.output[i], scale
        self._append(node)

    def _deliver_integers(self) -> None:
        """Integers that the caller gets become what they stand for."""
        for value in self.model.graph.output:
            if value.name in self.real:
                form, _ = self.real[value.name]
                self._append(onnx.helper.make_node("Identity", [form], [value.name], name=value.name))
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT

    def _is_positive(self, name: str, *, inputs: bool = False) -> bool:
        """Whether a tensor has nothing below zero. inputs: whether to take that for granted of what comes in."""
        node = self.made.get(name)
        if name in self.inputs:
            return inputs
        if node is None:
            return name in self.weights and bool(np.all(self._array(name) >= 0))
        if node.op_type == "Clip":
            least = attributes(node).get("min", -1.0)
            if len(node.input) > 1 and node.input[1] in self.weights:
                least = float(self._array(node.input[1]))
            return bool(least >= 0)
        data = node.input if node.op_type in ("Concat", "Add", "Mul") else node.input[:1]
        return node.op_type in _NOT_NEGATIVE or (
            node.op_type in _KEEP_SIGN and all(self._is_positive(self.alias.get(v, v), inputs=inputs) for v in data)
        )

    def _scale(self, node: onnx.NodeProto) -> _Scale:
        scale = self._array(node.input[1])
        if len(node.input) > 2 and node.input[2]:
            zero = self._array(node.input[2])
        else:
            name = node.input[0]
            stored = self.stored.get(name, self.weights.get(name)) if node.op_type == "DequantizeLinear" else None
            kind = np.uint8 if stored is None else onnx.helper.tensor_dtype_to_np_dtype(stored.data_type)
            zero = np.zeros(scale.shape, kind)
        return _Scale(scale.astype(np.float32), zero.astype(np.float32), zero.dtype)

    def _array(self, name: str) -> NDArray[Any]:
        name = self.alias.get(name, name)
        if name not in self.weights:
            msg = f"{name}, which is a scale or a weight, is not constant"
            raise ConversionError(msg)
        return onnx.numpy_helper.to_array(self.weights[name])

    def _store(self, value: NDArray[Any] | np.generic, wish: str) -> str:
        name = self.names.free(wish)
        self.weights[name] = tensor_of(value, name)
        return name


def _limits(kind: np.dtype[Any]) -> tuple[int, int]:
    if kind.name in ("int4", "uint4"):
        return (-8, 7) if kind.name == "int4" else (0, 15)
    if kind.kind not in "iu":
        msg = f"it is quantised to {kind.name}, which is not read"
        raise ConversionError(msg)
    info = np.iinfo(kind)
    return int(info.min), int(info.max)


def _shaped(value: NDArray[Any], rank: int, axis: int, shape: tuple[int, ...], block: int = 0) -> NDArray[Any]:
    """Scales or zero points, to be broadcast over a tensor."""
    if block:
        return np.repeat(value, block, axis=axis)[tuple(slice(n) for n in shape)]
    return value.reshape(()) if value.size == 1 else value.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _equal(a: _Scale, b: _Scale) -> bool:
    return np.array_equal(a.scale, b.scale) and np.array_equal(a.zero, b.zero)
