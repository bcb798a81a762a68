"""INT8 artifacts of the default model on the three backends: what they hold, and that the faces survive."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.calibration.table import read_table
from facedeploy.core.boxes import iou
from facedeploy.core.errors import ParityError, SlowerError
from facedeploy.core.images import read_picture
from facedeploy.core.network_spec import InputSize
from facedeploy.core.preprocess import Image
from facedeploy.core.system import usable_cores
from facedeploy.export import compiler, exporter, openvino, tensorrt
from facedeploy.export.ncnn import int8 as ncnn_int8
from facedeploy.formats.ncnn import calibration_table as ncnn_table
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Scheme
from facedeploy.machine.linux import read_machine
from facedeploy.metrics.average_precision import average_precision, boxes_and_scores
from facedeploy.metrics.landmarks import landmark_error
from facedeploy.metrics.pose import countable, labelled_face, pose_error
from facedeploy.models import registry
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes import Substitute
from facedeploy.verification.verify import verify
from tests.artifact.test_artifact import one_sentence, tree
from tests.calibration import test_calibration
from tests.cli import test_cli
from tests.cli.test_cli import Run
from tests.support.exported import require, tiny
from training import evaluate
from training.labels import five_points, hull, read_mat

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
DEFAULT, LARGE, SMALL = (240, 320), (480, 640), (96, 128)
TARGETS = ("trt-int8", "openvino-int8", "ncnn-int8")
# The lowered deformable convolution has a 1x1 convolution; OpenVINO keeps the operator, which has no int8.
LAYERS = {"trt": 21, "openvino": 20, "ncnn": 21}
WEIGHTS = {"trt": "onnx", "openvino": "bin", "ncnn": "bin"}

run = test_cli.run
pictures = test_calibration.pictures


def stand_in(artifact: Artifact) -> Substitute | None:
    """A TensorRT engine needs a GPU; its ONNX file does not."""
    return "onnxruntime" if artifact.manifest.target.backend == "trt" else None


def opened(artifact: Artifact, **options: float | str) -> Pipeline:
    return facedeploy.load(artifact, threads=1, runtime=stand_in(artifact), options=options)


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at the speed takes seconds, and says nothing here."""
    monkeypatch.setattr(exporter, "against_fp32", lambda *_: 2.0)


@pytest.fixture(scope="module")
def photo() -> Image:
    return read_picture(PHOTO)


# --- what an artifact says and holds ---


@pytest.mark.parametrize("target", TARGETS)
def test_artifact_says_what_is_int8_and_where_the_ranges_come_from(target: str) -> None:
    made = tiny(target, DEFAULT)
    backend = made.manifest.target.backend
    path = registry.get("mos-tiny").embedded_ranges
    assert path is not None
    table = read_table(path)
    calibration = made.manifest.calibration
    assert calibration is not None
    assert (calibration.method, calibration.pictures, calibration.digest) == (
        table.method,
        table.pictures,
        table.digest,
    )
    # Only what runs here can be timed here.
    assert (calibration.faster is None) == (backend == "trt")
    assert calibration.faster is None or calibration.faster > 0.1
    detector, pose = made.manifest.network("detector"), made.manifest.network("pose")
    assert len(detector.int8) == LAYERS[backend]
    assert set(detector.int8) < set(table.networks["detector"])
    assert not any("offset" in name or "heads" in name for name in detector.int8)
    assert pose.int8 == ("heads.hidden.0.weight",)
    assert (detector.options.get("use_int8_inference") is True) == (backend == "ncnn")
    assert (
        set(detector.files)
        == {
            "trt": {"onnx", "engine"},
            "openvino": {"xml", "bin"},
            "ncnn": {"param", "bin", "table"},
        }[backend]
    )
    assert Artifact.open(made.path) == made  # It is as it was written.


@pytest.mark.parametrize("target", TARGETS)
def test_weights_are_smaller_than_in_float(target: str) -> None:
    """Than those of the ONNX file, which are nearly all of it."""
    made, wide = tiny(target, DEFAULT), tiny("onnx-fp32", DEFAULT)
    for network in ("detector", "pose"):
        role = WEIGHTS[made.manifest.target.backend]
        size, float_size = made.file(network, role).stat().st_size, wide.file(network, "onnx").stat().st_size
        # A quarter, but for layers that stay in float: what positions are made with, the heads, the angles' bins.
        assert size < (0.45 if network == "detector" else 0.6) * float_size


