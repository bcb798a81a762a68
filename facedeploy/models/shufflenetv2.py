"""ShuffleNetV2 (Ma et al. 2018), width 1, cut after stage 4, with three taps; names as in torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = (116, 232, 464)


class ShuffleNetV2(nn.Module):
    """(N, 3, H, W) -> maps of 116, 232 and 464 channels with strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stage2 = _stage(24, CHANNELS[0], 4)
        self.stage3 = _stage(CHANNELS[0], CHANNELS[1], 8)
        self.stage4 = _stage(CHANNELS[1], CHANNELS[2], 4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.stage2(self.maxpool(self.conv1(image)))
        middle = self.stage3(fine)
        return fine, middle, self.stage4(middle)


def _stage(channels: int, out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(_Unit(channels, out, 2), *(_Unit(out, out, 1) for _ in range(blocks - 1)))


class _Unit(nn.Module):
    """Two branches, concatenated and shuffled; with stride 1 the first is half of the input, untouched."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self.split = stride == 1
        self.branch1 = nn.Sequential(*([] if self.split else _filter(channels, channels, 2) + _mix(channels, half)))
        source = channels // 2 if self.split else channels
        self.branch2 = nn.Sequential(*_mix(source, half), *_filter(half, half, stride), *_mix(half, half))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.split else (x, x)
        return _shuffle(torch.cat((self.branch1(left), self.branch2(right)), dim=1))


def _mix(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def _filter(channels: int, out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(out)]


def _shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)
