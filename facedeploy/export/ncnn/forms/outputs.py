"""Outputs that pnnx loses or stops at: one tensor under two names, an input as it came, a constant.

They are taken out of the graph before pnnx sees it, and come back as layers of ncnn that compute nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.formats.ncnn.bin import Arrays
from facedeploy.formats.ncnn.param import NcnnLayer
from facedeploy.graph.index import GraphIndex, infer_values, shape_of
from facedeploy.graph.rewrite import replace_nodes

_NOTHING_DONE = ("Identity", "Dropout")
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
_SIDES = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}  # Parameters of MemoryData for the axes of an array.


@dataclass(frozen=True)
class Aside:
    """Outputs that pnnx does not see.

    Attributes:
        same: Output -> the input or the output that it equals.
        constants: Output -> its values.
    """

    same: Mapping[str, str]
    constants: Mapping[str, NDArray[Any]]


def set_aside(model: onnx.ModelProto, network: str) -> Aside:
    """Take such outputs out of a graph, in place.

    Raises:
        ConversionError: there is no other output, or an input is one under its own name.
    """
    index, source = GraphIndex.of(model), _sources(model)
    inputs = {v.name for v in model.graph.input}
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    constants: dict[str, NDArray[Any]] = {}
    for value in model.graph.output:
        root = source.get(value.name, value.name)
        if value.name in inputs:
            msg = f"{network} gives its input {value.name} back under the same name: leave that output out for ncnn"
            raise ConversionError(msg)
        if root in inputs:
            same[value.name] = root
        elif root in index.weights:
            constants[value.name] = index.array(root)
        elif first.setdefault(root, value.name) != value.name:
            same[value.name] = first[root]
    if not first:
        msg = f"{network} computes nothing from its input, and ncnn has no such network: leave it out"
        raise ConversionError(msg)
    if same or constants:
        kept = [v for v in model.graph.output if v.name not in same and v.name not in constants]
        model.graph.ClearField("output")
        model.graph.output.extend(kept)
        _prune(model)
    return Aside(same, constants)


def put_back(
    layers: Sequence[NcnnLayer], arrays: dict[str, Arrays], aside: Aside, spec: NetworkSpec
) -> tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]:
    """Ncnn's graph with these outputs again.

    Raises:
        ConversionError: a constant has more axes than ncnn.
    """
    inputs = {t.name for t in spec.inputs}
    made, held = tuple(layers), dict(arrays)
    for output, blob in aside.same.items():
        made = _split(made, blob, output, keep=blob in inputs)
    for output, values in aside.constants.items():
        sizes = values.shape[1:] if values.ndim > 1 and values.shape[0] == 1 else values.shape or (1,)
        if len(sizes) not in _SIDES:
            msg = (
                f"the constant output {output} has {len(sizes)} axes, and ncnn knows four: leave it out of the network"
            )
            raise ConversionError(msg)
        params = tuple((key, str(size)) for key, size in zip(_SIDES[len(sizes)], sizes, strict=True))
        made = (*made, NcnnLayer("MemoryData", output, (), (output,), params))
        held[output] = (values.astype(np.float32).ravel(),)
    return made, held


def _sources(model: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the one that it is a copy of, or computed as."""
    held: dict[tuple[object, ...], str] = {}
    source: dict[str, str] = {}
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        content = (weight.data_type, values.shape, hashlib.sha256(values.tobytes()).digest())
        source[weight.name] = held.setdefault(content, weight.name)
    computed: dict[tuple[object, ...], onnx.NodeProto] = {}
    typed = infer_values(model)
    for node in model.graph.node:
        inputs = tuple(source.get(name, name) for name in node.input)
        kind = tuple(sorted(a.SerializeToString(deterministic=True) for a in node.attribute))
        twin = computed.setdefault((node.op_type, node.domain, inputs, kind), node)
        if twin is not node:
            source |= {a: source.get(b, b) for a, b in zip(node.output, twin.output, strict=False)}
        elif node.op_type in _NOTHING_DONE or (node.op_type in _RESHAPES and _alike(typed, node)):
            source[node.output[0]] = inputs[0]
    return source


def _alike(typed: Mapping[str, onnx.ValueInfoProto], node: onnx.NodeProto) -> bool:
    before, after = (typed.get(name) for name in (node.input[0], node.output[0]))
    if before is None or after is None or not all(shape_of(before)):
        return False
    types = before.type.tensor_type.elem_type == after.type.tensor_type.elem_type
    return types and shape_of(before) == shape_of(after)


def _prune(model: onnx.ModelProto) -> None:
    """Drop the nodes that no output needs."""
    needed = {v.name for v in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    replace_nodes(model, kept[::-1])


def _split(layers: Sequence[NcnnLayer], blob: str, output: str, *, keep: bool) -> tuple[NcnnLayer, ...]:
    """Give a blob a second name. keep: what makes it must go on calling it so, as what feeds an input does."""
    taken = {b for layer in layers for b in layer.outputs} | {output}
    other = next(name for i in range(len(taken) + 1) if (name := f"{blob}_{i}") not in taken)

    def named(group: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(other if b == blob else b for b in group)

    read = any(blob in layer.inputs for layer in layers)
    outputs = (output,) if keep and not read else (other, output) if keep else (blob, output)
    made: list[NcnnLayer] = []
    for layer in layers:
        makes = blob in layer.outputs
        made.append(
            replace(layer, inputs=named(layer.inputs)) if keep else replace(layer, outputs=named(layer.outputs))
        )
        if makes:
            made.append(NcnnLayer("Split", f"{output}_split", (blob if keep else other,), outputs))
    return tuple(made)
