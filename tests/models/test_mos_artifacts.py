"""MOS on every backend against PyTorch: every output, on noise and on pictures, and what the manifest says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.images import read_picture
from facedeploy.core.network_spec import Size
from facedeploy.core.preprocess import Image, Pixels
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.pipelines.load import load
from facedeploy.pipelines.mos import MosConfig, gather
from facedeploy.pipelines.resize import fit
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import Arrays
from facedeploy.sources.published import load_reference
from facedeploy.verification.verify import verify
from tests.conftest import SMALL, GetMos, GetWeights
from tests.support.fill import noise

MODELS = ("mos-m", "mos-s")
FULL: Size = (480, 640)
Form = DeformConvForm | None
FLOAT32: list[tuple[str, Form]] = [
    ("onnx-fp32", None),
    ("openvino-fp32", None),
    ("ncnn-fp32", "native"),
    ("ncnn-fp32", "gridsample"),
]
HALF = ("openvino-fp16", "ncnn-fp16", "trt-fp16")
PREPROCESS = MosConfig().preprocess
FEATURES = ("features8", "features16", "features32")
BATCH = 64


def seen(image: Image, size: Size) -> NDArray[np.float32]:
    """What the detector is given of a picture."""
    return PREPROCESS.tensor(fit(image, *size, PREPROCESS.blank)[0])


def drawn(height: int, width: int) -> Pixels:
    return group_photo(np.random.default_rng(7), height, width, 3)


def inputs(size: Size) -> dict[str, NDArray[np.float32]]:
    """Noise, as the recorded outputs are for, and drawn faces."""
    return {"noise": noise("input", (1, 3, *size)).astype(np.float32), "drawn": seen(drawn(*size), size)}


def substitute(target: str) -> Substitute | None:
    """There is no GPU to rely on, so the graphs for TensorRT run in ONNX Runtime."""
    return "onnxruntime" if target.startswith("trt") else None


class Reference:
    """PyTorch over the published modules, which answers each question once."""

    def __init__(self, get_weights: GetWeights) -> None:
        self.weights = get_weights
        self.runtimes: dict[str, Any] = {}
        self.answers: dict[tuple[object, ...], Arrays] = {}

    def run(self, model: str, network: str, feed: Arrays) -> Arrays:
        if model not in self.runtimes:
            path = self.weights(model.removesuffix("-published"))
            self.runtimes[model] = load_reference(model, path, specs=any_size(model), threads=1).runtimes
        key = model, network, *(v.tobytes() for v in feed.values())
        if key not in self.answers:
            self.answers[key] = self.runtimes[model][network].run(feed)
        return self.answers[key]

    def pose_feed(self, model: str, image: NDArray[np.float32]) -> Arrays:
        """Patches of the likeliest faces, and of the first and the last cell of every map, which are corners."""
        found = self.run(model, "detector", {"image": image})
        ends = np.cumsum([0, *(2 * np.prod(found[f].shape[2:]) for f in FEATURES)]).astype(np.intp)
        best = np.argsort(-found["scores"][0])[: BATCH - 6]
        return gather([found[f] for f in FEATURES], np.concatenate([ends[:-1], ends[1:] - 1, best]), anchors=2)


def any_size(model: str) -> Any:
    from facedeploy.models import registry

    return registry.get(model).network_specs("any")


@pytest.fixture(scope="module")
def reference(mos_weights: GetWeights) -> Reference:
    return Reference(mos_weights)


def relative_l2(have: NDArray[Any], want: NDArray[Any]) -> float:
    assert have.shape == want.shape
    return float(np.linalg.norm((have - want).astype(np.float64)) / np.linalg.norm(want.astype(np.float64)))


def overlaps(have: NDArray[Any], want: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of each box (N, 4) with its counterpart."""
    a, b = have.astype(np.float64), want.astype(np.float64)
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    areas = [(v[:, 2:] - v[:, :2]).prod(axis=1) for v in (a, b)]
    result: NDArray[np.float64] = inter / (areas[0] + areas[1] - inter)
    return result


