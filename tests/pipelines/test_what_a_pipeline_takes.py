"""What a pipeline takes: pictures however they lie in memory, one or many, until it is closed, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import facedeploy
from facedeploy import pipelines
from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.pipelines.base import Looker, Pipeline
from facedeploy.pipelines.composed import ComposedPipeline
from tests.conftest import GetArtifact
from tests.support.exported import tiny
from tests.support.known_faces import Known, chart, known, opened

SIZE = (240, 320)
TARGETS = ("torch-fp32", "onnx-fp32", "openvino-fp32", "ncnn-fp32")
FACE = Face((10, 10, 60, 60), 0.9)


class Finds(Pipeline):
    def __init__(self, faces: list[Known]) -> None:
        super().__init__({})
        self.faces = [f.found for f in faces]

    def _detect(self, image: Image) -> list[Face]:
        return self.faces


def chain() -> ComposedPipeline:
    faces = [known(50, 70, 50, 10)]
    return ComposedPipeline(Finds(faces), {"points": opened(faces)})


@pytest.fixture(scope="module", params=TARGETS)
def pipeline(request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    with facedeploy.load(tiny(request.param, SIZE), threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def photo() -> Image:
    return group_photo(np.random.default_rng(4), *SIZE, 2)


WRONG: dict[str, tuple[Any, str]] = {
    "None": (None, "None, which cv2.imread gives for a file that it cannot read"),
    "path": ("face.png", "a path: read it with cv2.imread('face.png')"),
    "float": (np.ones((8, 8, 3)), "from 0 to 1: give (image * 255)"),
    "grey": (np.zeros((8, 8), np.uint8), "cv2.COLOR_GRAY2BGR"),
    "alpha": (np.zeros((8, 8, 4), np.uint8), "cv2.COLOR_BGRA2BGR"),
    "batch": (np.zeros((2, 8, 8, 3), np.uint8), "detect_batch"),
}
CALLS: dict[str, Callable[[Any], object]] = {
    "detect of a chain": lambda image: chain().detect(image),
    "detect of a looker": lambda image: opened([]).detect(image),
    "locate": lambda image: opened([]).locate(image, [FACE]),
    "locate of no face": lambda image: opened([]).locate(image, []),
    "detect_batch": lambda image: chain().detect_batch([chart(90, 90), image]),
    "draw": lambda image: facedeploy.draw(image, [FACE]),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("call", CALLS)
def test_what_takes_a_picture_refuses_what_is_none(call: str, wrong: str) -> None:
    image, words = WRONG[wrong]
    with pytest.raises(InputError, match=re.escape(words)) as refused:
        CALLS[call](image)
    assert ("picture 1 of the batch" in str(refused.value)) == (call == "detect_batch")


@pytest.mark.parametrize("wrong", ["None", "float", "grey", "alpha", "batch"])
def test_one_call_refuses_the_same(wrong: str) -> None:
    """`facedeploy.detect` reads paths, and takes what is iterable for several pictures, but no array."""
    image, words = WRONG[wrong]
    for given in (image, [image]):
        with pytest.raises(InputError, match=re.escape(words)):
            facedeploy.detect(chain(), given)


def test_no_family_has_a_way_around_the_check() -> None:
    kinds: list[type[Any]] = [ComposedPipeline, *(made for _, made in pipelines._FAMILIES.values())]
    for kind in kinds:
        assert (kind.detect, kind.detect_batch) == (Pipeline.detect, Pipeline.detect_batch)
        if issubclass(kind, Looker):
            assert kind.locate is Looker.locate


def test_a_picture_may_lie_in_memory_as_it_likes(pipeline: Pipeline, photo: Image) -> None:
    """Pillow gives read-only arrays in RGB, whose channels a view turns around; parts and mirror images are views."""
    wanted = pipeline.detect(photo)
    assert wanted
    frozen = photo.copy()
    frozen.flags.writeable = False
    turned = np.ascontiguousarray(photo[..., ::-1])
    turned.flags.writeable = False
    wide = np.zeros((SIZE[0], 2 * SIZE[1], 3), np.uint8)
    wide[:, 1::2] = photo
    for same in (frozen, turned[..., ::-1], np.asfortranarray(photo), wide[:, 1::2], photo.view(np.recarray)):
        assert pipeline.detect(same) == wanted


def test_a_batch_is_one_after_the_other(pipeline: Pipeline, photo: Image) -> None:
    pictures = [photo, np.ascontiguousarray(photo[:200, :150]), np.zeros((64, 64, 3), np.uint8)]
    wanted = [pipeline.detect(picture) for picture in pictures]
    assert wanted[0]
    assert pipeline.detect_batch(pictures) == wanted
    assert pipeline.detect_batch(picture for picture in pictures) == wanted
    assert pipeline.detect_batch(np.stack([photo, photo])) == [wanted[0]] * 2
    assert pipeline.detect_batch([]) == []


def test_a_cascade_takes_a_batch(artifact: GetArtifact, photo: Image) -> None:
    with facedeploy.load(artifact("onnx-fp32"), threads=1, options={"thresholds": [0.0, 0.0, 0.0]}) as cascade:
        found = cascade.detect_batch([photo, photo[:100]])
        assert found == [cascade.detect(photo), cascade.detect(photo[:100])]
        assert all(found)


def test_use_after_close_is_told(photo: Image) -> None:
    pipeline = facedeploy.load(tiny("onnx-fp32", SIZE), threads=1)
    assert not pipeline.closed
    runtime = pipeline.runtimes["detector"]
    with pipeline:
        pass
    assert pipeline.closed
    words = "the pipeline of detector, pose is closed: open its artifact again with facedeploy.load"
    for call in (pipeline.detect, pipeline.detect_batch, lambda image: facedeploy.detect(pipeline, image)):
        with pytest.raises(FacedeployError, match=words):
            call(photo)
    with pytest.raises(FacedeployError, match=r"the runtime of detector is closed: open the artifact again"):
        runtime.run_pictures([photo[None]])
    pipeline.close()
    both = chain()
    both.close()
    for used in (both.detect, both.lookers["points"].detect, lambda i: both.lookers["points"].locate(i, [FACE])):
        with pytest.raises(FacedeployError, match=r"the pipeline of .*landmarks is closed"):
            used(photo)
