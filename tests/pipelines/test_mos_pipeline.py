"""The pipeline of MOS against a naive one over the published modules, written from the published scripts."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facedeploy import pipelines
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size
from facedeploy.core.preprocess import Pixels
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.models import registry
from facedeploy.models.mos import Mos
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.load import load
from facedeploy.pipelines.mos import MosConfig, MosPipeline
from facedeploy.pipelines.resize import fit
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from tests.conftest import SMALL, GetMos, GetWeights
from tests.pipelines.test_nms import overlap
from tests.pipelines.test_voting import naive as naive_vote

MODELS = ("mos-m", "mos-s")
MEAN = (104, 117, 123)  # BGR
Open = Callable[..., Pipeline]
Detect = Callable[..., list[Face]]
Scale = tuple[float, float]


def photo(height: int, width: int, seed: int = 0) -> Pixels:
    return group_photo(np.random.default_rng(seed), height, width, 2)


# --- the naive pipeline ---


class Naive:
    """Dense outputs of the published graph, decoded, suppressed and voted prior by prior."""

    def __init__(self, mos: Mos) -> None:
        self.mos = mos

    def look(self, pixels: Pixels, scale: Scale, threshold: float) -> list[Face]:
        """Every prior whose score exceeds the threshold, in pixels of the picture."""
        x = torch.from_numpy((pixels.astype(np.float32) - np.array(MEAN, np.float32)).transpose(2, 0, 1)[None].copy())
        with torch.inference_mode():
            loc, conf, landm, *bins = (t[0].double().numpy() for t in self.mos(x))
        height, width = pixels.shape[:2]
        whole = np.array([width / scale[0], height / scale[1]])
        found = []
        for i, (x0, y0, w, h) in enumerate(naive_priors(height, width)):
            if conf[i, 1] <= threshold:
                continue
            prior, side = np.array([x0, y0]), np.array([w, h])
            centre, size = prior + 0.1 * loc[i, :2] * side, side * np.exp(0.2 * loc[i, 2:])
            box = [*((centre - size / 2) * whole).tolist(), *((centre + size / 2) * whole).tolist()]
            points = [tuple(((prior + 0.1 * p * side) * whole).tolist()) for p in landm[i].reshape(5, 2)]
            pose = [3 * sum(k * float(b[i, k]) for k in range(66)) - 99 for b in bins]
            found.append(Face((box[0], box[1], box[2], box[3]), float(conf[i, 1]), tuple(points), *pose))
        return found

    def detect(
        self,
        pixels: Pixels,
        scale: Scale = (1.0, 1.0),
        *,
        threshold: float = 0.55,
        nms: float = 0.4,
        top: int = 5000,
        keep: int = 750,
    ) -> list[Face]:
        kept: list[Face] = []
        for face in sorted(self.look(pixels, scale, threshold), key=lambda f: -f.score)[:top]:
            if all(overlap(face.box, k.box, "union") <= nms for k in kept):
                kept.append(face)
        return kept[:keep]

    def detect_multiscale(
        self, image: Pixels, side: Size, scales: Sequence[float], threshold: float, nms: float
    ) -> list[tuple[list[float], float]]:
        height, width = image.shape[:2]
        base = min(side[0] / min(height, width), side[1] / max(height, width))
        boxes, scores = [], []
        for factor in (base * s for s in scales):
            resized = resize(image, round(height * factor), round(width * factor))
            for mirrored in (False, True):
                for face in self.look(resized[:, ::-1] if mirrored else resized, (1.0, 1.0), threshold):
                    x1, y1, x2, y2 = face.box
                    if mirrored:
                        x1, x2 = resized.shape[1] - x2 - 1, resized.shape[1] - x1 - 1
                    boxes.append([v / factor for v in (x1, y1, x2, y2)])
                    scores.append(face.score)
        return naive_vote(np.array(boxes), np.array(scores), nms)[:750]


def naive_priors(height: int, width: int) -> Iterator[tuple[float, float, float, float]]:
    for step, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for i in range(math.ceil(height / step)):
            for j in range(math.ceil(width / step)):
                for side in sides:
                    yield (j + 0.5) * step / width, (i + 0.5) * step / height, side / width, side / height


def resize(image: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def assert_same(have: Sequence[Face], want: Sequence[Face]) -> None:
    """The same faces, best first. Scores within 1e-5 of each other are equal, so these may come in any order."""
    assert len(have) == len(want)
    assert len(want) > 5
    scores = [f.score for f in have]
    assert all(a > b - 2e-5 for a, b in itertools.pairwise(scores))
    boxes = np.array([f.box for f in have])
    partners = [have[int(np.abs(boxes - f.box).max(axis=1).argmin())] for f in want]
    assert len(set(partners)) == len(want)
    for a, b in zip(partners, want, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-4)
        np.testing.assert_allclose(a.box, b.box, atol=0.02)
        assert a.landmarks is not None
        assert b.landmarks is not None
        np.testing.assert_allclose(a.landmarks, b.landmarks, atol=0.02)
        np.testing.assert_allclose(angles(a), angles(b), atol=0.01)


def angles(face: Face) -> NDArray[np.float64]:
    assert face.yaw is not None
    assert face.pitch is not None
    assert face.roll is not None
    return np.array([face.yaw, face.pitch, face.roll], np.float64)


@pytest.fixture(scope="module")
def naive(mos_weights: GetWeights) -> Callable[[str], Naive]:
    def get(model: str) -> Naive:
        (module,) = registry.get(model).load(mos_weights(model)).values()
        assert isinstance(module, Mos)
        return Naive(module)

    return get


@pytest.fixture(scope="module")
def detect(mos_artifact: GetMos) -> Iterator[Detect]:
    """Faces that an artifact finds: `detect("mos-m", image, "onnx-fp32", size="any", score_threshold=0.6)`."""
    opened: dict[tuple[object, ...], Pipeline] = {}

    def call(
        model: str, image: Pixels, target: str = "torch-fp32", size: InputSize = SMALL, **options: Any
    ) -> list[Face]:
        key = model, target, size
        artifact = mos_artifact(*key)
        if key not in opened:
            opened[key] = load(artifact, threads=1)
        entry = pipelines.configure(artifact.manifest.pipeline.family, options)
        return pipelines.make(entry, opened[key].runtimes).detect(image)

    yield call
    for pipeline in opened.values():
        pipeline.close()


# --- faces ---


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("target", ["torch-fp32", "onnx-fp32"])
@pytest.mark.parametrize("model", MODELS)
def test_finds_what_the_naive_pipeline_finds(
    model: str, target: str, seed: int, detect: Detect, naive: Callable[[str], Naive]
) -> None:
    image = photo(*SMALL, seed)
    assert_same(detect(model, image, target), naive(model).detect(image))


@pytest.mark.parametrize("change", [{"threshold": 0.5}, {"nms": 0.3}, {"scale": (1.01, 1.01)}], ids=str)
def test_naive_pipeline_with_another_constant_finds_other_faces(
    change: dict[str, Any], detect: Detect, naive: Callable[[str], Naive]
) -> None:
    """Negative control."""
    image = photo(*SMALL)
    with pytest.raises(AssertionError):
        assert_same(detect("mos-m", image), naive("mos-m").detect(image, **change))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["torch-fp32", "onnx-fp32"])
@pytest.mark.parametrize("model", MODELS)
def test_late_head_pose_changes_nothing(model: str, target: str, detect: Detect) -> None:
    for seed in range(3):
        image = photo(70, 200, seed)
        assert_same(detect(model, image, target), detect(f"{model}-published", image, target))


def test_options_are_those_of_the_published_script(detect: Detect, naive: Callable[[str], Naive]) -> None:
    image = photo(*SMALL)
    given = {"score_threshold": 0.5, "nms": 0.6, "top": 150, "keep": 12}
    want = naive("mos-m").detect(image, threshold=0.5, nms=0.6, top=150, keep=12)
    assert len(want) == 12
    assert_same(detect("mos-m", image, **given), want)
    assert (
        pipelines.configure("mos", {}).config.items()
        >= {
            "score_threshold": 0.55,
            "nms": 0.4,
            "top": 5000,
            "keep": 750,
            "protocol": "fit",
            "longest": 840,
        }.items()
    )


def test_only_the_best_go_into_suppression(detect: Detect) -> None:
    """Of three, suppression leaves at most three, where all of them would leave many."""
    image = photo(*SMALL)
    every, few = detect("mos-m", image), detect("mos-m", image, top=3)
    assert 1 <= len(few) <= 3 < len(every)
    assert few[0].box == pytest.approx(every[0].box)


def test_score_must_exceed_the_threshold(detect: Detect) -> None:
    image = photo(*SMALL)
    best = detect("mos-m", image)[0].score
    below = float(np.nextafter(np.float32(best), np.float32(0)))
    assert detect("mos-m", image, score_threshold=best) == []
    assert [f.score for f in detect("mos-m", image, score_threshold=below)] == [best]


@pytest.mark.parametrize("model", ["mos-m", "mos-m-published"])
def test_no_score_above_the_threshold_is_no_face(model: str, detect: Detect) -> None:
    assert detect(model, photo(*SMALL), score_threshold=1.0) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (33, 32)], ids=str)
def test_picture_of_any_shape_gives_faces_or_none(size: Size, detect: Detect) -> None:
    for face in detect("mos-m", np.full((*size, 3), 127, np.uint8)):
        assert np.isfinite([*face.box, face.score, *angles(face)]).all()


def test_faces_are_sorted_and_complete(detect: Detect) -> None:
    faces = detect("mos-m", photo(200, 300))
    assert [round(f.score, 5) for f in faces] == sorted((round(f.score, 5) for f in faces), reverse=True)
    for face in faces:
        assert face.landmarks is not None
        assert len(face.landmarks) == 5
        assert set(json.loads(json.dumps(face.to_dict()))) == {"box", "score", "landmarks", "yaw", "pitch", "roll"}


class Answer(Runtime):
    """A network that always gives the same outputs."""

    backend = "none"
    concurrent = True

    def __init__(self, spec: NetworkSpec, outputs: Arrays) -> None:
        super().__init__(spec, RuntimeOptions(1))
        self.outputs = outputs

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self.outputs

    def _close(self) -> None:
        pass


@pytest.mark.parametrize("noise", [-1e-7, 0.0, 1e-7])
def test_rounding_does_not_decide_which_of_two_boxes_stays(noise: float) -> None:
    """Scores that differ by less than 1e-5 are equal; each backend would otherwise keep another box of a pair."""
    detector, pose = registry.get("mos-m").network_specs(SMALL)
    outputs = {t.name: np.zeros([int(d) for d in t.shape], np.float32) for t in detector.outputs}
    outputs["boxes"][0, 7:9] = [[10, 10, 40, 40], [12, 10, 42, 40]]
    outputs["scores"][0, 7:9] = [0.9, 0.9 + noise]
    runtimes = {
        "detector": Answer(detector, outputs),
        "pose": Answer(pose, {"angles": np.zeros((1, 3, 2), np.float32)}),
    }
    (face,) = MosPipeline(runtimes, MosConfig()).detect(photo(*SMALL))
    assert face.box == (12, 10, 42, 40)


# --- pictures of unusual sizes ---


@pytest.mark.parametrize("protocol", ["fit", "stretch", "original", "longest", "multiscale"])
def test_picture_without_pixels_has_no_faces(protocol: str, detect: Detect) -> None:
    network: InputSize = SMALL if protocol in ("fit", "stretch") else "any"
    for size in ((0, 0), (0, 40), (40, 0)):
        assert detect("mos-m", np.zeros((*size, 3), np.uint8), size=network, protocol=protocol) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (20, 20), (31, 100)], ids=str)
@pytest.mark.parametrize("protocol", ["fit", "original", "longest", "multiscale"])
def test_picture_that_is_too_thin_is_no_accident(protocol: str, size: Size, detect: Detect) -> None:
    """It has faces or it is refused, with a message that is no other library's."""
    small = {"longest": 64, "multiscale_side": [40, 64]}
    image = np.full((*size, 3), 127, np.uint8)
    with contextlib.suppress(InputError):
        for face in detect("mos-m", image, size="any", protocol=protocol, **small):
            assert np.isfinite([*face.box, face.score]).all()


