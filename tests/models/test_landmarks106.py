"""106 landmarks: the network against recorded outputs of the published code, and the crops around it.

Under the deterministic weights every look is at another place than the one before, so backends are compared after one
look and after two; what the looks together do is seen with a network that knows the faces.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.calibration.session import Split, calibrate
from facedeploy.calibration.table import write_table
from facedeploy.core.errors import CheckpointError, InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import group_photo, portrait
from facedeploy.export import exporter
from facedeploy.export.tensorrt import describe_network
from facedeploy.models import model_size as statistics
from facedeploy.models import registry
from facedeploy.models.landmarks106 import Landmarks106
from facedeploy.pipelines.landmarks106 import Landmarks106Config, Landmarks106Pipeline
from facedeploy.pipelines.load import load
from facedeploy.pipelines.resize import crops
from facedeploy.pipelines.rotation import Turn
from facedeploy.runtimes import Substitute
from facedeploy.sources.open import open_source
from facedeploy.sources.published import load_reference
from facedeploy.verification.verify import verify
from tests.support.exported import exported
from tests.support.fill import fill, noise
from tests.support.known_faces import SIDE, Blind, chart, known, misses, opened, published_boxes, seen, turn_point
from tests.support.worst import WORST

RECORDED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "landmarks106.json").read_text())
TARGETS = ("onnx-fp32", "openvino-fp32", "openvino-fp16", "ncnn-fp32", "ncnn-fp16", "trt-fp32", "trt-fp16")
INT8 = ("openvino-int8", "ncnn-int8", "trt-int8")
HEIGHT, WIDTH = 192, 224
PIXELS, DEGREES = 0.5, 0.1

GetTarget = Callable[[str], Artifact]


def network() -> Landmarks106:
    module = Landmarks106().eval()
    module.load_state_dict(fill(module.state_dict(), RECORDED["gain"]))
    return module


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the deterministic weights, in the published layout."""
    path = tmp_path_factory.mktemp("landmarks106") / "pytorch_model.pt"
    torch.save({"state_dict": network().state_dict(), "meta": {"epoch": 1}}, path)
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of portraits to calibrate with."""
    folder = tmp_path_factory.mktemp("portraits")
    for i in range(12):
        cv2.imwrite(str(folder / f"{i}.png"), portrait(np.random.default_rng(i), 110))
    return folder


@pytest.fixture(scope="module")
def ranges(weights: Path, drawn: Path) -> Path:
    """A table of ranges of the deterministic weights."""
    source = open_source("landmarks106", weights)
    table = calibrate(source, Split(tuple(sorted(drawn.glob("*.png"))), ())).table
    write_table(table, weights.with_name("ranges.json"))
    return weights.with_name("ranges.json")


@pytest.fixture(scope="module")
def made(weights: Path, request: pytest.FixtureRequest) -> GetTarget:
    """`made("ncnn-fp16")`: exported once, however fast int8 is here."""

    def make(model: str, target: str, *rest: Any, **options: Any) -> Artifact:
        quantised = target.endswith("int8")
        int8 = Int8Options(request.getfixturevalue("ranges"), force=True) if quantised else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporter, "against_fp32", lambda *_: 2.0)
            return facedeploy.export(model, target, *rest, int8=int8, **options)

    return cache(lambda target: exported("landmarks106", target, weights, make=make, how=[Path(__file__)]))


def stand_in(target: str) -> Substitute | None:
    """A TensorRT engine needs a GPU; its ONNX file does not."""
    return "onnxruntime" if target.startswith("trt") else None


# --- the network ---


def test_keys_and_shapes_are_the_published_ones() -> None:
    assert {k: list(v.shape) for k, v in network().state_dict().items()} == RECORDED["keys"]


def test_outputs_equal_the_published_code() -> None:
    module = network()
    image = torch.from_numpy(noise("input", tuple(RECORDED["input_shape"]))).float()
    with torch.inference_mode():
        points, pose = module(image)
        have = {"backbone": module.backbone(image), "point": points, "pose": pose}
    assert points.dtype == torch.float32
    assert have.keys() == RECORDED["outputs"].keys()
    for name, want in RECORDED["outputs"].items():
        assert list(have[name].shape) == want["shape"]
        flat = have[name].double().flatten()
        np.testing.assert_allclose(flat[want["idx"]], want["val"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(float(flat.abs().max()), want["absmax"], rtol=1e-5)
        np.testing.assert_allclose(float(flat.std(unbiased=False)), want["std"], rtol=1e-5)


def test_size_is_the_published_one_and_what_is_deployed_costs_less() -> None:
    module = network()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(torch.zeros(1, 3, SIDE, SIDE))
    assert counter.get_total_flops() // 2 == 6_093_959
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    assert parts == {"backbone": 61_629, "keypoint_head": 170_664, "pose_head": 34_134}
    (deployed,) = statistics.measure(registry.get("landmarks106"))
    assert (deployed.network, deployed.shape) == ("landmarks", (1, 3, SIDE, SIDE))
    assert deployed.macs == 5_803_655


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    del state["pose_head.branches.0.4.0.weight"]
    torch.save({"state_dict": state}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"missing pose_head\.branches\.0\.4\.0\.weight"):
        registry.get("landmarks106").load(tmp_path / "other.pt")


@pytest.mark.parametrize("size", [(48, 96), "any"])
def test_another_input_size_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match="96x96"):
        registry.get("landmarks106").network_specs(size)


# --- every backend ---


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_gives_the_points_of_pytorch(target: str, made: GetTarget, weights: Path) -> None:
    artifact = made(target)
    limits = WORST[artifact.manifest.target.precision]
    image = group_photo(np.random.default_rng(5), 120, 300, 3)
    faces = [known(50 + 100 * i, 60, 60, 20 * i).found for i in range(3)]
    for rounds in (1, 2):
        options = {"rounds": rounds}
        with (
            load_reference("landmarks106", weights, threads=1, options=options) as reference,
            load(artifact, threads=1, runtime=stand_in(target), options=options) as pipeline,
        ):
            assert isinstance(reference, Landmarks106Pipeline)
            assert isinstance(pipeline, Landmarks106Pipeline)
            for want, have in zip(reference.locate(image, faces), pipeline.locate(image, faces), strict=True):
                assert want.landmarks is not None
                assert have.landmarks is not None
                assert np.abs(np.array(want.landmarks) - have.landmarks).max() <= limits.pixels
                assert max(abs(getattr(want, a) - getattr(have, a)) for a in ("yaw", "pitch", "roll")) <= limits.degrees
                assert (have.box, have.score) == (want.box, want.score)
    if artifact.manifest.target.precision == "fp32":
        assert all(row.relative_l2 <= 1e-3 for row in artifact.manifest.parity)


@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32", "ncnn-fp32"])
def test_a_batch_is_as_each_crop_alone(target: str, made: GetTarget) -> None:
    pixels = np.stack([portrait(np.random.default_rng(i), SIDE) for i in range(5)])
    with load(made(target), threads=1) as pipeline:
        runtime = pipeline.runtimes["landmarks"]
        together, *alone = runtime.run_pictures([pixels, *pixels[:, None]])
    for name in ("points", "pose"):
        np.testing.assert_allclose(together[name], np.concatenate([a[name] for a in alone]), rtol=1e-4, atol=1e-3)
    assert np.abs(together["points"][0] - together["points"][1]).max() > 1


def test_half_precision_keeps_the_pixels_of_the_points(made: GetTarget) -> None:
    artifact = made("trt-fp16")
    described = describe_network(pytest.importorskip("tensorrt_rtx"), artifact.file("landmarks", "onnx"))
    types = [v.outputs[0].dtype for v in described.layers if v.type in ("CONVOLUTION", "MATRIX_MULTIPLY")]
    assert artifact.manifest.network("landmarks").float32 == ("points.9.",)
    assert types.count("float32") == 1
    assert types.count("float16") == 39 - 1
    assert artifact.manifest.network("landmarks").engine == "ready"


@pytest.mark.parametrize("target", INT8)
def test_int8_leaves_the_last_layers_in_float(target: str, made: GetTarget) -> None:
    network = made(target).manifest.network("landmarks")
    assert len(network.int8) == 39 - 2
    assert not {"points.9.weight", "pose.9.weight"} & set(network.int8)
    assert all(row.relative_l2 < 0.3 for row in made(target).manifest.parity)
    assert network.engine == ("ready" if target.startswith("trt") else None)


def test_verify_holds_an_artifact_against_its_checkpoint(made: GetTarget, weights: Path, drawn: Path) -> None:
    found = verify(made("onnx-fp32"), weights, [drawn / "0.png"], threads=1, options={"rounds": 1})
    assert found.problems == ()
    assert found.faces is not None
    assert found.faces.matched == 1


# --- from a crop to the picture ---


def located(image: Image, faces: list[Any], config: Landmarks106Config | None = None, off: float = 0.0) -> list[Face]:
    pipeline = opened(faces, config, off)
    return pipeline.locate(image, [f.found for f in faces])


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(10, WIDTH - 10),
    y=st.floats(10, HEIGHT - 10),
    size=st.floats(60, 190),
    roll=st.floats(-180, 180),
)
@example(x=12, y=12, size=60, roll=90)
@example(x=WIDTH - 11, y=HEIGHT - 11, size=120, roll=-135)
@example(x=112, y=96, size=80, roll=180)
@example(x=3, y=100, size=80, roll=0)
def test_known_faces_come_back_wherever_they_are_and_however_turned(
    x: float, y: float, size: float, roll: float
) -> None:
    truth = known(x, y, size, roll)
    (face,) = located(chart(HEIGHT, WIDTH), [truth])
    pixels, degrees = misses(face, truth)
    assert pixels < PIXELS
    assert degrees < DEGREES
    assert (face.box, face.score) == (truth.found.box, truth.found.score)


@settings(max_examples=40, deadline=None)
@given(x=st.floats(10, WIDTH - 10), y=st.floats(10, HEIGHT - 10), size=st.floats(16, 60), roll=st.floats(-180, 180))
def test_small_faces_come_back(x: float, y: float, size: float, roll: float) -> None:
    """Of so few pixels of 8 bits the angle is not known to a tenth of a degree."""
    truth = known(x, y, size, roll)
    (face,) = located(chart(HEIGHT, WIDTH), [truth])
    pixels, degrees = misses(face, truth)
    assert pixels < PIXELS
    assert degrees < 1


def test_a_network_that_is_off_by_a_pixel_is_noticed() -> None:
    truth = known(120, 100, 90, 40)
    (face,) = located(chart(HEIGHT, WIDTH), [truth], off=1.0)
    assert misses(face, truth)[0] > PIXELS


def test_a_turn_the_wrong_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = known(120, 100, 90, 40)
    monkeypatch.setattr(Turn, "undo", Turn.apply)
    (face,) = located(chart(HEIGHT, WIDTH), [truth], Landmarks106Config(rounds=1))
    assert misses(face, truth)[0] > PIXELS


def test_published_pose_is_that_of_the_upright_face_and_counter_clockwise() -> None:
    (face,) = located(chart(HEIGHT, WIDTH), [known(120, 100, 90, 40)], Landmarks106Config(pose="published"))
    assert face.roll == pytest.approx(0, abs=DEGREES)
    upright = known(120, 100, 90, 7)
    bare = Face(upright.found.box, 0.9)  # Without landmarks it is not turned.
    for pose, sign in (("published", -1), ("picture", 1)):
        pipeline = opened([upright], Landmarks106Config(pose=pose))  # type: ignore[arg-type]
        (face,) = pipeline.locate(chart(HEIGHT, WIDTH), [bare])
        assert face.roll == pytest.approx(7 * sign, abs=DEGREES)
        assert [face.yaw, face.pitch] == pytest.approx([10, -5], abs=1e-3)


def test_turning_a_picture_turns_the_points_and_the_roll(weights: Path) -> None:
    """With the real network: a quarter turn moves every pixel to a pixel, so that the crops are the same."""
    image = portrait(np.random.default_rng(3), 121)
    face = known(60.3, 61.7, 62, 11).found
    assert face.landmarks is not None
    with load_reference("landmarks106", weights, threads=1, options={"rounds": 1}) as pipeline:
        assert isinstance(pipeline, Landmarks106Pipeline)
        (first,) = pipeline.locate(image, [face])
        assert first.landmarks is not None
        assert first.roll is not None
        turned_image = np.ascontiguousarray(np.rot90(image, -1))  # Clockwise: (x, y) goes to (120 - y, x).
        x1, y1, x2, y2 = face.box
        turned = Face((120 - y2, x1, 120 - y1, x2), 0.9, tuple((120 - y, x) for x, y in face.landmarks))
        (second,) = pipeline.locate(turned_image, [turned])
    assert second.landmarks is not None
    assert second.roll is not None
    np.testing.assert_allclose(second.landmarks, [(120 - y, x) for x, y in first.landmarks], atol=0.05)
    assert (second.roll - first.roll) % 360 == pytest.approx(90, abs=DEGREES)
    assert [second.yaw, second.pitch] == pytest.approx([first.yaw, first.pitch], abs=0.05)


def test_a_portrait_is_one_face_that_fills_it() -> None:
    truth = known(64, 82, 110, 8)
    pipeline = opened([truth], Landmarks106Config(rounds=3))
    (face,) = pipeline.detect(chart(160, 128))
    first = seen(pipeline).looks[0][0]
    assert (face.box, face.score) == ((0, 0, 128, 160), 1.0)
    assert misses(face, truth)[0] < PIXELS
    assert misses(face, truth)[1] < DEGREES
    np.testing.assert_allclose(first.scale, (128 / SIDE, 160 / SIDE), atol=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_pictures_of_a_few_pixels(size: tuple[int, int], weights: Path) -> None:
    with load_reference("landmarks106", weights, threads=1) as pipeline:
        (face,) = pipeline.detect(np.full((*size, 3), 90, np.uint8))
    assert face.landmarks is not None
    assert np.isfinite(face.landmarks).all()


# --- the published protocol ---


@settings(max_examples=40, deadline=None)
@given(x=st.floats(50, WIDTH - 50), y=st.floats(50, HEIGHT - 50), size=st.floats(40, 90), roll=st.floats(-40, 40))
@example(x=47, y=60, size=90, roll=3)
def test_crops_are_the_published_ones(x: float, y: float, size: float, roll: float) -> None:
    truth = known(x, y, size, roll)
    pipeline = opened([truth], Landmarks106Config(edge="canvas", rounds=2))
    pipeline.locate(chart(HEIGHT, WIDTH), [truth.found])
    first, second = (looks[0] for looks in seen(pipeline).looks)
    (ax, ay), (bx, by) = truth.points[[104, 105]].tolist()
    angle = np.arctan2(by - ay, bx - ax)
    assert first.turned == pytest.approx(np.degrees(angle), abs=0.3)  # What colours of 8 bits say of a small crop.
    on_canvas = np.array([turn_point(p, angle, HEIGHT, WIDTH) for p in truth.points.tolist()])
    boxes = list(published_boxes(truth.found, iter([on_canvas]), HEIGHT, WIDTH))
    for look, (x1, y1, x2, y2) in zip((first, second), boxes, strict=True):
        # A whole pixel, where the points of the first look are a hair off.
        np.testing.assert_allclose(look.scale * SIDE, (x2 - x1, y2 - y1), atol=0.2 if look is first else 1.2)
        middle = look.matrix @ np.full(2, (SIDE - 1) / 2) + look.origin
        want = turn_point(((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2), -angle, HEIGHT, WIDTH)
        np.testing.assert_allclose(middle, want, atol=0.1 if look is first else 1.1)


def two_steps(image: Image, angle: float, box: tuple[int, int, int, int]) -> Image:
    """As published: the whole picture is turned, then a crop of it resized."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width // 2, height // 2), np.degrees(angle), 1)
    x1, y1, x2, y2 = box
    return cv2.resize(cv2.warpAffine(image, matrix, (width, height))[y1:y2, x1:x2], (SIDE, SIDE))  # type: ignore[return-value]


