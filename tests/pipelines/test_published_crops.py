"""Published networks that look at faces, with their real weights: no TOML file, and what the labels say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import facedeploy
from facedeploy.benchmarks.accuracy.readers.aflw2000 import read_aflw2000
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.metrics.labelled_images import LabelledImage
from facedeploy.models import registry
from facedeploy.pipelines.crop import CropPipeline
from facedeploy.pipelines.crop_settings import Crop
from facedeploy.pipelines.load import load
from tests.support.exported import require

FILES = {
    "fsanet": "fsanet/fsanet-1x1-iter-688590.onnx",
    "fsanet-var": "fsanet/fsanet-var-iter-688590.onnx",
    "peppa-68": "peppa_slim_68_pose/slim_160_latest.onnx",
    "pfld-106": "pfld_106/lite.onnx",
}
Make = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def made(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Exports a network once for each target, without a word about what it is."""
    done: dict[tuple[str, str], Path] = {}

    def make(name: str, target: str) -> Path:
        if (name, target) not in done:
            require(target)
            output = tmp_path_factory.mktemp(name) / "artifact"
            artifact = facedeploy.export(str(assets / "weights" / FILES[name]), target, output=output)
            assert artifact.manifest.settings["family"] == name.removesuffix("-var")
            assert artifact.manifest.networks[0].spec.max_batch == 32
            done[name, target] = output
        return done[name, target]

    return make


@pytest.fixture(scope="module")
def portraits(assets: Path) -> tuple[LabelledImage, ...]:
    """Every tenth picture whose angles count."""
    pictures, _ = read_aflw2000(assets / "images" / "aflw2000", {})
    return tuple(p for p in pictures[::10] if p.angles is not None and (np.abs(p.angles) <= 99).all())


def test_angles_have_the_published_signs_and_order(made: Make, portraits: tuple[LabelledImage, ...]) -> None:
    """The mean of the two networks, on crops from the labelled points, as of its authors: 4.92, 6.40 and 5.22 degrees
    over all pictures.
    """
    errors = []
    with load(made("fsanet", "onnx-fp32")) as first, load(made("fsanet-var", "onnx-fp32")) as second:
        for network in (first, second):
            assert isinstance(network, CropPipeline)
            crop = Crop(grow=(1.8, 1.52), shift=(0.0, -0.14), square=False, edge="cut")
            network.config = dataclasses.replace(network.config, crop=crop)
        for picture in portraits:
            assert picture.angles is not None
            image, face = read_picture(picture.path), Face(tuple(picture.boxes[0].tolist()), 1.0)
            said = [n.locate(image, [face])[0] for n in (first, second) if isinstance(n, CropPipeline)]
            mean = np.array([[f.yaw, f.pitch, f.roll] for f in said], float).mean(axis=0)
            errors.append(np.abs(mean - picture.angles[0]))
    yaw, pitch, roll = np.mean(errors, axis=0)
    assert yaw < 5.5
    assert pitch < 7.5
    assert roll < 6.0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp16", "ncnn-fp16", "ncnn-fp32"])
def test_points_and_pose_behind_a_detector(
    target: str, made: Make, portraits: tuple[LabelledImage, ...], tmp_path: Path
) -> None:
    detector = facedeploy.export(registry.DEFAULT, "onnx-fp32", output=tmp_path / "detector", input_size=(320, 320))
    points, angles = [], []
    with load(detector, with_=[made("peppa-68", target), made("fsanet", target)]) as pipeline:
        for picture in portraits[::4]:
            found = pipeline.detect(read_picture(picture.path))
            assert picture.points is not None
            assert picture.scale is not None
            assert picture.angles is not None
            near = [f for f in found if np.abs(np.array(f.box) - picture.boxes[0]).max() < 0.5 * picture.scale[0]]
            for face in near[:1]:
                distances = np.linalg.norm(np.array(face.landmarks) - picture.points[0], axis=1)
                points.append(distances.mean() / picture.scale[0])
                angles.append(np.abs(np.array([face.yaw, face.pitch, face.roll], float) - picture.angles[0]))
    assert len(points) > 15
    assert np.median(points) < 0.06
    assert (np.median(angles, axis=0) < 7).all()


@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32", "trt-fp16"])
def test_points_of_pfld_lie_in_the_face(target: str, made: Make, portraits: tuple[LabelledImage, ...]) -> None:
    """Its points are numbered in a way of its own, so what is held to the labels is where they all are."""
    runtime = "onnxruntime" if target.startswith("trt") else None
    with load(made("pfld-106", target), runtime=runtime) as pipeline:  # type: ignore[arg-type]
        assert isinstance(pipeline, CropPipeline)
        off = []
        for picture in portraits[:20]:
            assert picture.points is not None
            assert picture.scale is not None
            (face,) = pipeline.locate(read_picture(picture.path), [Face(tuple(picture.boxes[0].tolist()), 1.0)])
            found = np.array(face.landmarks)
            around = np.concatenate([found.min(axis=0), found.max(axis=0)])
            off.append(np.abs(around - picture.boxes[0]) / picture.scale[0])
    assert np.median(off) < 0.12
