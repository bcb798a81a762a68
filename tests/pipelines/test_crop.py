"""Networks that look at a face: what they see of it, and what their outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.preprocess import Image
from facedeploy.core.serialization import from_plain
from facedeploy.pipelines.align import TEMPLATES
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.composed import ComposedPipeline
from facedeploy.pipelines.crop import CropConfig, CropPipeline
from facedeploy.pipelines.crop_settings import Meaning
from facedeploy.pipelines.load import load
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from tests.support.crop_networks import ANGLES, CROP_FAMILIES, colour_network, crop_network, rotation
from tests.support.exported import require
from tests.support.known_faces import chart, known
from tests.support.own_networks import decoded, node, write

HEIGHT, WIDTH = 40, 64
RNG = np.random.default_rng(7)
BOXES = ((20.0, 30.0, 60.0, 90.0), (100.0, 40.0, 180.0, 80.0), (-10.0, 150.0, 50.0, 200.0))


class Says(Runtime):
    """A network with the outputs that it is given, for one face after the other; it keeps what it sees."""

    backend = "says"
    concurrent = False

    def __init__(self, outputs: Arrays, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
        image = TensorSpec("image", (8, 3, *size))
        tensors = tuple(TensorSpec(name, (1, *value.shape[1:])) for name, value in outputs.items())
        super().__init__(NetworkSpec("network", (image,), tensors), RuntimeOptions())
        self.outputs = outputs
        self.seen: list[Array] = []

    def run_pictures(self, pictures: Any) -> list[Arrays]:
        stacks = list(pictures)
        self.seen += stacks
        done, answers = 0, []
        for stack in stacks:
            answers.append({k: v[done : done + len(stack)] for k, v in self.outputs.items()})
            done += len(stack)
        return answers

    def _run(self, inputs: Any) -> Arrays:
        raise NotImplementedError

    def _close(self) -> None:
        pass


def looking(outputs: Arrays, config: dict[str, Any], size: tuple[int, int] = (HEIGHT, WIDTH)) -> CropPipeline:
    runtime = Says(outputs, size)
    return CropPipeline({"network": runtime}, from_plain(CropConfig, config))


def faces(count: int = 3, points: bool = False) -> list[Face]:
    marks = [known(60 + 50 * i, 80, 50, 10 * i).found.landmarks for i in range(count)]
    return [Face(BOXES[i], 0.9, marks[i] if points else None) for i in range(count)]


# --- points ---


def unit(points: Array) -> Array:
    return points / (WIDTH, HEIGHT)


POINT_FORMS: dict[str, tuple[dict[str, Any], Callable[[Array], Array]]] = {
    "unit": ({"points_in": "unit"}, lambda p: unit(p).reshape(len(p), -1)),
    "signed": ({"points_in": "signed"}, lambda p: (2 * unit(p) - 1).reshape(len(p), -1)),
    "pixels": ({"points_in": "pixels"}, lambda p: p.reshape(len(p), -1)),
    "pairs": ({"points_in": "pixels"}, lambda p: p),
    "y first": ({"points_in": "unit", "order": "yx"}, lambda p: unit(p)[:, :, ::-1].reshape(len(p), -1)),
    "planes": ({"points_in": "unit", "order": "planes"}, lambda p: unit(p).transpose(0, 2, 1).reshape(len(p), -1)),
    "three numbers": (
        {"points_in": "pixels", "values": 3},
        lambda p: np.concatenate([p, 9 * np.ones_like(p[:, :, :1])], axis=2)[:, :, None],
    ),
    "columns": (
        {"points_in": "unit", "count": 6, "first": 2},
        lambda p: np.concatenate([np.ones((len(p), 2)), unit(p).reshape(len(p), -1), np.ones((len(p), 7))], axis=1),
    ),
}


@pytest.mark.parametrize("form", POINT_FORMS)
@pytest.mark.parametrize("square", [True, False])
def test_points_are_where_the_crop_was(form: str, square: bool) -> None:
    settings, written = POINT_FORMS[form]
    inside = RNG.uniform(0, 1, (3, 6, 2)) * (WIDTH, HEIGHT)
    crop = {"grow": [1.5, 1.2], "square": square, "shift": [0.1, -0.2]}
    pipeline = looking({"out": written(inside).astype(np.float32)}, {"meaning": {"points": settings}, "crop": crop})
    found = pipeline.locate(np.zeros((200, 200, 3), np.uint8), faces())
    for (x1, y1, x2, y2), points, face in zip(BOXES, inside, found, strict=True):
        wide, high = 1.5 * (x2 - x1), 1.2 * (y2 - y1)
        if square:
            high = max(high, wide * HEIGHT / WIDTH)
            wide = high * WIDTH / HEIGHT
        middle = ((x1 + x2) / 2 + 0.1 * (x2 - x1), (y1 + y2) / 2 - 0.2 * (y2 - y1))
        want = np.array(middle) + (points / (WIDTH, HEIGHT) - 0.5) * (wide, high)
        assert np.abs(np.array(face.landmarks) - want).max() < 0.01
        assert face.box == (x1, y1, x2, y2)


def test_the_largest_cell_of_a_heat_map_is_the_point() -> None:
    maps = np.zeros((3, 2, 10, 16), np.float32)  # Cells of 4 pixels.
    maps[:, 0, 3, 5], maps[:, 0, 3, 6], maps[:, 0, 2, 5] = 1, 0.5, 0.4
    maps[:, 1, 0, 15] = 1
    config = {"meaning": {"points": {"points_in": "heatmaps"}}, "crop": {"square": False}}
    for box, face in zip(
        BOXES, looking({"out": maps}, config).locate(np.zeros((9, 9, 3), np.uint8), faces()), strict=True
    ):
        assert face.landmarks is not None
        (x, y), corner = face.landmarks
        size = np.array([box[2] - box[0], box[3] - box[1]])
        np.testing.assert_allclose((x, y), np.array(box[:2]) + size * (5.75 / 16, 3.25 / 10), atol=1e-9)
        # At an edge a point stays in the middle of its cell.
        np.testing.assert_allclose(corner, np.array(box[:2]) + size * (15.5 / 16, 0.5 / 10), atol=1e-9)


# --- what is seen ---


@pytest.mark.parametrize("align", [False, True])
def test_a_point_in_the_crop_has_the_picture_of_where_it_is_said_to_be(align: bool) -> None:
    """The colours of the chart say where each pixel of a crop is from."""
    image = chart(192, 224)
    crop = {"align": "arcface"} if align else {"grow": 1.3}
    pipeline = looking({"out": np.zeros((2, 4), np.float32)}, {"meaning": {"points": {}}, "crop": crop}, (112, 112))
    given = [known(60, 70, 60, 12).found, known(140, 110, 80, -20).found]
    places = pipeline.places(image, given)
    (cut,) = [pipeline.crops(image, given)]
    at = RNG.integers(10, 102, (40, 2)).astype(np.float64)
    for i, crop_seen in enumerate(cut):
        shift = 0.0 if align else 0.5
        there = places.back((at + shift)[None].repeat(2, axis=0))[i] - shift
        for (x, y), (u, v) in zip(there, at, strict=True):
            inside = 1 <= x < 222 and 1 <= y < 190
            want = cv2.getRectSubPix(image, (1, 1), (float(x), float(y)))[0, 0].astype(int) if inside else None
            if want is not None and 30 < want[0] < 210 and 30 < want[1] < 210:  # Nowhere that a colour turns.
                assert np.abs(crop_seen[int(v), int(u)].astype(int) - want)[:2].max() <= 8


def test_an_aligned_crop_has_the_five_points_on_the_template() -> None:
    template = TEMPLATES["arcface"][0]
    turned = template @ np.array([[0.6, 0.8], [-0.8, 0.6]]) * 1.7 + (40, 90)
    face = Face((0, 0, 50, 50), 0.9, tuple(map(tuple, turned.tolist())))
    outputs = {"out": template.astype(np.float32).reshape(1, 10)}
    config = {"meaning": {"points": {"points_in": "pixels"}}, "crop": {"align": "arcface"}}
    (found,) = looking(outputs, config, (112, 112)).locate(np.zeros((300, 300, 3), np.uint8), [face])
    np.testing.assert_allclose(np.array(found.landmarks), turned, atol=1e-4)


@pytest.mark.parametrize(
    ("edge", "outside"), [("black", (0, 0, 0)), ("mean", (30, 20, 10)), ("replicate", (7, 8, 9)), ("cut", (7, 8, 9))]
)
def test_what_is_outside_of_the_picture(edge: str, outside: tuple[int, int, int]) -> None:
    image = np.empty((60, 60, 3), np.uint8)
    image[:] = (7, 8, 9)
    pixels = {"colours": "rgb", "mean": [10, 20, 30]}
    config = {"meaning": {"points": {}}, "crop": {"edge": edge}, "preprocess": pixels}
    pipeline = looking({"out": np.full((1, 2), 0.5, np.float32)}, config)
    (cut,) = pipeline.crops(image, [Face((-40, 10, 20, 50), 1)])
    assert tuple(cut[20, 2]) == outside
    assert tuple(cut[20, -3]) == (7, 8, 9)
    (found,) = pipeline.locate(image, [Face((-40, 20, 20, 40), 1)])
    assert found.landmarks is not None
    # The middle of what is left of the crop.
    assert found.landmarks[0][0] == pytest.approx(10 if edge == "cut" else -10, abs=10 if edge == "cut" else 1e-6)


def test_all_faces_are_one_batch_and_no_face_is_no_call() -> None:
    pipeline = looking({"out": np.zeros((3, 2), np.float32)}, {"meaning": {"points": {}}})
    runtime = pipeline.runtimes["network"]
    assert isinstance(runtime, Says)
    assert pipeline.locate(np.zeros((9, 9, 3), np.uint8), []) == []
    assert runtime.seen == []
    pipeline.locate(np.zeros((9, 9, 3), np.uint8), faces())
    assert [s.shape for s in runtime.seen] == [(3, HEIGHT, WIDTH, 3)]


# --- pose ---


def bins(angles: Array, count: int, size: float) -> Array:
    """Logits whose mean under softmax is each of the angles (N,): two neighbours share it."""
    place = angles / size + count / 2
    low = np.floor(place).astype(int)
    logits = np.full((len(angles), count), -60.0)
    rows = np.arange(len(angles))
    part = place - low
    logits[rows, low] = np.log(np.maximum(1 - part, 1e-30))
    logits[rows, low + 1] = np.log(np.maximum(part, 1e-30))
    return logits


POSES: dict[str, tuple[dict[str, Any], Arrays]] = {
    "degrees": ({}, {"out": ANGLES}),
    "radians": ({"form": "radians"}, {"out": np.radians(ANGLES)}),
    "order": ({"order": ["roll", "yaw", "pitch"]}, {"out": ANGLES[:, [2, 0, 1]]}),
    "signs": ({"negate": ["yaw", "roll"]}, {"out": ANGLES * (-1, 1, -1)}),
    "columns": ({"first": 2}, {"out": np.concatenate([ANGLES[:, :2], ANGLES], axis=1)}),
    "three outputs": (
        {"outputs": ["c", "a", "b"], "order": ["roll", "yaw", "pitch"]},
        {"a": ANGLES[:, :1], "b": ANGLES[:, 1:2], "c": ANGLES[:, 2:]},
    ),
    "three bins": ({"form": "bins"}, {k: bins(v, 66, 3) for k, v in zip("abc", ANGLES.T, strict=True)}),
    "bins in one": (
        {"form": "bins", "bin_size": 2.0, "order": ["pitch", "yaw", "roll"]},
        {"out": np.stack([bins(ANGLES[:, i], 120, 2) for i in (1, 0, 2)], axis=1)},
    ),
    "matrix": ({"form": "matrix"}, {"out": np.stack([rotation(*v) for v in ANGLES])}),
    "6d": (
        {"form": "6d"},
        {"out": np.stack([np.concatenate([2 * rotation(*v)[:, 0], rotation(*v)[:, :2] @ (0.3, 4)]) for v in ANGLES])},
    ),
}


@pytest.mark.parametrize("form", POSES)
def test_a_pose_is_the_angles_that_were_written(form: str) -> None:
    settings, outputs = POSES[form]
    pipeline = looking({k: v.astype(np.float32) for k, v in outputs.items()}, {"meaning": {"pose": settings}})
    found = pipeline.locate(np.zeros((9, 9, 3), np.uint8), faces())
    have = np.array([[f.yaw, f.pitch, f.roll] for f in found], float)
    assert np.abs(have - ANGLES).max() < 1e-3


def test_a_head_that_looks_straight_to_the_side_has_angles() -> None:
    pipeline = looking({"out": rotation(90, 20, 0)[None].astype(np.float32)}, {"meaning": {"pose": {"form": "matrix"}}})
    (found,) = pipeline.locate(np.zeros((9, 9, 3), np.uint8), faces(1))
    assert found.yaw == pytest.approx(90, abs=0.1)
    assert found.roll == pytest.approx(0, abs=0.1)


# --- embeddings and classes ---


def test_an_embedding_has_a_length_of_one_unless_it_stays_as_it_is() -> None:
    vectors = RNG.normal(0, 3, (3, 128)).astype(np.float32)
    image = np.zeros((9, 9, 3), np.uint8)
    for normalise in (True, False):
        pipeline = looking({"out": vectors}, {"meaning": {"embedding": {"normalise": normalise}}})
        have = np.array([f.embedding for f in pipeline.locate(image, faces())])
        want = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if normalise else vectors
        np.testing.assert_allclose(have, want, rtol=1e-6)


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_classes_are_probabilities_with_names(activation: str) -> None:
    numbers = np.array([[9, 1.0, -2.0, 0.5], [9, 0.2, 0.3, 0.5], [9, 300.0, -300.0, 0.0]], np.float32)
    names = ["mask", "glasses", "hat"]
    settings = {"names": names, "activation": activation, "first": 1}
    pipeline = looking({"out": numbers}, {"meaning": {"classes": settings}})
    found = pipeline.locate(np.zeros((9, 9, 3), np.uint8), faces())
    rest = numbers[:, 1:].astype(float)
    powers = np.exp(rest - rest.max(axis=1, keepdims=True))
    want = {"none": rest, "softmax": powers / powers.sum(axis=1, keepdims=True), "sigmoid": 1 / (1 + np.exp(-rest))}
    for face, row in zip(found, want[activation], strict=True):
        assert dict(face.classes or {}) == pytest.approx(dict(zip(names, row, strict=True)), abs=1e-6)
    assert list(found[0].to_dict()["classes"]) == names


# --- wrong descriptions ---

SPEC = NetworkSpec(
    "network",
    (TensorSpec("image", (1, 3, 32, 32)),),
    (TensorSpec("a", (1, 10)), TensorSpec("b", (1, 3)), TensorSpec("maps", (1, 5, 8, 8))),
)


@pytest.mark.parametrize(
    ("meaning", "sentence"),
    [
        ({}, "meaning is empty"),
        ({"points": {}}, "meaning.points.output must name one of"),
        ({"points": {"output": "d"}}, "names 'd'"),
        ({"points": {"output": "b"}}, "has 3 numbers a face"),
        ({"points": {"output": "a", "count": 6}}, "not 6 points of 2"),
        ({"points": {"output": "a", "points_in": "heatmaps"}}, "heat maps"),
        ({"points": {"points_in": "heatmaps", "count": 4}}, r"\(1, 4, h, w\)"),
        ({"points": {"first": -1}}, "no negative"),
        ({"points": {"points_in": "inches"}}, "points_in must be one of"),
        ({"pose": {"outputs": ["a", "b"]}}, "one output or three"),
        ({"pose": {"outputs": ["a", "b", "maps"]}}, "does not fit"),
        ({"pose": {"form": "6d", "outputs": ["b"]}}, "does not fit"),
        ({"pose": {"form": "matrix", "outputs": ["a", "b", "a"]}}, "takes one output"),
        ({"pose": {"order": ["yaw", "yaw", "roll"]}}, "once each"),
        ({"pose": {"outputs": ["d"]}}, "names 'd'"),
        ({"embedding": {}}, "must name one of"),
        ({"classes": {"names": []}}, "must name each class once"),
        ({"classes": {"names": ["x", "y"], "output": "c"}}, "names 'c'"),
        ({"classes": {"names": ["x", "y", "z", "u"], "output": "b"}}, "names 4 classes"),
        ({"gaze": {}}, "gaze is not a known key; known are points, pose, embedding, classes"),
    ],
)
def test_a_wrong_meaning_is_refused(meaning: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_plain(Meaning, meaning, "meaning").resolved(SPEC)


def test_outputs_that_can_only_be_one_need_no_name() -> None:
    found = from_plain(Meaning, {"points": {"count": 5}, "pose": {}}).resolved(SPEC)
    assert found.points is not None
    assert found.pose is not None
    assert (found.points.output, found.pose.outputs) == ("a", ("b",))


@pytest.mark.parametrize(
    ("crop", "sentence"),
    [
        ({"grow": 0}, "crop.grow"),
        ({"shift": [3, 0]}, "crop.shift"),
        ({"align": "arcface", "grow": 1.2}, "crop.align says where the crop is"),
        ({"align": "venus"}, "crop.align must be 'arcface'|crop.align must be one of 'arcface'"),
        ({"edge": "sky"}, "crop.edge"),
    ],
)
def test_a_wrong_crop_is_refused(crop: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_plain(CropConfig, {"meaning": {"points": {}}, "crop": crop})


def test_aligned_crops_need_five_points() -> None:
    pipeline = looking(
        {"out": np.zeros((3, 4), np.float32)}, {"meaning": {"embedding": {}}, "crop": {"align": "arcface"}}
    )
    with pytest.raises(InputError, match="needs the five points of a face, and the detector gives no points"):
        pipeline.locate(np.zeros((9, 9, 3), np.uint8), faces())
    many = Face((0, 0, 9, 9), 1, tuple((float(i), 2.0) for i in range(68)))
    with pytest.raises(InputError, match="gives 68 points"):
        pipeline.locate(np.zeros((9, 9, 3), np.uint8), [many])


# --- from a file to faces, on every backend ---

POINTS = np.array([[0.25, 0.5], [0.75, 0.125], [1.5, -0.5]])
KNOWN: dict[str, Array] = {
    "points": POINTS,
    "turn": rotation(*ANGLES[0]),
    "who": RNG.normal(0, 1, 64),
    "what": np.array([1.0, 3.0]),
}
DESCRIPTION = """
[input]
colours = "rgb"
scale = 0.00392156862745098
[crop]
grow = 1.5
[meaning.points]
output = "points"
[meaning.pose]
form = "matrix"
outputs = ["turn"]
[meaning.embedding]
output = "who"
[meaning.classes]
output = "what"
names = ["mask", "none"]
activation = "softmax"
"""
TARGETS = ("onnx-fp32", "openvino-fp32", "openvino-fp16", "ncnn-fp32", "ncnn-fp16", "trt-fp16")
HALF = 2e-3


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = crop_network(tmp_path_factory.mktemp("crop") / "net.onnx", KNOWN)
    path.with_suffix(".toml").write_text(DESCRIPTION)
    return path


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A detector that finds three faces, known ones, and gives them four numbers for landmarks: two points."""
    path = decoded(tmp_path_factory.mktemp("finder") / "finder.onnx")
    path.with_suffix(".toml").write_text(
        'check = false\n[outputs]\nboxes = "boxes"\nscores = "scores"\nboxes_in = "unit"\n'
    )
    return facedeploy.export(str(path), "onnx-fp32", output=path.with_name("finder"))


