"""From labelled pictures to a training picture: where, how large, how turned, and in what light."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.core.preprocess import Image
from training import geometry

if TYPE_CHECKING:
    from training.data import Picture

Rng = np.random.Generator
Draw = Callable[[], tuple[str, "Picture"]]
Floats = NDArray[np.float64]

_BLANK = (104, 117, 123)
_SMALLEST = 6.0  # Sides of a face in pixels under which nobody can tell.
# Sizes of the face that a crop is made for, in pixels of a picture of 256; log-uniform.
_SIZES = {"face_counting": (9.0, 180.0), "wider_face": (8.0, 130.0), "aflw2000": (28.0, 220.0)}
_ENLARGE = 3.5  # At most so many times: pictures are no better than they are.
_COVER = 0.8  # Of the canvas at least: smaller faces come from mosaics, not from blank space.
_TURN = {"face_counting": 12.0, "wider_face": 12.0, "aflw2000": 20.0}  # Standard deviation, degrees.


def compose(rng: Rng, draw: Draw, side: int) -> Picture:
    """A training picture of (side, side): one look at one picture, or several smaller ones, or nothing at all."""
    kind = rng.random()
    if kind < 0.07:
        made = _nothing(rng, side, side)
    elif kind < 0.72:
        made = look(rng, *draw(), side, side)
    else:
        made = _mosaic(rng, draw, side, 2 if kind < 0.96 else 3)
    return dataclasses.replace(made, image=light(rng, made.image))


def _mosaic(rng: Rng, draw: Draw, side: int, count: int) -> Picture:
    """Rows of looks, `count` by `count`, which meet at points drawn by lot."""
    cuts = (np.arange(1, count) + rng.uniform(-0.15, 0.15, (2, count - 1))) * side / count
    rows, columns = ([0, *(int(v) for v in line), side] for line in cuts)
    canvas = np.empty((side, side, 3), np.uint8)
    parts = []
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            room = bottom - top, right - left
            part = _nothing(rng, *room) if rng.random() < 0.08 else look(rng, *draw(), *room)
            canvas[top:bottom, left:right] = part.image
            parts.append(_moved(part, np.array([left, top], float)))
    return dataclasses.replace(_joined(parts), image=canvas)


def look(rng: Rng, source: str, picture: Picture, height: int, width: int) -> Picture:
    """A crop of a picture in which one of its faces, drawn by lot, has a size drawn by lot."""
    rows, columns = picture.image.shape[:2]
    low, high = _SIZES[source]
    goal_size = math.exp(rng.uniform(math.log(low), math.log(max(low, high * max(height, width) / 256))))
    if len(picture.boxes):
        box = picture.boxes[int(rng.integers(len(picture.boxes)))]
        centre, size = (box[:2] + box[2:]) / 2, float(np.sqrt(np.prod(box[2:] - box[:2])))
    else:
        centre, size = rng.uniform(0, 1, 2) * (columns, rows), 40.0
    cover = _COVER * max(height, width) / max(rows, columns)
    scale = float(np.clip(goal_size / max(size, 1), min(cover, _ENLARGE), _ENLARGE))
    # Where the picture is larger than the canvas the face may be anywhere; where it is smaller it keeps its place.
    goal = _place(rng, centre, scale, (columns, rows), (width, height))
    turn = rng.normal(0, _TURN[source]) if rng.random() < 0.5 else 0.0
    mirrored = rng.random() < 0.5
    if mirrored:
        goal[0] = width - goal[0]
    matrix = geometry.similarity(scale, turn, centre, goal, mirrored)
    image = _warp(picture.image, matrix, height, width, scale, rng)
    moved = dataclasses.replace(
        picture,
        image=image,
        boxes=geometry.move_boxes(matrix, picture.boxes),
        landmarks=geometry.move_landmarks(matrix, picture.landmarks),
        pose=geometry.turn_pose(picture.pose, turn, mirrored),
        ignored=geometry.move_boxes(matrix, picture.ignored),
    )
    moved.pose[np.abs(moved.pose).max(axis=1, initial=0) > 99] = np.nan  # Outside of the bins.
    return _occlude(rng, _visible(moved, height, width))


def _place(
    rng: Rng, centre: Floats, scale: float, size: tuple[int, int], canvas: tuple[int, int]
) -> NDArray[np.float64]:
    """Where on the canvas the point `centre` of a picture comes to lie."""
    goal = np.empty(2)
    for axis in range(2):
        length, room = size[axis] * scale, canvas[axis]
        if length <= room:
            start = rng.uniform(0, room - length)
        else:
            # Any crop that keeps the face's centre in the middle nine tenths.
            wanted = rng.uniform(0.05, 0.95) * room
            start = float(np.clip(wanted - centre[axis] * scale, room - length, 0))
        goal[axis] = start + centre[axis] * scale
    return goal


def _warp(image: Image, matrix: Floats, height: int, width: int, scale: float, rng: Rng) -> Image:
    """Shrinking by more than two goes over an average, or fine detail would alias in a way no camera makes it.

    What is enlarged is often sharpened: large faces are not blurred ones.
    """
    method = cv2.INTER_LINEAR if scale <= 1 else cv2.INTER_CUBIC
    if scale < 0.6:
        factor = max(scale * 1.2, 0.05)
        image = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ np.diag([1 / factor, 1 / factor, 1])
    border = _BLANK if rng.random() < 0.7 else tuple(int(v) for v in rng.integers(0, 255, 3))
    # OpenCV's coordinates are of the pixels' middles, and labels of their corners.
    shift = matrix[:, :2].sum(axis=1) / 2 - 0.5
    matrix = matrix + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
    warped = cv2.warpAffine(image, matrix, (width, height), flags=method, borderValue=border)
    if scale > 1.2 and rng.random() < 0.6:
        amount = rng.uniform(0.3, 1.3)
        blurred = cv2.GaussianBlur(warped, (0, 0), 0.6 * scale)
        warped = cv2.addWeighted(warped, 1 + amount, blurred, -amount, 0)
    return np.asarray(warped, np.uint8)


def _visible(picture: Picture, height: int, width: int) -> Picture:
    """Boxes end where the picture ends; what is hardly there, or too small, is neither face nor background."""
    boxes = picture.boxes
    limit = np.array([width, height, width, height], float)
    cut = boxes.clip(0, limit)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.prod(cut[:, 2:] - cut[:, :2], axis=1)
    shown = left > 0.45 * area
    large = np.min(cut[:, 2:] - cut[:, :2], axis=1, initial=np.inf) >= _SMALLEST
    kept = shown & large
    doubtful = ~kept & (left > 0)
    landmarks, pose = picture.landmarks.copy(), picture.pose.copy()
    partly = left < 0.8 * area
    landmarks[partly], pose[partly] = np.nan, np.nan
    return dataclasses.replace(
        picture,
        boxes=cut[kept],
        landmarks=landmarks[kept],
        pose=pose[kept],
        trust=picture.trust[kept],
        ignored=np.vstack([picture.ignored, boxes[doubtful]]).clip(0, limit),
    )


def _occlude(rng: Rng, picture: Picture) -> Picture:
    """Draw masks over the lower half of some faces."""
    if rng.random() > 0.4:
        return picture
    image = picture.image.copy()
    for points in picture.landmarks:
        if not np.isnan(points).any() and rng.random() < 0.6:
            _draw_mask(rng, image, points)
    return dataclasses.replace(picture, image=image)


def _draw_mask(rng: Rng, image: Image, points: Floats) -> None:
    """A cloth from the bridge of the nose to under the chin, from cheek to cheek."""
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    across, down = (points[1] - points[0]) / 2, mouth - eyes
    if np.hypot(*across) < 0.3 * np.hypot(*down):  # A profile: the points do not say where the cheeks are.
        across = np.array([down[1], -down[0]]) * 0.5
    top, bottom = rng.uniform(0.3, 0.6), rng.uniform(1.5, 1.9)
    shape = [
        (-1.7, top + 0.15),
        (0, top - 0.1),
        (1.7, top + 0.15),
        (1.5, 1.1),
        (0.7, bottom),
        (-0.7, bottom),
        (-1.5, 1.1),
    ]
    outline = np.array([eyes + u * across + v * down for u, v in shape])
    outline += rng.normal(0, 0.04, outline.shape) * np.hypot(*down)
    palette = [(235, 235, 235), (225, 190, 140), (40, 40, 40), tuple(rng.integers(0, 255, 3))]
    colour = tuple(int(v) for v in palette[int(rng.integers(len(palette)))])
    cv2.fillPoly(image, [np.round(outline * 8).astype(np.int32)], colour, cv2.LINE_AA, 3)
    if rng.random() < 0.5:  # Folds.
        shade = tuple(max(0, c - 30) for c in colour)
        for v in (0.8, 1.1, 1.4):
            ends = [eyes + u * across + v * down for u in (-1.1, 1.1)]
            first, second = (tuple(int(c) for c in e) for e in ends)
            cv2.line(image, first, second, shade, 1, cv2.LINE_AA)


def _nothing(rng: Rng, height: int, width: int) -> Picture:
    """A picture without faces: a pattern that repeats, or noise of some coarseness under shapes."""
    from training.data import Picture

    canvas = _pattern(rng, height, width) if rng.random() < 0.5 else _shapes(rng, height, width)
    none = np.zeros((0, 4))
    return Picture(canvas, none, np.zeros((0, 5, 2)), np.zeros((0, 3)), np.zeros(0), none)


def _pattern(rng: Rng, height: int, width: int) -> Image:
    """A few squares of colour, turned and repeated, as on cloth, tiles and fences: two dark spots are not eyes."""
    count, period = int(rng.integers(2, 5)), math.exp(rng.uniform(math.log(5), math.log(90)))
    patch = rng.integers(0, 255, (count, count, 3), np.uint8)
    method = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_CUBIC
    patch = np.asarray(cv2.resize(patch, None, fx=16, fy=16, interpolation=method), np.uint8)
    scale = period / len(patch)
    turn = cv2.getRotationMatrix2D((0.0, 0.0), rng.uniform(0, 360), scale)
    if scale < 1:
        patch = np.asarray(cv2.GaussianBlur(patch, (0, 0), 0.4 / scale, borderType=cv2.BORDER_REFLECT), np.uint8)
    warped = cv2.warpAffine(patch, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(warped, np.uint8)


def _shapes(rng: Rng, height: int, width: int) -> Image:
    side, coarse = max(height, width), int(2 ** rng.uniform(0, 6))
    small = rng.integers(0, 255, (max(2, side // coarse), max(2, side // coarse), 3), np.uint8)
    canvas = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    for _ in range(int(rng.integers(0, 12))):
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        x, y, a, b = (int(v) for v in rng.integers(0, side, 4))
        if rng.random() < 0.5:
            cv2.ellipse(canvas, (x, y), (1 + a // 4, 1 + b // 4), int(rng.integers(180)), 0, 360, colour, -1)
        else:
            cv2.rectangle(canvas, (x, y), (x + a // 2, y + b // 2), colour, -1)
    return canvas


def light(rng: Rng, image: Image) -> Image:
    """Exposure, colour, sharpness, noise and compression."""
    curve = np.linspace(0, 1, 256)
    gains = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    gamma, shift = math.exp(rng.normal(0, 0.2)), rng.uniform(-0.08, 0.08)
    table = (255 * (curve[:, None] ** gamma * gains + shift)).clip(0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, table[None]), np.uint8)
    if rng.random() < 0.3:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        part = 1.0 if rng.random() < 0.15 else rng.uniform(0, 0.6)
        image = np.asarray(cv2.addWeighted(grey, part, image, 1 - part, 0), np.uint8)
    if rng.random() < 0.12:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5)), np.uint8)
    if rng.random() < 0.12:
        noise = rng.normal(0, rng.uniform(2, 10), image.shape[:2])[..., None]
        image = (image + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return image


def _moved(picture: Picture, offset: Floats) -> Picture:
    return dataclasses.replace(
        picture,
        boxes=picture.boxes + np.tile(offset, 2),
        landmarks=picture.landmarks + offset,
        ignored=picture.ignored + np.tile(offset, 2),
    )


def _joined(parts: list[Picture]) -> Picture:
    names = ("boxes", "landmarks", "pose", "trust", "ignored")
    return dataclasses.replace(parts[0], **{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})
