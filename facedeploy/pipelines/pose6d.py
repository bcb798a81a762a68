"""Poses in six degrees of freedom: a rotation vector (radians) and a translation, for many faces at once.

The camera looks along z, x goes right and y down; its focal length is width + height of the picture, its centre that of
the picture. Albiero et al. 2021 and img2pose's utils/pose_operations.py.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# How a matrix that is no rotation becomes one: "markley" reads a quaternion off it (Markley 2008), as SciPy did until
# 1.16; "nearest" takes the closest rotation, as SciPy does now.
Rotation = Literal["markley", "nearest"]

_LARGER = 1.1  # The box around a face, over the extent of its points.
_FOREHEAD = 0.3  # The points end at the brows: so much of their extent is added at the top of the head.
_UPSIDE_DOWN, _LYING = 2.5, 1.0  # Rolls in radians from which that is at the bottom, or on a side.


def matrices(vectors: Floats) -> Floats:
    """Rotation vectors (N, 3) -> matrices (N, 3, 3)."""
    angle = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / np.maximum(angle, 1e-12)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    sine, versine = np.sin(angle)[:, None, None], (1 - np.cos(angle))[:, None, None]
    result: Floats = np.eye(3) + sine * cross + versine * (cross @ cross)
    return result


def vectors(matrices: Floats, how: Rotation = "nearest") -> Floats:
    """Matrices (N, 3, 3) -> rotation vectors (N, 3), of an angle of at most pi."""
    if how == "nearest":
        left, _, right = np.linalg.svd(matrices)
        left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
        matrices = left @ right
    quaternion = _quaternions(matrices)
    quaternion *= np.where(quaternion[:, 3:] < 0, -1, 1)
    sine = np.linalg.norm(quaternion[:, :3], axis=1)
    angle = 2 * np.arctan2(sine, quaternion[:, 3])
    # Of no rotation, twice the vector part is the rotation vector.
    scale = np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)
    result: Floats = quaternion[:, :3] * scale[:, None]
    return result


def _quaternions(m: Floats) -> Floats:
    """Unit quaternions (N, 4), x y z w, by the largest of four expressions, which need not agree for these matrices."""
    i, trace = np.arange(3), np.trace(m, axis1=1, axis2=2)
    diagonal = m[:, i, i]
    j, k = (i + 1) % 3, (i + 2) % 3
    odd, even = m[:, k, j] - m[:, j, k], m + m.transpose(0, 2, 1)
    candidates = np.empty((len(m), 4, 4))
    candidates[:, i, i] = 1 - trace[:, None] + 2 * diagonal
    candidates[:, i, j] = even[:, j, i]
    candidates[:, i, k] = even[:, k, i]
    candidates[:, :3, 3] = odd
    candidates[:, 3, :3] = odd
    candidates[:, 3, 3] = 1 + trace
    choice = np.column_stack([diagonal, trace]).argmax(axis=1)
    chosen = candidates[np.arange(len(m)), choice]
    result: Floats = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    return result


def angles(vectors: Floats) -> Floats:
    """Turn rotation vectors into angles.

    Args:
        vectors: (N, 3), radians.

    Returns:
        Yaw, pitch and roll (N, 3) in degrees: positive to the left of the picture, up, and clockwise.
    """
    m = matrices(vectors).transpose(0, 2, 1)
    pitch = np.arctan2(m[:, 2, 1], m[:, 2, 2])
    yaw = np.arcsin(m[:, 2, 0].clip(-1, 1))
    roll = -np.arctan2(m[:, 1, 0], m[:, 0, 0])
    result: Floats = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return result


def in_picture(dofs: Floats, boxes: Floats, size: tuple[int, int], how: Rotation) -> Floats:
    """Turn poses as seen by a camera that looks at each box into poses for the camera of the whole picture.

    The change of camera is a shear, so what comes out is no rotation until `how` makes it one.

    Args:
        dofs: (N, 6), rotation vectors in radians and translations.
        boxes: (N, 4) in pixels.
        size: (height, width) of the picture, pixels.
        how: How a sheared rotation becomes one again.

    Returns:
        Poses (N, 6).
    """
    height, width = size
    focal = height + width
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + np.floor(sides / 2)
    change = np.tile(np.eye(3), (len(dofs), 1, 1))
    change[:, :2, 2] = (centre - (width // 2, height // 2)) / focal
    translation = dofs[:, 3:] * np.stack([np.ones(len(dofs))] * 2 + [focal / sides.sum(axis=1)], axis=1)
    moved = change @ translation[:, :, None]
    return np.hstack([vectors(change @ matrices(dofs[:, :3]), how), moved[:, :, 0]])


def project(dofs: Floats, points: Floats, size: tuple[int, int]) -> Floats:
    """Project points of a head into a picture. Points that are not in front of the camera come out as NaN.

    Args:
        dofs: Poses (N, 6), rotation vectors in radians and translations.
        points: (P, 3), of the head model.
        size: (height, width) of the picture, pixels.

    Returns:
        (N, P, 2) in pixels.
    """
    height, width = size
    seen = points @ matrices(dofs[:, :3]).transpose(0, 2, 1) + dofs[:, None, 3:]
    depth = np.where(seen[:, :, 2:] > 0, seen[:, :, 2:], np.nan)
    result: Floats = (height + width) * seen[:, :, :2] / depth + (width // 2, height // 2)
    return result


def boxes_around(points: Floats, roll: Floats, size: tuple[int, int]) -> Floats:
    """Make boxes of whole pixels around projected heads, forehead included.

    Sides are inside of the picture where those of a published box are.

    Args:
        points: (N, P, 2) in pixels.
        roll: (N,), third numbers of the rotation vectors, radians.
        size: (height, width) of the picture, pixels.

    Returns:
        Boxes (N, 4).
    """
    low, high = points.min(axis=1), points.max(axis=1)
    extent, centre = high - low, (low + high) / 2
    half = np.trunc(extent * _LARGER) / 2
    boxes = np.hstack([centre - half, centre + half])
    forehead = _FOREHEAD * extent
    below = np.abs(roll) > _UPSIDE_DOWN
    right, left = ~below & (roll > _LYING), ~below & (roll < -_LYING)
    boxes[:, 0] -= forehead[:, 0] * left
    boxes[:, 1] -= forehead[:, 1] * ~(below | right | left)
    boxes[:, 2] += forehead[:, 0] * right
    boxes[:, 3] += forehead[:, 1] * below
    boxes = np.trunc(boxes)
    return np.hstack([np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], (size[1], size[0]))])