@pytest.mark.parametrize("target", TARGETS)
def test_known_numbers_come_back_from_every_backend(
    target: str, stand_in: Path, finder: Artifact, tmp_path: Path
) -> None:
    require(target)
    made = facedeploy.export(str(stand_in), target, output=tmp_path / target)
    assert made.manifest.networks[0].spec.max_batch == 32
    image = np.full((200, 300, 3), 90, np.uint8)
    runtime: Any = "onnxruntime" if target.startswith("trt") else None
    with load(made, runtime=runtime) as second:
        assert isinstance(second, CropPipeline)
        found = second.locate(image, faces())
        off = HALF if target.endswith("fp16") else 1e-5
        for box, face in zip(BOXES, found, strict=True):
            side = 1.5 * max(box[2] - box[0], box[3] - box[1])
            middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
            want = middle + (POINTS - 0.5) * side
            assert np.abs(np.array(face.landmarks) - want).max() < (0.01 if off < HALF else off * side)
            assert (face.yaw, face.pitch, face.roll) == pytest.approx(
                tuple(ANGLES[0]), abs=0.2 if off == HALF else 0.01
            )
            assert np.array(face.embedding) @ KNOWN["who"] / np.linalg.norm(KNOWN["who"]) > 1 - off
            assert dict(face.classes or {}) == pytest.approx({"mask": 0.1192, "none": 0.8808}, abs=off + 1e-4)
    with load(finder) as first:
        alone = first.detect(image)
    both = facedeploy.detect(finder, image, with_=[made], runtime=runtime)
    assert [f.box for f in both] == [f.box for f in alone]
    assert all(f.landmarks is not None and f.classes is not None for f in both)


