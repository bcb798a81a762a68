"""The three networks of MTCNN, in the form of Enderfga/mtCNN_sysu (one PReLU slope, one sigmoid score).

Written from the layer table of that repository's published state dicts; the attribute names are its keys.
Input: BGR in [0, 1]. Landmark heads of P and R are in the checkpoints, untrained, and not run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facedeploy.models.architecture import Architecture


class PNet(nn.Module):
    """Proposal network, fully convolutional with a 12-pixel field and a stride of 2.

    (1, 3, H, W) -> score (1, 1, h, w) in 0..1, box (1, 4, h, w) as fractions of the window; h = (H-2)//2 - 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pre_layer = nn.Sequential(
            nn.Conv2d(3, 10, 3),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(10, 16, 3),
            nn.PReLU(),
            nn.Conv2d(16, 32, 3),
            nn.PReLU(),
        )
        self.conv4_1 = nn.Conv2d(32, 1, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)
        self.conv4_3 = nn.Conv2d(32, 10, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pre_layer(image)
        return torch.sigmoid(self.conv4_1(x)), self.conv4_2(x)


class RNet(nn.Module):
    """Refinement network. (N, 3, 24, 24) -> score (N, 1), box (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_layer = nn.Sequential(
            nn.Conv2d(3, 28, 3),
            nn.PReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(28, 48, 3),
            nn.PReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(48, 64, 2),
            nn.PReLU(),
        )
        self.conv4 = nn.Linear(64 * 2 * 2, 128)
        self.prelu4 = nn.PReLU()
        self.conv5_1 = nn.Linear(128, 1)
        self.conv5_2 = nn.Linear(128, 4)
        self.conv5_3 = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.prelu4(self.conv4(self.pre_layer(image).flatten(1)))
        return torch.sigmoid(self.conv5_1(x)), self.conv5_2(x)


class ONet(nn.Module):
    """Output network. (N, 3, 48, 48) -> score (N, 1), box (N, 4), landmarks (N, 10) as x, y pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_layer = nn.Sequential(
            nn.Conv2d(3, 32, 3),
            nn.PReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(32, 64, 3),
            nn.PReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 64, 3),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 2),
            nn.PReLU(),
        )
        self.conv5 = nn.Linear(128 * 2 * 2, 256)
        self.prelu5 = nn.PReLU()
        self.conv6_1 = nn.Linear(256, 1)
        self.conv6_2 = nn.Linear(256, 4)
        self.conv6_3 = nn.Linear(256, 10)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.prelu5(self.conv5(self.pre_layer(image).flatten(1)))
        return torch.sigmoid(self.conv6_1(x)), self.conv6_2(x), self.conv6_3(x)


MTCNN = Architecture(lambda: {"pnet": PNet(), "rnet": RNet(), "onet": ONet()})
