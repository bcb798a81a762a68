"""Which prior answers for which face: SimOTA (YOLOX, arXiv 2107.08430, section 2), for a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_RADIUS = 1.5  # Cells around a face's centre whose priors may answer for it, whatever its size.
_CANDIDATES = 10  # A face gets as many priors as its so many best ones have IoU in sum.
_IOU_WEIGHT = 3.0
_OUTSIDE = 100.0  # Cost of a prior that is not both in the box and near its centre.
_NEVER = 1e6


@dataclass(frozen=True)
class Assignment:
    """Of every prior (B, P): the index of its face, whether it has one, and the IoU with it."""

    face: Tensor
    positive: Tensor
    iou: Tensor


@torch.no_grad()
def assign(boxes: Tensor, logits: Tensor, centre: Tensor, step: Tensor, side: Tensor, faces: Tensor) -> Assignment:
    """Of boxes (B, P, 4) and logits (B, P); centre (P, 2), step and side (P,) of priors; faces (B, G, 4) or NaN."""
    real = ~faces[..., 0].isnan()
    faces = faces.nan_to_num()
    overlap = pairwise_iou(faces, boxes)
    low, high = faces[:, :, None, :2], faces[:, :, None, 2:]
    inside = ((centre > low) & (centre < high)).all(-1)
    near = ((centre - (low + high) / 2).abs() < _RADIUS * step[:, None]).all(-1)
    size = (faces[..., 2:] - faces[..., :2]).prod(-1).clamp_min(1).sqrt()
    # A level answers for sizes within an octave of its prior, unless the network knows better.
    level = (size[..., None].log2() - side.log2()).abs().sub(1).clamp_min(0)
    cost = functional.softplus(-logits)[:, None] - _IOU_WEIGHT * overlap.clamp_min(1e-6).log() + level
    cost = cost + _OUTSIDE * ~(inside & near)
    allowed = (inside | near) & real[..., None]
    cost = torch.where(allowed, cost, _NEVER)

    best = (overlap * allowed).topk(_CANDIDATES, dim=-1).values
    count = best.sum(-1).int().clamp(1, _CANDIDATES)
    cheap, prior = cost.topk(_CANDIDATES, dim=-1, largest=False)
    taken = (torch.arange(_CANDIDATES, device=cost.device) < count[..., None]) & (cheap < _NEVER)
    matched = torch.zeros_like(allowed).scatter(-1, prior, taken)
    # A prior that several faces want goes to the cheapest.
    face = torch.where(matched, cost, _NEVER).argmin(1)
    positive = matched.any(1)
    iou = overlap.gather(1, face[:, None]).squeeze(1)
    return Assignment(face, positive, torch.where(positive, iou, 0))


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """(B, N, 4), (B, M, 4) -> (B, N, M)."""
    low = torch.maximum(first[:, :, None, :2], second[:, None, :, :2])
    high = torch.minimum(first[:, :, None, 2:], second[:, None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    area = [(b[..., 2:] - b[..., :2]).clamp_min(0).prod(-1) for b in (first, second)]
    return shared / (area[0][:, :, None] + area[1][:, None] - shared).clamp_min(1e-6)
