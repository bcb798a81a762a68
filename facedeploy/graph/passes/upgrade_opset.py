"""An ONNX file of any age, as a graph of today for inputs of fixed shapes.

What old exporters wrote and today's tools refuse: weights listed among the inputs, axes that are dynamic in name only,
shapes that belong to another input size, operators of old opsets (Upsample, Slice with attributes), local functions.
"""

from __future__ import annotations

import copy

import numpy as np

from facedeploy.core.errors import ConversionError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx, onnx_inliner
from facedeploy.graph.index import infer_values
from facedeploy.graph.passes.annotations import strip_annotations
from facedeploy.graph.passes.constants import store_constants
from facedeploy.graph.passes.explicit_pads import explicit_pads
from facedeploy.graph.passes.old_forms import rewrite_old_forms
from facedeploy.graph.passes.simplify import simplify

_FIRST_IR_WITH_FREE_WEIGHTS = 4  # Before it, every weight had to be an input as well.
_LAST_OPSET_WITH_ONE_RESIZE = 10
_FIRST_OPSET = 7
_AGAIN = "export it with opset 13 or later"
_STANDARD = ("", "ai.onnx")


def upgrade_opset(model: onnx.ModelProto, spec: NetworkSpec, opset: int) -> onnx.ModelProto:
    """A simplified copy of `model` in `opset`, with the tensors and fixed shapes of the spec.

    A file of a newer opset that cannot be expressed in `opset` keeps its own.

    Raises:
        ConversionError: an operator cannot be brought to `opset`, or the graph is invalid.
    """
    model = copy.deepcopy(model)
    strip_annotations(model)
    _use_one_domain(model)
    if model.functions:
        model = onnx_inliner.inline_local_functions(model)
    _fix_shapes(model, spec)
    # First with the operators of its own opset: shapes that were computed become constants, which is the form in
    # which the version converter knows Upsample, Reshape and others.
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FREE_WEIGHTS)
    rewrite_old_forms(model)
    model = _simplify_old(model)
    old = _opset(model) <= _LAST_OPSET_WITH_ONE_RESIZE
    model = _to_opset(model, opset)
    if old:
        _sample_as_before(model)
    model = simplify(model)
    store_constants(model)  # pnnx, for one, looks for scales and axes there only.
    explicit_pads(model)
    return model


def _simplify_old(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplify a graph of its own opset.

    Raises:
        ConversionError: as `simplify`; or the tools know this opset no more.
    """
    try:
        return simplify(model)
    except ConversionError as error:
        if (opset := _opset(model)) >= _FIRST_OPSET:
            raise
        msg = f"opset {opset} is older than the tools know: {_AGAIN}"
        raise ConversionError(msg) from error


def _use_one_domain(model: onnx.ModelProto) -> None:
    """The standard operators have two names for their domain."""
    versions = {o.domain: o.version for o in model.opset_import}
    if "ai.onnx" in versions:
        for node in model.graph.node:
            node.domain = "" if node.domain in _STANDARD else node.domain
        rest = {k: v for k, v in versions.items() if k not in _STANDARD}
        model.ClearField("opset_import")
        model.opset_import.extend(onnx.helper.make_opsetid(k, v) for k, v in {"": versions["ai.onnx"], **rest}.items())


def _fix_shapes(model: onnx.ModelProto, spec: NetworkSpec) -> None:
    """Leave the real inputs, and drop what the file says of all shapes."""
    helper = onnx.helper
    graph = model.graph
    graph.ClearField("value_info")
    for field, tensors in (("input", spec.inputs), ("output", spec.outputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(
            helper.make_tensor_value_info(t.name, helper.np_dtype_to_tensor_dtype(np.dtype(t.dtype)), t.shape)
            for t in tensors
        )


def _sample_as_before(model: onnx.ModelProto) -> None:
    """Say where Resize samples: up to opset 10 an output pixel i is the input's i / scale, rounded down.

    The version converter leaves that out, and the default of later opsets is another place.
    """
    sampling = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for node in model.graph.node:
        if node.op_type == "Resize":
            rest = [a for a in node.attribute if a.name not in sampling]
            node.ClearField("attribute")
            node.attribute.extend([*rest, *(onnx.helper.make_attribute(k, v) for k, v in sampling.items())])
            node.input[1] = ""  # A region of interest, which is not used but keeps pnnx from knowing the operator.


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in _STANDARD), 1)


def _stops_at(model: onnx.ModelProto, opset: int) -> str:
    """The first node that the version converter does not take by itself."""
    values = infer_values(model)
    weights = {w.name: w for w in model.graph.initializer}
    for node in model.graph.node:
        held = [weights[name] for name in node.input if name in weights]
        inputs = [values[name] for name in node.input if name in values and name not in weights]
        outputs = [values.get(name) or onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", inputs, outputs, held)
        alone = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        try:
            onnx.version_converter.convert_version(alone, opset)
        except Exception:
            return f"{node.op_type} (node {node.name or node.output[0]})"
    return "a combination of its operators"


def _to_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    have = _opset(model)
    if have != opset:
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except Exception as error:  # The converter's assertions reach Python as RuntimeError and others.
            if have < opset:
                what = _stops_at(model, opset)
                msg = f"{what} of opset {have} cannot be brought to opset {opset}: {_AGAIN}"
                raise ConversionError(msg) from error
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    return model
