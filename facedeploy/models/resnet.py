"""ResNet (He et al. 2015), cut before its pooling, with a tap after each of the four stages.

Attribute names, and the stride on the 3x3 convolution of a bottleneck, are those of torchvision's models, as published
checkpoints have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]

RESNET18, RESNET101 = (2, 2, 2, 2), (3, 4, 23, 3)  # Blocks in each stage; table 1 of the paper.
_STEM = 64
_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added."""

    expansion: ClassVar[int] = 1

    def __init__(self, channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(channels, width * self.expansion, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around which the input is added; four times `width` channels come out."""

    expansion: ClassVar[int] = 4

    def __init__(self, channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = norm(out)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(channels, out, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


class ResNet(nn.Module):
    """(N, 3, H, W) -> maps of 64, 128, 256 and 512 channels times the block's expansion, with strides 4, 8, 16, 32.

    layers: blocks in each stage. norm: makes the normalisation after a convolution, from its channels.
    """

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], layers: Sequence[int], norm: Norm = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM, 7, 2, 3, bias=False)
        self.bn1 = norm(_STEM)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = (_STEM, *(w * block.expansion for w in _WIDTHS[:-1]))
        stages = [
            _stage(block, channels, width, count, 1 if i == 0 else 2, norm)
            for i, (channels, width, count) in enumerate(zip(inputs, _WIDTHS, layers, strict=True))
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c2 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(image)))))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


def resnet18(norm: Norm = nn.BatchNorm2d) -> ResNet:
    """18 layers: maps of 64, 128, 256 and 512 channels."""
    return ResNet(BasicBlock, RESNET18, norm)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, width: int, count: int, stride: int, norm: Norm
) -> nn.Sequential:
    out = width * block.expansion
    first = block(channels, width, stride, norm)
    return nn.Sequential(first, *(block(out, width, 1, norm) for _ in range(count - 1)))


def _shortcut(channels: int, out: int, stride: int, norm: Norm) -> nn.Sequential | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), norm(out))
