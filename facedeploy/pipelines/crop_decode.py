"""From what a network says of crops to points, angles, embeddings and probabilities, for all faces at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.pipelines.crop_geometry import Places
from facedeploy.pipelines.crop_settings import Classes, Embedding, Meaning, Points, Pose
from facedeploy.runtimes.base import Array, Arrays

Floats = NDArray[np.float64]


def read(meaning: Meaning, outputs: Arrays, places: Places) -> list[dict[str, Any]]:
    """What each of N faces gets, as fields of `Face`.

    Args:
        meaning: Of the outputs, resolved.
        outputs: Of N crops, batch first.
        places: Where the crops are in the picture.
    """
    faces: list[dict[str, Any]] = [{} for _ in places.matrices]
    if meaning.points is not None:
        found = places.back(points(meaning.points, _of(outputs, meaning.points.output), places.size))
        for face, own in zip(faces, found.tolist(), strict=True):
            face["landmarks"] = tuple(map(tuple, own))
    if meaning.pose is not None:
        angles = pose(meaning.pose, [_of(outputs, name) for name in meaning.pose.outputs])
        for face, (yaw, pitch, roll) in zip(faces, angles.tolist(), strict=True):
            face.update(yaw=yaw, pitch=pitch, roll=roll)
    if meaning.embedding is not None:
        vectors = embedding(meaning.embedding, _of(outputs, meaning.embedding.output))
        for face, vector in zip(faces, vectors, strict=True):
            face["embedding"] = tuple(vector.tolist())
    if meaning.classes is not None:
        for face, row in zip(faces, classes(meaning.classes, _of(outputs, meaning.classes.output)), strict=True):
            face["classes"] = dict(zip(meaning.classes.names, row.tolist(), strict=True))
    return faces


def points(meaning: Points, output: Array, size: tuple[int, int]) -> Floats:
    """Points (N, K, 2), x and y in pixels of the network's input (height, width)."""
    if meaning.points_in == "heatmaps":
        return _peaks(output, size)
    flat = _flat(output)
    assert meaning.count is not None
    numbers = flat[:, meaning.first : meaning.first + meaning.count * meaning.values]
    planes = (len(flat), meaning.values, meaning.count)
    found = numbers.reshape(planes).transpose(0, 2, 1) if meaning.order == "planes" else None
    found = numbers.reshape(len(flat), meaning.count, meaning.values) if found is None else found
    found = found[:, :, 1::-1] if meaning.order == "yx" else found[:, :, :2]
    sides = np.array(size[::-1], np.float64)
    if meaning.points_in == "pixels":
        return found
    return (found + 1) / 2 * sides if meaning.points_in == "signed" else found * sides


def _peaks(maps: Array, size: tuple[int, int]) -> Floats:
    """The largest cell of each map (N, K, h, w), moved by a quarter of a cell to the larger of two neighbours; at an
    edge of the map it is not moved across.
    """
    count, points_, height, width = maps.shape
    cells = maps.reshape(count, points_, -1).argmax(axis=2)
    row, column = np.divmod(cells, width)
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    face, point = np.ogrid[:count, :points_]

    def at(down: int, right: int) -> Array:
        near: Array = padded[face, point, row + 1 + down, column + 1 + right]
        return near

    x = column + 0.5 + np.where(column % max(width - 1, 1), np.sign(at(0, 1) - at(0, -1)) / 4, 0)
    y = row + 0.5 + np.where(row % max(height - 1, 1), np.sign(at(1, 0) - at(-1, 0)) / 4, 0)
    found: Floats = np.stack([x * size[1] / width, y * size[0] / height], axis=2)
    return found


def pose(meaning: Pose, outputs: list[Array]) -> Floats:
    """Yaw, pitch and roll (N, 3), degrees, with the signs of `Face`."""
    flat = [_flat(output) for output in outputs]
    if len(flat) == 1:
        flat[0] = flat[0][:, meaning.first :]
    order = [("yaw", "pitch", "roll").index(name) for name in meaning.order]
    angles = np.empty((len(flat[0]), 3))
    if meaning.form in ("6d", "matrix"):
        angles[:] = _euler(flat[0])
    elif meaning.form == "bins":
        bins = flat if len(flat) == 3 else np.split(flat[0], 3, axis=1)
        angles[:, order] = np.stack([_expected(logits, meaning.bin_size) for logits in bins], axis=1)
    else:
        given = flat[0][:, :3] if len(flat) == 1 else np.concatenate(flat, axis=1)
        angles[:, order] = given if meaning.form == "degrees" else np.degrees(given)
    return angles * [-1 if name in meaning.negate else 1 for name in ("yaw", "pitch", "roll")]


def _expected(logits: Floats, size: float) -> Floats:
    """The mean angle of bins (N, B) of so many degrees around 0: 66 bins of 3 begin at -99, as Hopenet has them."""
    count = logits.shape[1]
    degrees: Floats = (_softmax(logits) @ np.arange(count) - count / 2) * size
    return degrees


def _euler(numbers: Floats) -> Floats:
    """Yaw, pitch and roll of rotations: (N, 9) by rows, or (N, 6) their first two columns, as 6DRepNet has them."""
    if numbers.shape[1] >= 9:
        rotation = numbers[:, :9].reshape(-1, 3, 3)
    else:
        x = _unit(numbers[:, :3])
        z = _unit(np.cross(x, numbers[:, 3:6]))
        rotation = np.stack([x, np.cross(z, x), z], axis=2)
    level = np.hypot(rotation[:, 0, 0], rotation[:, 1, 0])
    gimbal = level < 1e-6
    pitch = np.where(
        gimbal,
        np.arctan2(-rotation[:, 1, 2], rotation[:, 1, 1]),
        np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2]),
    )
    yaw = np.arctan2(-rotation[:, 2, 0], level)
    roll = np.where(gimbal, 0.0, np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0]))
    degrees: Floats = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return degrees


def embedding(meaning: Embedding, output: Array) -> Floats:
    """Vectors (N, D)."""
    return _unit(_flat(output)) if meaning.normalise else _flat(output)


def classes(meaning: Classes, output: Array) -> Floats:
    """Probabilities (N, C)."""
    numbers = _flat(output)[:, meaning.first : meaning.first + len(meaning.names)]
    if meaning.activation == "softmax":
        return _softmax(numbers)
    if meaning.activation == "sigmoid":
        shares: Floats = 1 / (1 + np.exp(-np.clip(numbers, -100, 100)))
        return shares
    return numbers


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Floats = vectors / np.maximum(lengths, 1e-12)
    return units


def _of(outputs: Arrays, name: str | None) -> Array:
    assert name is not None
    return outputs[name]


def _flat(output: Array) -> Floats:
    return output.reshape(len(output), -1).astype(np.float64)