# --- head pose in batches ---


@pytest.mark.parametrize("keep", [1, 3, 64, 65, 200])
def test_poses_of_many_faces_go_in_batches(
    keep: int, mos_artifact: GetMos, naive: Callable[[str], Naive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 64, filled up to a power of two, and every face gets its own angles."""
    image = photo(*SMALL)
    batches = []
    options = {"nms": 1.0, "keep": keep, "score_threshold": 0.3}
    with load(mos_artifact("mos-m", "onnx-fp32"), threads=1, options=options) as pipeline:
        run = pipeline.runtimes["pose"].run

        def watched(inputs: Mapping[str, Array]) -> Arrays:
            batches.append(len(inputs["patches"]))
            return run(inputs)

        monkeypatch.setattr(pipeline.runtimes["pose"], "run", watched)
        faces = pipeline.detect(image)
    assert len(faces) == keep
    assert batches == {1: [1], 3: [4], 64: [64], 65: [64, 1], 200: [64, 64, 64, 8]}[keep]
    every = naive("mos-m").look(image, (1.0, 1.0), 0.3)
    for face in faces:
        same = min(every, key=lambda f: float(np.abs(np.subtract(f.box, face.box)).max()))
        np.testing.assert_allclose(angles(face), angles(same), atol=0.01)


def test_no_face_needs_no_pose(mos_artifact: GetMos, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(mos_artifact("mos-m", "onnx-fp32"), threads=1, options={"score_threshold": 1.0}) as pipeline:
        monkeypatch.setattr(pipeline.runtimes["pose"], "run", None)
        assert pipeline.detect(photo(*SMALL)) == []


# --- protocols ---


@pytest.mark.parametrize("size", [(150, 100), (60, 200), (96, 64), (30, 40), (96, 128), (192, 256)], ids=str)
def test_fit_keeps_the_aspect_and_fills_with_the_mean(
    size: Size, detect: Detect, naive: Callable[[str], Naive]
) -> None:
    image = photo(*size)
    factor = min(SMALL[0] / size[0], SMALL[1] / size[1])
    inner = resize(image, round(size[0] * factor), round(size[1] * factor))
    canvas = np.full((*SMALL, 3), MEAN, np.uint8)
    canvas[: inner.shape[0], : inner.shape[1]] = inner
    np.testing.assert_array_equal(fit(image, *SMALL, MEAN)[0], canvas[None])
    assert_same(detect("mos-m", image), naive("mos-m").detect(canvas, (factor, factor)))


def test_fit_takes_the_picture_as_it_is_where_any_size_is_taken(detect: Detect, naive: Callable[[str], Naive]) -> None:
    image = photo(75, 110)
    assert_same(detect("mos-m", image, size="any"), naive("mos-m").detect(image))


@pytest.mark.parametrize("size", [(150, 100), (60, 200), (96, 128)], ids=str)
def test_stretch_ignores_the_aspect(size: Size, detect: Detect, naive: Callable[[str], Naive]) -> None:
    image = photo(*size)
    scale = SMALL[1] / size[1], SMALL[0] / size[0]
    want = naive("mos-m").detect(resize(image, *SMALL), scale)
    assert_same(detect("mos-m", image, protocol="stretch"), want)


def test_stretch_needs_a_fixed_size(detect: Detect) -> None:
    with pytest.raises(InputError, match=r"stretch needs a network of a fixed size.*--input-size HEIGHTxWIDTH"):
        detect("mos-m", photo(*SMALL), size="any", protocol="stretch")


@pytest.mark.parametrize("network", [SMALL, "any"], ids=str)
def test_original_takes_the_picture_as_it_is(network: InputSize, detect: Detect, naive: Callable[[str], Naive]) -> None:
    image = photo(*SMALL)
    assert_same(detect("mos-m", image, size=network, protocol="original"), naive("mos-m").detect(image))


@pytest.mark.parametrize("protocol", ["original", "longest", "multiscale"])
def test_picture_of_another_size_than_the_network_is_refused(protocol: str, detect: Detect) -> None:
    with pytest.raises(InputError, match=f"protocol {protocol} .*--input-size any") as refused:
        detect("mos-m", photo(97, 131), protocol=protocol)
    assert "(96, 128)" in str(refused.value)


@pytest.mark.parametrize("size", [(150, 100), (60, 70)], ids=str)
def test_longest_scales_the_longer_side(size: Size, detect: Detect, naive: Callable[[str], Naive]) -> None:
    image = photo(*size)
    factor = 120 / max(size)
    resized = resize(image, round(size[0] * factor), round(size[1] * factor))
    assert max(resized.shape) == 120
    have = detect("mos-m", image, size="any", protocol="longest", longest=120)
    assert_same(have, naive("mos-m").detect(resized, (factor, factor)))


@pytest.mark.parametrize("size", [(100, 150), (160, 60)], ids=["by the shorter side", "by the longer side"])
@pytest.mark.parametrize("model", ["mos-m", "mos-m-published"])
def test_multiscale_is_the_protocol_of_wider_face(
    model: str, size: Size, detect: Detect, naive: Callable[[str], Naive]
) -> None:
    image = photo(*size)
    given = {"multiscale_side": [64, 120], "multiscale_scales": [0.8, 1.0, 1.375], "multiscale_threshold": 0.6}
    faces = detect(model, image, size="any", protocol="multiscale", **given)
    want = naive("mos-m").detect_multiscale(image, (64, 120), (0.8, 1.0, 1.375), 0.6, 0.3)
    assert len(want) > 5
    assert len(faces) == len(want)
    for face, (box, score) in zip(faces, want, strict=True):
        assert face.score == pytest.approx(score, abs=1e-4)
        np.testing.assert_allclose(face.box, box, atol=0.05)
        assert (face.landmarks, face.yaw, face.pitch, face.roll) == (None, None, None, None)


def test_multiscale_constants_are_the_published_ones() -> None:
    config = pipelines.configure("mos", {}).config
    assert (config["multiscale_threshold"], config["multiscale_nms"]) == (0.02, 0.3)
    assert config["multiscale_side"] == [800, 1200]
    assert [800 * s for s in config["multiscale_scales"]] == [500, 800, 1100, 1400, 1700]


def test_multiscale_of_what_no_two_looks_saw_is_no_face(detect: Detect) -> None:
    image = photo(*SMALL)
    given = {"multiscale_side": [64, 120], "multiscale_scales": [1.0]}
    assert detect("mos-m", image, size="any", protocol="multiscale", multiscale_threshold=1.0, **given) == []


# --- options ---


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "nearest"},
        {"score_threshold": 1.5},
        {"nms": -0.1},
        {"multiscale_threshold": 2},
        {"top": 0},
        {"keep": 0},
        {"longest": 0},
        {"multiscale_side": [0, 1200]},
        {"min_face": 20},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["mos", "mos-published"])
def test_impossible_options_are_refused(family: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        pipelines.configure(family, options)


def test_colour_order_matters(mos_artifact: GetMos) -> None:
    """Negative control: the mean is of blue, green, red."""
    image, artifact = photo(*SMALL), mos_artifact("mos-m", "torch-fp32")
    rgb = {"colours": "rgb", "mean": list(MEAN)}
    with load(artifact, threads=1) as right, load(artifact, threads=1, options={"preprocess": rgb}) as wrong:
        assert not compare_faces([right.detect(image)], [wrong.detect(image)]).same_faces
