"""The C++ library for phones against the Python pipelines, over networks that give the same outputs to both."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from facedeploy import pipelines
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec, Size, TensorSpec
from facedeploy.core.preprocess import Pixels, Preprocess
from facedeploy.core.serialization import to_plain
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.models import registry
from facedeploy.package.constants import BoxesConstants, MosConstants, PictureConstants, Selection, constants
from facedeploy.pipelines.custom import NETWORK, BoxesConfig, BoxesPipeline, Outputs
from facedeploy.pipelines.mos import MosConfig, MosPipeline
from facedeploy.pipelines.nms import suppress
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.sources.published import load_reference
from tests.cpp import stream
from tests.cpp.stream import BoxesCase, Driver, MosCase, Picture, PictureCase, Step, SuppressionCase

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
MODELS = ("mos-tiny", "mos-m")
CASES = 1000
MANY = 100_000


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the C++ library is not compiled")
    return Driver(stream.compile_driver(tmp_path_factory.mktemp("cpp") / "driver", *stream.SANITIZERS))


# --- networks that answer what they are told ---


class Answer(Runtime):
    """Always the same outputs. Remembers what it was given."""

    backend = "none"
    concurrent = True

    def __init__(self, spec: NetworkSpec, outputs: Arrays, preprocess: Preprocess) -> None:
        super().__init__(spec, RuntimeOptions(1, preprocess=preprocess))
        self.outputs = outputs
        self.seen: list[Arrays] = []

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        self.seen.append(dict(inputs))
        return self.outputs

    def _close(self) -> None:
        pass


class Weigh(Runtime):
    """The driver's pose network: sums of the patch with weights that do not repeat."""

    backend = "none"
    concurrent = True

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        patches = inputs["patches"].reshape(len(inputs["patches"]), -1).astype(np.float64)
        _, angles, anchors = self.spec.outputs[0].shape
        assert isinstance(angles, int)
        assert isinstance(anchors, int)
        k = np.arange(angles * anchors)
        sums = patches @ ((np.arange(patches.shape[1])[:, None] * (31 + k) % 97 - 48) / 48)
        if "level" in inputs:
            sums += (inputs["level"] @ np.array([10.0, 20.0, 30.0]))[:, None]
        return {"angles": sums.astype(np.float32).reshape(-1, angles, anchors)}

    def _close(self) -> None:
        pass


@functools.cache
def specs_of(model: str, size: Size) -> tuple[NetworkSpec, ...]:
    return registry.get(model).network_specs(size)


def shape_of(tensor: TensorSpec) -> tuple[int, ...]:
    return tuple(int(d) for d in tensor.shape)


