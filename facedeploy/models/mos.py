"""MOS (Liu et al., arXiv 2110.10953), as published in lyp-deeplearning/MOS-Multi-Task-Face-Detect, MIT.

A backbone, a feature pyramid and SSH blocks of deformable convolutions, cross-stitched heads for class, box, five
landmarks and head pose. Attribute names are the published keys. Written from the layer table, not from the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedeploy.models.deform_conv import DeformConv2d
from facedeploy.models.mobilenetv2 import CHANNELS as MOBILENET_CHANNELS
from facedeploy.models.mobilenetv2 import MobileNetV2
from facedeploy.models.shufflenetv2 import CHANNELS as SHUFFLENET_CHANNELS
from facedeploy.models.shufflenetv2 import ShuffleNetV2

STEPS = (8, 16, 32)
MIN_SIZES = ((16, 32), (64, 128), (256, 512))
ANCHORS = 2
WIDTH = 64
BINS = 66
ANGLES = ("y", "p", "r")  # yaw, pitch, roll
_TASKS = ("classhead", "bboxhead", "landmarkhead", "pose_y", "pose_p", "pose_r")
# What is cross-stitched as each task. The published forward lists the box before the class, so those two take
# each other's features, and the weights are trained that way.
SOURCES = {
    "classhead": "stitch_BboxHead",
    "bboxhead": "stitch_classhead",
    "landmarkhead": "stitch_LandmarkHead",
    "pose_y": "stitch_PoseHead_y",
    "pose_p": "stitch_PoseHead_p",
    "pose_r": "stitch_PoseHead_r",
}
# Output by output: the head and how many numbers it gives a prior.
HEADS = {
    "bboxhead": ("BboxHead", 4),
    "classhead": ("ClassHead", 2),
    "landmarkhead": ("LandmarkHead", 10),
    "pose_y": ("PoseHead_y", BINS),
    "pose_p": ("PoseHead_p", BINS),
    "pose_r": ("PoseHead_r", BINS),
}


class Mos(nn.Module):
    """(N, 3, H, W) BGR minus (104, 117, 123) -> loc (N, P, 4), conf (N, P, 2), landm (N, P, 10), yaw, pitch and roll
    (N, P, 66): encoded boxes and landmarks, probabilities of classes and of 3-degree bins, for P priors.
    """

    # In the published state dict, and used by nothing.
    dead_keys = ("Conv_pose.",)

    def __init__(self, body: nn.Module, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.body = body
        self.fpn = _Pyramid(channels)
        self.ssh1, self.ssh2, self.ssh3 = _Ssh(), _Ssh(), _Ssh()
        self.Conv_pose = nn.Sequential(nn.Conv2d(WIDTH, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128))
        for name in SOURCES.values():
            setattr(self, name, _per_level(WIDTH, WIDTH))
        for name, size in HEADS.values():
            pose = size == BINS
            setattr(self, name, nn.ModuleList(PoseHead() for _ in STEPS) if pose else _per_level(WIDTH, ANCHORS * size))
        self.cross_stitch = _CrossStitch()

    def features(self, image: Tensor) -> list[Tensor]:
        """What the heads read: a map of 64 channels a level, strides 8, 16 and 32."""
        levels = self.fpn(*self.body(image))
        return [ssh(x) for ssh, x in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]

    def tasks(self, features: Tensor, level: int) -> dict[str, Tensor]:
        """The features of each task: stitch convolutions, then a weighted sum over all tasks."""
        stitched = {t: getattr(self, name)[level](features) for t, name in SOURCES.items()}
        units: _CrossStitchUnits = getattr(self.cross_stitch, f"fpn{level + 1}")
        mixed: dict[str, Tensor] = units(stitched)
        return mixed

    def head(self, task: str, level: int, x: Tensor) -> Tensor:
        """Output (N, h * w * anchors, size) of one task's head on its features."""
        name, size = HEADS[task]
        return by_prior(getattr(self, name)[level](x), size)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.features(image)
        tasks = [self.tasks(x, level) for level, x in enumerate(features)]
        loc, conf, landm, yaw, pitch, roll = (
            torch.cat([self.head(task, level, x[task]) for level, x in enumerate(tasks)], dim=1) for task in HEADS
        )
        return loc, conf.softmax(-1), landm, yaw.softmax(-1), pitch.softmax(-1), roll.softmax(-1)


def mos_m() -> Mos:
    return Mos(MobileNetV2(), MOBILENET_CHANNELS)


def mos_s() -> Mos:
    return Mos(ShuffleNetV2(), SHUFFLENET_CHANNELS)


