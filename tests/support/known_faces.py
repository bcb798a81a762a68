"""Faces of which everything is known, on a picture whose colours say where they are, and a network that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.models import registry
from facedeploy.models.mean_face import MEAN_FACE
from facedeploy.pipelines.landmarks106 import Landmarks106Config, Landmarks106Pipeline
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions

Floats = NDArray[np.float64]

SIDE = 96
FIVE = [104, 105, 54, 84, 90]  # Eyes, tip of the nose, corners of the mouth.


_BLOCK, _STEP = 16, 16  # Pixels of a block; levels of a pixel.
_TOP = _STEP * (_BLOCK - 1)


def chart(height: int, width: int) -> Image:
    """A picture that says where each of its points is, to a thirtieth of a pixel. The sides are multiples of 32, and at
    most 256.

    Blue rises and falls along x, and green along y, by 16 levels a pixel, block after block of 16 pixels; red counts
    the blocks. Where blue or green turns, and so at every edge, the colours say nothing.
    """
    y, x = np.mgrid[:height, :width]
    wave = [np.where(v // _BLOCK % 2, _TOP - _STEP * (v % _BLOCK), _STEP * (v % _BLOCK)) for v in (x, y)]
    return np.stack([*wave, x // _BLOCK + _BLOCK * (y // _BLOCK)], axis=2).astype(np.uint8)


@dataclass(frozen=True)
class Known:
    """points (106, 2) in the picture; angles in degrees, as of `Face`."""

    points: Floats
    yaw: float = 10.0
    pitch: float = -5.0
    roll: float = 0.0

    @property
    def found(self) -> Face:
        """What a detector gives of it."""
        box = (*self.points.min(axis=0).tolist(), *self.points.max(axis=0).tolist())
        return Face(box, 0.9, tuple(map(tuple, self.points[FIVE].tolist())))


def known(x: float, y: float, size: float, roll: float) -> Known:
    """A mean face around (x, y), `size` pixels large, turned clockwise by `roll` degrees."""
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    upright = (np.array(MEAN_FACE) - (0.5, 0.55)) * size
    return Known(upright @ np.array([[cos, sin], [-sin, cos]]) + (x, y), roll=roll)


@dataclass(frozen=True)
class Look:
    """What a crop shows: pixel (i, j) of it is `matrix @ (i, j) + origin` in the picture."""

    matrix: Floats
    origin: Floats

    @property
    def scale(self) -> Floats:
        """Pixels of the picture a pixel of the crop, across and down."""
        return np.asarray(np.linalg.norm(self.matrix, axis=0))

    @property
    def turned(self) -> float:
        """Degrees that the picture is turned counter-clockwise."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))


@dataclass
class Seen:
    """looks: of every call, one a crop. pictures: the crops."""

    looks: list[list[Look]] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)


class Knows(Runtime):
    """Answers of a crop of `chart` as a perfect network would. off: pixels of the crop that its points are wrong by."""

    backend = "knows"
    concurrent = True

    def __init__(self, faces: Sequence[Known], off: float = 0.0) -> None:
        super().__init__(
            registry.get("landmarks106").network_specs()[0],
            RuntimeOptions(1, preprocess=Landmarks106Config().preprocess),
        )
        self.faces, self.off, self.seen = faces, off, Seen()

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        pixels = self._pixels(inputs)
        self.seen.pictures.extend(pixels)
        looks = [_read(p) for p in pixels]
        self.seen.looks.append(looks)
        answers = [self._answer(look) for look in looks]
        return {k: np.array([a[i] for a in answers], np.float32) for i, k in enumerate(("points", "pose"))}

    def _pixels(self, inputs: Mapping[str, Array]) -> Image:
        mean = np.array(self._preprocess.mean)[:, None, None]
        values = (inputs["image"] / self._preprocess.scale + mean).transpose(0, 2, 3, 1)
        return np.asarray(np.round(values).astype(np.uint8))

    def _answer(self, look: Look) -> tuple[Floats, Floats]:
        middle = look.matrix @ np.full(2, (SIDE - 1) / 2) + look.origin
        face = min(self.faces, key=lambda f: float(np.linalg.norm(f.points.mean(axis=0) - middle)))
        pixel = (face.points - look.origin) @ np.linalg.inv(look.matrix).T
        # The published unit: 0 is the middle of the crop's first pixel before it was resized, not after.
        points = pixel + 0.5 - 0.5 / look.scale + self.off
        pose = np.radians([face.pitch, look.turned - face.roll, face.yaw])
        return points.ravel(), pose

    def _close(self) -> None:
        pass


