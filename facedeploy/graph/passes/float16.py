"""Half precision in the graph.

`compute_float16`, for compilers that take types as they are written (TensorRT, strongly typed):

    x (fp32) -> Conv -> y (fp32)    becomes    x -> Cast -> Conv (fp16 weights) -> Cast -> y

Inputs and outputs stay float32, so that every target has the same interface.

`store_float16`, for those that choose their own arithmetic (OpenVINO):

    weight (fp32)    becomes    weight (fp16) -> Cast

In both, what computes offsets, masks and sampling positions stays in float32 (`sampling_positions`), and so does the
decoding of a head (`graph/decode`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.decode.writer import PREFIX
from facedeploy.graph.index import GraphIndex, tensor_of
from facedeploy.graph.operators import LAYERS
from facedeploy.graph.passes.constants import store_constants
from facedeploy.graph.rewrite import FreeNames, replace_nodes
from facedeploy.graph.sampling_positions import Step, averages, exact_steps, feeding, spread

# Inputs that the ONNX specification allows only as float32: op -> positions.
_FLOAT32_INPUTS = {"Resize": (2,)}
# op -> the inputs that say where, and how much, it samples
_SAMPLERS = {"DeformConv": (2, 4), "GridSample": (1,)}
# Samplers that contain the contraction of what they sample; its weights are no positions.
_WITH_CONTRACTION = frozenset({"DeformConv"})
_MODULATORS = {"GridSample": "Mul"}
_LEARNED = LAYERS | {"PRelu", "BatchNormalization", "InstanceNormalization", "GroupNormalization"}

_MOVES = frozenset({"Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})


def compute_float16(model: onnx.ModelProto, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """Copy a float32 model so that it computes in float16.

    Args:
        model: The float32 model.
        keep: How the names of the weights begin whose nodes stay in float32; "" keeps every node.

    Returns:
        The copy.

    Raises:
        ConversionError: a weight is too large for float16 (65504).
    """
    return _Rewrite(model, tuple(keep)).run()


def store_float16(model: onnx.ModelProto, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """Copy a float32 model so that it stores its weights of two and more axes in float16 and computes in float32.

    Args:
        model: The float32 model.
        keep: How the names of the weights begin that stay in float32; "" is all of them.

    Returns:
        The copy.

    Raises:
        ConversionError: a weight is too large for float16.
    """
    result = copy.deepcopy(model)
    names = FreeNames(result)
    keep = (*keep, *exact_weights(model))
    casts = []
    for weight in result.graph.initializer:
        stays = len(weight.dims) < 2 or weight.name.startswith(keep)
        if weight.data_type == onnx.TensorProto.FLOAT and not stays:
            name, stored = weight.name, names.free(f"{weight.name}_half")
            array = to_float16(onnx.numpy_helper.to_array(weight), name)
            weight.CopyFrom(tensor_of(array, stored))
            casts.append(
                onnx.helper.make_node("Cast", [stored], [name], name=f"cast_{name}", to=onnx.TensorProto.FLOAT)
            )
    replace_nodes(result, [*casts, *result.graph.node])
    onnx.checker.check_model(result, full_check=True)
    return result


def exact_weights(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the float constants that sampling positions, and the pixels of boxes, are computed with."""
    nodes = model.graph.node
    floats = {w.name for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT}
    used = {n for i in exact_nodes(model) if nodes[i].op_type not in _WITH_CONTRACTION for n in nodes[i].input}
    return tuple(sorted(used & floats))


def exact_nodes(model: onnx.ModelProto) -> set[int]:
    """Positions, in the graph's list of nodes, of those that must compute in float32: sampling positions, and what
    turns the numbers of a head into pixels, from the last layer that learned on.
    """
    steps = _steps(model)
    layers = {i for i, step in enumerate(steps) if step.op in LAYERS}
    decoding = {i for i, step in enumerate(steps) if any(name.startswith(PREFIX) for name in step.inputs)}
    learned = {i for i, step in enumerate(steps) if step.op in _LEARNED}
    decoding = feeding(steps, decoding, learned - averages(steps, learned, _MOVES), _MOVES)
    exact = exact_steps(steps, _SAMPLERS, LAYERS, _MODULATORS) | decoding
    return spread(steps, exact, layers)


def _steps(model: onnx.ModelProto) -> list[Step]:
    return [Step(node.op_type, tuple(node.input), tuple(node.output)) for node in model.graph.node]


