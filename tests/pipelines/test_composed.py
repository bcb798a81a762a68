"""A detector and 106 landmarks together, as a pipeline and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.models import registry
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.composed import ComposedPipeline
from facedeploy.pipelines.detect_files import detect_files
from facedeploy.pipelines.draw import draw
from facedeploy.pipelines.landmarks106 import Landmarks106Pipeline
from facedeploy.pipelines.load import load
from facedeploy.sources.published import load_reference
from tests.cli import test_cli
from tests.cli.test_cli import Run
from tests.conftest import GetArtifact
from tests.support.fill import fill
from tests.support.known_faces import Known, chart, known, misses, opened, seen

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
FIELDS = {"box", "score", "landmarks", "yaw", "pitch", "roll"}

run = test_cli.run


class Finds(Pipeline):
    """A detector that knows the faces, the first with the best score."""

    def __init__(self, faces: list[Known]) -> None:
        super().__init__({})
        self.faces = faces
        self.was_closed = False

    def _detect(self, image: Image) -> list[Face]:
        return [Face(f.found.box, 0.9 - 0.2 * i, f.found.landmarks, 1, 2, 3) for i, f in enumerate(self.faces)]

    def close(self) -> None:
        self.was_closed = True


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deterministic weights of the landmark network."""
    path = tmp_path_factory.mktemp("composed") / "landmarks.pth"
    torch.save({"state_dict": fill(registry.get("landmarks106").build()["landmarks"].state_dict())}, path)
    return path


@pytest.fixture(scope="module")
def landmarks(checkpoint: Path) -> Artifact:
    return facedeploy.export("landmarks106", "torch-fp32", checkpoint, checkpoint.with_name("landmarks106"))


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> Artifact:
    """The default model."""
    return facedeploy.export(registry.DEFAULT, "torch-fp32", output=checkpoint.with_name("detector"))


def test_faces_get_their_points_and_the_pose_of_the_landmarks_network() -> None:
    faces = [known(50 + 60 * i, 70 + 20 * i, 50, 100 * i) for i in range(3)]
    first, second = Finds(faces), opened(faces)
    with ComposedPipeline(first, {"points": second}, threshold=0.6) as pipeline:
        found = pipeline.detect(chart(192, 224))
        assert [len(looks) for looks in seen(second).looks] == [2] * 7
    assert [f.score for f in found] == [0.9, pytest.approx(0.7)]
    for face, truth in zip(found, faces, strict=False):
        assert face.box == truth.found.box
        assert face.landmarks is not None
        assert len(face.landmarks) == 106
        pixels, degrees = misses(face, truth)
        assert pixels < 0.5
        assert degrees < 0.1
    assert first.was_closed


@pytest.mark.slow
def test_command_gives_what_the_two_pipelines_give(
    run: Run, detector: Artifact, landmarks: Artifact, tmp_path: Path
) -> None:
    result = run("detect", detector.path, PHOTO, "--with", landmarks.path, "--json", "--save", tmp_path / "drawn")
    assert result.status == 0
    (record,) = result.objects
    image = read_picture(PHOTO)
    with load(detector) as first, load(landmarks) as second:
        assert isinstance(second, Landmarks106Pipeline)
        found = first.detect(image)
        want = [f.to_dict() for f in second.locate(image, found)]
    (face,) = record["faces"]
    assert set(face) == FIELDS
    assert len(face["landmarks"]) == 106
    assert record["faces"] == json.loads(json.dumps(want))
    assert face["yaw"] != found[0].to_dict()["yaw"]
    drawn = cv2.imread(str(tmp_path / "drawn" / PHOTO.name))
    assert drawn is not None
    assert drawn.shape == image.shape


def test_several_faces_of_a_cascade(
    checkpoint: Path, real_artifact: GetArtifact, landmarks: Artifact, tmp_path: Path
) -> None:
    image = group_photo(np.random.default_rng(2), 300, 900, 4)
    cv2.imwrite(str(tmp_path / "group.png"), image)
    cascade, options = real_artifact("torch-fp32").path, {"min_face": 24}
    (found,) = detect_files(cascade, [tmp_path / "group.png"], options=options, with_=[landmarks.path])
    assert len(found.faces) == 4
    with load_reference("landmarks106", checkpoint) as reference, load(cascade, options=options) as first:
        assert isinstance(reference, Landmarks106Pipeline)
        assert list(found.faces) == reference.locate(image, first.detect(image))


def test_many_points_are_drawn_as_fine_dots() -> None:
    face = known(100, 100, 110, 0)
    blank = np.full((200, 200, 3), 255, np.uint8)
    drawn = draw(blank, [Face((40, 40, 160, 160), 0.9, tuple(map(tuple, face.points)))])
    inside = drawn[45:155, 45:155]
    red = (inside[:, :, 2] > inside[:, :, 1].astype(int) + 40).sum()
    assert 106 < red < 10 * 106


def test_threshold_is_asked_before_the_landmarks(detector: Artifact, landmarks: Artifact) -> None:
    (found,) = detect_files(detector.path, [PHOTO], threshold=0.99, with_=[landmarks.path])
    assert found.faces == ()


def test_a_detector_is_no_artifact_for_landmarks(run: Run, detector: Artifact, landmarks: Artifact) -> None:
    result = run("detect", detector.path, PHOTO, "--with", detector.path)
    message = result.refused(detector.path, "mos-tiny", "--with", "landmarks106")
    assert message.count(". ") == 0
    run("detect", detector.path, PHOTO, "--with", detector.path / "missing").refused("missing")
    result = run("detect", detector.path, PHOTO, "--landmarks", detector.path)
    assert "--landmarks is deprecated and goes in 0.3.0: use --with" in result.err
    result.refused("--with")
    with pytest.raises(InputError, match="name a detector first"):
        list(detect_files(landmarks.path, [PHOTO], with_=[landmarks.path]))


def test_landmarks_alone_take_a_picture_for_a_face(run: Run, landmarks: Artifact) -> None:
    (record,) = run("detect", landmarks.path, PHOTO, "--json").objects
    (face,) = record["faces"]
    assert set(face) == FIELDS
    assert face["box"] == [0, 0, record["width"], record["height"]]
    assert face["score"] == 1


@pytest.mark.parametrize("option", ["rounds=0", "edge=sky", "nose=1"])
def test_options_of_landmarks_are_checked(option: str, run: Run, landmarks: Artifact) -> None:
    run("detect", landmarks.path, PHOTO, "-O", option).refused(option.split("=")[0])


def test_options_given_to_export_stay_in_the_artifact(checkpoint: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"rounds": 2}
    made = facedeploy.export("landmarks106", "torch-fp32", checkpoint, tmp_path / "made", options=options)
    assert Artifact.open(made.path).manifest.pipeline.config["rounds"] == 2