def distances(artifact: Artifact, reference: Reference, images: dict[str, NDArray[np.float32]]) -> dict[str, float]:
    """How far off each output of each network is, for each image."""
    model = artifact.manifest.model
    off: dict[str, float] = {}
    with load(artifact, threads=1, runtime=substitute(str(artifact.manifest.target))) as pipeline:
        for name, image in images.items():
            feeds = {
                n: {"image": image} if n != "pose" else reference.pose_feed(model, image) for n in pipeline.runtimes
            }
            for network, runtime in pipeline.runtimes.items():
                want, have = reference.run(model, network, feeds[network]), runtime.run(feeds[network])
                assert have.keys() == want.keys()
                off |= {f"{name} {network}.{k}": relative_l2(have[k], want[k]) for k in want}
    return off


def describe_form(target: str, form: Form) -> str:
    return target if form is None else f"{target}-{form}"


# --- float32 ---


@pytest.mark.parametrize(
    ("model", "size"),
    [("mos-m", SMALL), ("mos-m", FULL), ("mos-s", FULL)],
    ids=lambda v: v if isinstance(v, str) else f"{v[0]}x{v[1]}",
)
@pytest.mark.parametrize(("target", "form"), FLOAT32, ids=lambda v: str(v or "default"))
def test_every_output_is_that_of_the_published_modules(
    model: str, target: str, form: Form, size: Size, mos_artifact: GetMos, reference: Reference
) -> None:
    off = distances(mos_artifact(model, target, size, form), reference, inputs(size))
    assert len(off) == 2 * 7
    assert max(off.values()) <= 1e-3, off


@pytest.mark.slow
def test_comparison_sees_other_weights(mos_artifact: GetMos, reference: Reference) -> None:
    """Negative control: one model is not the other, whose outputs have the same shapes."""
    image = inputs(SMALL)["drawn"]
    feeds = {"detector": {"image": image}, "pose": reference.pose_feed("mos-m", image)}
    with load(mos_artifact("mos-s", "onnx-fp32"), threads=1) as pipeline:
        for network, runtime in pipeline.runtimes.items():
            want, have = reference.run("mos-m", network, feeds[network]), runtime.run(feeds[network])
            assert min(relative_l2(have[k], want[k]) for k in want) > 0.01


# --- half precision ---


@pytest.fixture(scope="module", params=["noise", "drawn", "photo"])
def look(request: pytest.FixtureRequest) -> Callable[[], NDArray[np.float32]]:
    """An input of the full size; a photo only where the assets are."""

    def get() -> NDArray[np.float32]:
        if request.param == "photo":
            return seen(read_picture(request.getfixturevalue("crowd")), FULL)
        return inputs(FULL)[request.param]

    return get


@pytest.mark.slow
@pytest.mark.parametrize("target", HALF)
# Random weights of MOS-S are chaotic on pictures; tests/models/test_mos_golden.py holds it on its recorded input.
@pytest.mark.parametrize("model", ["mos-m"])
def test_half_precision_moves_no_likely_box(
    model: str, target: str, look: Callable[[], NDArray[np.float32]], mos_artifact: GetMos, reference: Reference
) -> None:
    image = look()
    want = reference.run(model, "detector", {"image": image})
    with load(mos_artifact(model, target, FULL), threads=1, runtime=substitute(target)) as pipeline:
        have = pipeline.runtimes["detector"].run({"image": image})
    likely = want["scores"] > 0.3
    assert likely.sum() > 1000
    assert overlaps(have["boxes"][likely], want["boxes"][likely]).min() >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_half_precision_is_half_where_the_model_allows_it(model: str, mos_artifact: GetMos) -> None:
    """What stays in float32 is named, and the rest is really halved: the files are smaller by a part of the model."""
    for full, half in (("openvino-fp32", "openvino-fp16"), ("ncnn-fp32", "ncnn-fp16")):
        single, reduced = (mos_artifact(model, t, FULL) for t in (full, half))
        assert all(n.float32 == () for n in single.manifest.networks)
        share = {
            n: reduced.file(n, "bin").stat().st_size / single.file(n, "bin").stat().st_size
            for n in ("detector", "pose")
        }
        assert 0.5 <= share["pose"] < 0.55
        # The backbone, most of the detector's weights, stays in float32.
        assert 0.8 < share["detector"] < 0.98


