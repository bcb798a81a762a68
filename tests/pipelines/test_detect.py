"""Faces in one call, from an artifact or an open pipeline; and how pipelines, runtimes and artifacts are printed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.pipelines.composed import ComposedPipeline
from facedeploy.pipelines.landmarks106 import Landmarks106Config, Landmarks106Pipeline


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return facedeploy.export("mos-tiny", "torch-fp32", output=tmp_path_factory.mktemp("made") / "tiny")


@pytest.fixture(scope="module")
def photo() -> Image:
    return group_photo(np.random.default_rng(4), 240, 320, 2)


@pytest.fixture(scope="module")
def expected(made: Artifact, photo: Image) -> list[Face]:
    with facedeploy.load(made, threads=1) as pipeline:
        faces = pipeline.detect(photo)
    assert faces
    return faces


def test_one_picture_gives_its_faces(made: Artifact, photo: Image, expected: list[Face], tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "photo.png"), photo)
    assert facedeploy.detect(made, photo, threads=1) == expected
    assert facedeploy.detect(made.path, tmp_path / "photo.png", threads=1) == expected
    assert facedeploy.detect(str(made.path), str(tmp_path / "photo.png"), threads=1) == expected


def test_several_pictures_give_a_list_each(made: Artifact, photo: Image, expected: list[Face], tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "photo.png"), photo)
    black = np.zeros((64, 64, 3), np.uint8)
    with facedeploy.load(made, threads=1) as pipeline:
        faces = facedeploy.detect(pipeline, [photo, black, tmp_path / "photo.png"])
        assert not pipeline.runtimes["detector"].closed
    assert faces == [expected, [], expected]
    assert facedeploy.detect(made, []) == []


def test_threshold_and_options_reach_the_pipeline(made: Artifact, photo: Image, expected: list[Face]) -> None:
    scores = sorted(face.score for face in expected)
    assert len(facedeploy.detect(made, photo, threads=1, threshold=scores[-1])) == 1
    assert facedeploy.detect(made, photo, threads=1, threshold=scores[-1] + 1e-6) == []
    assert facedeploy.detect(made, photo, threads=1, options={"score_threshold": scores[-1] + 1e-6}) == []


def test_a_file_that_is_not_there_is_named(made: Artifact) -> None:
    with facedeploy.load(made, threads=1) as pipeline, pytest.raises(InputError, match=r"no picture none\.png"):
        facedeploy.detect(pipeline, "none.png")


def test_open_pipeline_takes_no_options(made: Artifact, photo: Image) -> None:
    with facedeploy.load(made, threads=1) as pipeline, pytest.raises(InputError, match="open already"):
        facedeploy.detect(pipeline, photo, threads=2)


def test_how_they_are_printed(made: Artifact) -> None:
    size = f"{made.size / 1e6:.1f} MB"
    assert repr(made) == f"<Artifact: mos-tiny for torch-fp32 in {made.path} (detector, pose; {size})>"
    pipeline = facedeploy.load(made, threads=1)
    runtime = pipeline.runtimes["detector"]
    name = type(pipeline).__name__
    assert repr(pipeline) == f"<{name}: detector, pose on torch, 1 thread>"
    assert repr(runtime) == "<TorchRuntime: detector on torch, 1 thread>"
    second = Landmarks106Pipeline({"landmarks": runtime}, Landmarks106Config())
    both = ComposedPipeline(pipeline, {"points": second})
    assert repr(both) == f"<ComposedPipeline: {pipeline!r}, then {second!r}>"
    pipeline.close()
    assert repr(pipeline) == f"<{name}: detector, pose on torch, 1 thread (closed)>"
    assert repr(runtime) == "<TorchRuntime: detector on torch, 1 thread (closed)>"
    assert "closed" in repr(both)
    with facedeploy.load(made, threads=2) as pipeline:
        assert "2 threads" in repr(pipeline)
