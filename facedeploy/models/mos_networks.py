"""MOS as it is deployed: a detector, and a pose network that looks at the kept faces only.

The pose heads are two fifths of MOS-M, and few of its 12600 priors are faces. So the detector gives its feature maps
out, and the pose network takes 3x3 patches of them around the kept cells. `Detector` and `Pose` compute as published;
`fold` makes the modules that are exported, which give the same answers for less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facedeploy.core.network_spec import Shape
from facedeploy.models.architecture import Architecture, Modules
from facedeploy.models.mos import (
    ANCHORS,
    ANGLES,
    BINS,
    MIN_SIZES,
    SOURCES,
    STEPS,
    WIDTH,
    DeformBlock,
    Mos,
    PoseHead,
    by_prior,
    expected_angle,
    mos_m,
    mos_s,
    priors,
)

LEVELS = len(STEPS)
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
_LANDMARKS = 10
FIELDS = 4 + 1 + _LANDMARKS  # Of a prior: box, score, landmarks.


class Detector(nn.Module):
    """Everything but the pose heads, decoded.

    image (1, 3, H, W) -> boxes (1, P, 4) as corners and landmarks (1, P, 10) as x, y pairs, in pixels of the image,
    scores (1, P), and the features of each level (1, 64, h, w).
    """

    def __init__(self, mos: Mos) -> None:
        super().__init__()
        self.mos = mos

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        mos = self.mos
        features = mos.features(image)
        tasks = [mos.tasks(x, level) for level, x in enumerate(features)]
        offsets, logits, points = (
            torch.cat([mos.head(task, level, x[task]) for level, x in enumerate(tasks)], dim=1)
            for task in ("bboxhead", "classhead", "landmarkhead")
        )
        centre, side = priors([(x.shape[2], x.shape[3]) for x in features], image.device)
        middle = centre + offsets[..., :2] * CENTRE_VARIANCE * side
        size = side * torch.exp(offsets[..., 2:] * SIZE_VARIANCE)
        boxes = torch.cat((middle - size / 2, middle + size / 2), dim=-1)
        landmarks = centre.repeat(1, 5) + points * CENTRE_VARIANCE * side
        return boxes, logits.softmax(-1)[..., 1], landmarks, *features


class Pose(nn.Module):
    """The pose heads, on patches of the feature maps.

    patches (N, 65, 3, 3): the 64 features around a cell, zero outside of the map, and a channel that is 1 inside of
    it; level (N, 3): 1 for the level that the patch is of, else 0 -> angles (N, 3, 2): yaw, pitch and roll in degrees
    of the cell's two priors.

    The channel is what makes this exact at borders: the 3x3 convolution is padded with zeros after a 1x1 convolution
    that has a bias, so the bias must end where the map does.
    """

    def __init__(self, mos: Mos) -> None:
        super().__init__()
        self.mos = mos

    def forward(self, patches: Tensor, level: Tensor) -> tuple[Tensor]:
        features, inside = patches[:, :WIDTH], patches[:, WIDTH:]
        chosen = [self._angles(features, inside, i) * level[:, i, None, None] for i in range(LEVELS)]
        return (reduce(torch.add, chosen),)

    def _angles(self, features: Tensor, inside: Tensor, level: int) -> Tensor:
        tasks = self.mos.tasks(features, level)
        return torch.stack([self._angle(a, level, tasks[f"pose_{a}"] * inside) for a in ANGLES], dim=1)

    def _angle(self, angle: str, level: int, x: Tensor) -> Tensor:
        logits = _pose_head(self.mos, angle, level)(x)[:, :, 1, 1]
        return expected_angle(logits.reshape(-1, ANCHORS, BINS).softmax(-1))


class FoldedDetector(nn.Module):
    """`Detector` with one 1x1 convolution a level for stitch, cross-stitch, all heads and the decoding's constants."""

    def __init__(self, mos: Mos) -> None:
        super().__init__()
        copy = deepcopy(mos)
        for block in copy.modules():
            if isinstance(block, DeformBlock):
                fold_norm(block)
        self.mos = nn.Module()
        self.mos.body, self.mos.fpn = copy.body, copy.fpn
        self.mos.ssh1, self.mos.ssh2, self.mos.ssh3 = copy.ssh1, copy.ssh2, copy.ssh3
        self.heads = nn.ModuleList(_folded_heads(mos, level) for level in range(LEVELS))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = Mos.features(self.mos, image)  # type: ignore[arg-type]
        x = torch.cat([by_prior(head(f), FIELDS) for head, f in zip(self.heads, features, strict=True)], dim=1)
        return *decode(x, features), *features


