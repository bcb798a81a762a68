"""Modulated deformable convolution (DCNv2), differentiable, without a compiled extension.

Zhu et al., "Deformable ConvNets v2" (2018), in the convention that CharlesShang/DCNv2, torchvision, ONNX DeformConv,
OpenVINO and ncnn share. Tap k = i * kernel_width + j of offset group g reads the input at

    y * stride - padding + i * dilation + dy,    x * stride - padding + j * dilation + dx

with dy in offset channel 2 * (g * taps + k), dx in the next one, and weighs it with mask channel g * taps + k.
Sampling is bilinear over an input that is zero outside.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.utils import _pair
from torch.utils.flop_counter import register_flop_formula


class DeformConv2d(nn.Module):
    """Deformable convolution of given offsets and mask.

    input (N, C, H, W), offset (N, 2 * offset_groups * taps, h, w) in pixels of the input, mask (N, offset_groups *
    taps, h, w) or None for ones -> (N, out_channels, h, w), with h and w as of an ordinary convolution. Arguments as
    torchvision's class of this name, plus `offset_groups`, which that one reads off the offset's shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        offset_groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for name, count in (("groups", groups), ("offset_groups", offset_groups)):
            if count < 1 or in_channels % count:
                msg = f"{name} must divide the {in_channels} input channels, not be {count}"
                raise ValueError(msg)
        if out_channels % groups:
            msg = f"groups must divide the {out_channels} output channels, not be {groups}"
            raise ValueError(msg)
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.groups, self.offset_groups = groups, offset_groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *_pair(kernel_size)))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        output: Tensor = deform_conv2d(
            input,
            self.weight,
            offset,
            self.bias,
            mask,
            [*self.stride, *self.padding, *self.dilation],
            self.groups,
            self.offset_groups,
        )
        return output


@torch.library.custom_op("facedeploy::deform_conv2d", mutates_args=())
def deform_conv2d(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    geometry: list[int],
    groups: int,
    offset_groups: int,
) -> Tensor:
    """Deformable convolution as one operator, so that an exported graph shows one node.

    Args:
        input: (N, C, H, W).
        weight: (out, C / groups, kh, kw).
        offset: (N, 2 * offset_groups * kh * kw, H', W'), dy and dx of each tap in turn, in pixels.
        bias: (out,), or None.
        mask: (N, offset_groups * kh * kw, H', W'), or None for the unmodulated form.
        geometry: Stride, padding and dilation, vertical first.
        groups: Groups of the convolution.
        offset_groups: Groups of channels that share offsets.
    """
    return _compute(input, weight, offset, bias, mask, geometry, groups, offset_groups)


def _compute(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    geometry: list[int],
    groups: int,
    offset_groups: int,
) -> Tensor:
    """One grid_sample over all taps, stacked on the height, and one 1x1 convolution over taps and channels."""
    batch, channels, height, width = input.shape
    rows, columns = output_size((height, width), (weight.shape[2], weight.shape[3]), geometry)
    taps = weight.shape[2] * weight.shape[3]
    stacked = batch * offset_groups

    y, x = (axis.to(offset) for axis in _tap_positions(weight, geometry, rows, columns))
    moved = offset.reshape(stacked, taps, 2, rows, columns)
    # grid_sample without align_corners maps pixel p of n to (2 p + 1) / n - 1, also where n is 1.
    grid_x = (2 * (moved[:, :, 1] + x) + 1) / width - 1
    grid_y = (2 * (moved[:, :, 0] + y) + 1) / height - 1
    grid = torch.stack((grid_x, grid_y), dim=-1).reshape(stacked, taps * rows, columns, 2)
    sampled = functional.grid_sample(
        input.reshape(stacked, channels // offset_groups, height, width), grid, align_corners=False
    )
    if mask is not None:
        sampled = sampled * mask.reshape(stacked, 1, taps * rows, columns)
    sampled = sampled.reshape(batch, channels * taps, rows, columns)
    return functional.conv2d(sampled, weight.reshape(weight.shape[0], -1, 1, 1), bias, groups=groups)


def _tap_positions(weight: Tensor, geometry: list[int], rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Row (taps, rows, 1) and column (taps, 1, columns) that each tap reads where the offset is zero."""
    stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x = geometry
    kernel_y, kernel_x = weight.shape[2:]
    tap = torch.arange(kernel_y * kernel_x)[:, None, None]
    y = (torch.arange(rows) * stride_y - pad_y)[:, None] + tap // kernel_x * dilation_y
    x = (torch.arange(columns) * stride_x - pad_x)[None] + tap % kernel_x * dilation_x
    return y, x


def output_size(size: tuple[Any, Any], kernel: tuple[int, int], geometry: list[int]) -> tuple[Any, Any]:
    """Height and width of the output, which may be symbolic where the input's are."""
    height, width = (
        (side + 2 * pad - dilation * (extent - 1) - 1) // stride + 1
        for side, extent, stride, pad, dilation in zip(
            size, kernel, geometry[:2], geometry[2:4], geometry[4:], strict=True
        )
    )
    return height, width


@deform_conv2d.register_fake
def _(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    geometry: list[int],
    groups: int,
    offset_groups: int,
) -> Tensor:
    size = output_size((input.shape[2], input.shape[3]), (weight.shape[2], weight.shape[3]), geometry)
    return input.new_empty(input.shape[0], weight.shape[0], *size)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.geometry, ctx.groups, ctx.offset_groups = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Compute once more, recording: the samples are nine times the input, and are not kept until here."""
    with torch.enable_grad():
        tensors: list[Any] = [t if t is None else t.detach().requires_grad_() for t in ctx.saved_tensors]
        input, weight, offset, bias, mask = tensors
        output = _compute(input, weight, offset, bias, mask, ctx.geometry, ctx.groups, ctx.offset_groups)
        given = [t for t in tensors if t is not None]
        gradients = iter(torch.autograd.grad(output, given, gradient))
    return (*(t if t is None else next(gradients) for t in tensors), None, None, None)


deform_conv2d.register_autograd(_backward, setup_context=_setup_context)
# Sampling positions are no good in half precision, whatever the layers around run in.
for _device in ("cpu", "cuda"):
    deform_conv2d.register_autocast(_device, torch.float32)


@register_flop_formula(torch.ops.facedeploy.deform_conv2d)
def _flops(input: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Those of the convolution; the sampling is not counted."""
    return 2 * int(math.prod(out_shape) * math.prod(weight[1:]))