def clusters(rng: np.random.Generator, count: int, size: Size) -> tuple[Array, Array]:
    """Boxes in clusters, some of whole pixels, and scores of which many are equal or nearly so."""
    centres = rng.uniform(0, 1, (max(1, count // 12), 2)) * size[::-1]
    corner = centres[rng.integers(0, len(centres), count)] + rng.normal(0, 2, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(0, 30, (count, 2))])
    if rng.random() < 0.3:
        boxes = np.round(boxes)
    steps = rng.choice([0.01, 0.0004, 1e-6])
    scores = rng.choice([0.2, 0.56, 0.9], count) + steps * rng.integers(0, 4, count)
    return boxes.astype(np.float32), scores.astype(np.float32)


def picture(rng: np.random.Generator) -> Picture:
    height, width = rng.integers(1, 90, 2)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture(image, str(rng.choice(stream.FORMATS)), int(rng.choice([0, 0, 5])))


def selection(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "score_threshold": float(rng.choice([0.0, 0.5, 0.55, 0.56])),
        "nms": float(rng.choice([0.0, 0.3, 0.4, 0.7, 1.0])),
        "top": int(rng.choice([3, 40, 5000])),
        "keep": int(rng.choice([1, 7, 70, 750])),
    }


def preprocess(rng: np.random.Generator) -> Preprocess:
    return Preprocess(
        "bgr" if rng.random() < 0.5 else "rgb",
        (104.0, 117.0, 123.0) if rng.random() < 0.5 else (127.5, -3.0, 255.5),
        (1.0, 1 / 127.5, 2.0),
    )


def mos_case(seed: int) -> tuple[MosCase, MosPipeline]:
    rng = np.random.default_rng(seed)
    size = [(32, 32), (33, 70), (64, 40), (40, 57)][rng.integers(4)]
    detector, pose = specs_of(MODELS[rng.integers(2)], size)
    protocol: Literal["fit", "stretch"] = "fit" if rng.random() < 0.5 else "stretch"
    config = MosConfig(protocol=protocol, preprocess=preprocess(rng), **selection(rng))
    outputs = {t.name: rng.normal(0, 1, shape_of(t)).astype(np.float32) for t in detector.outputs}
    boxes, scores = clusters(rng, outputs["scores"].shape[1], size)
    outputs |= {"boxes": boxes[None], "scores": scores[None], "landmarks": outputs["landmarks"] * 30}
    case = MosCase(
        mos_constants((detector, pose), config),
        picture(rng),
        boxes,
        scores,
        outputs["landmarks"],
        tuple(Step(outputs[f"features{s}"][0], int(rng.integers(0, 3))) for s in (8, 16, 32)),
    )
    runtimes = {"detector": Answer(detector, outputs, config.preprocess), "pose": Weigh(pose, RuntimeOptions(1))}
    return case, MosPipeline(runtimes, config)


def mos_constants(specs: tuple[NetworkSpec, ...], config: MosConfig) -> MosConstants:
    found = constants(specs, pipelines.configure("mos", {}, to_plain(config)))
    assert isinstance(found, MosConstants)
    return found


def boxes_case(seed: int) -> tuple[BoxesCase, BoxesPipeline]:
    rng = np.random.default_rng(seed)
    size = [(32, 32), (48, 70)][rng.integers(2)]
    count, classes, points = int(rng.choice([1, 30, 200])), int(rng.choice([1, 2, 3])), int(rng.choice([0, 1, 5]))
    angles = [n for n in ("yaw", "pitch", "roll") if rng.random() < 0.5]
    shapes: dict[str, tuple[int, ...]] = {"b": (1, count, 4)}
    shapes["s"] = (1, count, classes) if classes > 1 or rng.random() < 0.5 else (1, count)
    shapes |= {"l": (1, count, 2 * points)} if points else {}
    shapes |= {n: (1, count, 1) if rng.random() < 0.5 else (1, count) for n in angles}
    unit = bool(rng.random() < 0.5)
    arrays = {n: rng.normal(0, 1, s).astype(np.float32) for n, s in shapes.items()}
    boxes, scores = clusters(rng, count, size)
    face_class = int(rng.integers(classes))
    arrays["b"] = (boxes / np.tile(size[::-1], 2)).astype(np.float32)[None] if unit else boxes[None]
    arrays["s"].reshape(count, classes)[:, face_class] = scores
    named = Outputs(
        "b", "s", "unit" if unit else "pixels", face_class, "l" if points else None, **{n: n for n in angles}
    )
    config = BoxesConfig(named, ("fit", "stretch")[rng.integers(2)], preprocess=preprocess(rng), **selection(rng))
    spec = NetworkSpec(
        NETWORK, (TensorSpec("image", (1, 3, *size)),), tuple(TensorSpec(n, s) for n, s in shapes.items())
    )
    found = constants([spec], pipelines.configure("boxes", {}, to_plain(config)))
    assert isinstance(found, BoxesConstants)
    none = np.zeros(0, np.float32)
    case = BoxesCase(found, picture(rng), tuple(arrays.get(n, none) for n in ("b", "s", "l", "yaw", "pitch", "roll")))
    return case, BoxesPipeline({NETWORK: Answer(spec, arrays, config.preprocess)}, config)


@pytest.fixture(scope="module")
def mos_cases() -> list[tuple[MosCase, MosPipeline]]:
    return [mos_case(seed) for seed in range(CASES)]


def numbers(face: Face) -> tuple[list[float], list[float]]:
    """Coordinates, and the rest."""
    angles = [-1e9 if v is None else v for v in (face.yaw, face.pitch, face.roll)]
    return [*face.box, *np.ravel(face.landmarks or ())], [face.score, *angles]


def same(have: stream.Faces, want: list[Face]) -> bool:
    """The same faces in the same order, to a thousandth of a pixel and of a degree."""
    if have.status != stream.OK or len(have.faces) != len(want):
        return False
    pairs = [(a, b) for x, y in zip(have.faces, want, strict=True) for a, b in zip(numbers(x), numbers(y), strict=True)]
    return all(len(a) == len(b) and np.allclose(a, b, rtol=0, atol=1e-3) for a, b in pairs)


# --- faces ---


def test_mos_finds_what_the_python_pipeline_finds(driver: Driver, mos_cases: list[tuple[MosCase, MosPipeline]]) -> None:
    wanted = [pipeline.detect(case.picture.image) for case, pipeline in mos_cases]
    found = driver.faces([case for case, _ in mos_cases])
    assert [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if not same(a, b)] == []
    assert sum(map(len, wanted)) > 10 * CASES
    assert max(map(len, wanted)) > 64  # More than one batch of the pose network.


def test_boxes_finds_what_the_python_pipeline_finds(driver: Driver) -> None:
    made = [boxes_case(seed) for seed in range(CASES)]
    wanted = [pipeline.detect(case.picture.image) for case, pipeline in made]
    found = driver.faces([case for case, _ in made])
    assert [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if not same(a, b)] == []
    assert sum(map(len, wanted)) > 5 * CASES


class Recorder(Runtime):
    """Another runtime, whose outputs it remembers."""

    backend = "none"
    concurrent = True

    def __init__(self, inner: Runtime, preprocess: Preprocess) -> None:
        super().__init__(inner.spec, RuntimeOptions(1, preprocess=preprocess))
        self.inner = inner
        self.seen: list[tuple[Arrays, Arrays]] = []

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        outputs = self.inner.run(inputs)
        self.seen.append((dict(inputs), outputs))
        return outputs

    def _close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("protocol", ["fit", "stretch"])
def test_default_model_finds_the_same_faces_on_pictures(protocol: Any, driver: Driver) -> None:
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    image: Pixels = np.asarray(photo, np.uint8)
    images = [
        image,
        image[40:200, 100:400],
        np.tile(image, (2, 3, 1)),
        group_photo(np.random.default_rng(1), 300, 400, 3),
    ]
    config = MosConfig(protocol=protocol, score_threshold=0.3)
    with load_reference("mos-tiny", threads=1) as reference:
        found = [_recorded(reference.runtimes, config, image) for image in images]
    answers = driver.faces([case for case, _, _ in found])
    planes = driver.planes([PictureCase(case.constants.input, case.picture) for case, _, _ in found])
    for answer, plane, (_, want, tensor) in zip(answers, planes, found, strict=True):
        assert same(answer, want)
        assert np.abs(plane.values - tensor).max() <= 1
    assert sum(len(want) for _, want, _ in found) >= 8


def _recorded(runtimes: Mapping[str, Runtime], config: MosConfig, image: Pixels) -> tuple[MosCase, list[Face], Array]:
    """What Python finds in a picture, as a case for the driver; the faces; and the network's input."""
    watched = {name: Recorder(inner, config.preprocess) for name, inner in runtimes.items()}
    faces = MosPipeline(watched, config).detect(image)
    ((fed, outputs),) = watched["detector"].seen
    angles = [o["angles"] for _, o in watched["pose"].seen]
    case = MosCase(
        mos_constants((watched["detector"].spec, watched["pose"].spec), config),
        Picture(image),
        outputs["boxes"],
        outputs["scores"],
        outputs["landmarks"],
        tuple(Step(outputs[f"features{s}"][0]) for s in (8, 16, 32)),
        np.concatenate(angles) if angles else None,
    )
    return case, faces, fed["image"][0]


# --- its parts ---


def random_pictures(count: int, largest: int) -> list[PictureCase]:
    rng = np.random.default_rng(5)
    cases = []
    for i in range(count):
        height, width, rows, columns = (int(v) for v in rng.integers(1, largest, 4))
        if i % 4 == 0:
            height, width = 2 * rows, 2 * columns
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        colours = ("bgr", "rgb")[i % 2]
        given = PictureConstants(rows, columns, "stretch", colours, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        cases.append(PictureCase(given, Picture(image, stream.FORMATS[i // 2 % 4], i % 3)))
    return cases


def off(driver: Driver, cases: list[PictureCase]) -> list[float]:
    """How far the C++ resize is from OpenCV's, in levels: the worst pixel of each picture."""

    def wanted(case: PictureCase) -> Array:
        resized = cv2.resize(case.picture.image, (case.input.width, case.input.height), interpolation=cv2.INTER_LINEAR)
        planes = resized.reshape(case.input.height, case.input.width, 3).transpose(2, 0, 1)
        return planes[::-1] if case.input.colours == "rgb" else planes

    planes = driver.planes(cases)
    return [float(np.abs(p.values - wanted(c)).max()) for p, c in zip(planes, cases, strict=True)]


def test_resizes_as_opencv_does(driver: Driver) -> None:
    assert max(off(driver, [*random_pictures(200, 60), *random_pictures(8, 700)])) <= 1


def test_network_sees_what_it_sees_in_python(driver: Driver, mos_cases: list[tuple[MosCase, MosPipeline]]) -> None:
    """Resized, filled and normalised; a level is 2 at most in these, and the scale is the pipeline's."""
    made = mos_cases[:200]
    planes = driver.planes([PictureCase(case.constants.input, case.picture) for case, _ in made])
    for plane, (case, pipeline) in zip(planes, made, strict=True):
        detector = pipeline.runtimes["detector"]
        assert isinstance(detector, Answer)
        detector.seen.clear()
        pipeline.detect(case.picture.image)
        level = np.array(case.constants.input.scale, np.float32)[:, None, None]
        assert (np.abs(plane.values - detector.seen[0]["image"][0]) <= level + 1e-6).all()


def suppression_cases(count: int) -> list[SuppressionCase]:
    cases = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        boxes, scores = clusters(rng, int(rng.integers(0, 300)), (200, 200))
        cases.append(SuppressionCase(Selection(**selection(rng)), boxes.astype(np.float64), scores))
    return cases


def test_suppression_keeps_what_python_keeps(driver: Driver) -> None:
    cases = suppression_cases(300)
    wanted = [suppress(c.boxes, c.scores, c.selection.nms, top=c.selection.top, keep=c.selection.keep) for c in cases]
    assert driver.run(cases) == [w.tolist() for w in wanted]


# --- negative controls ---

MUTANTS = {
    "without-pixel": ("nms.hpp", "pixel = 1.0", "pixel = 0.0"),
    "coarse-scores": ("nms.hpp", "rank_steps = 100000", "rank_steps = 1000"),
    "first-of-equals": ("nms.hpp", "ranks[b] : a > b", "ranks[b] : a < b"),
    "overlap-of-threshold": ("nms.hpp", "area) > selection.nms", "area) >= selection.nms"),
    "top-of-rounded": ("nms.hpp", "scores[b] : a < b", "scores[b] : a > b"),
    "turned-patch": ("patches.hpp", "cell.row + dy", "cell.row + dx"),
    "first-anchor": ("mos.hpp", "priors[i] % anchors", "0 * anchors"),
    "threshold-itself": ("candidates.hpp", "scores.data[i] > limit", "scores.data[i] >= limit"),
    "corners-aligned": ("preprocess.hpp", "(i + 0.5) * scale", "(i + 0.2) * scale"),
}


@pytest.fixture(scope="module")
def mutants(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Driver]:
    folder = tmp_path_factory.mktemp("mutants")

    def make(name: str) -> Driver:
        return Driver(stream.mutant(folder / name, *MUTANTS[name]))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(MUTANTS, pool.map(make, MUTANTS), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_library_with_one_thing_wrong_is_found_out(
    name: str, mutants: dict[str, Driver], mos_cases: list[tuple[MosCase, MosPipeline]]
) -> None:
    if name == "corners-aligned":
        assert max(off(mutants[name], random_pictures(200, 60))) > 1
        return
    made = mos_cases[:400]
    found = mutants[name].faces([case for case, _ in made])
    assert not all(same(a, p.detect(c.picture.image)) for a, (c, p) in zip(found, made, strict=True))


# --- what should not come ---


@pytest.fixture(scope="module")
def good() -> MosCase:
    """A case with faces, of the default model. Its first score is no face's, and its second one is."""
    made = (mos_case(seed)[0] for seed in range(CASES))
    case = next(c for c in made if c.constants.channels == 48 and c.scores[0] < 0.5 < c.scores[1])
    return with_selection(case, score_threshold=0.5, nms=0.4, top=5000, keep=750)


def changed(values: Array, index: int, value: float) -> Array:
    copy = np.array(values, np.float32).reshape(-1)
    copy[index] = value
    return copy


def with_input(case: MosCase, **changes: Any) -> MosCase:
    return replace(case, constants=replace(case.constants, input=replace(case.constants.input, **changes)))


def with_selection(case: MosCase, **changes: Any) -> MosCase:
    return replace(case, constants=replace(case.constants, selection=replace(case.constants.selection, **changes)))


def with_constants(case: MosCase, **changes: Any) -> MosCase:
    return replace(case, constants=replace(case.constants, **changes))


def with_picture(case: MosCase, **changes: Any) -> MosCase:
    return replace(case, picture=replace(case.picture, **changes))


def with_map(case: MosCase, **changes: Any) -> MosCase:
    return replace(case, features=(case.features[0], replace(case.features[1], **changes), case.features[2]))


NAN, INF = float("nan"), float("inf")
HOSTILE: dict[str, tuple[int, Callable[[MosCase], MosCase]]] = {
    "as it should be": (stream.OK, lambda c: c),
    "fewer boxes": (stream.WRONG_SIZE, lambda c: replace(c, boxes=np.ravel(c.boxes)[:-1])),
    "more boxes": (stream.WRONG_SIZE, lambda c: replace(c, boxes=np.append(c.boxes, 0))),
    "no boxes": (stream.WRONG_SIZE, lambda c: replace(c, boxes=np.zeros(0))),
    "fewer scores": (stream.WRONG_SIZE, lambda c: replace(c, scores=c.scores[:-1])),
    "no scores": (stream.WRONG_SIZE, lambda c: replace(c, scores=np.zeros(0))),
    "fewer landmarks": (stream.WRONG_SIZE, lambda c: replace(c, landmarks=np.ravel(c.landmarks)[10:])),
    "map of other height": (stream.WRONG_SIZE, lambda c: with_map(c, shape=(48, 999, 999))),
    "map of other channels": (stream.WRONG_SIZE, lambda c: with_map(c, shape=(64, *c.features[1].values.shape[1:]))),
    "map of negative width": (stream.WRONG_SIZE, lambda c: with_map(c, shape=(48, 2, -2))),
    "map whose channels overlap": (stream.WRONG_SIZE, lambda c: with_map(c, step=1)),
    "map without data": (stream.WRONG_SIZE, lambda c: with_map(c, values=np.zeros((48, 0, 0)), shape=(48, 2, 2))),
    "score is NaN": (stream.NOT_FINITE, lambda c: replace(c, scores=changed(c.scores, 3, NAN))),
    "score is infinite": (stream.NOT_FINITE, lambda c: replace(c, scores=changed(c.scores, -1, INF))),
    "score is minus infinity": (stream.NOT_FINITE, lambda c: replace(c, scores=changed(c.scores, 0, -INF))),
    "box is NaN": (stream.NOT_FINITE, lambda c: replace(c, boxes=changed(c.boxes, 5, NAN))),
    "box is infinite": (stream.NOT_FINITE, lambda c: replace(c, boxes=changed(c.boxes, 7, -INF))),
    "box of no face is NaN": (stream.OK, lambda c: replace(c, boxes=changed(c.boxes, 0, NAN))),
    "landmark is NaN": (stream.NOT_FINITE, lambda c: replace(c, landmarks=changed(c.landmarks, 19, NAN))),
    "angle is NaN": (stream.NOT_FINITE, lambda c: replace(c, angles=np.full(3000, NAN))),
    "features are NaN": (
        stream.NOT_FINITE,
        lambda c: replace(c, features=tuple(replace(f, values=np.full_like(f.values, NAN)) for f in c.features)),
    ),
    "enormous boxes": (stream.OK, lambda c: replace(c, boxes=np.resize([-3e38, -3e38, 3e38, 3e38], c.boxes.shape))),
    "boxes inside out": (stream.OK, lambda c: replace(c, boxes=-c.boxes)),
    "enormous scores": (stream.OK, lambda c: replace(c, scores=np.full_like(c.scores, 3e38))),
    "no face": (stream.OK, lambda c: replace(c, scores=np.zeros_like(c.scores))),
    "detector fails": (stream.NETWORK_FAILED, lambda c: replace(c, detector_fails=True)),
    "pose fails": (stream.NETWORK_FAILED, lambda c: replace(c, pose_fails=True)),
    "no height": (stream.BAD_CONFIG, lambda c: with_input(c, height=0)),
    "negative width": (stream.BAD_CONFIG, lambda c: with_input(c, width=-320)),
    "enormous input": (stream.BAD_CONFIG, lambda c: with_input(c, height=1 << 30, width=1 << 30)),
    "mean is NaN": (stream.BAD_CONFIG, lambda c: with_input(c, mean=(NAN, 0.0, 0.0))),
    "scale is nothing": (stream.BAD_CONFIG, lambda c: with_input(c, scale=(1.0, 0.0, 1.0))),
    "threshold is NaN": (stream.BAD_CONFIG, lambda c: with_selection(c, score_threshold=NAN)),
    "overlap is two": (stream.BAD_CONFIG, lambda c: with_selection(c, nms=2.0)),
    "top is nothing": (stream.BAD_CONFIG, lambda c: with_selection(c, top=0)),
    "keep is negative": (stream.BAD_CONFIG, lambda c: with_selection(c, keep=-1)),
    "no anchors": (stream.BAD_CONFIG, lambda c: with_constants(c, anchors=0)),
    "patches too deep": (stream.BAD_CONFIG, lambda c: with_constants(c, patch_channels=50)),
    "no pose batch": (stream.BAD_CONFIG, lambda c: with_constants(c, pose_batch=0)),
    "picture without data": (stream.BAD_PICTURE, lambda c: with_picture(c, empty=True)),
    "picture of negative height": (stream.BAD_PICTURE, lambda c: with_picture(c, size=(-1, 5))),
    "enormous picture": (stream.BAD_PICTURE, lambda c: with_picture(c, size=(1 << 30, 1 << 30))),
    "rows too short": (stream.BAD_PICTURE, lambda c: with_picture(c, stride=1)),
    "picture without pixels": (stream.OK, lambda c: with_picture(c, size=(0, 7), empty=True)),
}


@pytest.fixture(scope="module")
def answered(driver: Driver, good: MosCase) -> dict[str, stream.Faces]:
    """All in one process: after each of them, the next is answered."""
    answers = driver.faces([make(good) for _, make in HOSTILE.values()])
    return dict(zip(HOSTILE, answers, strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_should_not_come_gives_a_status(name: str, answered: dict[str, stream.Faces]) -> None:
    status, _ = HOSTILE[name]
    assert answered[name].status == status
    assert status == stream.OK or answered[name].faces == []


def test_nothing_to_find_is_no_face(answered: dict[str, stream.Faces]) -> None:
    assert answered["as it should be"].faces
    assert answered["no face"].faces == answered["picture without pixels"].faces == []
    # Boxes that have no area overlap nothing, and equal ones are one.
    assert len(answered["enormous boxes"].faces) == 1
    assert len(answered["boxes inside out"].faces) >= len(answered["as it should be"].faces)


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "all-equal"])
def test_hundred_thousand_candidates(apart: bool, driver: Driver) -> None:
    """None of them overlaps another, so that every one is compared with every kept one; or all are one."""
    side = 317
    rows, columns = np.divmod(np.arange(MANY), side)
    corner = np.stack([columns, rows], axis=1) * (20.0 if apart else 0.0)
    boxes = np.hstack([corner, corner + 9]).astype(np.float32)
    scores = np.random.default_rng(0).permutation(MANY).astype(np.float32) / (2 * MANY) + np.float32(0.5)
    image = np.zeros((1000, 1000, 3), np.uint8)
    spec = NetworkSpec(
        NETWORK,
        (TensorSpec("image", (1, 3, 1000, 1000)),),
        (TensorSpec("b", (1, MANY, 4)), TensorSpec("s", (1, MANY))),
    )
    config = BoxesConfig(Outputs("b", "s", "pixels"), top=5000 if apart else 1000)
    found = constants([spec], pipelines.configure("boxes", {}, to_plain(config)))
    assert isinstance(found, BoxesConstants)
    none = np.zeros(0, np.float32)
    (answer,) = driver.faces([BoxesCase(found, Picture(image), (boxes, scores, none, none, none, none))])
    runtime = Answer(spec, {"b": boxes[None], "s": scores[None]}, config.preprocess)
    wanted = BoxesPipeline({NETWORK: runtime}, config).detect(image)
    assert same(answer, wanted)
    assert len(wanted) == (config.keep if apart else 1)


# --- other compilers ---


def test_compiles_without_exceptions_and_for_old_warnings(driver: Driver, tmp_path: Path) -> None:
    stream.compile_driver(tmp_path / "driver", "-O2", "-fno-exceptions", "-fno-rtti")


def test_fast_math_is_refused(driver: Driver, tmp_path: Path) -> None:
    """It takes NaN away, and with it what the library looks for."""
    with pytest.raises(AssertionError, match="without -ffast-math"):
        stream.compile_driver(tmp_path / "driver", "-ffast-math")


def test_aarch64_gives_the_same_faces(tmp_path: Path, mos_cases: list[tuple[MosCase, MosPipeline]]) -> None:
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("no aarch64-linux-gnu-g++: the C++ library is not compiled for aarch64")
    path = stream.compile_driver(tmp_path / "driver", "-O2", "-static", compiler=compiler)
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("compiled, and not run: no qemu-aarch64")
    made = mos_cases[:200]
    found = Driver(path, (emulator,)).faces([case for case, _ in made])
    assert all(same(a, p.detect(c.picture.image)) for a, (c, p) in zip(found, made, strict=True))
