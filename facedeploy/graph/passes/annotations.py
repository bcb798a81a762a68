"""What a graph says about itself: drop what leaks, name what is anonymous."""

from __future__ import annotations

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx


def strip_annotations(model: onnx.ModelProto) -> None:
    """Remove stack traces and documentation: they hold the build machine's paths and double the file."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("doc_string")
    for item in (
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def name_output_axes(model: onnx.ModelProto, spec: NetworkSpec) -> None:
    """Give the outputs' dynamic axes the spec's names instead of the exporter's formulas."""
    model.graph.ClearField("value_info")
    for value, tensor in zip(model.graph.output, spec.outputs, strict=True):
        dims = value.type.tensor_type.shape.dim
        for dim, name in zip(dims, tensor.shape, strict=True):
            if isinstance(name, str):
                dim.dim_param = name