def by_prior(x: Tensor, size: int) -> Tensor:
    """(N, anchors * size, h, w) -> (N, h * w * anchors, size): row-major cells, the anchors of one side by side."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, size)


def priors(
    sizes: Sequence[tuple[int, int]],
    device: torch.device | None = None,
    sides: Sequence[Sequence[int]] = MIN_SIZES,
) -> tuple[Tensor, Tensor]:
    """Make the priors of a pyramid of maps.

    Args:
        sizes: (rows, columns) of each map.
        device: Where the tensors are made.
        sides: Of the priors of a cell, in pixels, map by map.

    Returns:
        Centres (P, 2) x, y and sides (P, 1), in pixels.
    """
    centres, lengths = [], []
    for (rows, columns), step, mine in zip(sizes, STEPS, sides, strict=True):
        y = (torch.arange(rows, device=device) + 0.5) * step
        x = (torch.arange(columns, device=device) + 0.5) * step
        cells = torch.stack((x.expand(rows, columns), y[:, None].expand(rows, columns)), dim=-1)
        centres.append(cells.reshape(-1, 1, 2).expand(-1, len(mine), 2).reshape(-1, 2))
        side = torch.tensor(mine, dtype=y.dtype, device=device)
        lengths.append(side.expand(rows * columns, len(mine)).reshape(-1, 1))
    return torch.cat(centres), torch.cat(lengths)


def expected_angle(bins: Tensor) -> Tensor:
    """Degrees from probabilities (..., 66) of bins that are 3 degrees wide and begin at -99."""
    index = torch.arange(BINS, dtype=bins.dtype, device=bins.device)
    return 3 * (bins * index).sum(-1) - 99


class DeformBlock(nn.Module):
    """Deformable 3x3 convolution whose offsets and mask an ordinary one predicts, then BatchNorm."""

    def __init__(self, channels: int, out: int, relu: bool = False) -> None:
        super().__init__()
        self.actf = nn.Sequential(nn.BatchNorm2d(out), *([nn.ReLU()] if relu else []))
        self.conv = _Dcn(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.actf(self.conv(x))
        return y


class _Dcn(DeformConv2d):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)
        self.conv_offset_mask = nn.Conv2d(channels, 27, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        offset, mask = self.conv_offset_mask(x).split((18, 9), dim=1)
        return super().forward(x, offset, mask.sigmoid())


class _Pyramid(nn.Module):
    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (
            nn.Sequential(nn.Conv2d(c, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.LeakyReLU(0.1))
            for c in channels
        )
        self.merge1, self.merge2 = DeformBlock(WIDTH, WIDTH, relu=True), DeformBlock(WIDTH, WIDTH, relu=True)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = self.output1(fine), self.output2(middle), self.output3(coarse)
        middle = self.merge2(middle + functional.interpolate(coarse, size=middle.shape[2:]))
        fine = self.merge1(fine + functional.interpolate(middle, size=fine.shape[2:]))
        return fine, middle, coarse


class _Ssh(nn.Module):
    """Three views of growing field, side by side."""

    def __init__(self) -> None:
        super().__init__()
        quarter = WIDTH // 4
        self.conv3X3 = DeformBlock(WIDTH, WIDTH // 2)
        self.conv5X5_1 = DeformBlock(WIDTH, quarter, relu=True)
        self.conv5X5_2 = DeformBlock(quarter, quarter)
        self.conv7X7_2 = DeformBlock(quarter, quarter, relu=True)
        self.conv7x7_3 = DeformBlock(quarter, quarter)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv5X5_1(x)
        views = self.conv3X3(x), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))
        return torch.cat(views, dim=1).relu()


class _Conv1x1(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1x1(x)
        return y


def _per_level(channels: int, out: int) -> nn.ModuleList:
    return nn.ModuleList(_Conv1x1(channels, out) for _ in STEPS)


class PoseHead(nn.Module):
    """Logits of the bins of one angle."""

    def __init__(self) -> None:
        super().__init__()
        hidden = 2 * WIDTH
        self.Conv_pose = nn.Sequential(nn.Conv2d(WIDTH, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden))
        self.conv1x1 = nn.Conv2d(hidden, ANCHORS * BINS, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1x1(self.Conv_pose(x).relu())
        return y


class _CrossStitch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fpn1, self.fpn2, self.fpn3 = _CrossStitchUnits(), _CrossStitchUnits(), _CrossStitchUnits()


class _CrossStitchUnits(nn.Module):
    """Each task's features become a sum over all tasks', weighted channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_stitch_unit = nn.ModuleDict(
            {t: nn.ModuleDict({s: _Scale(0.9 if s == t else 0.1) for s in _TASKS}) for t in _TASKS}
        )

    def scale(self, task: str, source: str) -> Tensor:
        """Weights (64,) of the source in the task."""
        units = self.cross_stitch_unit[task]
        assert isinstance(units, nn.ModuleDict)
        param = units[source].param
        assert isinstance(param, Tensor)
        return param

    def forward(self, stitched: dict[str, Tensor]) -> dict[str, Tensor]:
        return {t: reduce(torch.add, (self._scaled(t, s, stitched[s]) for s in _TASKS)) for t in _TASKS}

    def _scaled(self, task: str, source: str, features: Tensor) -> Tensor:
        return self.scale(task, source)[:, None, None] * features


class _Scale(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.param = nn.Parameter(torch.full((WIDTH,), value))
