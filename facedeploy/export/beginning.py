"""The first nodes of a graph as a network of their own, to ask of a backend how far it comes."""

from __future__ import annotations

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.facts import declared
from facedeploy.graph.rewrite import part_of


def beginning(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """The first nodes of a graph as a network; its outputs are the float tensors that the rest, or the user, reads."""
    graph = model.graph
    made = {name for node in graph.node[:count] for name in node.output}
    wanted = {name for node in graph.node[count:] for name in node.input} | {v.name for v in graph.output}
    typed = {v.name: v for v in (*graph.value_info, *graph.output)}
    outputs = [
        typed[name]
        for name in dict.fromkeys(n for node in graph.node[:count] for n in node.output)
        if name in made & wanted & set(typed) and typed[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    return part_of(model, graph.node[:count], graph.input, outputs)


def spec_of(model: onnx.ModelProto, spec: NetworkSpec) -> NetworkSpec:
    """The spec of such a beginning of a network. Its open axes are those of the network, by their names."""
    outputs = tuple(map(declared, model.graph.output))
    return NetworkSpec(spec.name, spec.inputs, outputs, spec.axes)