def test_a_network_that_cannot_take_a_batch_looks_at_one_face_after_the_other(tmp_path: Path) -> None:
    """Its sum over the batch is not that of each."""
    nodes = [node("ReduceSum", ["x", "axes"], ["s"], keepdims=1), node("Flatten", ["s"], ["y"])]
    path = write(tmp_path / "sum.onnx", nodes, {"axes": np.array([0, 2, 3])}, {"y": [1, 3]}, shape=(1, 3, 8, 8))
    path.with_suffix(".toml").write_text("[meaning.embedding]\nnormalise = false\n")
    made = facedeploy.export(str(path), "onnx-fp32", output=tmp_path / "made")
    assert made.manifest.networks[0].spec.axes == ()
    image = np.zeros((200, 200, 3), np.uint8)
    image[:100] = (1, 2, 3)
    with load(made) as pipeline:
        assert isinstance(pipeline, CropPipeline)
        found = pipeline.locate(image, [Face((0, 0, 50, 50), 1), Face((100, 150, 150, 190), 1)])
    assert [f.embedding for f in found] == [(64, 128, 192), (0, 0, 0)]


def test_a_mean_of_what_is_seen_is_the_mean_of_the_crop(tmp_path: Path) -> None:
    """Nobody swaps colours, or faces."""
    path = colour_network(tmp_path / "mean.onnx")
    path.with_suffix(".toml").write_text('[input]\ncolours = "rgb"\n[meaning.embedding]\nnormalise = false\n')
    made = facedeploy.export(str(path), "onnx-fp32", output=tmp_path / "made")
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, :100], image[:, 100:200], image[:, 200:] = (10, 20, 30), (40, 50, 60), (70, 80, 90)
    given = [Face((x + 20, 20, x + 80, 80), 1) for x in (200, 0, 100)]
    with load(made) as pipeline:
        assert isinstance(pipeline, CropPipeline)
        found = pipeline.locate(image, given)
        (alone,) = pipeline.detect(image[:, :100])
    assert [f.embedding for f in found] == [(90, 80, 70), (30, 20, 10), (60, 50, 40)]
    assert alone.embedding == (30, 20, 10)
    assert alone.box == (0, 0, 100, 100)


