"""Compile the driver, and talk to it: cases in, answers out."""

from __future__ import annotations

import dataclasses
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Pixels
from facedeploy.package.constants import PROTOCOLS, BoxesConstants, MosConstants, PictureConstants, Selection
from facedeploy.package.crop_constants import CropConstants
from facedeploy.runtimes.base import Array
from tests.support import store

ROOT = Path(__file__).parents[2]
HEADERS = ROOT / "mobile" / "include"
DRIVER = Path(__file__).with_name("driver.cpp")
CROP_DRIVER = DRIVER.with_name("crop_driver.cpp")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow")
SANITIZERS = (
    "-O1",
    "-g",
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
    "-D_GLIBCXX_ASSERTIONS",
)

OK, BAD_CONFIG, BAD_PICTURE, WRONG_SIZE, NOT_FINITE, NETWORK_FAILED, BAD_FACES = range(7)
FORMATS = ("bgr", "rgb", "bgra", "rgba")
# Enumerations, in the order of crop_config.hpp.
EDGES = ("black", "mean", "replicate", "cut")
POINTS_IN = ("unit", "signed_unit", "pixels", "heatmaps")
ORDERS = ("xy", "yx", "planes")
FORMS = ("degrees", "radians", "bins", "columns", "matrix")
ACTIVATIONS = ("none", "softmax", "sigmoid")


def compile_driver(
    output: Path, *flags: str, headers: Path = HEADERS, compiler: str = "g++", source: Path = DRIVER
) -> Path:
    """Compile one source file against the headers, once; a warning is an error.

    Args:
        output: where the program is put.
        flags: of the compiler; the folders of `-I` count by what is in them.
        headers: the folder of the library.
        compiler: its command.
        source: a C++ file; what lies beside it counts too.
    """
    command = ["-std=c++17", *WARNINGS, *flags, f"-I{headers}", str(source)]
    return compile_once(output, compiler, command, [source.parent])