@pytest.mark.parametrize("side", [48, 96, 150])
@pytest.mark.parametrize("degrees", [0, 7, -60, 90])
def test_one_look_at_the_picture_is_the_turned_picture_cut_and_resized(side: int, degrees: int) -> None:
    image = portrait(np.random.default_rng(0), 240)
    angle = np.radians(degrees)
    box = (90 - side // 2, 100 - side // 2, 90 + side // 2, 100 + side // 2)
    want = two_steps(image, angle, box).astype(int)
    (have,) = Turn(np.array([angle]), 240, 240).crops(image, np.array([box], float), SIDE)
    # Two interpolations blur a little more than one, of a picture with noise: 0.0 to 0.7 here.
    assert np.abs(have - want).mean() < 1.0
    (wrong,) = Turn(np.array([angle + 0.2]), 240, 240).crops(image, np.array([box], float), SIDE)
    assert np.abs(wrong - want).mean() > 5


def test_without_a_turn_a_crop_is_cut_and_resized() -> None:
    image = portrait(np.random.default_rng(0), 150)
    boxes = np.array([[0, 0, 150, 150], [0, 3, 140, 150], [20, 30, 140, 149]])
    have = Turn(np.zeros(3), 150, 150).crops(image, boxes.astype(float), SIDE)
    assert np.abs(have.astype(int) - crops(image, boxes - np.array([0, 0, 1, 1]), SIDE)).max() <= 1


def test_on_the_published_canvas_a_face_is_turned_out_of_the_picture() -> None:
    image, truth = chart(128, 256), known(20, 60, 60, 90)
    for edge, lost in (("picture", False), ("canvas", True)):
        runtime = Blind(())
        pipeline = Landmarks106Pipeline({"landmarks": runtime}, Landmarks106Config(edge=edge, rounds=1))  # type: ignore[arg-type]
        pipeline.locate(image, [truth.found])
        (picture,) = runtime.seen.pictures
        assert (np.ptp(picture[:, :, :2], axis=(0, 1)).min() < 20) == lost


# --- all faces at once ---


def test_all_faces_are_looked_at_together() -> None:
    faces = [known(24 + 44 * (i % 5), 55 + 90 * (i // 5), 40, 36 * i) for i in range(10)]
    image = chart(HEIGHT, WIDTH)
    pipeline = opened(faces)
    found = pipeline.locate(image, [f.found for f in faces])
    assert [len(looks) for looks in seen(pipeline).looks] == [10] * 7
    for face, truth in zip(found, faces, strict=True):
        assert misses(face, truth)[0] < PIXELS
        assert misses(face, truth)[1] < DEGREES
    assert found == [located(image, [f])[0] for f in faces]


def test_more_faces_than_the_network_takes_are_several_batches() -> None:
    truth = known(120, 100, 60, 10)
    pipeline = opened([truth], Landmarks106Config(rounds=2))
    found = pipeline.locate(chart(HEIGHT, WIDTH), [truth.found] * 70)
    assert [len(looks) for looks in seen(pipeline).looks] == [35, 35] * 2
    assert len(found) == 70


def test_without_faces_nothing_runs() -> None:
    pipeline = opened([])
    assert pipeline.locate(chart(32, 32), []) == []
    assert seen(pipeline).looks == []


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"grow": -0.1}, {"enlarge": 0.9}, {"pose": "both"}, {"edge": "none"}, {"nose": 1}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        facedeploy.pipelines.configure("landmarks106", options)