@pytest.mark.slow
@pytest.mark.parametrize("target", HALF)
def test_first_choice_that_keeps_the_boxes_is_taken(target: str, mos_artifact: GetMos) -> None:
    """With these weights half a backbone moves a likely box of a drawn crowd: by 2 % of its overlap in MOS-S."""
    kept = {
        model: [{w for w in n.float32 if w in ("", "heads.", "mos.body.", "bins.")} for n in networks]
        for model in MODELS
        if (networks := mos_artifact(model, target, FULL).manifest.networks)
    }
    assert kept == {"mos-m": [{"heads.", "mos.body."}, {"bins."}], "mos-s": [{"heads.", "mos.body."}, {"bins."}]}


@pytest.mark.slow
@pytest.mark.parametrize("target", HALF)
def test_manifest_names_the_weights_of_offsets_and_masks(target: str, mos_artifact: GetMos) -> None:
    detector, _ = mos_artifact("mos-m", target, FULL).manifest.networks
    named = [n for n in detector.float32 if "conv_offset_mask" in n]
    blocks = {n.split(".conv_offset_mask")[0] for n in named}
    assert len(blocks) == 17
    assert {n.split("conv_offset_mask.")[1].split(".")[0] for n in named} == {"weight", "bias"}


# --- what the artifact says ---


@pytest.mark.parametrize(
    ("target", "form", "chosen"),
    [
        ("onnx-fp32", None, "native"),
        ("openvino-fp32", None, "native"),
        ("ncnn-fp32", "native", "native"),
        ("ncnn-fp32", "gridsample", "gridsample"),
    ],
)
def test_manifest_says_the_form_of_deformable_convolutions(
    target: str, form: Form, chosen: str, mos_artifact: GetMos
) -> None:
    detector, pose = mos_artifact("mos-m", target, SMALL, form).manifest.networks
    assert (detector.lowerings, pose.lowerings) == ({"DeformConv": chosen}, {})


@pytest.mark.slow
def test_default_form_of_ncnn_is_gridsample(mos_artifact: GetMos) -> None:
    detector, _ = mos_artifact("mos-m", "ncnn-fp16", FULL).manifest.networks
    assert detector.lowerings == {"DeformConv": "gridsample"}


@pytest.mark.slow
def test_form_may_be_asked_for(mos_artifact: GetMos, reference: Reference) -> None:
    artifact = mos_artifact("mos-s", "openvino-fp32", SMALL, "gridsample")
    assert artifact.manifest.network("detector").lowerings == {"DeformConv": "gridsample"}
    assert max(distances(artifact, reference, inputs(SMALL)).values()) <= 1e-3


@pytest.mark.parametrize("model", MODELS)
def test_graph_for_tensorrt_gives_every_output(model: str, mos_artifact: GetMos, reference: Reference) -> None:
    artifact = mos_artifact(model, "trt-fp32", FULL)
    assert max(distances(artifact, reference, inputs(FULL)).values()) <= 1e-3


@pytest.mark.parametrize("target", ["trt-fp32", "trt-fp16"])
@pytest.mark.parametrize("model", MODELS)
def test_engines_are_ready(model: str, target: str, mos_artifact: GetMos) -> None:
    pytest.importorskip("tensorrt_rtx")
    artifact = mos_artifact(model, target, FULL)
    assert [n.engine for n in artifact.manifest.networks] == ["ready", "ready"]
    assert all(artifact.file(n, "engine").stat().st_size > 100_000 for n in ("detector", "pose"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["openvino-fp32", "openvino-fp16"])
def test_openvino_never_computes_in_bf16(target: str, mos_artifact: GetMos) -> None:
    """Left alone it does, on a processor that can. Both networks have parts that must stay in float32."""
    with load(mos_artifact("mos-m", target, FULL), threads=1) as pipeline:
        assert {runtime.describe()["precision"] for runtime in pipeline.runtimes.values()} == {"f32"}


def test_verify_passes_what_was_exported_and_not_another_checkpoint(
    mos_artifact: GetMos, mos_weights: GetWeights
) -> None:
    artifact = mos_artifact("mos-m", "onnx-fp32")
    result = verify(artifact, mos_weights("mos-m"), threads=1)
    assert result.problems == ()
    assert {row.network for row in result.outputs} == {"detector", "pose"}
    assert {row.output for row in result.outputs if row.overlap is not None} == {"boxes"}
    with pytest.raises(InputError, match="is not the checkpoint of"):
        verify(artifact, mos_weights("mos-s"))
