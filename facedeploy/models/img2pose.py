"""img2pose (Albiero et al. 2021, github.com/vitoralbiero/img2pose): a ResNet-18 with a feature pyramid, a proposal
network on five levels, and two heads that give each proposal a face score and a pose in six degrees of freedom.

Attribute names are those of the published checkpoints, with the pyramid's convolutions one level deeper, as torchvision
has them since 0.13.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedeploy.models.resnet import resnet18

WIDTH = 256
BINS = 7  # RoIAlign makes 7x7 values of a proposal, each the mean of 2x2 samples.
DOF = 6
# torchvision's AnchorGenerator, one size a level, as configured in img2pose_model.py: sides of squares in pixels; the
# sixth size there, 512, has no map and is never used. Ratios are height over width.
ANCHOR_SIDES = (16, 32, 64, 128, 256)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
# torchvision's BoxCoder does not let a side grow by more.
LARGEST_GROWTH = math.log(1000 / 16)
_BODY_WIDTHS = (64, 128, 256, 512)
_HIDDEN, _DOF_HIDDEN = 1024, 256
_OLD_PYRAMID = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)")


class FrozenBatchNorm(nn.Module):
    """A BatchNorm that is never trained, with nothing added to the variance, as torchvision 0.8.2 has it."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * self.running_var.rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class Pyramid(nn.Module):
    """Four maps of the body -> four of 256 channels, each with what the coarser ones see added."""

    def __init__(self) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(c, WIDTH, 1)) for c in _BODY_WIDTHS)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1)) for _ in _BODY_WIDTHS)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        sums = [block(x) for block, x in zip(self.inner_blocks, maps, strict=True)]
        for i in range(len(sums) - 2, -1, -1):
            sums[i] = sums[i] + functional.interpolate(sums[i + 1], size=sums[i].shape[2:])
        return [block(x) for block, x in zip(self.layer_blocks, sums, strict=True)]


class Backbone(nn.Module):
    """image (1, 3, H, W) -> maps of 256 channels with strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.body = resnet18(FrozenBatchNorm)
        self.fpn = Pyramid()

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.fpn(self.body(image))
        return maps


class ProposalHead(nn.Module):
    """The same convolutions on every level. map (1, 256, h, w) -> logits (1, 3, h, w) and deltas (1, 12, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        anchors = len(ANCHOR_RATIOS)
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.cls_logits = nn.Conv2d(WIDTH, anchors, 1)
        self.bbox_pred = nn.Conv2d(WIDTH, anchors * 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x).relu()
        return self.cls_logits(x), self.bbox_pred(x)


class TwoLayers(nn.Module):
    """The 7x7 samples of proposals (N, 12544) -> (N, 1024)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc6 = nn.Linear(WIDTH * BINS**2, _HIDDEN)
        self.fc7 = nn.Linear(_HIDDEN, _HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.fc7(self.fc6(x).relu()).relu()
        return hidden


class DofPredictor(nn.Module):
    """(N, 1024) -> (N, 12): six numbers of the background, which mean nothing, and six of a face."""

    def __init__(self) -> None:
        super().__init__()
        self.dof_pred = nn.Sequential(
            nn.Linear(_HIDDEN, _DOF_HIDDEN), nn.BatchNorm1d(_DOF_HIDDEN), nn.ReLU(), nn.Linear(_DOF_HIDDEN, 2 * DOF)
        )

    def forward(self, x: Tensor) -> Tensor:
        dofs: Tensor = self.dof_pred(x)
        return dofs


class ClassPredictor(nn.Module):
    """(N, 1024) -> logits (N, 2) of background and face."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Linear(_HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.cls_score(x)
        return logits


class RoiHeads(nn.Module):
    """Samples (N, 256, 7, 7) of proposals -> class logits (N, 2) and poses (N, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.box_head, self.box_predictor = TwoLayers(), DofPredictor()
        self.class_head, self.class_predictor = TwoLayers(), ClassPredictor()

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        flat = samples.flatten(1)
        return self.class_predictor(self.class_head(flat)), self.box_predictor(self.box_head(flat))


class ProposalNetwork(nn.Module):
    """What of the region proposal network is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.head = ProposalHead()


class Img2Pose(nn.Module):
    """What of the published system is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.rpn = ProposalNetwork()
        self.roi_heads = RoiHeads()

    @staticmethod
    def renamed(key: str) -> str:
        """A key as older torchvision had it -> the module's own."""
        return _OLD_PYRAMID.sub(r"\1.0.\2", key)


def pooled(maps: Sequence[Tensor]) -> list[Tensor]:
    """The levels that are searched: the maps, and every second cell of the coarsest."""
    return [*maps, functional.max_pool2d(maps[-1], 1, 2)]


def anchors(size: tuple[int, int], grids: Sequence[tuple[int, int]]) -> Tensor:
    """Anchors (A, 4) as corners in pixels of a picture of `size`, by level, row, column and ratio.

    The stride is the whole part of the picture's side over the grid's, so that of the coarsest level is often not 64.
    """
    levels = []
    for side, (rows, columns) in zip(ANCHOR_SIDES, grids, strict=True):
        ratio = np.sqrt(ANCHOR_RATIOS)
        half = np.stack([side / ratio, side * ratio], axis=1) / 2
        base = np.round(np.hstack([-half, half]))
        y, x = np.mgrid[:rows, :columns] * np.array([size[0] // rows, size[1] // columns])[:, None, None]
        shift = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
        levels.append((shift + base).reshape(-1, 4))
    return torch.from_numpy(np.concatenate(levels)).float()
