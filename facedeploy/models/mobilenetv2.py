"""MobileNetV2 (Sandler et al. 2018), width 1, cut after its last bottleneck, with three taps."""

from __future__ import annotations

from torch import Tensor, nn

CHANNELS = (32, 96, 320)

# expansion, channels, blocks, stride of the first; table 2 of the paper.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(nn.Module):
    """(N, 3, H, W) -> maps of 32, 96 and 320 channels with strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_convolution(3, 32, 3, stride=2)]
        channels = 32
        for expansion, width, count, stride in _STAGES:
            for i in range(count):
                blocks.append(_Bottleneck(channels, width, stride if i == 0 else 1, expansion))
                channels = width
        self.feature_2 = nn.Sequential(*blocks[:7])
        self.feature_4 = nn.Sequential(*blocks[7:14])
        self.feature_6 = nn.Sequential(*blocks[14:])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.feature_2(image)
        middle = self.feature_4(fine)
        return fine, middle, self.feature_6(middle)


class _Bottleneck(nn.Module):
    """Expand, filter each channel, project; add the input where the shape is the same."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.residual = stride == 1 and channels == out
        expand = [_convolution(channels, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


def _convolution(channels: int, out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU6())
