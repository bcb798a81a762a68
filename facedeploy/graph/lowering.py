"""Which form a deformable convolution takes for a backend: its own operator, or a chain with GridSample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.passes.deform_conv import DeformConv, find_deform_convs, geometry_of, to_gridsample

DeformConvForm = Literal["native", "gridsample"]
# Why a backend cannot express an operator natively; empty where it can.
Refusal = Callable[[DeformConv], str]


def accept(_: DeformConv) -> str:
    """The rule of a backend whose operator covers ONNX's."""
    return ""


def lower(
    model: onnx.ModelProto, asked: DeformConvForm | None, preferred: DeformConvForm, refuse: Refusal = accept
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Choose a form for all deformable convolutions of a graph and apply it.

    Args:
        model: The graph.
        asked: The form that the user wants; None for what the backend prefers and can express.
        preferred: The form that the backend prefers.
        refuse: Says why the backend cannot express a node; None where it can.

    Returns:
        The graph, unchanged where the form is native, and the choice for the manifest: {"DeformConv": form}.

    Raises:
        ConversionError: the asked form cannot express one of them.
    """
    nodes = find_deform_convs(model)
    if not nodes:
        return model, {}
    refusals = [f"{node.name}: {reason}" for node in nodes if (reason := refuse(geometry_of(model, node)))]
    form = asked or ("gridsample" if refusals else preferred)
    if form == "native" and refusals:
        msg = f"the native deformable convolution cannot express {refusals[0]}; use --deform-conv gridsample"
        raise ConversionError(msg)
    return (to_gridsample(model) if form == "gridsample" else model), {"DeformConv": form}
