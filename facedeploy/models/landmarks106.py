"""106 landmarks and the head's pose of a face: alibaba/EasyCV (Apache-2.0), ModelScope's
damo/cv_mobilenet_face-2d-keypoints_alignment.

Written from the table of layers and the keys of its published form; the attribute names are its keys. Input: BGR, as
pixel / 255 - (0.4076, 0.458, 0.485). No block has a shortcut, although their names upstream say so.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facedeploy.models.architecture import Architecture, Modules
from facedeploy.models.mean_face import MEAN_FACE

SIDE = 96
_POINTS = len(MEAN_FACE)
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)
_WIDTH = 48  # Channels of the backbone's output, 3x3 cells large.
_CELLS = 9


class Separable(nn.Module):
    """Depthwise 3x3, then 1x1, each with BatchNorm and ReLU."""

    def __init__(self, inside: int, outside: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inside, inside, 3, stride, padding, groups=inside, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.Conv2d(inside, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Inverted(nn.Module):
    """1x1 to twice the channels, depthwise 3x3, 1x1 without an activation."""

    def __init__(self, inside: int, outside: int, stride: int, padding: int) -> None:
        super().__init__()
        hidden = 2 * inside
        self.conv = nn.Sequential(
            nn.Conv2d(inside, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, hidden, 3, stride, padding, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Backbone(nn.Module):
    """(N, 3, 96, 96) -> (N, 48, 3, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Separable(3, 12, 2, 0)
        self.conv2 = Separable(12, 12, 1, 0)
        self.conv3 = Separable(12, 12, 1, 1)
        self.conv4 = Separable(12, 12, 1, 0)
        self.conv5 = Separable(12, 24, 2, 0)
        self.conv6 = Separable(24, 24, 1, 0)
        self.conv7 = Separable(24, 24, 1, 1)
        self.conv8 = Separable(24, 24, 1, 1)
        self.conv9 = Inverted(24, _WIDTH, 2, 0)
        self.conv10 = Inverted(_WIDTH, _WIDTH, 1, 0)
        self.conv11 = Inverted(_WIDTH, _WIDTH, 1, 1)
        self.conv12 = Inverted(_WIDTH, _WIDTH, 1, 1)
        self.conv13 = Inverted(_WIDTH, _WIDTH, 1, 1)
        self.conv14 = Inverted(_WIDTH, _WIDTH, 2, 0)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.children():
            x = block(x)
        return x


class Head(nn.Module):
    """(N, 48, 3, 3) -> (N, outputs). Its dense layers are 1x1 convolutions of one cell."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        flat = width * _CELLS
        layers = nn.Sequential(
            Inverted(_WIDTH, width, 1, 1),
            nn.Sequential(nn.Flatten(), nn.Unflatten(1, (flat, 1, 1))),
            _dense(flat, hidden),
            _dense(hidden, hidden),
            nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.branches = nn.ModuleList([layers])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branches[0](x)
        return y.flatten(1)


def _dense(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside), nn.PReLU(outside))


class Landmarks106(nn.Module):
    """(N, 3, 96, 96) -> points (N, 212): x, y pairs in pixels of the crop; pose (N, 3): pitch, roll, yaw in radians."""

    mean_face: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.keypoint_head = Head(96, 128, 2 * _POINTS)
        self.pose_head = Head(_WIDTH, 48, 3)
        # In float64, as there, the points would be the only output of that type.
        self.register_buffer("mean_face", torch.tensor(MEAN_FACE).flatten(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)
        return SIDE * (0.5 * self.keypoint_head(features) + self.mean_face), self.pose_head(features)


class Folded(nn.Module):
    """The same for less: norms, the mean face and the scale of the points are in the weights, two convolutions with
    nothing between them are one, and what sees a single cell is a linear layer.
    """

    def __init__(self, published: Landmarks106) -> None:
        super().__init__()
        exact = deepcopy(published).double()
        self.body = _chain(exact.backbone)
        self.points = _chain(exact.keypoint_head)
        last = self.points[-1]
        assert isinstance(last, nn.Linear)
        scale = SIDE * 0.5
        self.points[-1] = _linear(last.weight * scale, last.bias * scale + SIDE * exact.mean_face)
        self.pose = _chain(exact.pose_head)
        self.float()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(image)
        return self.points(features), self.pose(features)


def _chain(part: nn.Module) -> nn.Sequential:
    """The layers of a part of the network, in order, as few as give the same."""
    chain: list[nn.Module] = []
    for layer in part.modules():
        if isinstance(layer, nn.BatchNorm2d):
            convolution = chain.pop()
            assert isinstance(convolution, nn.Conv2d)
            fused = fuse_conv_bn_eval(convolution, layer)
            flat = any(isinstance(made, nn.Flatten) for made in chain)
            _append(chain, _linear(fused.weight[:, :, 0, 0], _bias(fused)) if flat else fused)
        elif isinstance(layer, (nn.Conv2d, nn.ReLU, nn.PReLU, nn.Flatten)):
            chain.append(layer)
    return nn.Sequential(*chain)


def _append(chain: list[nn.Module], layer: nn.Conv2d | nn.Linear) -> None:
    """Append a layer; with a 1x1 convolution right before it, or before the flattening before it, it becomes one."""
    match [*chain[-2:], layer]:
        case [*_, nn.Conv2d() as first, nn.Conv2d() as second]:
            outer, inner = second.weight[:, :, 0, 0], first.weight[:, :, 0, 0]
            joined = nn.Conv2d(first.in_channels, second.out_channels, 1)
            chain[-1] = _assigned(joined, (outer @ inner)[:, :, None, None], _bias(second) + outer @ _bias(first))
        case [nn.Conv2d() as first, nn.Flatten() as flatten, nn.Linear() as last]:
            # The features are those of a channel's cells, channel after channel.
            cells = last.weight.reshape(last.out_features, first.out_channels, _CELLS)
            weight = torch.einsum("omc,mi->oic", cells, first.weight[:, :, 0, 0]).flatten(1)
            chain[-2:] = [flatten, _linear(weight, _bias(last) + torch.einsum("omc,m->o", cells, _bias(first)))]
        case _:
            chain.append(layer)


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    return _assigned(nn.Linear(weight.shape[1], weight.shape[0]), weight, bias)


def _assigned(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return layer


def _fold(networks: Modules) -> Modules:
    published = networks["landmarks"]
    assert isinstance(published, Landmarks106)
    return {"landmarks": Folded(published)}


LANDMARKS106 = Architecture(lambda: {"landmarks": Landmarks106()}, fold=_fold)
