"""Two published networks as PyTorch modules with the published names of their weights: RetinaFace with MobileNet-0.25
of Face-Detector-1MB-with-landmark, and its slim one (models/net.py, models/net_slim.py, models/retinaface.py there).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(inputs), nn.ReLU(), *_convolution(inputs, outputs, 1))


def _plain_separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs)
    return nn.Sequential(depthwise, nn.ReLU(), nn.Conv2d(inputs, outputs, 1))


def _rows(maps: list[Tensor], numbers: int) -> Tensor:
    return torch.cat([m.permute(0, 2, 3, 1).reshape(1, -1, numbers) for m in maps], 1)


class _Context(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv3X3 = _convolution(64, 32, 3, relu=False)
        self.conv5X5_1 = _convolution(64, 16, 3)
        self.conv5X5_2 = _convolution(16, 16, 3, relu=False)
        self.conv7X7_2 = _convolution(16, 16, 3)
        self.conv7x7_3 = _convolution(16, 16, 3, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.conv5X5_1(x)
        wide = self.conv7x7_3(self.conv7X7_2(middle))
        return torch.cat([self.conv3X3(x), self.conv5X5_2(middle), wide], 1).relu()


class _Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for i, channels in enumerate((64, 128, 256), 1):
            setattr(self, f"output{i}", _convolution(channels, 64, 1))
        self.merge1 = _convolution(64, 64, 3)
        self.merge2 = _convolution(64, 64, 3)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        first, second, third = (getattr(self, f"output{i}")(m) for i, m in enumerate(maps, 1))
        second = self.merge2(second + nn.functional.interpolate(third, size=second.shape[2:]))
        first = self.merge1(first + nn.functional.interpolate(second, size=first.shape[2:]))
        return [first, second, third]


class _Head(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(64, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1x1(x)
        return out


class RetinaFace(nn.Module):
    """(1, 3, H, W) -> loc (1, P, 4), conf (1, P, 2), landm (1, P, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict(
            {
                "stage1": nn.Sequential(
                    _convolution(3, 8, 3, 2),
                    _separable(8, 16),
                    _separable(16, 32, 2),
                    _separable(32, 32),
                    _separable(32, 64, 2),
                    _separable(64, 64),
                ),
                "stage2": nn.Sequential(_separable(64, 128, 2), *(_separable(128, 128) for _ in range(5))),
                "stage3": nn.Sequential(_separable(128, 256, 2), _separable(256, 256)),
            }
        )
        self.fpn = _Pyramid()
        self.ssh1, self.ssh2, self.ssh3 = _Context(), _Context(), _Context()
        self.BboxHead, self.ClassHead, self.LandmarkHead = (
            nn.ModuleList(_Head(2 * numbers) for _ in range(3)) for numbers in (4, 2, 10)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = []
        for stage in self.body.values():
            x = stage(x)
            maps.append(x)
        maps = [ssh(m) for ssh, m in zip((self.ssh1, self.ssh2, self.ssh3), self.fpn(maps), strict=True)]
        box, score, points = (
            _rows([head(m) for head, m in zip(heads, maps, strict=True)], numbers)
            for heads, numbers in ((self.BboxHead, 4), (self.ClassHead, 2), (self.LandmarkHead, 10))
        )
        return {"loc": box, "conf": score.softmax(-1), "landm": points}


class Slim(nn.Module):
    """(1, 3, H, W) -> loc (1, P, 4), conf (1, P, 2), landm (1, P, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(3, 16, 3, 2)
        widths = [16, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256]
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths), 2):
            setattr(self, f"conv{i}", _separable(inputs, outputs, 2 if i in (3, 5, 9, 12) else 1))
        self.conv14 = nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), _plain_separable(64, 256, 2), nn.ReLU())
        self.loc, self.conf, self.landm = (self._heads(numbers) for numbers in (4, 2, 10))

    @staticmethod
    def _heads(numbers: int) -> nn.Sequential:
        small = [_plain_separable(c, a * numbers) for c, a in ((64, 3), (128, 2), (256, 2))]
        return nn.Sequential(*small, nn.Conv2d(256, 3 * numbers, 3, padding=1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = []
        for i in range(1, 15):
            x = getattr(self, f"conv{i}")(x)
            if i in (8, 11, 13, 14):
                maps.append(x)
        box, score, points = (
            _rows([head(m) for head, m in zip(heads, maps, strict=True)], numbers)
            for heads, numbers in ((self.loc, 4), (self.conf, 2), (self.landm, 10))
        )
        return {"loc": box, "conf": score.softmax(-1), "landm": points}