class Blind(Knows):
    """Only keeps what it is shown."""

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        self.seen.pictures.extend(self._pixels(inputs))
        return {t.name: np.zeros((len(inputs["image"]), *t.shape[1:]), np.float32) for t in self.spec.outputs}  # type: ignore[arg-type]


def _read(pixels: Image) -> Look:
    """Where the pixels of a crop of `chart` come from."""
    wave, code = pixels[:, :, :2].astype(int), pixels[:, :, 2]
    j, i = np.nonzero(((wave > _STEP) & (wave < _TOP - _STEP)).all(axis=2))
    block = np.stack([code[j, i] % _BLOCK, code[j, i] // _BLOCK], axis=1)
    level = wave[j, i]
    where = block * _BLOCK + np.where(block % 2, _TOP - level, level) / _STEP
    places = np.stack([i, j, np.ones_like(i)], axis=1)
    solution = np.linalg.lstsq(places, where, rcond=None)[0].astype(np.float64)
    return Look(solution[:2].T, solution[2])


def opened(faces: Sequence[Known], config: Landmarks106Config | None = None, off: float = 0.0) -> Landmarks106Pipeline:
    return Landmarks106Pipeline({"landmarks": Knows(faces, off)}, config or Landmarks106Config())


def seen(pipeline: Landmarks106Pipeline) -> Seen:
    runtime = pipeline.runtimes["landmarks"]
    assert isinstance(runtime, Knows)
    return runtime.seen


def misses(face: Face, truth: Known) -> tuple[float, float]:
    """The largest error of a coordinate in pixels, and of an angle in degrees."""
    assert face.landmarks is not None
    wrong = [getattr(face, name) - getattr(truth, name) for name in ("yaw", "pitch", "roll")]
    angle = max(abs((v + 180) % 360 - 180) for v in wrong)
    return float(np.abs(np.array(face.landmarks) - truth.points).max()), angle


def published_boxes(
    face: Face, answers: Iterator[Floats], height: int, width: int
) -> Iterator[tuple[int, int, int, int]]:
    """The crops of the published pipeline for one face, one coordinate after the other.

    answers: its points (106, 2) on the turned canvas after each look.
    """
    x1, y1, x2, y2 = face.box
    dx, dy = int((x2 - x1) * 0.1), int((y2 - y1) * 0.1)
    left, top = max(x1 - dx, 0.0), max(y1 - dy, 0.0)
    more_x, more_y = dx + min(x1 - dx, 0), dy + min(y1 - dy, 0)
    right = min(max(left + (x2 - x1) + 2 * more_x, 0), width - 1)
    bottom = min(max(top + (y2 - y1) + 2 * more_y, 0), height - 1)
    assert face.landmarks is not None
    (ax, ay), (bx, by) = face.landmarks[:2]
    angle = np.arctan2(by - ay, bx - ax)
    corners = [*face.landmarks, (left, top), (right, top), (left, bottom), (right, bottom)]
    around = [turn_point(p, angle, height, width) for p in corners]
    xs, ys = [p[0] for p in around], [p[1] for p in around]
    across, down = (np.clip([min(v), max(v)], 0, most).astype(int) for v, most in ((xs, width), (ys, height)))
    yield across[0], down[0], across[1], down[1]
    for points in answers:
        (u, v), (far_u, far_v) = points.min(axis=0), points.max(axis=0)
        w, h = far_u - u + 1, far_v - v + 1
        u, v = max(0, int(u - 0.05 * w)), max(0, int(v - 0.05 * h))
        yield min(u, width), min(v, height), min(u + int(1.1 * w), width), min(v + int(1.1 * h), height)


def turn_point(point: Sequence[float], angle: float, height: int, width: int) -> tuple[float, float]:
    """Where a point goes when the picture is turned counter-clockwise about its middle."""
    x, y = point[0] - width // 2, point[1] - height // 2
    cos, sin = np.cos(angle), np.sin(angle)
    return float(cos * x + sin * y + width // 2), float(cos * y - sin * x + height // 2)
