"""MogFace against recorded outputs of the published code, and every backend against PyTorch.

The compiled networks have a backbone of one block a stage: its other 29 are of the same two kinds, and cost a minute.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import facedeploy
from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.errors import CheckpointError, InputError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.export import one_network
from facedeploy.export.fp16_fallback import choose_float32
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.models import checkpoint, mogface_networks, registry
from facedeploy.models import model_size as statistics
from facedeploy.models.mogface import MogFace
from facedeploy.pipelines.load import load
from facedeploy.pipelines.mogface import STRIDES, MogFaceConfig, MogFacePipeline, candidates
from facedeploy.pipelines.resize import fit
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.sources import published as source
from facedeploy.sources.published import load_reference
from facedeploy.verification.tensors import TOLERANCES
from tests.support.exported import require
from tests.support.fill import fill, noise
from tests.support.worst import WORST

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "mogface.json").read_text())
GAIN: float = GOLDEN["gain"]
SMALL: Size = (64, 96)
SIDES = (10.88, 21.76, 43.52, 87.04, 174.08, 348.16)
TARGETS = ("onnx-fp32", "openvino-fp32", "openvino-fp16", "ncnn-fp32", "ncnn-fp16", "trt-fp32", "trt-fp16")
THRESHOLD = 0.55  # Of the score that these weights give to some dozens of boxes of any picture.
MODEL = registry.get("mogface")


@pytest.fixture(scope="module")
def mogface() -> MogFace:
    """The published network with the weights that the outputs are recorded for."""
    module = MogFace()
    module.load_state_dict(fill(module.state_dict(), GAIN))
    return module.eval()


# --- the published code ---


def assert_matches(output: torch.Tensor, want: Mapping[str, Any]) -> None:
    assert list(output.shape) == want["shape"]
    flat = output.double().flatten()
    np.testing.assert_allclose(flat[want["idx"]], want["val"], rtol=1e-3, atol=1e-9)
    for have, name in ((flat.mean(), "mean"), (flat.std(unbiased=False), "std"), (flat.abs().max(), "absmax")):
        np.testing.assert_allclose(float(have), want[name], rtol=1e-3)


def answers(module: MogFace) -> dict[str, torch.Tensor]:
    """What is recorded, of one pass."""
    image = torch.from_numpy(noise("input", tuple(GOLDEN["input_shape"]))).float()
    with torch.inference_mode():
        taps = module.backbone(image)
        maps = module.fpn(*taps)
        conf, loc = module(image)
    names = ("c2", "c3", "c4", "c5", "p2", "p3", "p4", "p5", "p6", "p7")
    return {"conf": conf, "loc": loc, **dict(zip(names, (*taps, *maps), strict=True))}


def test_keys_and_shapes_are_the_published_ones(mogface: MogFace) -> None:
    assert {k: list(v.shape) for k, v in mogface.state_dict().items()} == GOLDEN["keys"]


def test_outputs_with_deterministic_weights_equal_the_published_code(mogface: MogFace) -> None:
    have = answers(mogface)
    assert have.keys() == GOLDEN["outputs"].keys()
    for name, want in GOLDEN["outputs"].items():
        assert_matches(have[name], want)


def test_heads_that_run_all_their_convolutions_are_noticed(mogface: MogFace, monkeypatch: pytest.MonkeyPatch) -> None:
    def every_convolution(head: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        for i in range(1, 5):
            x = getattr(head, f"gn{i}")(getattr(head, f"conv{i}")(x)).relu()
        return x

    monkeypatch.setattr("facedeploy.models.mogface.DeepHead.forward", every_convolution)
    have = answers(mogface)
    assert_matches(have["p2"], GOLDEN["outputs"]["p2"])
    with pytest.raises(AssertionError):
        assert_matches(have["conf"], GOLDEN["outputs"]["conf"])


def test_sizes_are_the_published_ones(mogface: MogFace) -> None:
    assert sum(p.numel() for p in mogface.parameters()) == 85_257_413
    dead = [v.numel() for k, v in mogface.state_dict().items() if k.startswith(MogFace.dead_keys)]
    assert (len(dead), sum(dead)) == (24, 24_187_392)
    features, head = statistics.measure(MODEL)
    assert features.parameters + head.parameters == 85_257_413 - 24_187_392
    # The head is counted for the finest map, 19200 of 25600 cells.
    assert features.macs + head.macs * 4 // 3 == 584_600_453_120


def test_what_is_not_run_may_be_missing_and_the_first_shot_be_there(mogface: MogFace) -> None:
    state = {k: v for k, v in mogface.state_dict().items() if not k.startswith(MogFace.dead_keys)}
    state |= {"pred_net.dsfd_loc.weight": torch.zeros(4, 256, 3, 3), "pred_net.dsfd_conf.bias": torch.zeros(1)}
    fresh = MogFace()
    checkpoint.load(fresh, state, "here")
    assert torch.equal(fresh.pred_net.pred_cls.weight, mogface.pred_net.pred_cls.weight)


@pytest.mark.parametrize(
    "key", ["backbone.layer3.22.conv2.weight", "fpn.c7.4.running_var", "pred_net.deep_loc_head.gn4.bias"]
)
def test_every_live_key_must_be_there(key: str, mogface: MogFace) -> None:
    state = {k: v for k, v in mogface.state_dict().items() if k != key}
    with pytest.raises(CheckpointError, match=f"missing {key}"):
        checkpoint.load(MogFace(), state, "here")


# --- anchors and boxes ---


def published_anchors(size: Size) -> NDArray[np.float64]:
    """Centre x, centre y, width and height of every anchor, by the published loops in closed form."""
    rows = []
    for stride, side in zip(STRIDES, SIDES, strict=True):
        y, x = np.mgrid[: -(-size[0] // stride), : -(-size[1] // stride)]
        sides = np.full(x.size, side)
        rows.append(np.stack([(x.ravel() + 0.5) * stride, (y.ravel() + 0.5) * stride, sides, sides], axis=1))
    return np.concatenate(rows)


def published_boxes(anchors: NDArray[Any], loc: NDArray[Any]) -> NDArray[np.float64]:
    centre, sides = anchors[:, :2] + loc[:, :2] * anchors[:, 2:], anchors[:, 2:] * np.exp(loc[:, 2:])
    corner = centre - (sides - 1) / 2
    return np.hstack([corner, corner + sides - 1])


def blank_outputs(size: Size) -> list[Arrays]:
    """Of the head, for maps on which every anchor is a face of its own size and place."""
    unit = np.array([-0.5, -0.5, 0.5, 0.5], np.float32)[None, :, None, None]
    shapes = [[int(n) for n in t.shape[2:]] for t in MODEL.network_specs(size)[0].outputs]
    return [{"score": np.ones((1, 1, *s), np.float32), "box": np.tile(unit, (1, 1, *s))} for s in shapes]


@pytest.mark.parametrize(
    ("size", "count"),
    [((480, 640), 25_600), ((640, 640), 34_125), ((481, 641), 26_141), ((333, 500), 14_054), ((1000, 750), 62_719)],
)
def test_anchors_are_the_published_ones(size: Size, count: int) -> None:
    boxes, _ = candidates(blank_outputs(size), 0.5)
    anchors = published_anchors(size)
    assert len(boxes) == len(anchors) == count
    np.testing.assert_allclose(boxes, published_boxes(anchors, np.zeros((count, 4))), atol=1e-4)
    np.testing.assert_allclose(boxes[0], [2 - 5.44 + 0.5] * 2 + [2 + 5.44 - 0.5] * 2, atol=1e-5)
    if size == (480, 640):
        last = [576 - 174.08 + 0.5, 448 - 174.08 + 0.5, 576 + 174.08 - 0.5, 448 + 174.08 - 0.5]
        np.testing.assert_allclose(boxes[-1], last, atol=1e-4)


@pytest.mark.parametrize("folded", [False, True])
def test_networks_and_decoding_give_the_published_boxes(folded: bool, mogface: MogFace) -> None:
    size = (97, 131)
    networks = MODEL.networks({"mogface": mogface})
    if folded:
        networks = MODEL.fold(networks)
    image = torch.from_numpy(2 * noise("input", (1, 3, *size))).float()
    with torch.inference_mode():
        conf, loc = mogface(image / 255)
        outputs = [networks["head"](x) for x in networks["features"](image)]
    arrays = [{"score": score.numpy(), "box": box.numpy()} for score, box in outputs]
    boxes, scores = candidates(arrays, 0.0)
    np.testing.assert_allclose(scores, conf[0, :, 0], rtol=1e-4)
    np.testing.assert_allclose(boxes, published_boxes(published_anchors(size), loc[0].double().numpy()), atol=0.02)


class Stub(Runtime):
    """Gives the answers of a function."""

    backend = "stub"
    concurrent = True

    def __init__(self, spec: NetworkSpec, answer: Callable[[Mapping[str, Array]], Arrays]) -> None:
        super().__init__(spec, RuntimeOptions(threads=1))
        self._answer = answer

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self._answer(inputs)

    def _close(self) -> None:
        pass


def encoded(face: NDArray[np.float64], size: Size) -> tuple[int, int, int, NDArray[np.float64]]:
    """Level, row and column of the anchor nearest to a face in the network's pixels, and its (x, y, w, h) there."""
    sides = face[2:] - face[:2] + 1
    level = int(np.argmin(np.abs(np.log(SIDES) - np.log(sides).mean())))
    stride, side = STRIDES[level], SIDES[level]
    centre = (face[:2] + face[2:]) / 2
    column, row = np.minimum(centre // stride, (-(-size[1] // stride) - 1, -(-size[0] // stride) - 1)).astype(int)
    offset = (centre - (np.array([column, row]) + 0.5) * stride) / side
    return level, int(row), int(column), np.concatenate([offset, np.log(sides / side)])


def pipeline_that_sees(
    faces: NDArray[np.float64], seen: Size, size: InputSize = "any", *, wrong: bool = False, **options: Any
) -> MogFacePipeline:
    """The pipeline over a network that answers with known faces (N, 4), in pixels of the picture of size `seen` that it
    is shown; `wrong` exchanges x and y.
    """
    features, head = MODEL.network_specs(size)
    found = [encoded(face, seen) for face in faces]

    def maps(inputs: Mapping[str, Array]) -> Arrays:
        assert inputs["image"].shape[2:] == seen
        shapes = [(-(-seen[0] // s), -(-seen[1] // s)) for s in STRIDES]
        levels = zip(features.outputs, shapes, strict=True)
        return {t.name: np.full((1, 256, *s), i, np.float32) for i, (t, s) in enumerate(levels)}

    def answer(inputs: Mapping[str, Array]) -> Arrays:
        shape = inputs["features"].shape[2:]
        score, box = np.zeros((1, 1, *shape), np.float32), np.zeros((1, 4, *shape), np.float32)
        for i, (level, row, column, (x, y, w, h)) in enumerate(found):
            if level == inputs["features"].flat[0]:
                x, y = (y, x) if wrong else (x, y)
                score[0, 0, row, column] = 0.99 - 0.01 * i
                box[0, :, row, column] = [x - np.exp(w) / 2, y - np.exp(h) / 2, x + np.exp(w) / 2, y + np.exp(h) / 2]
        return {"score": score, "box": box}

    return MogFacePipeline({"features": Stub(features, maps), "head": Stub(head, answer)}, MogFaceConfig(**options))


def boxes_of(faces: list[Face]) -> NDArray[np.float64]:
    return np.array([f.box for f in faces]).reshape(-1, 4)


CORNERS = np.array([[0, 0, 9, 11], [140, 0, 199, 70], [0, 88, 40, 149], [180, 130, 199, 149], [60, 40, 130, 120.0]])


def test_known_faces_at_borders_come_back() -> None:
    faces = pipeline_that_sees(CORNERS, (150, 200)).detect(np.zeros((150, 200, 3), np.uint8))
    np.testing.assert_allclose(boxes_of(faces), CORNERS, atol=0.01)
    assert [round(f.score, 2) for f in faces] == [0.99, 0.98, 0.97, 0.96, 0.95]


def test_a_network_with_x_and_y_exchanged_is_noticed() -> None:
    faces = pipeline_that_sees(CORNERS, (150, 200), wrong=True).detect(np.zeros((150, 200, 3), np.uint8))
    assert np.abs(boxes_of(faces) - CORNERS).max() > 0.5


@settings(deadline=None)
@given(
    height=st.integers(32, 1400),
    width=st.integers(32, 1400),
    centre=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    sides=st.tuples(st.floats(6, 500), st.floats(6, 500)),
)
def test_a_face_of_any_size_anywhere_comes_back(
    height: int, width: int, centre: tuple[float, float], sides: tuple[float, float]
) -> None:
    middle = np.array([centre[0] * (width - 1), centre[1] * (height - 1)])
    half = (np.array(sides) - 1) / 2
    face = np.concatenate([middle - half, middle + half])
    found = pipeline_that_sees(face[None], (height, width)).detect(np.zeros((height, width, 3), np.uint8))
    np.testing.assert_allclose(boxes_of(found), face[None], atol=0.01)


@pytest.mark.parametrize(("published", "score"), [(False, 0.99), (True, 0.99 * 2)])
def test_large_pictures_are_shrunk_as_published(published: bool, score: float) -> None:
    pipeline = pipeline_that_sees(CORNERS, (500, 1000), published_scores=published)
    faces = pipeline.detect(np.zeros((1000, 2000, 3), np.uint8))
    np.testing.assert_allclose(boxes_of(faces), 2 * CORNERS, atol=0.02)
    assert faces[0].score == pytest.approx(score, abs=1e-6)


def test_pictures_of_1500_pixels_are_seen_as_they_are() -> None:
    faces = pipeline_that_sees(CORNERS, (150, 1500), published_scores=True).detect(np.zeros((150, 1500, 3), np.uint8))
    np.testing.assert_allclose(boxes_of(faces), CORNERS, atol=0.01)
    assert faces[0].score == pytest.approx(0.99)


def test_a_fixed_size_sees_the_picture_in_its_top_left_corner() -> None:
    pipeline = pipeline_that_sees(CORNERS[:1], (96, 128), (96, 128))
    faces = pipeline.detect(np.zeros((384, 256, 3), np.uint8))
    np.testing.assert_allclose(boxes_of(faces), 4 * CORNERS[:1], atol=0.01)


def test_of_faces_that_overlap_the_best_one_is_kept() -> None:
    twice = np.array([[10, 10, 49, 49], [22, 10, 61, 49], [100, 10, 139, 49.0]])
    image = np.zeros((150, 200, 3), np.uint8)
    assert len(pipeline_that_sees(twice, (150, 200)).detect(image)) == 2
    assert len(pipeline_that_sees(twice, (150, 200), nms=0.95).detect(image)) == 3
    assert len(pipeline_that_sees(twice, (150, 200), nms=0.95, keep=1).detect(image)) == 1
    assert len(pipeline_that_sees(twice, (150, 200), score_threshold=0.985).detect(image)) == 1


def test_pictures_without_faces_give_none() -> None:
    nobody = np.zeros((0, 4))
    assert pipeline_that_sees(nobody, (40, 50)).detect(np.zeros((40, 50, 3), np.uint8)) == []


def test_pixels_are_normalised_as_published() -> None:
    pixel = np.array([10, 120, 250], np.uint8).reshape(1, 1, 1, 3)  # BGR
    have = MogFaceConfig().preprocess.tensor(pixel).ravel()
    np.testing.assert_allclose(
        have, (np.array([250, 120, 10]) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375], rtol=1e-6
    )


@pytest.mark.parametrize("options", [{"score_threshold": 1.5}, {"nms": -1}, {"top": 0}, {"shrunk": 0}, {"nose": 1}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        pipelines.configure("mogface", options)


def test_sizes_below_a_cell_of_the_backbone_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32x32, not 31x64"):
        MODEL.network_specs((31, 64))


# --- every backend ---


def relative_l2(have: Array, want: Array) -> float:
    return float(np.linalg.norm(have - want) / np.linalg.norm(want))


class GetThin:
    """`get("ncnn-fp16")`: exported once. What the targets have in common is done once for all of them: the answers of
    PyTorch, and the choice of what stays in float32.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.weights = folder / "mogface.pth"
        answered: dict[tuple[object, ...], Arrays] = {}

        class Remembering(TorchRuntime):
            def run(self, inputs: Mapping[str, Array]) -> Arrays:
                key = self.spec, *(v.tobytes() for v in inputs.values())
                if key not in answered:
                    answered[key] = super().run(inputs)
                return answered[key]

        chosen: dict[NetworkSpec, tuple[str, ...]] = {}

        def choose_once(onnx: Path, spec: NetworkSpec, *rest: Any) -> tuple[str, ...]:
            if spec not in chosen:
                chosen[spec] = choose_float32(onnx, spec, *rest)
            return chosen[spec]

        patch.setattr(source, "TorchRuntime", Remembering)
        patch.setattr(one_network, "choose_float32", choose_once)
        (module,) = THIN.build().values()
        state = fill(module.state_dict(), GAIN)
        torch.save({k: v for k, v in state.items() if not k.startswith(MogFace.dead_keys)}, self.weights)

    @functools.cache  # noqa: B019  # It lives as long as the module's fixture.
    def __call__(self, target: str, size: InputSize = SMALL, int8: Int8Options | None = None) -> Artifact:
        require(target)
        options = {"score_threshold": THRESHOLD}
        output = self.folder / f"{target}-{size}"
        return facedeploy.export(THIN.id, target, self.weights, output, input_size=size, options=options, int8=int8)


THIN = dataclasses.replace(MODEL, id="mogface-thin", architecture="mogface_networks:THIN")


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GetThin]:
    def build() -> dict[str, torch.nn.Module]:
        return {"mogface": MogFace((1, 1, 1, 1))}

    architecture = dataclasses.replace(mogface_networks.MOGFACE, build=build)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mogface_networks, "THIN", architecture, raising=False)
        patch.setitem(registry.MODELS, THIN.id, THIN)
        yield GetThin(tmp_path_factory.mktemp("mogface"), patch)


@pytest.fixture(scope="module")
def photo() -> Image:
    return group_photo(np.random.default_rng(3), 150, 200, 2)


def stand_in(artifact: Artifact) -> Substitute | None:
    """A TensorRT engine needs a GPU; its ONNX file does not."""
    return "onnxruntime" if artifact.manifest.target.backend == "trt" else None


def assert_same_faces(artifact: Artifact, weights: Path, image: Image) -> None:
    """The faces of an artifact are those of PyTorch over the published modules."""
    options = {"score_threshold": THRESHOLD}
    specs = [n.spec for n in artifact.manifest.networks]
    with (
        load_reference(THIN.id, weights, specs=specs, threads=1, options=options) as reference,
        load(artifact, threads=1, runtime=stand_in(artifact)) as pipeline,
    ):
        difference = compare_faces([reference.detect(image)], [pipeline.detect(image)])
    limits = WORST[artifact.manifest.target.precision]
    assert difference.same_faces
    assert difference.matched >= 10
    assert difference.box <= limits.pixels
    assert difference.score <= limits.score


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_finds_the_faces_of_pytorch(target: str, thin: GetThin, photo: Image) -> None:
    made = thin(target)
    tolerance = TOLERANCES[made.manifest.target.precision]
    assert all(row.relative_l2 <= tolerance.relative for row in made.manifest.parity)
    assert_same_faces(made, thin.weights, photo)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
def test_networks_of_any_size_find_the_faces_of_pytorch(target: str, thin: GetThin, photo: Image) -> None:
    made = thin(target, "any")
    assert_same_faces(made, thin.weights, photo[:133, :171])
    # Drawn weights see faces everywhere: that the scenes say nothing of them is told.
    assert re.search(r"it finds \d{4} faces where \d+ are drawn", " ".join(made.manifest.notes))


@pytest.mark.slow
def test_targets_on_a_sample_picture(thin: GetThin, crowd: Path) -> None:
    image = read_picture(crowd)
    for target in ("openvino-fp32", "ncnn-fp32"):
        assert_same_faces(thin(target), thin.weights, image)


def test_a_colour_order_mistake_changes_the_faces(thin: GetThin, photo: Image) -> None:
    preprocess = dataclasses.replace(MogFaceConfig().preprocess, colours="bgr")
    artifact = thin("onnx-fp32")
    with load(artifact, threads=1) as right, load(artifact, threads=1, options={"preprocess": preprocess}) as wrong:
        assert not compare_faces([right.detect(photo)], [wrong.detect(photo)]).same_faces


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32", "ncnn-fp32", "trt-fp32"])
def test_every_number_is_stored_once(target: str, thin: GetThin) -> None:
    made = thin(target)
    (module,) = THIN.build().values()
    live = sum(v.numel() for k, v in module.named_parameters() if not k.startswith(MogFace.dead_keys))
    role = {"onnx": "onnx", "openvino": "bin", "ncnn": "bin", "trt": "engine"}[made.manifest.target.backend]
    size = sum(made.file(n.spec.name, role).stat().st_size for n in made.manifest.networks)
    assert size == pytest.approx(4 * live, rel=0.05)


@pytest.mark.slow
def test_ncnn_reads_shared_weights_without_our_help(thin: GetThin) -> None:
    ncnn = pytest.importorskip("ncnn")
    made = thin("ncnn-fp32")
    feed = {"features": noise("map", (1, 256, 7, 9)).astype(np.float32)}
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(made.file("head", "param"))) == 0
    assert net.load_model(str(made.file("head", "bin"))) == 0
    with net.create_extractor() as extractor, load(made, threads=1) as pipeline:
        extractor.input("features", ncnn.Mat(feed["features"][0]).clone())
        want = pipeline.runtimes["head"].run(feed)
        for name, values in want.items():
            status, have = extractor.extract(name)
            assert status == 0
            np.testing.assert_allclose(np.array(have)[None], values, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_int8_is_built_for_tensorrt(thin: GetThin, tmp_path: Path) -> None:
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"{i}.png"), group_photo(np.random.default_rng(i), *SMALL, 2))
    made = thin("trt-int8", SMALL, Int8Options(calibration=tmp_path, method="minmax", force=True))
    features, head = made.manifest.networks
    assert {"backbone.conv1.weight", "fpn.ff_c3_c2.main_conv.weight"} <= set(features.int8)
    assert not any(name.endswith("2_lat.weight") for name in features.int8)  # Outputs stay in float.
    assert {"pred_net.deep_cls_head.conv1.weight", "pred_net.deep_loc_head.conv1.weight"} <= set(head.int8)
    sizes = [made.file(n.spec.name, "engine").stat().st_size for n in made.manifest.networks]
    single = [thin("trt-fp32").file(n.spec.name, "engine").stat().st_size for n in made.manifest.networks]
    assert sum(sizes) < 0.5 * sum(single)  # What leads to an output stays in float.
    picture = fit(group_photo(np.random.default_rng(20), *SMALL, 2), *SMALL, MogFaceConfig().preprocess.blank)[0]
    with (
        load(made, threads=1, runtime="onnxruntime") as int8,
        load(thin("trt-fp32"), threads=1, runtime="onnxruntime") as fp32,
    ):
        maps, rounded = (p.runtimes["features"].run_pictures([picture])[0] for p in (fp32, int8))
        for name, values in maps.items():
            assert relative_l2(rounded[name], values) < 0.1
            want, have = (p.runtimes["head"].run({"features": values}) for p in (fp32, int8))
            assert relative_l2(have["score"], want["score"]) < 0.1
            assert relative_l2(have["box"], want["box"]) < 0.3
