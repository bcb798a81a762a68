"""How a pass writes: nodes and weights of a graph, replaced in place."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import reads


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a graph other nodes. They may be its own."""
    kept = [copy.deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def replace_weights(model: onnx.ModelProto, weights: Iterable[onnx.TensorProto]) -> None:
    """Give a graph other initializers: those of `weights` that a node, or the caller, reads. They may be its own."""
    used = {name for node in model.graph.node for name in reads(node)} | {v.name for v in model.graph.output}
    kept = [w for w in weights if w.name in used]
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(kept)


def part_of(
    model: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Some nodes of a graph as a model of their own, with the weights that they read."""
    mine = list(nodes)
    used = {name for node in mine for name in reads(node)}
    weights = [w for w in model.graph.initializer if w.name in used]
    graph = onnx.helper.make_graph(mine, model.graph.name or "part", list(inputs), list(outputs), weights)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def shapeless(name: str, types: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """A tensor as an end of a part, of its type and any shape; float where its type is not known."""
    kind = types[name].type.tensor_type.elem_type if name in types else onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, kind, None)


def in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """In an order of computation. Only Q/DQ pairs can stand too late: what reads them early waits for them."""
    made_here = {name for node in nodes for name in node.output}
    done: set[str] = set()
    result: list[onnx.NodeProto] = []
    waiting = list(nodes)
    while waiting:
        later = []
        for node in waiting:
            if all(name in done or name not in made_here for name in node.input):
                result.append(node)
                done.update(node.output)
            else:
                later.append(node)
        waiting = later
    return result


def rename_reads(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Have nodes, and those of their subgraphs, read other tensors, in place. names: old -> new."""
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                rename_reads(graph.node, names)


class FreeNames:
    """Names that a graph does not use yet."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._taken = {n for node in graph.node for n in (*reads(node), *node.output)}
        self._taken |= {v.name for v in (*graph.input, *graph.output, *graph.initializer)}

    def free(self, wish: str) -> str:
        """`wish`, or with underscores after it; it is used from now on."""
        while wish in self._taken:
            wish += "_"
        self._taken.add(wish)
        return wish