# --- together ---


def composed(lookers: dict[str, CropPipeline], found: Sequence[Face]) -> ComposedPipeline:
    class Finder(Pipeline):
        def _detect(self, image: Image) -> list[Face]:
            return list(found)

    return ComposedPipeline(Finder({}), lookers)


def test_each_network_sees_what_the_detector_found_and_not_what_another_says() -> None:
    given = faces(2, points=True)
    points = looking({"out": np.full((2, 4), 0.5, np.float32)}, {"meaning": {"points": {}}})
    aligned = {"meaning": {"embedding": {}}, "crop": {"align": "arcface"}}
    who = looking({"out": np.ones((2, 8), np.float32)}, aligned, (112, 112))
    mask = looking({"out": np.ones((2, 1), np.float32)}, {"meaning": {"classes": {"names": ["mask"]}}})
    hat = looking({"out": np.zeros((2, 1), np.float32)}, {"meaning": {"classes": {"names": ["hat"]}}})
    image = np.zeros((200, 200, 3), np.uint8)
    found = composed({"a": points, "b": who, "c": mask, "d": hat}, given).detect(image)
    assert [len(f.landmarks or ()) for f in found] == [2, 2]
    assert [f.classes for f in found] == [{"mask": 1.0, "hat": 0.0}] * 2
    assert all(f.embedding is not None and len(f.embedding) == 8 for f in found)


