"""Named families: known faces in the published layout come out of every backend, with no settings beside the file."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.gate import Gate, check
from facedeploy.benchmarks.latency.benchmark import benchmark
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.calibration.report import Drawing, calibrate_model
from facedeploy.calibration.table import write_table
from facedeploy.cli.app import main
from facedeploy.core.face import Face
from facedeploy.core.serialization import from_plain
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.core.target import Target
from facedeploy.export.exporter import export
from facedeploy.package.bundle import package_cpp
from facedeploy.package.constants import BoxesConstants, constants
from facedeploy.pipelines import runtime_options
from facedeploy.pipelines.custom import NETWORK, BoxesConfig, BoxesPipeline
from facedeploy.pipelines.load import load
from facedeploy.sources.families import families, family
from facedeploy.sources.open import open_source
from facedeploy.verification.verify import verify
from tests.cpp import stream
from tests.cpp.stream import BoxesCase, Driver, Picture
from tests.support.exported import require
from tests.support.heads import HEADS, Known, StandIn

TARGETS = ("onnx-fp32", "openvino-fp32", "ncnn-fp32", "openvino-fp16", "ncnn-fp16", "trt-fp16")
# One family a backend in `make test`, the rest in `make test-all`.
QUICK = {
    ("yunet", "onnx-fp32"),
    ("yolov8-face-raw", "openvino-fp32"),
    ("retinaface-mxnet", "ncnn-fp32"),
    ("scrfd-points-batch", "trt-fp16"),
}
# Pixels and scores. What decodes stays in float32, the file's own part of it too.
LIMITS = {"fp32": (0.01, 1e-5), "fp16": (0.01, 5e-4)}
INT8 = ("openvino-int8", "ncnn-int8", "trt-int8")
QUICKEST = "yunet"
ONE_OF_EACH = (
    "scrfd-points",
    "yunet",
    "retinaface",
    "retinaface-mxnet",
    "yolov5-face-raw",
    "yolov8-face-raw",
    "centerface",
    "blazeface-front",
    "ulfd-raw",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heads")


@functools.cache
def written(head: str, folder: Path) -> Path:
    """The file of a stand-in, with nothing beside it."""
    return HEADS[head].write(folder / f"{head}.onnx")


@functools.cache
def made(head: str, target: str, folder: Path) -> Artifact:
    require(target)
    return export(str(written(head, folder)), target, output=folder / f"{head}-{target}")


def noise(head: StandIn) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (*head.size, 3), dtype=np.uint8)


def same(found: list[Face], known: list[Known], precision: str) -> None:
    pixels, scores = LIMITS[precision]
    assert len(found) == len(known)
    for face, want in zip(found, known, strict=True):
        assert face.box == pytest.approx(want.box, abs=pixels)
        assert face.score == pytest.approx(want.score, abs=scores)
        assert (face.landmarks is None) == (not want.points)
        for point, wanted in zip(face.landmarks or (), want.points, strict=True):
            assert point == pytest.approx(wanted, abs=pixels)


@pytest.mark.parametrize("head", HEADS.values(), ids=str)
def test_a_file_says_itself_what_it_is(head: StandIn, folder: Path) -> None:
    source = open_source(str(written(head.name, folder)))
    assert source.settings["family"] == head.family
    assert source.recognised
    (network,) = source.networks
    with network.reference(runtime_options(source.pipeline, NETWORK, 1)) as runtime:
        pipeline = BoxesPipeline({NETWORK: runtime}, from_plain(BoxesConfig, source.pipeline.config))
        same(pipeline.detect(noise(head)), head.known(), "fp32")


def combinations() -> list[Any]:
    """Every stand-in and target."""
    return [
        pytest.param(name, target, id=f"{name}-{target}", marks=() if (name, target) in QUICK else pytest.mark.slow)
        for name in HEADS
        for target in TARGETS
    ]


@pytest.mark.parametrize(("name", "target"), combinations())
def test_known_faces_come_back(name: str, target: str, folder: Path) -> None:
    artifact, head = made(name, target, folder), HEADS[name]
    assert artifact.manifest.settings["family"] == head.family
    assert artifact.manifest.recognised
    substitute: Any = "onnxruntime" if target.startswith("trt") else None
    with load(artifact, threads=1, runtime=substitute) as pipeline:
        same(pipeline.detect(noise(head)), head.known(), Target.parse(target).precision)


def test_every_family_has_a_stand_in() -> None:
    named = {name for name, described in families().items() if described.heads}
    assert named == {head.family for head in HEADS.values()}
    assert {HEADS[name].family for name in ONE_OF_EACH} == named


@pytest.mark.parametrize("name", sorted(families()))
def test_a_family_is_data_that_can_be_copied(name: str) -> None:
    """What a family says of its input and pipeline is what a settings file may say."""
    described = family(name)
    assert described.about
    for head in described.heads:
        assert head.outputs
        assert set(head.optional) < set(head.outputs)


# What every family can do


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        cv2.imwrite(str(place / f"{i}.png"), group_photo(np.random.default_rng(i), 160, 224, 1 + i % 3))
    return place


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == QUICKEST else pytest.mark.slow) for n in ONE_OF_EACH]
)
def test_each_family_goes_all_the_way(
    name: str, folder: Path, pictures: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verified, detected with, measured, held against a gate, calibrated, quantised and packaged."""
    for target in INT8:
        require(target)
    path, head = written(name, folder), HEADS[name]
    floats = made(name, "openvino-fp32", folder)
    checked = verify(floats, path, [pictures], threads=1)
    assert checked.faces is not None
    assert checked.faces.matched == 3 * 12
    assert not checked.problems

    capfd.readouterr()
    monkeypatch.setattr("sys.argv", ["facedeploy", "detect", str(floats.path), str(pictures / "0.png"), "--json"])
    with pytest.raises(SystemExit) as status:
        main()
    assert not status.value.code
    told = json.loads(capfd.readouterr().out)
    assert [face["score"] for face in told["faces"]] == pytest.approx([k.score for k in head.known()], abs=1e-4)
    assert len(told["faces"][0].get("landmarks", ())) == head.points

    report = calibrate_model(str(path), [pictures], drawing=Drawing(count=10), threads=1)
    assert len(report.rows) == sum(n.op_type == "Conv" for n in onnx.load(path).graph.node)
    table = folder / f"{name}.json"
    write_table(report.table, table)
    options = Int8Options(calibration=table, force=True)
    for target in INT8 if name != QUICKEST else INT8[:1]:
        small = export(str(path), target, output=folder / f"{name}-{target}", int8=options)
        assert small.manifest.networks[0].int8
        substitute: Any = "onnxruntime" if target.startswith("trt") else None
        with load(small, threads=1, runtime=substitute) as pipeline:
            same(pipeline.detect(noise(head)), head.known(), "fp32")  # Nothing of the decoding is quantised.
    small = Artifact.open(folder / f"{name}-{INT8[0]}")

    record = benchmark([floats.path, small.path], [pictures], seconds=0.05, threads=1, cold=False)
    assert [len(m.found[0]) for m in record.measurements] == [3, 3]
    assert check(Gate(max_lost=0.01), record) == ()

    phone = made(name, "ncnn-fp16", folder)
    bundle = package_cpp(phone.path, folder / f"{name}-cpp")
    assert '"boxes"' in (bundle / "model" / "model.hpp").read_text()


@pytest.mark.slow
def test_a_family_is_the_same_to_cpp(folder: Path) -> None:
    """The library for phones, given what the network gives, finds the known faces."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: the C++ library is not compiled")
    driver = Driver(stream.compile_driver(folder / "driver", *stream.SANITIZERS))
    for name in ("scrfd-points", "yunet", "ulfd-raw"):
        artifact, head = made(name, "ncnn-fp32", folder), HEADS[name]
        described = constants([n.spec for n in artifact.manifest.networks], artifact.manifest.pipeline)
        assert isinstance(described, BoxesConstants)
        with load(artifact, threads=1) as pipeline:
            assert isinstance(pipeline, BoxesPipeline)
            outputs, _ = pipeline.look(noise(head))
        none = np.zeros(0, np.float32)
        arrays = tuple(outputs.get(role, none) for role in ("boxes", "scores", "landmarks", "yaw", "pitch", "roll"))
        (found,) = driver.faces([BoxesCase(described, Picture(noise(head), "bgr", 0), arrays)])
        same(found.faces, head.known(), "fp32")
