"""Shapes of a graph's tensors, as far as ONNX can infer them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facedeploy.core.optional_imports import require

if TYPE_CHECKING:
    import onnx


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Tensor -> its shape, with 0 for an axis that is not known. Weights are not among them."""
    inferred = require("onnx", "export").shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