def test_two_networks_that_say_the_same_are_refused() -> None:
    first, second = (looking({"out": np.zeros((2, 4), np.float32)}, {"meaning": {"points": {}}}) for _ in range(2))
    with pytest.raises(InputError, match="both one and two give points"):
        composed({"one": first, "two": second}, [])


# --- families, recognised by their outputs, with the published layout ---


@pytest.mark.parametrize("family", CROP_FAMILIES)
def test_a_published_layout_needs_no_description(family: str, tmp_path: Path) -> None:
    size, numbers = CROP_FAMILIES[family]
    path = crop_network(tmp_path / "net.onnx", {"out": numbers}, size)
    made = facedeploy.export(str(path), "onnx-fp32", output=tmp_path / "made")
    assert made.manifest.settings["family"] == family
    face = faces(1, points=True)[0]
    with load(made) as pipeline:
        assert isinstance(pipeline, CropPipeline)
        (found,) = pipeline.locate(np.full((200, 200, 3), 90, np.uint8), [face])
        if found.embedding is not None:
            assert np.array(found.embedding) @ numbers / np.linalg.norm(numbers) > 1 - 1e-6
        elif found.yaw is not None:
            assert (found.yaw, found.pitch, found.roll) == pytest.approx(tuple(ANGLES[0]), abs=0.01)
        else:
            count = pipeline.meaning.points.count if pipeline.meaning.points else 0
            places = pipeline.places(np.zeros((200, 200, 3), np.uint8), [face])
            want = places.back((numbers[: 2 * (count or 0)].reshape(1, -1, 2)) * size[::-1])[0]
            assert np.abs(np.array(found.landmarks) - want).max() < 0.01


