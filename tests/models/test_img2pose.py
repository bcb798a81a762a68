"""img2pose: the networks against recorded outputs of the published code, and every target against PyTorch."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facedeploy.artifact.folder import Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec, Size
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.export import exporter, one_network
from facedeploy.export.fp16_fallback import choose_float32
from facedeploy.export.tensorrt import describe_network
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.models import model_size as statistics
from facedeploy.models import registry
from facedeploy.models.img2pose import Img2Pose, anchors, pooled
from facedeploy.models.img2pose_networks import FoldedHead, Head, Proposer, by_proposal, probe, sampled
from facedeploy.pipelines.img2pose import anchors_of_levels
from facedeploy.pipelines.load import load
from facedeploy.pipelines.roi_align import level_of, sample_grid
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import Array, Arrays
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.sources import published as source
from facedeploy.sources.open import open_source
from facedeploy.sources.published import load_reference
from tests.conftest import SMALL
from tests.support.exported import exported
from tests.support.fill import fill, noise
from tests.support.worst import WORST

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "img2pose.json").read_text())
SIZE: Size = (128, 160)  # What the outputs are recorded for.
GAIN: float = GOLDEN["gain"]
COUNTS: dict[Size, int] = {
    SIZE: 5_118,
    (416, 544): 56_544,
    (480, 640): 76_740,
    (608, 608): 92_355,
    (608, 800): 121_515,
    (640, 640): 102_300,
    (608, 1088): 165_240,
    (800, 1088): 217_413,
}
TARGETS = ("onnx-fp32", "openvino-fp32", "openvino-fp16", "ncnn-fp32", "ncnn-fp16", "trt-fp32", "trt-fp16")
# These weights give every proposal a score between 0.5 and 0.7.
LOW = {"score_threshold": 0.3}


@pytest.fixture(scope="module")
def model() -> Img2Pose:
    """With the weights that the outputs are recorded for. Tests share it and do not change it."""
    made = Img2Pose().eval()
    made.load_state_dict(fill(made.state_dict(), GAIN))
    return made


@pytest.fixture(scope="module")
def networks(model: Img2Pose) -> dict[str, nn.Module]:
    return registry.get("img2pose").networks({"img2pose": model})


def image() -> Tensor:
    return torch.from_numpy(noise("input", (1, 3, *SIZE))).float()


def assert_matches(have: Tensor, name: str) -> None:
    want = GOLDEN[name]
    assert list(have.shape) == want["shape"]
    flat = have.double().flatten()
    np.testing.assert_allclose(flat[want["idx"]], want["val"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(float(flat.abs().max()), want["absmax"], rtol=1e-3)
    np.testing.assert_allclose(float(flat.std(unbiased=False)), want["std"], rtol=1e-3)


def test_keys_and_sizes_are_the_published_ones() -> None:
    model = Img2Pose()
    published = {model.renamed(k.removeprefix("module.")): v for k, v in GOLDEN["keys"].items()}
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == published
    assert len(published) == 141
    assert sum(p.numel() for p in model.parameters()) == 42_427_357
    assert sum(b.numel() for b in model.buffers()) == 19_713


def test_features_and_proposal_head_equal_the_published_code(model: Img2Pose) -> None:
    with torch.inference_mode():
        levels = pooled(model.backbone(image()))
        for i, level in enumerate(levels):
            assert_matches(level, f"feat_{i if i < 4 else 'pool'}")
            logits, deltas = model.rpn.head(level)
            assert_matches(logits, f"rpn_cls_{i}")
            assert_matches(deltas, f"rpn_box_{i}")
    assert_matches(anchors(SIZE, [(x.shape[2], x.shape[3]) for x in levels]), "anchors")


def test_heads_on_given_proposals_equal_the_published_code(networks: dict[str, nn.Module]) -> None:
    boxes = np.array(GOLDEN["proposals"])
    assert level_of(boxes).tolist() == GOLDEN["roi_levels"]
    grid = torch.from_numpy(sample_grid(boxes, SIZE, len(boxes)))
    with torch.inference_mode():
        features = networks["proposer"](image())[0]
        samples = by_proposal(sampled(features, grid))
        assert_matches(samples, "roi_align")
        head = networks["head"]
        assert isinstance(head, Head)
        logits, dofs = head.heads(samples)
        scores, faces = head(features, grid)
    np.testing.assert_allclose(logits, GOLDEN["cls_full"], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(dofs, GOLDEN["dof_full"], rtol=1e-3, atol=1e-6)
    odds = np.exp(np.array(GOLDEN["cls_full"]))
    np.testing.assert_allclose(scores[0], odds[:, 1] / odds.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(faces[0].T, np.array(GOLDEN["dof_full"])[:, 6:], rtol=1e-3, atol=1e-6)


def test_sampling_across_instead_of_down_is_not_the_published_code(networks: dict[str, nn.Module]) -> None:
    boxes = np.array(GOLDEN["proposals"])
    grid = torch.from_numpy(sample_grid(boxes, SIZE, len(boxes)).copy()).flip(-1)
    with torch.inference_mode():
        samples = by_proposal(sampled(networks["proposer"](image())[0], grid))
    with pytest.raises(AssertionError):
        assert_matches(samples, "roi_align")


@pytest.mark.parametrize("size", COUNTS)
def test_there_are_as_many_anchors_as_published(size: Size) -> None:
    proposer, _ = registry.get("img2pose").network_specs(size)
    assert proposer.outputs[1].shape == (1, COUNTS[size])
    assert sum(anchors_of_levels(size)) == COUNTS[size]


def test_the_stride_of_the_coarsest_anchors_is_a_whole_part() -> None:
    grids = [(152, 200), (76, 100), (38, 50), (19, 25), (10, 13)]
    last = anchors((608, 800), grids)[-3 * 130 :].reshape(10, 13, 3, 4)
    shift = last - last[:1, :1]
    assert shift[1, 0, 0].tolist() == [0, 60, 0, 60]
    assert shift[0, 1, 0].tolist() == [61, 0, 61, 0]


def test_what_is_exported_computes_the_same(networks: dict[str, nn.Module]) -> None:
    folded = registry.get("img2pose").fold(networks)
    assert isinstance(folded["proposer"], Proposer)
    assert isinstance(folded["head"], FoldedHead)
    feeds = probe("head", {"features": (1, 256, 60, 40), "grid": (1, 14, 14 * 20, 2)}, np.random.default_rng(0))
    inputs = {"proposer": [image()], "head": [torch.from_numpy(v) for v in feeds.values()]}
    with torch.inference_mode():
        for name, tensors in inputs.items():
            for have, want in zip(folded[name](*tensors), networks[name](*tensors), strict=True):
                assert have.shape == want.shape
                assert float((have - want).norm() / want.norm()) < 1e-5


def test_the_size_of_what_is_deployed() -> None:
    rows = {r.network: r for r in statistics.measure(registry.get("img2pose"))}
    # BatchNorm is in the convolutions, the background class is in no layer, and proposals are 100.
    assert rows["head"].macs == 100 * (2 * 13_893_632 + 1024 * 256 + 256 * 6 + 1024)
    assert rows["proposer"].shape == (1, 3, 608, 800)
    published = replace(registry.get("img2pose"), input_size=(480, 640))
    rows = {r.network: r for r in statistics.measure(published)}
    assert rows["proposer"].macs == 26_733_772_800 + 15_185_925_120  # Backbone with pyramid, and the proposal head.


@pytest.mark.parametrize("size", [(600, 800), (608, 810), (32, 64), "any"])
def test_sizes_that_the_pyramid_does_not_divide_are_refused(size: Any) -> None:
    with pytest.raises(InputError, match="multiples of 32"):
        registry.get("img2pose").network_specs(size)


def write_weights(folder: Path) -> Path:
    """A checkpoint in the published layout, the published statistics, and a head model that was made up here."""
    model = Img2Pose()
    state = fill(model.state_dict(), GAIN)
    own = {model.renamed(k.removeprefix("module.")): k for k in GOLDEN["keys"]}
    torch.save({"fpn_model": {own[k]: v for k, v in state.items()}, "optimizer": {}}, folder / "img2pose_v1.pth")
    np.save(folder / "WIDER_train_pose_mean_v1.npy", np.array(GOLDEN["project"]["pose_mean"]))
    np.save(folder / "WIDER_train_pose_stddev_v1.npy", np.array(GOLDEN["project"]["pose_std"]))
    points68, points5 = head_points()
    np.save(folder / "reference_3d_68_points_trans.npy", points68)
    np.save(folder / "reference_3d_5_points_trans.npy", points5)
    return folder


def head_points() -> tuple[Any, Any]:
    """68 points on the front of an ellipsoid, and eyes, nose and mouth; x right, y down, z away from the camera."""
    rng = np.random.default_rng(0)
    across, down = rng.uniform(-0.7, 0.7, 68), rng.uniform(-0.6, 0.7, 68)
    points68 = np.stack([across, down, 0.4 - np.sqrt(1.2 - across**2 - down**2)], axis=1)
    eyes, mouth = (-0.4, -0.38), (0.28, -0.4)
    points5 = [(-0.3, *eyes), (0.32, *eyes), (0.01, -0.03, -0.74), (-0.24, *mouth), (0.23, *mouth)]
    return points68.astype(np.float32), np.array(points5, np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("img2pose"))


GetArtifact = Callable[[str], Artifact]


@pytest.fixture(scope="module")
def artifact(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> GetArtifact:
    """`artifact("ncnn-fp16")`: exported once; what comes before the compilers is done once for them all."""
    shared = functools.cache(lambda: open_source("img2pose", weights, input_size=SMALL, options=LOW))
    choices: dict[str, tuple[str, ...]] = {}

    def choose_once(onnx: Path, spec: NetworkSpec, *rest: Any) -> tuple[str, ...]:
        if spec.name not in choices:
            choices[spec.name] = choose_float32(onnx, spec, *rest)
        return choices[spec.name]

    answers: dict[tuple[str, bytes], Arrays] = {}

    class Remembering(TorchRuntime):
        def run(self, inputs: Mapping[str, Array]) -> Arrays:
            key = self.spec.name, sha256(b"".join(v.tobytes() for v in inputs.values())).digest()
            if key not in answers:
                answers[key] = super().run(inputs)
            return answers[key]

    def make(model: str, target: str, *rest: Any, **options: Any) -> Artifact:
        quantised = target.endswith("int8")
        int8 = Int8Options(pictures(tmp_path_factory.mktemp("pictures")), force=True) if quantised else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporter, "open_source", lambda *_, **__: shared())
            patch.setattr(one_network, "choose_float32", choose_once)
            patch.setattr(source, "TorchRuntime", Remembering)
            return exporter.export(model, target, *rest, int8=int8, **options)

    return functools.cache(lambda target: exported("img2pose", target, weights, make=make, how=[Path(__file__)]))


def pictures(folder: Path) -> Path:
    for i in range(10):
        cv2.imwrite(str(folder / f"{i}.png"), group_photo(np.random.default_rng(i), *SMALL, 2))
    return folder


@pytest.fixture(scope="module")
def photo() -> Any:
    return group_photo(np.random.default_rng(3), *SMALL, 3)


@pytest.fixture(scope="module")
def expected(weights: Path, photo: Any) -> list[Face]:
    specs = registry.get("img2pose").network_specs(SMALL)
    with load_reference("img2pose", weights, specs=specs, threads=1, options=LOW) as pipeline:
        return pipeline.detect(photo)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_finds_the_faces_of_pytorch(
    target: str, artifact: GetArtifact, expected: list[Face], photo: Any
) -> None:
    made = artifact(target)
    substitute: Substitute | None = "onnxruntime" if target.startswith("trt") else None
    with load(made, threads=1, runtime=substitute) as pipeline:
        difference = compare_faces([expected], [pipeline.detect(photo)])
    precision = made.manifest.target.precision
    assert len(expected) > 30
    assert difference.same_faces
    limits = WORST[precision]
    # The published code cuts to whole pixels, so that half precision moves a side by one of them.
    assert max(difference.box, difference.landmarks) <= limits.pixels
    assert difference.score <= limits.score
    assert difference.angle <= limits.degrees
    if precision == "fp32":
        assert max(row.relative_l2 for row in made.manifest.parity) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16", "trt-int8"])
def test_engines_are_built_without_plugins(target: str, artifact: GetArtifact) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    made = artifact(target)
    for network in made.manifest.networks:
        assert network.engine == "ready"
        layers = describe_network(trt, made.file(network.spec.name, "onnx")).layers
        assert not [v.name for v in layers if "PLUGIN" in v.type]
    samplers = [v for v in describe_network(trt, made.file("head", "onnx")).layers if v.type == "GRID_SAMPLE"]
    assert [v.outputs[0].dtype for v in samplers] == ["float32"]
    if target == "trt-int8":
        assert {"head.conv.weight", "backbone.fpn.layer_blocks.0.0.weight"} <= set(made.manifest.networks[0].int8)
        assert {"fc6.0.weight", "fc6.1.weight"} <= set(made.manifest.networks[1].int8)


@pytest.mark.slow
def test_half_precision_leaves_coordinates_in_float32(artifact: GetArtifact) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert "head.bbox_pred." in artifact("trt-fp16").manifest.networks[0].float32


def test_the_artifact_holds_what_came_beside_the_weights(artifact: GetArtifact, weights: Path) -> None:
    config = artifact("onnx-fp32").manifest.pipeline.config
    assert config["pose_mean"] == np.load(weights / "WIDER_train_pose_mean_v1.npy").tolist()
    assert config["points5"] == np.load(weights / "reference_3d_5_points_trans.npy").tolist()


@pytest.mark.parametrize("name", registry.get("img2pose").constants.values())
def test_a_file_that_is_missing_beside_the_weights_is_named(name: str, weights: Path, tmp_path: Path) -> None:
    for file in weights.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(InputError, match=name):
        exporter.export("img2pose", "onnx-fp32", tmp_path, tmp_path / "made", input_size=SMALL)
    assert not (tmp_path / "made").exists()


def test_files_that_stand_for_each_other_are_noticed(weights: Path, tmp_path: Path) -> None:
    for file in weights.iterdir():
        shutil.copy(file, tmp_path / file.name)
    shutil.copy(weights / "reference_3d_5_points_trans.npy", tmp_path / "reference_3d_68_points_trans.npy")
    with pytest.raises(InputError, match="points68 must hold 68 x 3 finite numbers"):
        exporter.export("img2pose", "onnx-fp32", tmp_path, tmp_path / "made", input_size=SMALL)


def test_newer_checkpoints_load_too(weights: Path, tmp_path: Path, model: Img2Pose) -> None:
    torch.save(model.state_dict(), tmp_path / "img2pose_new.pth")
    old, new = (registry.get("img2pose").load(v)["img2pose"].state_dict() for v in (weights, tmp_path))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[k], new[k]) for k in old)
