"""All forms, one after the other, until there is nothing left to say otherwise."""

from __future__ import annotations

from facedeploy.core.optional_imports import onnx
from facedeploy.export.ncnn.forms import arithmetic, picking, pooling, resizing
from facedeploy.export.ncnn.forms.writer import Form, Writer
from facedeploy.graph.rewrite import replace_nodes, replace_weights

_FORMS: dict[str, Form] = {**arithmetic.FORMS, **picking.FORMS, **pooling.FORMS, **resizing.FORMS}
_ROUNDS = 5  # A form may be written with operators that have another form themselves.


def prepare(model: onnx.ModelProto) -> None:
    """Bring what pnnx misreads to forms that it reads, in place; answers stay what they are."""
    for _ in range(_ROUNDS):
        if not any(node.op_type in _FORMS for node in model.graph.node):
            return
        writer = Writer(model)
        changed = False
        for node in model.graph.node:
            before = len(writer.nodes)
            form = _FORMS.get(node.op_type)
            if form is not None and form(writer, node):
                changed = True
            else:
                del writer.nodes[before:]
                writer.nodes.append(node)
        if not changed:
            return
        replace_nodes(model, writer.nodes)
        replace_weights(model, list(model.graph.initializer))
        model.graph.ClearField("value_info")
