"""img2pose as it is deployed: a proposer, and a head for the proposals that are left after suppression.

Between them the host picks proposals and says where each is sampled, in one map that holds all levels, the atlas:

    stride 4   ┌──────────────┐      RoIAlign of any level is then one GridSample and a mean of 2x2 samples, which
               │              │      every backend has, and fc6 a 7x7 convolution over proposals side by side.
    stride 8   ├───────┬──────┘
               ├───┬───┘ zeros
    16, 32     └─┬─┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from facedeploy.core.network_spec import Shape
from facedeploy.models.architecture import Architecture, Modules
from facedeploy.models.img2pose import (
    BINS,
    DOF,
    LARGEST_GROWTH,
    WIDTH,
    Backbone,
    FrozenBatchNorm,
    Img2Pose,
    ProposalHead,
    RoiHeads,
    anchors,
    pooled,
)

SAMPLES = 2 * BINS  # Along a side of a proposal.


class Proposer(nn.Module):
    """image (1, 3, H, W), sides multiples of 32 -> features, the atlas (1, 256, h, W / 4); objectness (1, A), logits;
    proposals (1, A, 4), corners in pixels, neither clipped nor suppressed.
    """

    def __init__(self, backbone: Backbone, head: ProposalHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.backbone(image)
        levels = pooled(maps)
        answers = [self.head(x) for x in levels]
        logits = torch.cat([_by_anchor(a, 1) for a, _ in answers], dim=1).flatten(1)
        deltas = torch.cat([_by_anchor(d, 4) for _, d in answers], dim=1)
        height, width = image.shape[2:]
        base = anchors((height, width), [(x.shape[2], x.shape[3]) for x in levels])
        return atlas(maps), logits, decode(base.to(image), deltas)


class Head(nn.Module):
    """features, the atlas (1, 256, h, w); grid (1, 14, 14 N, 2): x and y of each sample, -1..1 from the first to the
    last cell -> scores (1, N), of being a face; dofs (1, 6, N): normalised rotation vectors and translations.
    """

    def __init__(self, heads: RoiHeads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        logits, dofs = self.heads(by_proposal(sampled(features, grid)))
        return logits.softmax(-1)[None, :, 1], dofs[:, DOF:].T[None]


class FoldedHead(nn.Module):
    """`Head` with convolutions over the proposals side by side, and what is asked of the face class only."""

    def __init__(self, heads: RoiHeads) -> None:
        super().__init__()
        first, norm, _, last = heads.box_predictor.dof_pred
        assert isinstance(first, nn.Linear)
        assert isinstance(norm, nn.BatchNorm1d)
        assert isinstance(last, nn.Linear)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight, bias = fuse_linear_bn_weights(
            first.weight, first.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        score = heads.class_predictor.cls_score
        layers = heads.class_head, heads.box_head
        self.fc6 = nn.ModuleList(_convolution(v.fc6.weight, v.fc6.bias, BINS) for v in layers)
        self.fc7 = nn.ModuleList(_convolution(v.fc7.weight, v.fc7.bias) for v in layers)
        # A softmax over two is a sigmoid of the difference.
        self.score = _convolution(score.weight[1:] - score.weight[:1], score.bias[1:] - score.bias[:1])
        self.hidden = _convolution(weight, bias)
        self.dof = _convolution(last.weight[DOF:], last.bias[DOF:])

    def forward(self, features: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        x = sampled(features, grid)
        kind, pose = (fc7(fc6(x).relu()).relu() for fc6, fc7 in zip(self.fc6, self.fc7, strict=True))
        return self.score(kind).sigmoid().flatten(1), self.dof(self.hidden(pose).relu()).flatten(2)


def sampled(features: Tensor, grid: Tensor) -> Tensor:
    """RoIAlign: (1, 256, 7, 7 N), proposals side by side."""
    samples = functional.grid_sample(features, grid, padding_mode="zeros", align_corners=True)
    return functional.avg_pool2d(samples, 2)


def by_proposal(samples: Tensor) -> Tensor:
    """(1, 256, 7, 7 N) -> (N, 256, 7, 7)."""
    return samples.reshape(WIDTH, BINS, -1, BINS).permute(2, 0, 1, 3)


def atlas(maps: Sequence[Tensor]) -> Tensor:
    """Maps under each other, finest first, the others filled with zeros to its width."""
    width = maps[0].shape[3]
    return torch.cat([functional.pad(x, (0, width - x.shape[3])) for x in maps], dim=2)


def decode(base: Tensor, deltas: Tensor) -> Tensor:
    """Anchors (A, 4) moved by deltas (1, A, 4), as torchvision's BoxCoder with weights of one."""
    size = base[:, 2:] - base[:, :2]
    middle = (base[:, :2] + size / 2) + deltas[..., :2] * size
    half = deltas[..., 2:].clamp(max=LARGEST_GROWTH).exp() * (size / 2)
    return torch.cat((middle - half, middle + half), dim=-1)


def _by_anchor(x: Tensor, fields: int) -> Tensor:
    """(1, 3 * fields, h, w) -> (1, h * w * 3, fields)."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, fields)


def _convolution(weight: Tensor, bias: Tensor, side: int = 1) -> nn.Conv2d:
    """A linear layer over squares of `side` by `side`, as a convolution that steps from square to square."""
    layer = nn.Conv2d(weight.shape[1] // side**2, len(weight), side, stride=side)
    layer.weight.data = weight.detach().reshape(layer.weight.shape).clone()
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _folded_backbone(backbone: Backbone) -> Backbone:
    """The same with every FrozenBatchNorm in the convolution before it, which is named before it."""
    folded = deepcopy(backbone)
    for block in list(folded.modules()):
        children = list(block.named_children())
        for (_, convolution), (name, norm) in pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, FrozenBatchNorm):
                fuse = convolution.weight, None, norm.running_mean, norm.running_var, 0.0, norm.weight, norm.bias
                convolution.weight, convolution.bias = fuse_conv_bn_weights(*fuse)
                setattr(block, name, nn.Identity())
    return folded


def _networks(modules: Modules) -> Modules:
    model = modules["img2pose"]
    assert isinstance(model, Img2Pose)
    return {"proposer": Proposer(model.backbone, model.rpn.head), "head": Head(model.roi_heads)}


def _fold(networks: Modules) -> Modules:
    proposer, head = networks["proposer"], networks["head"]
    assert isinstance(proposer, Proposer)
    assert isinstance(head, Head)
    return {"proposer": Proposer(_folded_backbone(proposer.backbone), proposer.head), "head": FoldedHead(head.heads)}


def probe(network: str, shapes: Mapping[str, Shape], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Proposals of many sizes all over the atlas, the last of them outside of it."""
    assert network == "head"
    features = rng.normal(size=shapes["features"]).astype(np.float32)
    _, rows, columns, _ = shapes["grid"]
    count = columns // SAMPLES
    centre, half = rng.uniform(-0.9, 0.9, (count, 2)), rng.uniform(0.005, 0.1, (count, 2))
    steps = np.linspace(-1, 1, SAMPLES)
    grid = np.empty((1, rows, count, SAMPLES, 2), np.float32)
    grid[..., 0] = centre[:, None, 0] + half[:, None, 0] * steps
    grid[..., 1] = centre[:, None, 1] + half[:, None, 1] * steps[:, None, None]
    grid[:, :, -1] = -3
    return {"features": features, "grid": grid.reshape(shapes["grid"])}


IMG2POSE = Architecture(lambda: {"img2pose": Img2Pose()}, _networks, _fold, probe)