def test_three_outputs_of_66_bins_are_hopenet(tmp_path: Path) -> None:
    logits = {
        name: np.log(np.maximum(np.exp(bins(v, 66, 3)[0]), 1e-9))
        for name, v in zip(("yaw", "pitch", "roll"), ANGLES.T, strict=True)
    }
    path = crop_network(tmp_path / "net.onnx", logits, (224, 224))
    made = facedeploy.export(str(path), "onnx-fp32", output=tmp_path / "made")
    assert made.manifest.settings["family"] == "hopenet"
    with load(made) as pipeline:
        assert isinstance(pipeline, CropPipeline)
        (found,) = pipeline.locate(np.full((200, 200, 3), 90, np.uint8), faces(1))
    assert (found.yaw, found.pitch, found.roll) == pytest.approx(tuple(ANGLES[0]), abs=0.01)


@pytest.mark.parametrize(
    ("numbers", "settings", "sentence"),
    [
        (RNG.uniform(10, 30, 20), '[meaning.points]\npoints_in = "unit"', "points_in = 'unit' puts most points"),
        (RNG.uniform(0, 1, 20), '[meaning.points]\npoints_in = "pixels"', "into one place"),
        (ANGLES[0], '[meaning.pose]\nform = "radians"', "form = 'radians' gives drawn faces angles beyond 180"),
        (np.arange(9.0), '[meaning.pose]\nform = "matrix"', "are no rotation"),
        (np.zeros(4), "[meaning.embedding]", "no vector of finite numbers"),
        (np.array([3.0, -2.0]), '[meaning.classes]\nnames = ["a", "b"]', "activation = 'none' gives"),
    ],
)
def test_a_description_that_cannot_be_meant_is_refused(
    numbers: Array, settings: str, sentence: str, tmp_path: Path
) -> None:
    path = crop_network(tmp_path / "net.onnx", {"out": numbers})
    if "embedding" in settings:  # Nothing at all of the picture.
        constants: dict[str, Any] = {"w": np.zeros((4, 3, 1, 1), np.float32)}
        nodes = [node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]), node("GlobalAveragePool", ["c"], ["g"])]
        path = write(path, [*nodes, node("Flatten", ["g"], ["out"])], constants, {"out": [1, 4]}, shape=(1, 3, 8, 8))
    path.with_suffix(".toml").write_text(settings)
    with pytest.raises(InputError, match=sentence):
        facedeploy.export(str(path), "onnx-fp32", output=tmp_path / "made")
    assert not (tmp_path / "made").exists()
