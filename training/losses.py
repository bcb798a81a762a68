"""What the network is punished for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from facedeploy.models.mos import BINS, STEPS, expected_angle, priors
from facedeploy.models.mos_tiny import SIDES, WIDTH, MosTiny, decode_fields
from training.assign import Assignment, assign

_WELL_KNOWN = 32.0  # Sides in pixels from which a face's landmarks count in full.


@dataclass(frozen=True)
class Labels:
    """Of a batch: faces (B, G, 4), landmarks (B, G, 10), pose (B, G, 3) in degrees, NaN where not known; trust (B, G)
    of the pose; ignored (B, I, 4): regions that are neither face nor background. G and I are at least 1.
    """

    faces: Tensor
    landmarks: Tensor
    pose: Tensor
    trust: Tensor
    ignored: Tensor


def losses(model: MosTiny, image: Tensor, labels: Labels) -> dict[str, Tensor]:
    """Score, box, landmark and pose loss of a batch of normalised pictures (B, 3, H, W)."""
    raw, maps = model(image)
    fields = raw.float()
    sizes = [(x.shape[2], x.shape[3]) for x in maps]
    centre, side = priors(sizes, image.device, SIDES)
    step = torch.cat([centre.new_full((h * w,), s) for (h, w), s in zip(sizes, STEPS, strict=True)])
    boxes, points = decode_fields(fields, centre, side)
    logits = fields[..., 4]
    match = assign(boxes, logits, centre, step, side[:, 0], labels.faces)
    batch, prior = match.positive.nonzero(as_tuple=True)
    face = match.face[batch, prior]
    found = {"score": _score_loss(logits, match, centre, labels.ignored)}
    count = max(len(batch), 1)
    goal = labels.faces[batch, face]
    found["box"] = distance_loss(boxes[batch, prior], goal).sum() / count
    size = (goal[:, 2:] - goal[:, :2]).prod(-1).clamp_min(1).sqrt()
    found["landmarks"] = _landmark_loss(points[batch, prior], labels.landmarks[batch, face], size)
    pose, trust = labels.pose[batch, face], labels.trust[batch, face]
    known = ~pose[:, 0].isnan()
    known = known & (known.sum() > 1)  # BatchNorm has no statistics of a single patch.
    patches = gather(maps, batch[known], prior[known])
    found["pose"] = _pose_loss(model.pose(patches).float(), pose[known], trust[known])
    return found


def _score_loss(logits: Tensor, match: Assignment, centre: Tensor, ignored: Tensor) -> Tensor:
    """Quality focal loss (arXiv 2006.04388): a face's score goes with the IoU of the box that comes with it.

    Its square root, as many labelled boxes are loose, and a face with a loose box is a face.
    """
    goal = match.iou.clamp(0, 1).sqrt()
    weight = (goal - logits.detach().sigmoid()).square()
    inside = (centre > ignored[:, :, None, :2]) & (centre < ignored[:, :, None, 2:])
    weight = weight * ~(inside.all(-1).any(1) & ~match.positive)
    loss = functional.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    return (loss * weight).sum() / goal.sum().clamp_min(1)


def distance_loss(boxes: Tensor, goal: Tensor) -> Tensor:
    """1 - DIoU (arXiv 1911.08287) of pairs of boxes (N, 4)."""
    low, high = torch.maximum(boxes[:, :2], goal[:, :2]), torch.minimum(boxes[:, 2:], goal[:, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (goal[:, 2:] - goal[:, :2]).prod(-1)
    hull = torch.maximum(boxes[:, 2:], goal[:, 2:]) - torch.minimum(boxes[:, :2], goal[:, :2])
    apart = (boxes[:, :2] + boxes[:, 2:] - goal[:, :2] - goal[:, 2:]).square().sum(-1) / 4
    return 1 - shared / (area - shared).clamp_min(1e-6) + apart / hull.square().sum(-1).clamp_min(1e-6)


def _landmark_loss(points: Tensor, goal: Tensor, size: Tensor) -> Tensor:
    """Smooth L1 on distances in hundredths of the face's size. Points of small faces are known less well."""
    known = ~goal[:, 0].isnan()
    size = size[known, None]
    off = 100 / size * (points[known] - goal[known])
    loss = functional.smooth_l1_loss(off, torch.zeros_like(off), beta=2.0, reduction="none")
    return (loss * (size / _WELL_KNOWN).clamp_max(1)).sum() / 100 / max(len(off), 1)


def _pose_loss(logits: Tensor, goal: Tensor, trust: Tensor) -> Tensor:
    """Cross-entropy with the two bins next to the angle, and the distance of the expectation (Hopenet's two terms)."""
    position = ((goal + 99) / 3).clamp(0, BINS - 1.001)
    lower = position.long()
    share = position - lower
    chance = logits.log_softmax(-1)
    nearest = chance.gather(-1, lower[..., None])[..., 0] * (1 - share)
    nearest = nearest + chance.gather(-1, lower[..., None] + 1)[..., 0] * share
    off = (expected_angle(chance.exp()) - goal).abs()
    loss = (off / 15 - 0.1 * nearest).sum(-1) * trust
    return loss.sum() / trust.sum().clamp_min(1)


def gather(maps: list[Tensor], batch: Tensor, prior: Tensor) -> Tensor:
    """Patches (N, 48, 3, 3) of the features around some priors' cells, zero outside of the map."""
    parts, order, first = [], [], 0
    around = torch.arange(3, device=prior.device)
    for features in maps:
        height, width = features.shape[2:]
        mine = ((prior >= first) & (prior < first + height * width)).nonzero().squeeze(1)
        cell = prior[mine] - first
        y = (cell // width)[:, None, None] + around[:, None]
        x = (cell % width)[:, None, None] + around
        padded = functional.pad(features, (1, 1, 1, 1)).permute(0, 2, 3, 1)
        parts.append(padded[batch[mine, None, None], y, x].permute(0, 3, 1, 2))
        order.append(mine)
        first += height * width
    return torch.cat(parts)[torch.cat(order).argsort()].reshape(-1, WIDTH, 3, 3)
