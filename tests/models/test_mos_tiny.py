"""The default model with the weights that are shipped: the same faces on every backend, and good ones."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import InputSize
from facedeploy.core.preprocess import Image
from facedeploy.models import registry
from facedeploy.models.mos_tiny import MosTiny
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes import Substitute
from facedeploy.sources.published import load_reference
from facedeploy.verification.verify import verify
from tests.support.exported import tiny
from training import evaluate
from training.faceless import faceless

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "astronaut.jpg"
WEIGHTS = ROOT / "facedeploy" / "models" / "weights" / "mos-tiny.safetensors"
DEFAULT, LARGE = (240, 320), (480, 640)
COMPILED = ("onnx-fp32", "openvino-fp32", "openvino-fp16", "ncnn-fp32", "ncnn-fp16", "trt-fp32", "trt-fp16")


def stand_in(artifact: Artifact) -> Substitute | None:
    """A TensorRT engine needs a GPU; its ONNX file does not."""
    return "onnxruntime" if artifact.manifest.target.backend == "trt" else None


def opened(artifact: Artifact, **options: float | str) -> Pipeline:
    return facedeploy.load(artifact, threads=1, runtime=stand_in(artifact), options=options)


@pytest.fixture(scope="module")
def photo() -> Image:
    image = cv2.imread(str(PHOTO))
    assert image is not None
    return np.asarray(image, np.uint8)


@pytest.fixture(scope="module")
def reference() -> Iterator[Pipeline]:
    with load_reference(registry.DEFAULT, threads=1) as pipeline:
        yield pipeline


def test_weights_are_small_and_complete() -> None:
    from safetensors.torch import load_file

    assert WEIGHTS.stat().st_size <= 1_500_000
    assert WEIGHTS.with_suffix(".md").is_file()
    state = load_file(WEIGHTS)
    wanted = {k: v for k, v in MosTiny().state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in wanted.items()}
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in state.values())


def test_export_needs_neither_weights_nor_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    artifact = facedeploy.export("mos-tiny", "onnx-fp32", output=tmp_path / "out", input_size=(64, 64))
    (source,) = artifact.manifest.source
    assert source.name == WEIGHTS.name
    assert verify(artifact, threads=1).problems == ()


@pytest.mark.parametrize("model", [m for m in registry.MODELS if m != registry.DEFAULT])
def test_other_models_ask_for_weights(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # Nothing was fetched there.
    says = f"give --weights: those of {model} are not in this package, .*`facedeploy models {model} --fetch` gets them"
    with pytest.raises(InputError, match=says):
        facedeploy.export(model, "torch-fp32", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_face_of_the_photo_is_where_it_is(reference: Pipeline, photo: Image) -> None:
    (face,) = reference.detect(photo)
    left, top, right, bottom = face.box
    assert abs(left - 173) < 20
    assert abs(top - 65) < 25
    assert abs(right - 278) < 20
    assert abs(bottom - 188) < 25
    assert face.landmarks is not None
    left_eye, right_eye, nose, left_mouth, right_mouth = np.array(face.landmarks)
    # Eyes, nose and corners of the mouth, looked up in the photo.
    for point, place in zip(
        (left_eye, right_eye, nose, left_mouth, right_mouth),
        ((204, 103), (249, 105), (227, 126), (207, 147), (246, 148)),
        strict=True,
    ):
        assert np.hypot(*(point - place)) < 9
    assert all(a is not None and abs(a) < 20 for a in (face.yaw, face.pitch, face.roll))


def test_mirrored_photo_has_the_mirrored_face(reference: Pipeline, photo: Image) -> None:
    (face,), (other,) = (reference.detect(np.ascontiguousarray(p)) for p in (photo, photo[:, ::-1]))
    assert face.landmarks is not None
    assert other.landmarks is not None
    want = np.array(face.landmarks)[[1, 0, 2, 4, 3]]
    want[:, 0] = photo.shape[1] - want[:, 0]
    assert np.abs(np.array(other.landmarks) - want).max() < 6
    assert face.yaw is not None
    assert other.yaw is not None
    assert abs(face.yaw + other.yaw) < 10


def test_turned_photo_has_the_turned_face(reference: Pipeline, photo: Image) -> None:
    def roll(degrees: float) -> float:
        turn = cv2.getRotationMatrix2D((225.0, 125.0), degrees, 1)
        (face,) = reference.detect(np.asarray(cv2.warpAffine(photo, turn, (512, 512)), np.uint8))
        assert face.roll is not None
        return face.roll

    assert 10 < roll(-20) - roll(0) < 30
    assert -30 < roll(20) - roll(0) < -10


@pytest.mark.parametrize("size", [DEFAULT, LARGE], ids=str)
@pytest.mark.parametrize("target", COMPILED)
def test_every_backend_finds_the_same_face(target: str, size: InputSize) -> None:
    artifact = tiny(target, size)
    result = verify(artifact, images=[PHOTO], threads=1, runtime=stand_in(artifact))
    assert result.problems == ()
    assert result.faces is not None
    assert result.faces.matched == 1


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
def test_network_of_any_size(reference: Pipeline, photo: Image, target: str) -> None:
    (wanted,) = reference.detect(photo)
    with opened(tiny(target, "any"), protocol="longest", longest=240) as pipeline:
        (face,) = pipeline.detect(photo)
    assert np.abs(np.array(face.box) - wanted.box).max() < 4


def test_no_face_where_there_is_none(reference: Pipeline) -> None:
    pictures = [faceless(number) for number in range(evaluate.FACELESS)]
    assert [i for i, picture in enumerate(pictures) if reference.detect(picture)] == []
    with opened_large() as pipeline:
        assert [i for i, picture in enumerate(pictures) if pipeline.detect(picture)] == []


def opened_large(**options: float) -> Pipeline:
    specs = registry.get(registry.DEFAULT).network_specs(LARGE)
    return load_reference(registry.DEFAULT, specs=specs, threads=1, options=options)


def test_weights_matter(photo: Image, tmp_path: Path) -> None:
    """The control: another network of this architecture does not find the face."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file({k: v.contiguous() for k, v in MosTiny().state_dict().items()}, tmp_path / "mos.safetensors")
    with load_reference(registry.DEFAULT, tmp_path / "mos.safetensors", threads=1) as pipeline:
        faces: list[Face] = pipeline.detect(photo)
    assert not any(abs(f.box[0] - 173) < 20 and abs(f.box[2] - 278) < 20 for f in faces)


