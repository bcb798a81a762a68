"""MogFace as it is deployed: the features of a picture, and a head that is run once for each of the six maps.

Unrolled over the maps, the head would be stored six times by the backends that keep weights by layer. It knows neither
strides nor positions: boxes come in units of the anchor, so that half precision resolves a box of 11 pixels to a
hundredth wherever it is in the picture, and who calls the head knows where its cells are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facedeploy.core.network_spec import Shape
from facedeploy.models.architecture import Architecture, Modules
from facedeploy.models.mogface import DeepHead, MogFace, Prediction

# The published code divides by 255 what is normalised already, in training too, so the weights expect it.
_SECOND_SCALE = 1 / 255


class Features(nn.Module):
    """A picture (1, 3, H, W), RGB, (pixel - mean) / std -> six maps (1, 256, h, w), with strides 4 to 128."""

    def __init__(self, mogface: MogFace) -> None:
        super().__init__()
        self.backbone, self.fpn = mogface.backbone, mogface.fpn

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.fpn(*self.backbone(image * _SECOND_SCALE))
        return maps


class Head(nn.Module):
    """One map (1, 256, h, w) -> of the anchor of each cell: score (1, 1, h, w) in 0..1, and box (1, 4, h, w): corners
    from its centre, in units of its side.

    Nothing in it depends on the size of the map, so pnnx may be shown one size only: it recognises GroupNorm in no
    graph of dynamic shapes.
    """

    def __init__(self, pred_net: Prediction) -> None:
        super().__init__()
        self.pred_net = pred_net

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits, offsets = self.pred_net(features)
        centre, half = offsets[:, :2], offsets[:, 2:].exp() / 2
        return logits.sigmoid(), torch.cat((centre - half, centre + half), dim=1)


class FoldedFeatures(Features):
    """`Features` with the second scale in the first convolution: half precision and int8 see values of about 1."""

    def __init__(self, features: Features) -> None:
        nn.Module.__init__(self)
        self.backbone, self.fpn = copy.deepcopy(features.backbone), copy.deepcopy(features.fpn)
        self.backbone.conv1.weight.data *= _SECOND_SCALE
        del self.fpn.dsfd_modules

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.fpn(*self.backbone(image))
        return maps


def _networks(modules: Modules) -> Modules:
    mogface = modules["mogface"]
    assert isinstance(mogface, MogFace)
    return {"features": Features(mogface), "head": Head(mogface.pred_net)}


def _fold(networks: Modules) -> Modules:
    features, head = networks["features"], copy.deepcopy(networks["head"])
    assert isinstance(features, Features)
    for module in head.modules():
        if isinstance(module, DeepHead):
            module.drop_dead()
    return {"features": FoldedFeatures(features), "head": head}


def probe(network: str, shapes: Mapping[str, Shape], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """A map of any level."""
    assert network == "head"
    return {"features": rng.normal(size=shapes["features"]).astype(np.float32)}


MOGFACE = Architecture(lambda: {"mogface": MogFace()}, _networks, _fold, probe)