def compile_once(output: Path, compiler: str, command: Sequence[str], sources: Sequence[Path]) -> Path:
    """Run a compiler, unless it ran over the same content before; a failure fails the test.

    Args:
        output: where its result is put.
        compiler: its command.
        command: its words but for `-o`; what `-I` names counts by what is in it.
        sources: files and folders that the words name, and that count by what is in them.
    """
    folders = [Path(word[2:]) for word in command if word.startswith("-I")]
    own = {str(p) for p in (*folders, *sources)}

    def make(folder: Path) -> None:
        result = subprocess.run(
            [compiler, *command, "-o", folder / "made"], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr

    words = [word.rpartition("/")[2] if any(place in word for place in own) else word for word in command]
    key = [store.says(compiler), compiler, words, *folders, *sources]
    made = store.made_once("compiled", key, make) / "made"
    if made.is_file():  # -fsyntax-only makes none.
        shutil.copy(made, output)
    return output


def mutant(folder: Path, file: str, right: str, wrong: str, source: Path = DRIVER) -> Path:
    """A driver over headers with one thing wrong."""
    headers = folder / "include"
    shutil.copytree(HEADERS, headers)
    path = headers / "facedeploy" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(right) == 1, f"{file} has {right!r} {text.count(right)} times"
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    return compile_driver(folder / "driver", "-O0", "-Wno-error", headers=headers, source=source)


# --- what goes in ---


@dataclass(frozen=True)
class Picture:
    """A picture as a phone has it. padding: bytes after each row. size, stride, empty: what a wrong call says of it."""

    image: Pixels
    format: str = "bgr"
    padding: int = 0
    size: tuple[int, int] | None = None
    stride: int | None = None
    empty: bool = False

    def packed(self) -> bytes:
        height, width = self.image.shape[:2]
        pixels = self.image[:, :, ::-1] if self.format.startswith("rgb") else self.image
        if self.format.endswith("a"):
            alpha = np.full((height, width, 1), 77, np.uint8)
            pixels = np.concatenate([pixels, alpha], axis=2)
        rows = pixels.reshape(height, width * len(self.format))
        stride = rows.shape[1] + self.padding
        data = np.full((height, stride), 201, np.uint8)
        data[:, : rows.shape[1]] = rows
        # The last row ends where its pixels end, as in a part of a larger picture.
        raw = b"" if self.empty else data.tobytes()[: data.size - self.padding if data.size else 0]
        size = self.size or (height, width)
        head = struct.pack("<3iI", FORMATS.index(self.format), *size, stride if self.stride is None else self.stride)
        return head + array(np.frombuffer(raw, np.uint8))


@dataclass(frozen=True)
class Step:
    """A feature map as a backend lays it out: `gap` floats of nothing after each channel."""

    values: Array
    gap: int = 0
    shape: tuple[int, int, int] | None = None
    step: int | None = None

    def packed(self) -> bytes:
        channels, height, width = self.values.shape
        laid = np.full((channels, height * width + self.gap), np.nan, np.float32)
        laid[:, : height * width] = self.values.reshape(channels, -1)
        step = laid.shape[1] if self.step is None else self.step
        flat = laid.reshape(-1)[: laid.size - self.gap]
        return struct.pack("<3iI", *(self.shape or self.values.shape), step) + array(flat)


@dataclass(frozen=True)
class MosCase:
    """angles: what the pose network answers, face after face; None for `weigh`."""

    constants: MosConstants
    picture: Picture
    boxes: Array
    scores: Array
    landmarks: Array
    features: tuple[Step, ...]
    angles: Array | None = None
    detector_fails: bool = False
    pose_fails: bool = False

    def packed(self) -> bytes:
        c = self.constants
        numbers = (c.anchors, c.channels, c.patch_channels, c.level, c.pose_batch)
        arrays = b"".join(_floats(a) for a in (self.boxes, self.scores, self.landmarks))
        angles = _floats(np.zeros(0) if self.angles is None else self.angles)
        return (
            b"M"
            + _common(c.input, c.selection)
            + struct.pack("<5i", *numbers)
            + self.picture.packed()
            + arrays
            + b"".join(f.packed() for f in self.features)
            + struct.pack("<2i", self.detector_fails, self.pose_fails)
            + angles
        )


@dataclass(frozen=True)
class BoxesCase:
    """arrays: boxes, scores, landmarks, yaw, pitch, roll."""

    constants: BoxesConstants
    picture: Picture
    arrays: tuple[Array, ...]

    def packed(self) -> bytes:
        values = dataclasses.astuple(self.constants)[2:]
        head = b"B" + _common(self.constants.input, self.constants.selection) + struct.pack("<8i", *values)
        return head + self.picture.packed() + b"".join(map(_floats, self.arrays))


@dataclass(frozen=True)
class PictureCase:
    input: PictureConstants
    picture: Picture

    def packed(self) -> bytes:
        return b"P" + self.picture.packed() + _input(self.input)


@dataclass(frozen=True)
class SuppressionCase:
    selection: Selection
    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]

    def packed(self) -> bytes:
        return b"N" + _selection(self.selection) + _floats(self.scores) + array(self.boxes.astype("<f8").reshape(-1))


@dataclass(frozen=True)
class CropCase:
    """arrays: points, pose 3 times, embedding, classes of all faces, (N, size) each. alone: the picture is the crop."""

    constants: CropConstants
    picture: Picture
    faces: Sequence[Face]
    arrays: tuple[Array, ...]
    alone: bool = False

    def packed(self) -> bytes:
        c = self.constants
        edge, align = EDGES.index(c.place.edge), ("none", "arcface").index(c.place.align)
        place = dataclasses.astuple(c.place)[:5]
        points, pose, classes = c.points, c.pose, c.classes
        angles = [v for angle in (pose.yaw, pose.pitch, pose.roll) for v in dataclasses.astuple(angle)]
        config = (
            _input(c.input)
            + struct.pack("<4d3i", *place, align, edge)
            + struct.pack("<6i", *dataclasses.astuple(points)[:6])
            + struct.pack("<2i", POINTS_IN.index(points.points_in), ORDERS.index(points.order))
            + struct.pack("<4id6i", pose.outputs, pose.size, pose.first, FORMS.index(pose.form), pose.bin_size, *angles)
            + struct.pack("<2i", c.embedding.size, c.embedding.normalise)
            + struct.pack("<3i", classes.size, classes.first, ACTIVATIONS.index(classes.activation))
        )
        faces = b"".join(
            struct.pack("<4df", *f.box, f.score) + array(np.array(f.landmarks or (), "<f8").reshape(-1))
            for f in self.faces
        )
        return (
            b"C"
            + struct.pack("<i", len(classes.names))
            + config
            + self.picture.packed()
            + struct.pack("<2i", self.alone, len(self.faces))
            + faces
            + b"".join(map(_floats, self.arrays))
        )