# What the model card promises, on pictures that no training saw.
PROMISED = {
    ("face_counting/test", DEFAULT): 0.88,
    ("face_mask", DEFAULT): 0.60,
    ("face_counting/test", LARGE): 0.90,
    ("face_mask", LARGE): 0.72,
}


@pytest.fixture(scope="module")
def reported(assets: Path) -> dict[str, list[evaluate.Labelled]]:
    images = assets / "images"
    return {
        "face_counting/test": evaluate.boxes_of(
            images / "face_counting" / "test", images / "face_counting" / "test_bbox.csv"
        ),
        "face_mask": evaluate.boxes_of(images / "face_mask" / "images", images / "face_mask" / "boxes.csv"),
    }


@pytest.mark.slow
def test_average_precision_is_what_is_promised_and_the_same_on_every_backend(
    reported: dict[str, list[evaluate.Labelled]],
) -> None:
    for size in (DEFAULT, LARGE):
        found: dict[str, dict[str, float]] = {}
        for target in ("torch-fp32", "onnx-fp32", "openvino-fp32", "ncnn-fp16"):
            with opened(tiny(target, size), score_threshold=evaluate.LOW) as pipeline:
                found[target] = {
                    name: evaluate.evaluate_detection(pipeline.detect, pictures).value
                    for name, pictures in reported.items()
                }
        for name in reported:
            values = [result[name] for result in found.values()]
            assert min(values) >= PROMISED[name, size]
            assert max(values) - min(values) <= 0.003