class _Rewrite:
    def __init__(self, model: onnx.ModelProto, keep: tuple[str, ...]) -> None:
        self.keep = keep
        constant = copy.deepcopy(model)
        store_constants(constant)  # An initializer can be had in both types.
        self.source = onnx.shape_inference.infer_shapes(constant, strict_mode=True, data_prop=True)
        graph = self.source.graph
        self.names = FreeNames(self.source)
        self.float, self.half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
        self.weights = GraphIndex.of(self.source).weights
        typed = [*graph.input, *graph.output, *graph.value_info]
        self.floats = {v.name for v in typed if v.type.tensor_type.elem_type == self.float}
        self.floats |= {name for name, w in self.weights.items() if w.data_type == self.float}
        # name of a float tensor -> {element type: its name in the new graph}
        self.forms: dict[str, dict[int, str]] = {v.name: {self.float: v.name} for v in graph.input}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def run(self) -> onnx.ModelProto:
        kept = self._kept()
        for i, node in enumerate(self.source.graph.node):
            self._rewrite(node, self.float if i in kept else self.half)
        for value in self.source.graph.output:
            self._deliver(value.name)
        result = copy.deepcopy(self.source)
        result.graph.ClearField("value_info")
        replace_nodes(result, self.nodes)
        del result.graph.initializer[:]
        result.graph.initializer.extend(self.initializers.values())
        onnx.checker.check_model(result, full_check=True)
        return result

    def _rewrite(self, node: onnx.NodeProto, kind: int) -> None:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        fixed = _FLOAT32_INPUTS.get(node.op_type, ())
        for i, name in enumerate(node.input):
            if name in self.floats:
                new.input[i] = self._form(name, self.float if i in fixed else kind)
            elif name in self.weights:
                self.initializers[name] = self.weights[name]
        if kind == self.half:
            self._retype(new)
        for i, name in enumerate(node.output):
            if name in self.floats:
                new.output[i] = name if kind == self.float else self.names.free(f"{name}_half")
                self.forms[name] = {kind: new.output[i]}
        self.nodes.append(new)

    def _kept(self) -> set[int]:
        """Positions of the nodes that stay float32."""
        nodes = self.source.graph.node
        named = {i for i, node in enumerate(nodes) if self._is_kept(node)}
        learned = {i for i, node in enumerate(nodes) if node.op_type in _LEARNED}
        return spread(_steps(self.source), named | exact_nodes(self.source), learned)

    def _is_kept(self, node: onnx.NodeProto) -> bool:
        names = [n for n in node.input if n in self.weights]
        return "" in self.keep or any(n.startswith(self.keep) for n in names)

    def _form(self, name: str, kind: int) -> str:
        """The name of a tensor in the wanted type, made where it does not exist yet."""
        forms = self.forms.setdefault(name, {})
        if kind not in forms:
            forms[kind] = self._weight(name, kind) if name in self.weights else self._cast(name, kind)
        return forms[kind]

    def _weight(self, name: str, kind: int) -> str:
        if kind == self.float:
            self.initializers[name] = self.weights[name]
            return name
        array = to_float16(onnx.numpy_helper.to_array(self.weights[name]), name)
        new = self.names.free(f"{name}_half")
        self.initializers[new] = tensor_of(array, new)
        return new

    def _cast(self, name: str, kind: int) -> str:
        have = next(iter(self.forms[name].values()))
        new = self.names.free(f"{name}_half" if kind == self.half else f"{name}_float")
        self.nodes.append(onnx.helper.make_node("Cast", [have], [new], name=f"cast_{new}", to=kind))
        return new

    def _deliver(self, name: str) -> None:
        """An output is float32 under its own name."""
        if name in self.weights:  # A constant that is an output, such as anchors.
            self.initializers[name] = self.weights[name]
        elif name in self.floats and self.forms[name].get(self.float) != name:
            have = next(iter(self.forms[name].values()))
            self.nodes.append(onnx.helper.make_node("Cast", [have], [name], name=f"cast_{name}", to=self.float))

    def _retype(self, node: onnx.NodeProto) -> None:
        """Casts and constants that a node of the half part makes itself."""
        if node.op_type == "ConstantOfShape" and not node.attribute:  # float32 zero, if nothing is said
            zero = onnx.numpy_helper.from_array(np.zeros(1, np.float16))
            node.attribute.append(onnx.helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == self.float:
                attribute.i = self.half
            elif attribute.name == "value" and attribute.t.data_type == self.float:
                array = to_float16(onnx.numpy_helper.to_array(attribute.t), f"a constant of {node.name}")
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(array))


def to_float16(array: NDArray[Any], name: str) -> NDArray[np.float16]:
    """Round to float16.

    Raises:
        ConversionError: a value is too large; the message calls the array `name`.
    """
    if array.size and np.abs(array).max() > np.finfo(np.float16).max:
        msg = f"{name} holds {np.abs(array).max():g}, too large for fp16: use an fp32 target"
        raise ConversionError(msg)
    return array.astype(np.float16)
