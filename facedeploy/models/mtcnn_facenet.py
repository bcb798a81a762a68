"""The three networks of MTCNN, in the form of timesler/facenet-pytorch (a PReLU slope a channel, a softmax of two).

Written from the facts of that repository's models/mtcnn.py; the attribute names are the keys of its state dicts. The
weights came from Caffe by way of MATLAB, so dense layers read their features column by column.
Input: RGB, (pixel - 127.5) / 128.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from facedeploy.models.architecture import Architecture, Modules

_FACE = 1  # Of the two classes.
_SIDE = 3  # Rows and columns of the features that the dense layer of R and of O reads.


class FacenetNetwork(nn.Module):
    """One of the three networks, as published; windows at the edge of a pool may be cut (`ceil_mode`).

    Pictures -> score in 0..1, box as fractions of the window, and of the last network landmarks as x, y pairs.
    P: (1, 3, H, W) -> (1, 1, h, w), (1, 4, h, w) with h = ceil((H-2)/2) - 4. R and O: (N, 3, 24 or 48, the same) ->
    (N, 1), (N, 4), and (N, 10).
    """

    def __init__(
        self, stages: Sequence[tuple[int, int, int]], dense: tuple[int, int] | None, heads: Sequence[int]
    ) -> None:
        """Make the layers.

        Args:
            stages: Channels, kernel, and kernel of the pool behind it (0 for none), of each convolution.
            dense: Features in and out of the dense layer; None for a network without.
            heads: Numbers that each head gives.
        """
        super().__init__()
        self.names: list[str] = []
        width = 3
        for number, (channels, kernel, pool) in enumerate(stages, 1):
            self._add(f"conv{number}", nn.Conv2d(width, channels, kernel))
            self._add(f"prelu{number}", nn.PReLU(channels))
            if pool:
                self._add(f"pool{number}", nn.MaxPool2d(pool, 2, ceil_mode=True))
            width = channels
        last = len(stages) + 1
        if dense:
            self._add(f"dense{last}", nn.Linear(*dense))
            self._add(f"prelu{last}", nn.PReLU(dense[1]))
            last += 1
        self.heads = [f"{'dense' if dense else 'conv'}{last}_{i}" for i in range(1, len(heads) + 1)]
        for name, count in zip(self.heads, heads, strict=True):
            self.add_module(name, nn.Linear(dense[1], count) if dense else nn.Conv2d(width, count, 1))

    def _add(self, name: str, layer: nn.Module) -> None:
        self.names.append(name)
        self.add_module(name, layer)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = image
        for name in self.names:
            if name.startswith("dense"):
                x = x.permute(0, 3, 2, 1).flatten(1)
            x = self.get_submodule(name)(x)
        classes, box, *points = (self.get_submodule(name)(x) for name in self.heads)
        score = torch.softmax(classes, dim=1)[:, _FACE : _FACE + 1]
        return score, box, *(_pairs(p.T).T for p in points)


class FoldedNetwork(nn.Module):
    """The same outputs from plain layers.

    The softmax of two is the sigmoid of their difference, dense weights are in the order of the features, and those of
    the landmarks in the order of the pairs.
    """

    def __init__(self, network: FacenetNetwork) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for name in network.names:
            layer = network.get_submodule(name)
            if isinstance(layer, nn.Linear):
                columns_first = layer.weight.reshape(layer.out_features, _SIDE, _SIDE, -1)
                layers += [nn.Flatten(1), _like(layer, columns_first.permute(0, 3, 2, 1).flatten(1), layer.bias)]
            else:
                layers.append(layer)
        self.body = nn.Sequential(*layers)
        classes, *rest = (network.get_submodule(name) for name in network.heads)
        self.score = _rows(classes, lambda v: v[_FACE : _FACE + 1] - v[1 - _FACE : 2 - _FACE])
        self.box = rest[0]
        self.points = nn.ModuleList(_rows(p, _pairs) for p in rest[1:])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.body(image)
        return torch.sigmoid(self.score(x)), self.box(x), *(p(x) for p in self.points)


def _pairs(rows: Tensor) -> Tensor:
    """All x and then all y (10, ...) -> x, y pairs."""
    return rows.reshape(2, 5, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def _rows(head: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A head with other outputs: its weight and bias, with their rows changed."""
    return _like(head, change(head.get_parameter("weight")), change(head.get_parameter("bias")))


def _like(layer: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """A layer of the same kind with other weights."""
    outputs, inputs = weight.shape[:2]
    made = nn.Linear(inputs, outputs) if isinstance(layer, nn.Linear) else nn.Conv2d(inputs, outputs, 1)
    made.weight, made.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return made


def _build() -> Modules:
    return {
        "pnet": FacenetNetwork(((10, 3, 2), (16, 3, 0), (32, 3, 0)), None, (2, 4)),
        "rnet": FacenetNetwork(((28, 3, 3), (48, 3, 3), (64, 2, 0)), (576, 128), (2, 4)),
        "onet": FacenetNetwork(((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)), (1152, 256), (2, 4, 10)),
    }


def _fold(networks: Modules) -> Modules:
    return {name: FoldedNetwork(network) for name, network in networks.items() if isinstance(network, FacenetNetwork)}


MTCNN_FACENET = Architecture(_build, fold=_fold)
