"""MogFace in the form that ModelScope publishes: ResNet-101, a pyramid of six maps, one head for all of them.

Written from the facts of damo-cv/MogFace (config MogFace.yml) and modelscope/modelscope (face_detection/mogface);
attribute names are the keys of the published state dict. Liu et al., CVPR 2022 (arXiv 2103.11139).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedeploy.models.resnet import RESNET101, Bottleneck, ResNet

WIDTH = 256  # Channels of every map of the pyramid.
DEEP = 512  # Channels of the head.
GROUPS = 16
EPSILON = 1e-5  # Of GroupNorm: PyTorch's default.

_TAPS = (256, 512, 1024, 2048)


class Pyramid(nn.Module):
    """Four maps of the backbone -> six maps of 256 channels, with strides 4 to 128.

    `dsfd_modules`, the first shot of the training, is in the checkpoints and not run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dsfd_modules = nn.ModuleList(_smoothing(c) for c in (*_TAPS, WIDTH, WIDTH))
        self.c6 = _halving(_TAPS[-1], 512, 512)
        self.c7 = _halving(512, 128, WIDTH)
        self.p2_lat, self.p3_lat, self.p4_lat = (_smoothing(WIDTH) for _ in range(3))
        self.c5_lat, self.c6_lat, self.c7_lat = map(_smoothing, (_TAPS[-1], 512, WIDTH))
        self.ff_c5_c4, self.ff_c4_c3, self.ff_c3_c2 = map(_Fusion, reversed(_TAPS[:-1]))

    def forward(self, c2: Tensor, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, ...]:
        c6 = self.c6(c5)
        p5 = self.c5_lat(c5)
        # The sums go up as they are, before the convolution that smooths them.
        p4 = self.ff_c5_c4(p5, c4)
        p3 = self.ff_c4_c3(p4, c3)
        p2 = self.ff_c3_c2(p3, c2)
        return self.p2_lat(p2), self.p3_lat(p3), self.p4_lat(p4), p5, self.c6_lat(c6), self.c7_lat(self.c7(c6))


class _Fusion(nn.Module):
    """The map below, projected, plus the map above at twice its size, cut to the one below."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main_conv = nn.Conv2d(channels, WIDTH, 1)

    def forward(self, above: Tensor, below: Tensor) -> Tensor:
        wide = functional.interpolate(above, scale_factor=2, mode="bilinear", align_corners=False)
        out: Tensor = self.main_conv(below) + wide[:, :, : below.shape[2], : below.shape[3]]
        return out


class Context(nn.Module):
    """The context module of SSH (Najibi et al. 2017): 256 channels -> 512, of three fields of view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _smoothing(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, 128, 3, padding=2, dilation=2)
        self.conv2_1 = nn.Conv2d(128, 128, 3, padding=1)
        self.conv2_2 = nn.Conv2d(128, 128, 3, padding=2, dilation=2)
        self.conv2_2_1 = nn.Conv2d(128, 128, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.conv2(x).relu()
        wide = self.conv2_2(middle).relu()
        fields = (self.conv1(x), self.conv2_1(middle), self.conv2_2_1(wide))
        return torch.cat([field.relu() for field in fields], dim=1)


class DeepHead(nn.Module):
    """Four rounds of one and the same convolution, each with a normalisation of its own.

    `conv2` to `conv4` are in the checkpoints and not run: the published code calls `conv1` in every round.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(DEEP, DEEP, 3, padding=1) for _ in range(4))
        self.gn1, self.gn2, self.gn3, self.gn4 = (nn.GroupNorm(GROUPS, DEEP, EPSILON) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for norm in (self.gn1, self.gn2, self.gn3, self.gn4):
            x = norm(self.conv1(x)).relu()
        return x

    def drop_dead(self) -> None:
        """Forget what is not run."""
        del self.conv2, self.conv3, self.conv4


class Prediction(nn.Module):
    """A map (1, 256, h, w) -> logit (1, 1, h, w) and encoded box (1, 4, h, w) of the anchor of each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_SSH = Context()
        self.deep_loc_head = DeepHead()
        self.deep_cls_head = DeepHead()
        self.pred_cls = nn.Conv2d(DEEP, 1, 3, padding=1)
        self.pred_loc = nn.Conv2d(DEEP, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv_SSH(x)
        return self.pred_cls(self.deep_cls_head(x)), self.pred_loc(self.deep_loc_head(x))


class MogFace(nn.Module):
    """What the checkpoint holds.

    A picture (1, 3, H, W), twice normalised -> scores (1, A, 1) and encoded boxes (1, A, 4) of all anchors, map by map
    in rows of cells: the published forward.
    """

    dead_keys = (
        "fpn.dsfd_modules.",
        *(f"pred_net.deep_{head}_head.conv{i}." for head in ("loc", "cls") for i in (2, 3, 4)),
    )
    # Heads of the first shot, in the files of damo-cv/MogFace.
    spare_keys = ("pred_net.dsfd_loc.", "pred_net.dsfd_conf.")

    def __init__(self, layers: Sequence[int] = RESNET101) -> None:
        """Make the network with random weights.

        Args:
            layers: Blocks in each stage of the backbone.
        """
        super().__init__()
        self.backbone = ResNet(Bottleneck, layers)
        self.fpn = Pyramid()
        self.pred_net = Prediction()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        levels = [self.pred_net(x) for x in self.fpn(*self.backbone(image))]
        scores, boxes = (torch.cat([_rows(v[i]) for v in levels], dim=1) for i in range(2))
        return scores.sigmoid(), boxes


def _rows(x: Tensor) -> Tensor:
    """(1, C, h, w) -> (1, h * w, C)."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, x.shape[1])


def _smoothing(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, WIDTH, 3, padding=1)


def _halving(channels: int, middle: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, middle, 1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, out, 3, stride=2, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
