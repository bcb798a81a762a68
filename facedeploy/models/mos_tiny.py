"""MOS-tiny: the MOS family's tasks at a fifteenth of MOS-M's cost, of this project's own making.

Dense 3x3 convolutions of few channels, ReLU and BatchNorm: what INT8 runs fastest on every backend. One prior a cell,
one deformable convolution (where the two coarse levels meet), one view more than SSH's first, heads that are one 1x1
convolution, and pose heads that all levels share.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedeploy.models.architecture import Architecture, Modules
from facedeploy.models.mos import ANGLES, BINS, DeformBlock, by_prior, expected_angle, priors
from facedeploy.models.mos_networks import (
    CENTRE_VARIANCE,
    FIELDS,
    SIZE_VARIANCE,
    assign,
    decode,
    fold_decoding,
    fold_norm,
    probe,
)

WIDTH = 48
SIDES = ((16,), (64,), (256,))  # Of the priors at strides 8, 16 and 32, in pixels.
_HIDDEN = 64


class MosTiny(nn.Module):
    """(N, 3, H, W) BGR minus (104, 117, 123) -> fields (N, P, 15) and the maps (N, 48, h, w) of strides 8, 16, 32.

    The fields of a prior: centre offset and log size as MOS encodes them, the logit of a face, landmark offsets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 16, stride=2), _conv(16, 32, stride=2))
        self.fine = nn.Sequential(_conv(32, 48, stride=2), _Residual(48))
        self.middle = nn.Sequential(_conv(48, 64, stride=2), _Residual(64))
        self.coarse = nn.Sequential(_conv(64, 64, stride=2), _Residual(64))
        self.lateral = nn.ModuleList(_conv(c, WIDTH, kernel=1) for c in (48, 64, 64))
        self.merge = DeformBlock(WIDTH, WIDTH, relu=True)
        self.context = nn.ModuleList(_Context() for _ in SIDES)
        self.heads = nn.ModuleList(nn.Conv2d(WIDTH, FIELDS, 1) for _ in SIDES)
        self.pose = PoseHeads()

    def features(self, image: Tensor) -> list[Tensor]:
        """What the heads read, finest first."""
        fine = self.fine(self.stem(image))
        middle = self.middle(fine)
        maps = [lateral(x) for lateral, x in zip(self.lateral, (fine, middle, self.coarse(middle)), strict=True)]
        maps[1] = self.merge(maps[1] + _enlarged(maps[2], maps[1]))
        maps[0] = maps[0] + _enlarged(maps[1], maps[0])
        return [context(x) for context, x in zip(self.context, maps, strict=True)]

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.features(image)
        fields = [by_prior(head(x), FIELDS) for head, x in zip(self.heads, features, strict=True)]
        return torch.cat(fields, dim=1), features


class PoseHeads(nn.Module):
    """Patches (N, 48, 3, 3) of the maps -> logits (N, 3, 66) of the bins of yaw, pitch and roll."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Conv2d(WIDTH, _HIDDEN, 3, bias=False), nn.BatchNorm2d(_HIDDEN), nn.ReLU())
        self.bins = nn.Conv2d(_HIDDEN, len(ANGLES) * BINS, 1)

    def forward(self, patches: Tensor) -> Tensor:
        logits: Tensor = self.bins(self.hidden(patches))
        return logits.reshape(-1, len(ANGLES), BINS)


def decode_fields(fields: Tensor, centre: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Fields (N, P, 15) -> boxes (N, P, 4) as corners and landmarks (N, P, 10), in pixels; priors as in `mos`."""
    middle = centre + fields[..., :2] * CENTRE_VARIANCE * side
    size = side * torch.exp(fields[..., 2:4] * SIZE_VARIANCE)
    landmarks = centre.repeat(1, 5) + fields[..., 5:] * CENTRE_VARIANCE * side
    return torch.cat((middle - size / 2, middle + size / 2), dim=-1), landmarks


class Detector(nn.Module):
    """image (1, 3, H, W) -> boxes (1, P, 4) and landmarks (1, P, 10) in pixels, scores (1, P), and the three maps."""

    def __init__(self, mos: MosTiny) -> None:
        super().__init__()
        self.mos = mos

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        fields, features = self.mos(image)
        centre, side = priors([(x.shape[2], x.shape[3]) for x in features], image.device, SIDES)
        boxes, landmarks = decode_fields(fields, centre, side)
        return boxes, fields[..., 4].sigmoid(), landmarks, *features


class FoldedDetector(nn.Module):
    """`Detector` with the decoding's constants in the heads."""

    def __init__(self, mos: MosTiny) -> None:
        super().__init__()
        self.mos = deepcopy(mos)
        fold_norm(self.mos.merge)
        for head, sides in zip(self.mos.heads, SIDES, strict=True):
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            weight, bias = head.weight.reshape(len(sides), FIELDS, -1), head.bias.reshape(len(sides), FIELDS)
            assign(head, *fold_decoding(weight.double(), bias.double(), sides))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        fields, features = self.mos(image)
        return *decode(fields, features, SIDES), *features


class Pose(nn.Module):
    """patches (N, 48, 3, 3): the features around a cell, zero outside of the map -> angles (N, 3, 1): yaw, pitch and
    roll in degrees of the cell's one prior.
    """

    def __init__(self, heads: PoseHeads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, patches: Tensor) -> tuple[Tensor]:
        return (expected_angle(self.heads(patches).softmax(-1))[..., None],)


class FoldedPose(nn.Module):
    """`Pose` with the expectation over the bins as a matrix product."""

    def __init__(self, heads: PoseHeads) -> None:
        super().__init__()
        self.heads = heads
        self.bins = nn.Linear(BINS, 1, bias=False)
        self.bins.weight.data = (torch.arange(BINS) * 3.0 - 99.0)[None]

    def forward(self, patches: Tensor) -> tuple[Tensor]:
        return (self.bins(self.heads(patches).softmax(-1)),)


def _conv(channels: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)[:2]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (x + self.conv(x)).relu()
        return y


class _Context(nn.Module):
    """Two views side by side: 3x3 and 5x5 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.near = _conv(WIDTH, 32)
        self.far = nn.Sequential(_conv(WIDTH, 16), _conv(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.near(x), self.far(x)), dim=1)


def _enlarged(coarse: Tensor, fine: Tensor) -> Tensor:
    return functional.interpolate(coarse, size=fine.shape[2:])


def _networks(modules: Modules) -> Modules:
    mos = modules["mos"]
    assert isinstance(mos, MosTiny)
    return {"detector": Detector(mos), "pose": Pose(mos.pose)}


def _fold(networks: Modules) -> Modules:
    detector = networks["detector"]
    assert isinstance(detector, Detector)
    return {"detector": FoldedDetector(detector.mos), "pose": FoldedPose(detector.mos.pose)}


MOS_TINY = Architecture(lambda: {"mos": MosTiny()}, _networks, _fold, probe)
