"""Operators of this package that PyTorch's exporter does not know, as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """PyTorch operator -> the function that writes it as ONNX, for the exporter's custom translation table."""
    import torch
    from onnxscript import opset20

    import facedeploy.models.deform_conv  # noqa: F401  # registers the operator

    def deform_conv2d(
        input: Any,
        weight: Any,
        offset: Any,
        bias: Any,
        mask: Any,
        geometry: Sequence[int],
        groups: int,
        offset_groups: int,
    ) -> Any:
        stride, padding, dilation = geometry[:2], geometry[2:4], geometry[4:]
        if bias is None:
            # TensorRT's importer reads the fourth input as the bias whenever a mask follows it.
            bias = opset20.Constant(value_floats=[0.0] * weight.shape[0])
        return opset20.DeformConv(
            input,
            weight,
            offset,
            bias,
            mask,
            dilations=[*dilation],
            group=groups,
            kernel_shape=[int(side) for side in weight.shape[2:]],
            offset_group=offset_groups,
            pads=[*padding, *padding],
            strides=[*stride],
        )

    return {torch.ops.facedeploy.deform_conv2d.default: deform_conv2d}
