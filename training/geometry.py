"""Similarities of the plane (rotate, scale, shift, mirror) on points, boxes and head poses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SWAPPED = [1, 0, 2, 4, 3]  # The five points of a mirrored face: eyes and corners of the mouth change places.


def similarity(scale: float, degrees: float, source: Floats, goal: Floats, mirrored: bool) -> Floats:
    """Matrix (2, 3) that takes the point `source` to `goal`, turned counter-clockwise as seen, and mirrored first."""
    angle = math.radians(degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])  # y goes down.
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    return np.hstack([turn, (goal - turn @ source)[:, None]])


def move_points(matrix: Floats, points: Floats) -> Floats:
    """(..., 2) -> (..., 2)."""
    moved: Floats = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def move_boxes(matrix: Floats, boxes: Floats) -> Floats:
    """(N, 4) corners. A face is round: its box keeps its sides when the picture turns."""
    centre = move_points(matrix, (boxes[:, :2] + boxes[:, 2:]) / 2)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return np.hstack([centre - half, centre + half])


def move_landmarks(matrix: Floats, landmarks: Floats) -> Floats:
    """(N, 5, 2) in the order of the picture: the left eye is the one on the left."""
    moved = move_points(matrix, landmarks)
    return moved[:, _SWAPPED] if np.linalg.det(matrix[:, :2]) < 0 else moved


def turn_pose(pose: Floats, degrees: float, mirrored: bool) -> Floats:
    """(N, 3) yaw, pitch, roll of heads whose picture is mirrored, then turned counter-clockwise as seen."""
    start = pose * (-1, 1, -1) if mirrored else pose
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    first = from_rotation(turn @ to_rotation(start))
    # The same rotation has two names; a head past a profile keeps the one that it is labelled with.
    second = np.stack([180 - first[:, 0], first[:, 1] + 180, first[:, 2] + 180], axis=1)
    both = np.stack([(a + 180) % 360 - 180 for a in (first, second)])
    change = np.abs((both - start + 180) % 360 - 180).sum(-1)
    named: Floats = np.where((change[0] <= change[1])[:, None], both[0], both[1])
    return named


def to_rotation(pose: Floats) -> Floats:
    """(N, 3) yaw, pitch, roll in degrees -> (N, 3, 3): head to camera, x to the right and y up.

    The convention of AFLW2000-3D's labels (pitch about x, then yaw about y, then roll about z, each clockwise): with
    it, and no other order or sign, do the turned-back 68 points of all its faces fall together.
    """
    yaw, pitch, roll = np.radians(pose).T
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    about_x = [[one, zero, zero], [zero, np.cos(pitch), np.sin(pitch)], [zero, -np.sin(pitch), np.cos(pitch)]]
    about_y = [[np.cos(yaw), zero, -np.sin(yaw)], [zero, one, zero], [np.sin(yaw), zero, np.cos(yaw)]]
    about_z = [[np.cos(roll), np.sin(roll), zero], [-np.sin(roll), np.cos(roll), zero], [zero, zero, one]]
    x, y, z = (np.array(m).transpose(2, 0, 1) for m in (about_x, about_y, about_z))
    rotation: Floats = x @ y @ z
    return rotation


def from_rotation(rotation: Floats) -> Floats:
    """The inverse of `to_rotation` for |yaw| < 90."""
    yaw = np.arcsin(-rotation[:, 0, 2].clip(-1, 1))
    pitch = np.arctan2(rotation[:, 1, 2], rotation[:, 2, 2])
    roll = np.arctan2(rotation[:, 0, 1], rotation[:, 0, 0])
    angles: Floats = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return angles
