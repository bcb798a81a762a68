"""The MTCNN cascade of facenet-pytorch once more, from the facts of its source: slow, one window at a time.

It shares nothing with `facedeploy`: the networks are written out over the state dicts. And `from_sysu` brings weights
of the other layout into this one, where both compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

States = Mapping[str, Mapping[str, Tensor]]
Array = NDArray[np.float32]
# Convolutions with the kernel of the pool behind them.
STAGES = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}


@dataclass(frozen=True)
class Found:
    """Faces, best first: boxes (N, 4), scores (N,), landmarks (N, 5, 2)."""

    boxes: Array
    scores: Array
    landmarks: Array


def run(name: str, state: Mapping[str, Tensor], pixels: Tensor) -> list[Array]:
    """Face scores, boxes and points of RGB pictures (N, 3, H, W) in 0..255."""
    x = (pixels - 127.5) / 128
    for i, pool in enumerate(STAGES[name], 1):
        x = F.prelu(F.conv2d(x, state[f"conv{i}.weight"], state[f"conv{i}.bias"]), state[f"prelu{i}.weight"])
        if pool:
            x = F.max_pool2d(x, pool, 2, ceil_mode=True)
    last = len(STAGES[name]) + 1
    if name == "pnet":
        heads = [F.conv2d(x, state[f"conv4_{k}.weight"], state[f"conv4_{k}.bias"]) for k in (1, 2)]
    else:
        columns_first = x.transpose(1, 3).flatten(1)
        x = F.linear(columns_first, state[f"dense{last}.weight"], state[f"dense{last}.bias"])
        x = F.prelu(x, state[f"prelu{last}.weight"])
        keys = [f"dense{last + 1}_{k}" for k in (1, 2, 3) if f"dense{last + 1}_{k}.weight" in state]
        heads = [F.linear(x, state[f"{k}.weight"], state[f"{k}.bias"]) for k in keys]
    classes, *rest = (h.numpy() for h in heads)
    exponentials = np.exp(classes - classes.max(axis=1, keepdims=True))
    return [exponentials[:, 1] / exponentials.sum(axis=1), *rest]


def keep(boxes: Array, scores: Array, limit: float, *, smaller: bool = False) -> list[int]:
    """Greedy suppression: by IoU of areas without an extra pixel, or by the smaller of areas with one."""
    one = np.float32(smaller)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        x1, y1, x2, y2 = boxes[i]
        area = (x2 - x1 + one) * (y2 - y1 + one)
        for j in kept:
            u1, v1, u2, v2 = boxes[j]
            other = (u2 - u1 + one) * (v2 - v1 + one)
            common = max(0, min(x2, u2) - max(x1, u1) + one) * max(0, min(y2, v2) - max(y1, v1) + one)
            whole = min(area, other) if smaller else area + other - common
            if whole and common / whole > limit:
                break
        else:
            kept.append(i)
    return kept


def squared(boxes: Array) -> Array:
    made = []
    for x1, y1, x2, y2 in boxes:
        side = max(x2 - x1, y2 - y1)
        x, y = x1 + (x2 - x1) / 2 - side / 2, y1 + (y2 - y1) / 2 - side / 2
        made.append((x, y, x + side, y + side))
    return np.array(made, np.float32).reshape(-1, 4)


def moved(boxes: Array, offsets: Array, one: int) -> Array:
    width, height = (boxes[:, i + 2] - boxes[:, i] + one for i in (0, 1))
    return boxes + offsets * np.stack([width, height, width, height], axis=1)


def look(image: Tensor, boxes: Array, side: int) -> tuple[list[int], Tensor]:
    """Which boxes have pixels, and those, resized."""
    height, width = image.shape[2:]
    seen, made = [], []
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        left, top = max(math.trunc(x1), 1) - 1, max(math.trunc(y1), 1) - 1
        right, bottom = min(math.trunc(x2), width), min(math.trunc(y2), height)
        if right > left and bottom > top:
            seen.append(i)
            made.append(F.interpolate(image[:, :, top:bottom, left:right], size=(side, side), mode="area"))
    return seen, torch.cat(made) if made else torch.zeros(0, 3, side, side)


@torch.inference_mode()
def detect(
    states: States,
    bgr: NDArray[np.uint8],
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
    min_face: float = 20,
    factor: float = 0.709,
) -> Found:
    image = torch.from_numpy(bgr[:, :, ::-1].astype(np.float32).transpose(2, 0, 1).copy())[None]
    height, width = bgr.shape[:2]
    scale, shorter = 12 / min_face, min(height, width) * 12 / min_face
    windows: list[Array] = []
    while shorter >= 12:
        level = F.interpolate(image, size=(int(height * scale + 1), int(width * scale + 1)), mode="area")
        scores, offsets = run("pnet", states["pnet"], level)
        rows = []
        for row, column in np.argwhere(scores[0] >= np.float32(thresholds[0])):
            corners = [np.floor(np.float32(v) / np.float32(scale)) for v in (2 * column + 1, 2 * row + 1)]
            corners += [np.floor(np.float32(v) / np.float32(scale)) for v in (2 * column + 12, 2 * row + 12)]
            rows.append([*corners, scores[0, row, column], *offsets[0, :, row, column]])
        found = np.array(rows, np.float32).reshape(-1, 9)
        windows.append(found[keep(found[:, :4], found[:, 4], 0.5)])
        scale, shorter = scale * factor, shorter * factor
    all_windows = np.concatenate([np.zeros((0, 9), np.float32), *windows])
    all_windows = all_windows[keep(all_windows[:, :4], all_windows[:, 4], 0.7)]
    boxes = squared(moved(all_windows[:, :4], all_windows[:, 5:], 0))

    seen, crops = look(image, boxes, 24)
    scores, offsets = run("rnet", states["rnet"], crops)
    good = scores > thresholds[1]
    boxes, scores, offsets = boxes[seen][good], scores[good], offsets[good]
    kept = keep(boxes, scores, 0.7)
    boxes = squared(moved(boxes[kept], offsets[kept], 1))

    seen, crops = look(image, boxes, 48)
    scores, offsets, points = run("onet", states["onet"], crops)
    good = scores > thresholds[2]
    boxes, scores, offsets, points = boxes[seen][good], scores[good], offsets[good], points[good]
    x = points[:, :5] * (boxes[:, 2] - boxes[:, 0] + 1)[:, None] + boxes[:, :1] - 1
    y = points[:, 5:] * (boxes[:, 3] - boxes[:, 1] + 1)[:, None] + boxes[:, 1:2] - 1
    boxes = moved(boxes, offsets, 1)
    kept = keep(boxes, scores, 0.7, smaller=True)
    return Found(boxes[kept], scores[kept], np.stack([x, y], axis=2)[kept])


def from_sysu(states: States) -> dict[str, dict[str, Tensor]]:
    """Weights of mtCNN_sysu in this layout: the same scores, offsets and points of the same pixels."""
    return {name: _network(name, state) for name, state in states.items()}


def _network(name: str, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    index = 0
    for i, pool in enumerate(STAGES[name], 1):
        made[f"conv{i}.weight"], made[f"conv{i}.bias"] = (old[f"pre_layer.{index}.{k}"] for k in ("weight", "bias"))
        made[f"prelu{i}.weight"] = old[f"pre_layer.{index + 1}.weight"].repeat(len(made[f"conv{i}.bias"]))
        index += 3 if pool else 2
    # BGR / 255 of an input that is (RGB - 127.5) / 128.
    first = made["conv1.weight"].flip(1) / 255
    made["conv1.weight"] = first * 128
    made["conv1.bias"] = made["conv1.bias"] + first.sum((1, 2, 3)) * 127.5
    last, kind = len(STAGES[name]) + 1, "conv"
    if name != "pnet":
        kind = "dense"
        dense = old[f"conv{last}.weight"]
        channels = dense.shape[1] // 4
        # Two rows and columns are three here, as the pools keep what is cut at the edge: that is not looked at.
        wide = F.pad(dense.reshape(-1, channels, 2, 2), (0, 1, 0, 1))
        made[f"dense{last}.weight"] = wide.permute(0, 3, 2, 1).flatten(1)
        made[f"dense{last}.bias"] = old[f"conv{last}.bias"]
        made[f"prelu{last}.weight"] = old[f"prelu{last}.weight"].repeat(len(dense))
        last += 1
    for part in ("weight", "bias"):
        face, box, points = (old[f"conv{last}_{k}.{part}"] for k in (1, 2, 3))
        made[f"{kind}{last}_1.{part}"] = torch.cat([torch.zeros_like(face), face])
        made[f"{kind}{last}_2.{part}"] = box
        if name == "onet":
            made[f"{kind}{last}_3.{part}"] = torch.cat([points[0::2], points[1::2]])
    return made