def decode(
    fields: Tensor, features: Sequence[Tensor], sides: Sequence[Sequence[int]] = MIN_SIZES
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (1, P, 4), scores (1, P) and landmarks (1, P, 10) from fields (1, P, 15) in pixels: see `fold_decoding`."""
    centre, _ = priors([(f.shape[2], f.shape[3]) for f in features], fields.device, sides)
    middle = centre + fields[..., :2]
    half = fields[..., 2:4].exp()
    boxes = torch.cat((middle - half, middle + half), dim=-1)
    return boxes, fields[..., 4:5].sigmoid().flatten(1), centre.repeat(1, 5) + fields[..., 5:]


def fold_decoding(weight: Tensor, bias: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Encoded fields to pixels: centre offset, log of half the size, logit and landmark offsets of each prior.

    weight (A, 15, C) and bias (A, 15) of the convolution that makes the fields of the A priors of a cell.
    """
    side = torch.tensor(sides, dtype=weight.dtype)[:, None]
    scale = torch.cat(
        [
            (CENTRE_VARIANCE * side).expand(-1, 2),
            torch.full_like(side, SIZE_VARIANCE).expand(-1, 2),
            torch.ones_like(side),
            (CENTRE_VARIANCE * side).expand(-1, _LANDMARKS),
        ],
        dim=1,
    )
    shift = torch.zeros_like(scale)
    shift[:, 2:4] = (side / 2).log()
    return weight * scale[..., None], bias * scale + shift


class FoldedPose(nn.Module):
    """`Pose` as two matrix products: patch to hidden units of every level and angle, hidden units to bins."""

    def __init__(self, mos: Mos) -> None:
        super().__init__()
        first = [_folded_pose(mos, level, angle) for level in range(LEVELS) for angle in ANGLES]
        heads = [_pose_head(mos, angle, level).conv1x1 for level in range(LEVELS) for angle in ANGLES]
        self.hidden = nn.Linear((WIDTH + 1) * 9, 2 * WIDTH * len(first))
        self.logits = nn.Conv2d(self.hidden.out_features, ANCHORS * BINS * len(heads), 1, groups=len(heads))
        assign(self.hidden, torch.cat([w for w, _ in first]), torch.cat([b for _, b in first]))
        assign(self.logits, torch.cat([h.weight for h in heads]), torch.cat([_bias(h) for h in heads]))
        self.bins = nn.Linear(BINS, 1, bias=False)
        self.bins.weight.data = (torch.arange(BINS) * 3.0 - 99.0)[None]

    def forward(self, patches: Tensor, level: Tensor) -> tuple[Tensor]:
        hidden = self.hidden(patches.flatten(1)).relu()
        logits = self.logits(hidden[:, :, None, None]).flatten(1).chunk(LEVELS, dim=1)
        # A sum over an axis of levels would be shorter; pnnx drops the axis of a reduction after the batch.
        chosen = logits[0] * level[:, :1] + logits[1] * level[:, 1:2] + logits[2] * level[:, 2:]
        chosen = chosen.reshape(-1, len(ANGLES) * ANCHORS, BINS)
        return (self.bins(chosen.softmax(-1)).reshape(-1, len(ANGLES), ANCHORS),)


def _networks(modules: Modules) -> Modules:
    mos = modules["mos"]
    assert isinstance(mos, Mos)
    return {"detector": Detector(mos), "pose": Pose(mos)}


def _fold(networks: Modules) -> Modules:
    detector = networks["detector"]
    assert isinstance(detector, Detector)
    return {"detector": FoldedDetector(detector.mos), "pose": FoldedPose(detector.mos)}


def fold_norm(block: DeformBlock) -> None:
    """BatchNorm into the deformable convolution before it, in place; the offsets do not pass through it."""
    norm = block.actf[0]
    assert isinstance(norm, nn.BatchNorm2d)
    weight, bias = _normalised(block.conv.weight, block.conv.bias, norm)
    block.conv.weight.data, block.conv.bias = weight.float(), nn.Parameter(bias.float())
    block.actf[0] = nn.Identity()


def _normalised(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of a convolution with the BatchNorm that follows it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = -norm.running_mean.double() if bias is None else bias.double() - norm.running_mean.double()
    return weight.double() * scale.reshape(-1, 1, 1, 1), norm.bias.double() + shift * scale


def _stitched(mos: Mos, level: int, task: str) -> tuple[Tensor, Tensor]:
    """Stitch and cross-stitch of one task as one linear map: weight (64, 64) and bias (64,), float64."""
    units = getattr(mos.cross_stitch, f"fpn{level + 1}")
    weight, bias = torch.zeros(WIDTH, WIDTH, dtype=torch.float64), torch.zeros(WIDTH, dtype=torch.float64)
    for source, name in SOURCES.items():
        convolution = getattr(mos, name)[level].conv1x1
        scale = units.scale(task, source).double()
        weight = weight + scale[:, None] * convolution.weight.double()[:, :, 0, 0]
        bias = bias + scale * convolution.bias.double()
    return weight, bias


def _folded_heads(mos: Mos, level: int) -> nn.Conv2d:
    """One convolution from the features to the fields of each prior, in pixels."""

    def head(name: str, task: str, size: int) -> tuple[Tensor, Tensor]:
        convolution = getattr(mos, name)[level].conv1x1
        weight, bias = _stitched(mos, level, task)
        outer = convolution.weight.double()[:, :, 0, 0]
        total = convolution.bias.double() + outer @ bias
        return (outer @ weight).reshape(ANCHORS, size, WIDTH), total.reshape(ANCHORS, size)

    box, box_bias = head("BboxHead", "bboxhead", 4)
    kind, kind_bias = head("ClassHead", "classhead", 2)
    landmarks, landmarks_bias = head("LandmarkHead", "landmarkhead", _LANDMARKS)
    # A softmax over two is a sigmoid of the difference.
    weight = torch.cat((box, kind[:, 1:] - kind[:, :1], landmarks), dim=1)
    bias = torch.cat((box_bias, kind_bias[:, 1:] - kind_bias[:, :1], landmarks_bias), dim=1)
    folded = nn.Conv2d(WIDTH, ANCHORS * FIELDS, 1)
    assign(folded, *fold_decoding(weight, bias, MIN_SIZES[level]))
    return folded


def _pose_head(mos: Mos, angle: str, level: int) -> PoseHead:
    head = getattr(mos, f"PoseHead_{angle}")[level]
    assert isinstance(head, PoseHead)
    return head


def _folded_pose(mos: Mos, level: int, angle: str) -> tuple[Tensor, Tensor]:
    """Stitch, cross-stitch, 3x3 convolution and BatchNorm as one product with a patch: weight (128, 585), bias."""
    convolution, norm = _pose_head(mos, angle, level).Conv_pose
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    outer, bias = _normalised(convolution.weight, None, norm)
    inner, inner_bias = _stitched(mos, level, f"pose_{angle}")
    features = torch.einsum("omij,mc->ocij", outer, inner)
    inside = torch.einsum("omij,m->oij", outer, inner_bias)
    return torch.cat((features, inside[:, None]), dim=1).flatten(1), bias


def assign(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.data = weight.detach().float().reshape(layer.weight.shape)
    layer.bias = nn.Parameter(bias.detach().float().reshape(-1))


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def probe(network: str, shapes: Mapping[str, Shape], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Patches of cells inside, at each border and in each corner of a map, of every level, and as small and as large as
    those of photographs: of mos-tiny the largest feature of a face is 3 to 10.
    """
    assert network == "pose"
    count, channels = shapes["patches"][:2]
    sizes = rng.uniform(1, 2.5, (count, 1, 1, 1))
    patches = np.abs(sizes * rng.normal(size=(count, channels, 3, 3))).astype(np.float32)
    if "level" in shapes:
        patches[:, WIDTH] = 1
    for patch, side in zip(patches, rng.integers(0, 9, count), strict=True):
        vertical, horizontal = divmod(int(side), 3)
        patch[:, [(), 0, 2][vertical]] = 0
        patch[:, :, [(), 0, 2][horizontal]] = 0
    if "level" not in shapes:
        return {"patches": patches}
    level = np.eye(LEVELS, dtype=np.float32)[rng.integers(0, LEVELS, count)]
    return {"patches": patches, "level": level}


MOS_M = Architecture(lambda: {"mos": mos_m()}, _networks, _fold, probe)
MOS_S = Architecture(lambda: {"mos": mos_s()}, _networks, _fold, probe)
# The published graph as it is, to compare with: every head on every prior, encoded outputs.
MOS_M_PUBLISHED = Architecture(lambda: {"mos": mos_m()})
MOS_S_PUBLISHED = Architecture(lambda: {"mos": mos_s()})
