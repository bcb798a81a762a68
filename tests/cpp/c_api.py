"""The C functions of a packaged folder: compile them over the stand-in for ncnn, and call them through c_api.c."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy.core.face import Face
from facedeploy.core.preprocess import Pixels
from tests.cpp import stream

HERE = Path(__file__).parent
MEMORY = HERE / "memory"  # The stand-in that also loads from memory.
PROGRAM = HERE / "c_api.c"
FORMATS = ("bgr", "rgb", "bgra", "rgba")


def compile_c(
    output: Path, sources: Sequence[Path], includes: Sequence[Path], *flags: str, compiler: str = "g++"
) -> Path:
    """Compile C++ sources, and c_api.c as C, to one program; a warning is an error."""
    if shutil.which(compiler) is None or shutil.which("gcc") is None:
        pytest.skip(f"no {compiler} or gcc: the C functions are not compiled")
    found = [f"-I{path}" for path in (*includes, MEMORY)]
    program = output.with_suffix(".o")
    c = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wpedantic", *found, "-c", str(PROGRAM)]
    stream.compile_once(program, "gcc", c, [PROGRAM])
    cpp = ["-std=c++17", *stream.WARNINGS, *flags, *found, *map(str, sources), str(program)]
    return stream.compile_once(output, compiler, cpp, [*sources, program])


@dataclass(frozen=True)
class Raw:
    """A picture in a file, as c_api.c reads it. What is None is as the picture is."""

    file: Path | str
    height: int
    width: int
    stride: int
    format: int

    @property
    def words(self) -> list[str]:
        return [str(self.file), str(self.height), str(self.width), str(self.stride), str(self.format)]


def raw(path: Path, image: Pixels, form: str = "bgr", padding: int = 0) -> Raw:
    """Write a picture that is BGR with the colours and the row padding that a phone has; the last row has none."""
    height, width = image.shape[:2]
    pixels = image[:, :, ::-1] if form.startswith("rgb") else image
    if form.endswith("a"):
        pixels = np.concatenate([pixels, np.full((height, width, 1), 77, np.uint8)], axis=2)
    rows = np.full((height, width * len(form) + padding), 201, np.uint8)
    rows[:, : width * len(form)] = pixels.reshape(height, -1)
    path.write_bytes(rows.tobytes()[: rows.size - padding])
    return Raw(path, height, width, rows.shape[1], FORMATS.index(form))


def picture(height: int, width: int) -> Pixels:
    """A picture with many edges."""
    noise = np.random.default_rng(height * width).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height)), np.uint8)


def call(program: Path, how: str, folder: Path | str, pictures: Sequence[Raw] = (), threads: int = 1) -> list[Any]:
    """A row for each picture, or one that says why the model does not open."""
    words = [str(program), how, str(folder), str(threads), *(w for p in pictures for w in p.words)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def faces(row: dict[str, Any]) -> list[Face]:
    return [read_face(face) for face in row["faces"]]


def read_face(row: dict[str, Any]) -> Face:
    landmarks = tuple((x, y) for x, y in row.get("landmarks", ())) or None
    return Face(tuple(row["box"]), row["score"], landmarks, row.get("yaw"), row.get("pitch"), row.get("roll"))