@pytest.mark.parametrize("size", [DEFAULT, pytest.param(LARGE, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("target", TARGETS)
def test_the_face_of_the_photo_survives(target: str, size: InputSize, photo: Image) -> None:
    """Against float in ONNX Runtime; 0.8 is the least that a box of the parity check must keep."""
    with opened(tiny("onnx-fp32", size)) as reference, opened(tiny(target, size)) as pipeline:
        (want,), (have,) = reference.detect(photo), pipeline.detect(photo)
    assert iou(np.array(want.box), np.array(have.box)) >= 0.8
    assert want.landmarks is not None
    assert have.landmarks is not None
    side = want.box[2] - want.box[0]
    assert np.abs(np.array(want.landmarks) - have.landmarks).max() < 0.05 * side
    for a, b in zip((want.yaw, want.pitch, want.roll), (have.yaw, have.pitch, have.roll), strict=True):
        assert a is not None
        assert b is not None
        assert abs(a - b) < 5


@pytest.mark.parametrize("target", TARGETS)
def test_verification_passes(target: str) -> None:
    made = tiny(target, DEFAULT)
    result = verify(made, images=[PHOTO], threads=1, runtime=stand_in(made))
    assert result.problems == ()
    assert result.faces is not None
    assert result.faces.matched == 1
    # It is int8 that was looked at: float is ten times as near.
    assert max(row.relative_l2 for row in result.outputs) > 1e-2


@pytest.mark.slow
def test_int8_of_any_size(photo: Image) -> None:
    """The ranges are those of one size, and hold for others."""
    with (
        opened(tiny("openvino-int8", "any"), protocol="longest", longest=320) as pipeline,
        opened(tiny("onnx-fp32", DEFAULT)) as reference,
    ):
        (have,), (want,) = pipeline.detect(photo), reference.detect(photo)
    assert iou(np.array(want.box), np.array(have.box)) >= 0.8


# --- the gates ---


def wrong_weight_scale(patch: pytest.MonkeyPatch, target: str, factor: float) -> None:
    """One early layer of the compiled network multiplies by another scale; the simulation is as it should be."""
    layer = "mos.stem.1.0.weight"
    if target == "ncnn-int8":
        right, calls = ncnn_int8.quantize_weight, itertools.count()

        def quantize_weight(weight: Any, rows: int) -> Any:
            integers, scales = right(weight, rows)
            return integers, scales / np.float32(factor if next(calls) == 1 else 1)

        patch.setattr(ncnn_int8, "quantize_weight", quantize_weight)
        return

    def rewrite(model: onnx.ModelProto, layers: Any, scheme: Scheme) -> onnx.ModelProto:
        made = insert_qdq(model, layers, scheme)
        for tensor in made.graph.initializer:
            if tensor.name == f"{layer}_scale":
                scaled = numpy_helper.to_array(tensor) * np.float32(factor)
                tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
        return made

    patch.setattr(openvino if target == "openvino-int8" else tensorrt, "insert_qdq", rewrite)


@pytest.mark.parametrize("target", TARGETS)
def test_a_compiler_that_gets_a_scale_wrong_is_caught(target: str, tmp_path: Path, untimed: None) -> None:
    require(target)

    def attempt(factor: float) -> Artifact:
        with pytest.MonkeyPatch.context() as patch:
            wrong_weight_scale(patch, target, factor)
            # --force is for what int8 costs; a wrong conversion is wrong all the same.
            return facedeploy.export(
                "mos-tiny", target, output=tmp_path / f"{factor}", input_size=SMALL, int8=Int8Options(force=True)
            )

    assert attempt(1.0).path.is_dir()  # The control: the patch itself does no harm.
    before = tree(tmp_path)
    with pytest.raises(ParityError, match="against its int8 graph in ONNX Runtime") as caught:
        attempt(1.25)
    assert one_sentence(str(caught.value)).startswith("detector.")
    assert caught.value.exit_status == 1
    assert tree(tmp_path) == before


def clipped_range(patch: pytest.MonkeyPatch, target: str, factor: float) -> None:
    """A range that is a part of the right one, in the compiled network alone: its integers are right for it."""
    layer = "mos.stem.1.0.weight"
    right = compiler.find

    def find(backend: Any) -> Any:
        def compile_network(job: Any) -> Any:
            ranges = dict(job.int8)
            if layer in ranges:
                old = ranges[layer]
                ranges[layer] = dataclasses.replace(
                    old, threshold=old.threshold * factor, low=old.low * factor, high=old.high * factor
                )
            return right(backend)(dataclasses.replace(job, int8=ranges))

        return compile_network

    patch.setattr(compiler, "find", find)


@pytest.mark.parametrize("target", TARGETS)
def test_a_compiler_that_gets_a_range_wrong_is_caught(
    target: str, tmp_path: Path, untimed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(target)
    clipped_range(monkeypatch, target, 0.3)
    with pytest.raises(ParityError, match="against its int8 graph in ONNX Runtime") as caught:
        facedeploy.export("mos-tiny", target, output=tmp_path / "out", input_size=SMALL, int8=Int8Options(force=True))
    assert re.search(r"first operator that is off is Conv \(node \S+, weight mos\.stem\.1\.0\.", str(caught.value))
    assert tree(tmp_path) == set()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["openvino-int8", "ncnn-int8"])
def test_what_is_slower_is_told_and_refused_on_demand(
    target: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporter, "against_fp32", lambda *_: 0.5)
    start = ("export", "--target", target, "--input-size", "96x128", "-o", "out")
    result = run(*start, "--require-faster")
    assert result.status == SlowerError.exit_status == 1
    assert result.out == ""
    (message,) = result.err.splitlines()
    one_sentence(message)
    backend = target.removesuffix("-int8")
    assert f"{target} takes 2.00 times as long as {backend}-fp32 on this machine" in message
    assert "--require-faster" in message
    assert tree(tmp_path) == set()
    told = run(*start)
    assert told.status == 0
    assert f"{target} takes 2.00 times as long as {backend}-fp32 here" in told.err
    assert ("a phone" in told.err) == (backend == "ncnn")
    calibration = Artifact.open(tmp_path / "out").manifest.calibration
    assert calibration is not None
    assert calibration.faster == 0.5
    assert calibration.machine == f"{read_machine().cpu}, {len(usable_cores())} cores"


def test_what_is_faster_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("openvino-int8")
    monkeypatch.setattr(exporter, "against_fp32", lambda *_: 1.25)
    made = facedeploy.export("mos-tiny", "openvino-int8", output=tmp_path / "out", input_size=SMALL)
    assert made.manifest.calibration is not None
    assert made.manifest.calibration.faster == 1.25


# --- the user's choice ---


@pytest.mark.slow
def test_table_of_ncnn2table_comes_back_as_it_went(tmp_path: Path, untimed: None) -> None:
    made = tiny("ncnn-int8", DEFAULT)
    again = facedeploy.export(
        "mos-tiny",
        "ncnn-int8",
        output=tmp_path / "out",
        int8=Int8Options(calibration=made.path, force=True),
    )
    assert again.manifest.calibration is not None
    assert again.manifest.calibration.method == "ncnn2table"
    for network in ("detector", "pose"):
        for role in ("param", "bin", "table"):
            assert again.file(network, role).read_bytes() == made.file(network, role).read_bytes()
    scales = ncnn_table.read(made.file("detector", "table"))
    assert len(scales.inputs) == LAYERS["ncnn"]
    # The control: another scale in the table is another file.
    folder = tmp_path / "tables"
    folder.mkdir()
    for network in ("detector", "pose"):
        shutil.copy(made.file(network, "table"), folder)
    name = next(iter(scales.inputs))
    changed = dataclasses.replace(scales, inputs={**scales.inputs, name: scales.inputs[name] * 1.25})
    (folder / "detector.table").write_text(ncnn_table.render(changed))
    other = facedeploy.export("mos-tiny", "ncnn-int8", output=tmp_path / "b", int8=Int8Options(folder, force=True))
    assert other.file("detector", "bin").read_bytes() != made.file("detector", "bin").read_bytes()
    assert other.file("pose", "bin").read_bytes() == made.file("pose", "bin").read_bytes()


def test_layers_are_kept_and_allowed_at_the_command_line(
    run: Run, tmp_path: Path, untimed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("openvino-int8")
    monkeypatch.chdir(tmp_path)
    options = ("--float-layer", "mos.stem.*", "--int8-layer", "mos.heads.*", "--force")
    result = run("export", "--target", "openvino-int8", "--input-size", "96x128", *options)
    assert result.status == 0, result.err
    layers = Artifact.open(tmp_path / "mos-tiny-openvino-int8").manifest.network("detector").int8
    assert len(layers) == LAYERS["openvino"] - 2 + 3
    assert not any("stem" in name for name in layers)
    assert sum("heads" in name for name in layers) == 3


@pytest.mark.slow
def test_calibrate_and_export_at_the_command_line(
    run: Run, tmp_path: Path, pictures: Path, untimed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("openvino-int8")
    monkeypatch.chdir(tmp_path)
    start = ("calibrate", "--images", pictures, "--input-size", "96x128", "--threads", "1")
    result = run(*start, "-o", "x.json", "--chart", "x.png")
    assert result.status == 0, result.err
    header, *rows, whole = result.out.splitlines()
    assert header.split("  ")[0] == "network"
    assert all(unit in header for unit in ("AP lost", "landmarks %", "degrees", "outputs %", "stays in float"))
    table = read_table(tmp_path / "x.json")
    names = [(n, layer) for n, layers in table.networks.items() for layer in layers]
    assert [tuple(row.split()[:2]) for row in rows] == names
    assert sum("sampling positions" in row for row in rows) == 1
    assert sum("a final layer" in row for row in rows) == 4
    assert whole.startswith("all together, on 3 held-back pictures: AP lost ")
    assert "ranges of 12 pictures" in result.err
    image = cv2.imread("x.png")
    assert image is not None
    assert image.shape[0] > 20 * len(names)
    found = run(*start, "-o", "y.json", "--no-sensitivity", "--json")
    (data,) = found.objects
    assert data["table"]["digest"] == table.digest
    assert [row["loss"] for row in data["rows"]] == [None] * len(names)
    assert json.loads(Path("x.json").read_text()) == json.loads(Path("y.json").read_text())
    export = ("export", "--target", "openvino-int8", "--input-size", "96x128", "--force", "--json")
    (data,) = run(*export, "--calibration", "x.json", "-o", "a").objects
    assert data["parity"][0]["network"] == "detector"
    # From the same pictures, with a budget: the loss that was measured is in the artifact.
    result = run(*export, "--calibration", pictures, "--max-drop", "5", "-o", "b")
    assert result.status == 0, result.err
    first, second = (Artifact.open(tmp_path / name).manifest for name in "ab")
    assert first.calibration is not None
    assert second.calibration is not None
    assert second.calibration.digest == first.calibration.digest == table.digest
    assert second.calibration.loss is not None
    assert second.calibration.loss.points <= 5
    assert first.network("detector").int8 == second.network("detector").int8


def test_calibrate_names_the_file_that_it_wrote(
    run: Run, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (data,) = run("calibrate", "--images", pictures, "--input-size", "96x128", "--no-sensitivity", "--json").objects
    assert data["path"] == "mos-tiny.ranges.json"
    assert data["table"]["model"] == "mos-tiny"


# --- accuracy ---


@contextlib.contextmanager
def all_opened(**options: float) -> Iterator[dict[str, Pipeline]]:
    """Float, and int8 of the backends that are here, at 480x640."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Pipeline] = {}
        for target in ("onnx-fp32", *TARGETS):
            with contextlib.suppress(pytest.skip.Exception):
                made[target] = stack.enter_context(opened(tiny(target, LARGE), **options))
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("name", ["face_counting/test", "face_mask"])
def test_average_precision_survives(name: str, assets: Path) -> None:
    """On all pictures of the two sets, none of which calibration saw, at most half a point is lost."""
    images = assets / "images"
    folder, boxes = {
        "face_counting/test": (images / "face_counting" / "test", images / "face_counting" / "test_bbox.csv"),
        "face_mask": (images / "face_mask" / "images", images / "face_mask" / "boxes.csv"),
    }[name]
    labelled = evaluate.boxes_of(folder, boxes)
    # No picture has 100 faces; the doubtful ones beyond cost time, and a quarter of a point on every backend alike.
    with all_opened(score_threshold=evaluate.LOW, top=1000, keep=100) as pipelines:
        found: dict[str, list[Any]] = {target: [] for target in pipelines}
        for picture in labelled:
            image = picture.read()
            for target, pipeline in pipelines.items():
                found[target].append(boxes_and_scores(pipeline.detect(image)))
    values = {k: 100 * average_precision(v, [p.boxes for p in labelled]).value for k, v in found.items()}
    assert values["onnx-fp32"] > 70
    assert max(values["onnx-fp32"] - value for value in values.values()) <= 0.5, values


@pytest.mark.slow
def test_pose_and_landmarks_survive(assets: Path) -> None:
    """On every fourth labelled portrait of AFLW2000: at most 0.3 degrees, and 3 % of the error of the five points, are
    added.
    """
    pytest.importorskip("scipy")
    portraits = []
    for file in sorted((assets / "images" / "aflw2000").glob("*.mat"))[::4]:
        points, pose = read_mat(file)
        if countable(pose):
            portraits.append((read_picture(file.with_suffix(".jpg")), points[:, :2], pose))
    with all_opened() as pipelines:
        found = {
            target: [labelled_face(pipeline.detect(image), hull(points)) for image, points, _ in portraits]
            for target, pipeline in pipelines.items()
        }
    poses, marks = {}, {}
    for target, faces in found.items():
        poses[target] = pose_error(faces, [pose for *_, pose in portraits]).mean
        both = [(f, points) for f, (_, points, _) in zip(faces, portraits, strict=True) if f is not None]
        assert len(both) > 0.95 * len(portraits)
        marks[target] = landmark_error(
            np.array([f.landmarks for f, _ in both]),
            np.array([five_points(points) for _, points in both]),
            np.array([hull(points) for _, points in both]),
        ).mean
    assert max(poses.values()) <= poses["onnx-fp32"] + 0.3, poses
    assert max(marks.values()) <= 1.03 * marks["onnx-fp32"], marks
