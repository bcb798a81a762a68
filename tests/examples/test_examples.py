"""Every program in `examples/` runs, on small inputs, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedeploy.core.boxes import iou
from facedeploy.core.face import Face

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTO = EXAMPLES / "astronaut.jpg"
FACE = Face((174.0, 62.0, 276.0, 168.0), 1.0)  # As the default model finds it in the photo at several sizes.
SMALL = ("--input-size", "96", "96")


def run(example: str, *arguments: str | Path, folder: Path) -> str:
    """What it prints."""
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    path = os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def boxes(text: str) -> list[Face]:
    """The boxes in lines that end in four numbers."""
    found = re.findall(r"(\d+)\D{1,2}(\d+)\D{1,2}(\d+)\D{1,2}(\d+)(?=[],])", text)
    return [Face((float(a), float(b), float(c), float(d)), 1.0) for a, b, c, d in found]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fewest pictures that calibration takes: parts of the photo, some of them mirrored, lighter or darker."""
    folder = tmp_path_factory.mktemp("photos")
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    for i in range(10):
        part = photo[4 * i : 400 + 4 * i, 8 * i : 440 + 8 * i, :]
        part = part[:, ::-1] if i % 2 else part
        cv2.imwrite(str(folder / f"{i}.png"), cv2.convertScaleAbs(part, alpha=1 - 0.03 * i))
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What detect_faces.py leaves, in a folder `found` of this one, and what it prints."""
    folder = tmp_path_factory.mktemp("detect")
    return folder, run("detect_faces.py", PHOTO, "--target", "onnx-fp32", *SMALL, folder=folder)


@pytest.mark.slow
def test_detect_faces(found: tuple[Path, str]) -> None:
    folder, out = found
    (face,) = boxes(out)
    assert iou(np.array(face.box), np.array(FACE.box)) > 0.8
    drawn, photo = cv2.imread(str(folder / "found" / PHOTO.name)), cv2.imread(str(PHOTO))
    assert drawn is not None
    assert photo is not None
    assert drawn.shape == photo.shape
    assert (drawn != photo).any()


@pytest.mark.slow
def test_own_network(tmp_path: Path) -> None:
    out = run("own_network.py", PHOTO, "--target", "onnx-fp32", folder=tmp_path)
    (face,) = boxes(out)
    assert iou(np.array(face.box), np.array(FACE.box)) > 0.6
    assert out.endswith("verified\n")


@pytest.mark.slow
def test_compare_targets(found: tuple[Path, str]) -> None:
    """One of the artifacts is there already."""
    pytest.importorskip("openvino")
    targets = ("onnx-fp32", "openvino-fp32")
    options = ("--targets", *targets, *SMALL, "--rounds", "2", "--output", "found")
    out = run("compare_targets.py", PHOTO, *options, folder=found[0])
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [*targets]
    assert all("0.0 points of AP lost" in line for line in lines[:2])
    assert lines[2].startswith("fastest beyond doubt: ")


@pytest.mark.slow
def test_int8_with_your_pictures(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = run("int8_with_your_pictures.py", photos, *SMALL, "--force", folder=tmp_path)
    assert "calibrated with 8 pictures" in out
    assert "lost on pictures held back: " in out
    assert out.endswith("verified\n")


def test_every_example_has_a_test_and_a_line_in_the_list() -> None:
    tests, listed = Path(__file__).read_text(encoding="utf-8"), (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for file in EXAMPLES.iterdir():
        if file.suffix in (".py", ".toml", ".jpg"):
            assert f"`{file.name}`" in listed
        if file.suffix == ".py":
            assert f'run("{file.name}"' in tests