Case = MosCase | BoxesCase | PictureCase | SuppressionCase | CropCase


def array(values: Array) -> bytes:
    return struct.pack("<I", values.size) + values.tobytes()


def _floats(values: Array) -> bytes:
    return array(np.ascontiguousarray(values, "<f4").reshape(-1))


def _input(value: PictureConstants) -> bytes:
    numbers = value.height, value.width, PROTOCOLS.index(value.protocol), ("bgr", "rgb").index(value.colours)
    return struct.pack("<4i6f", *numbers, *value.mean, *value.scale)


def _selection(value: Selection) -> bytes:
    return struct.pack("<2d2i", *dataclasses.astuple(value))


def _common(value: PictureConstants, selection: Selection) -> bytes:
    return _input(value) + _selection(selection)


# --- what comes out ---


@dataclass(frozen=True)
class Faces:
    status: int
    faces: list[Face]


@dataclass(frozen=True)
class Planes:
    scale: tuple[float, float]
    values: Array


@dataclass(frozen=True)
class Looked:
    """What a network said of faces. classes: named by their places. seen: what it was given, (calls, 3, h, w)."""

    status: int
    faces: list[Face]
    seen: Array


@dataclass
class _Reader:
    data: bytes
    at: int = 0

    def unpack(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def array(self, kind: str, parts: int = 1) -> Array:
        (count,) = self.unpack("i")
        values = np.frombuffer(self.data, kind, count * parts, self.at)
        self.at += values.nbytes
        return values

    def face(self) -> Face:
        box = self.unpack("4d")
        score, *angles = self.unpack("4f")
        points = self.array("<f8", 2).reshape(-1, 2).tolist()
        yaw, pitch, roll = (None if np.isnan(v) else v for v in angles)
        landmarks = tuple((x, y) for x, y in points) or None
        return Face((box[0], box[1], box[2], box[3]), score, landmarks, yaw, pitch, roll)

    def told(self, face: Face) -> Face:
        embedding, shares = self.array("<f4").tolist(), self.array("<f8").tolist()
        classes = {str(i): share for i, share in enumerate(shares)} or None
        return dataclasses.replace(face, embedding=tuple(embedding) or None, classes=classes)

    def answer(self, case: Case) -> Faces | Planes | Looked | list[int]:
        if isinstance(case, PictureCase):
            x, y = self.unpack("2d")
            planes = np.stack([self.array("<f4") for _ in range(3)])
            return Planes((x, y), planes.reshape(3, case.input.height, case.input.width))
        if isinstance(case, SuppressionCase):
            kept: list[int] = self.array("<i4").tolist()
            return kept
        status, count = self.unpack("2i")
        faces = [self.face() for _ in range(count)]
        if isinstance(case, CropCase):
            told = [self.told(face) for face in faces]
            size = case.constants.input.height, case.constants.input.width
            return Looked(status, told, self.array("<f4").reshape(-1, 3, *size))
        return Faces(status, faces)


@dataclass(frozen=True)
class Driver:
    """A compiled driver; `prefix` runs it, where this machine cannot."""

    path: Path
    prefix: tuple[str, ...] = field(default=())

    def run(self, cases: Sequence[Case]) -> list[Any]:
        """The answers to some cases, all in one process."""
        stdin = b"".join(case.packed() for case in cases)
        command = [*self.prefix, str(self.path)]
        result = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120)
        assert result.returncode == 0, result.stderr.decode(errors="replace")[-4000:]
        reader = _Reader(result.stdout)
        answers = [reader.answer(case) for case in cases]
        assert reader.at == len(reader.data)
        return answers

    def faces(self, cases: Sequence[MosCase] | Sequence[BoxesCase]) -> list[Faces]:
        return self.run(cases)

    def looked(self, cases: Sequence[CropCase]) -> list[Looked]:
        return self.run(cases)

    def planes(self, cases: Sequence[PictureCase]) -> list[Planes]:
        return self.run(cases)
