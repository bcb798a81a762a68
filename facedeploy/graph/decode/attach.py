"""A network and its head as one graph."""

from __future__ import annotations

import copy

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.decode.build import raw_name


def attach(model: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a network whose outputs are those of the head behind it.

    Args:
        model: The network; its outputs are raw.
        head: As `build` writes it.
    """
    joined = copy.deepcopy(model)
    names = {v.name: raw_name(v.name) for v in joined.graph.output if raw_name(v.name) != v.name}
    for node in joined.graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    for weight in joined.graph.initializer:
        weight.name = names.get(weight.name, weight.name)
    joined.graph.ClearField("value_info")
    joined.graph.node.extend(head.graph.node)
    joined.graph.initializer.extend(head.graph.initializer)
    joined.graph.ClearField("output")
    joined.graph.output.extend(head.graph.output)
    return joined
