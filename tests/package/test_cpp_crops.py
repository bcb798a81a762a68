"""Networks that look at faces in C++ against the Python pipeline: random crops, faces and meanings."""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedeploy import pipelines
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.preprocess import Preprocess
from facedeploy.core.serialization import from_plain
from facedeploy.package.crop_constants import crop_constants
from facedeploy.pipelines.crop import CropConfig, CropPipeline
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from tests.cpp import stream
from tests.cpp.stream import CropCase, Driver, Looked, Picture

CASES = 400
SIZES = ((16, 16), (24, 16), (13, 31), (112, 112))
NAN = math.nan


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the C++ library is not compiled")
    path = tmp_path_factory.mktemp("cpp") / "crops"
    return Driver(stream.compile_driver(path, *stream.SANITIZERS, source=stream.CROP_DRIVER))


class Told(Runtime):
    """Gives each face its own numbers, in order. Remembers what it was given."""

    backend = "none"

    def __init__(self, spec: NetworkSpec, outputs: Arrays, preprocess: Preprocess) -> None:
        super().__init__(spec, RuntimeOptions(1, preprocess=preprocess))
        self.outputs = outputs
        self.seen: list[Array] = []

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        (given,) = inputs.values()
        at = len(self.seen)
        self.seen.append(given[0])
        return {name: values[at : at + 1] for name, values in self.outputs.items()}

    def _close(self) -> None:
        pass


def faces(rng: np.random.Generator, count: int, size: tuple[int, int]) -> list[Face]:
    """Some larger than the picture, outside of it, inside out, of no size or without a number."""
    made = []
    for _ in range(count):
        corner = rng.uniform(-0.6, 1.1, 2) * size[::-1]
        sides = rng.uniform(0, 1.5, 2) * size[::-1] * rng.choice([0.1, 0.5, 1])
        box = np.concatenate([corner, corner + sides])
        turn, scale = rng.uniform(-3.2, 3.2), rng.uniform(0.1, 2)
        five = rng.uniform(0, 1, (5, 2)) * sides @ np.array([[1, turn], [-turn, 1]]) * scale + corner
        match rng.integers(14):
            case 0:
                box = box[[2, 3, 0, 1]]
            case 1:
                box[2:] = box[:2]
                five[:] = five[0]
            case 2:
                box[rng.integers(4)] = NAN
                five[rng.integers(5), rng.integers(2)] = NAN
            case 3:
                box *= 1e6
                five *= 1e6
            case _:
                pass
        x1, y1, x2, y2 = box.tolist()
        points = tuple((float(x), float(y)) for x, y in five)
        made.append(Face((x1, y1, x2, y2), float(np.float32(rng.random())), points))
    return made


def meaning(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """One or more things that outputs say, and the shapes of the outputs."""
    said: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    kinds = [k for k in ("points", "pose", "embedding", "classes") if rng.random() < 0.5] or ["points"]
    if "points" in kinds:
        count, values, first = (int(v) for v in rng.integers([1, 2, 0], [30, 4, 5]))
        unit = str(rng.choice(["unit", "signed", "pixels", "heatmaps"]))
        said["points"] = {"output": "points", "points_in": unit}
        shapes["points"] = (count, *(int(v) for v in rng.integers(1, 9, 2)))
        if unit != "heatmaps":
            order = str(rng.choice(["xy", "yx", "planes"]))
            said["points"] |= {"count": count, "first": first, "values": values, "order": order}
            shapes["points"] = (first + count * values + int(rng.integers(3)),)
    if "pose" in kinds:
        form = str(rng.choice(["degrees", "radians", "bins", "6d", "matrix"]))
        first, bins = (int(v) for v in rng.integers([0, 2], [4, 70]))
        split = form not in ("6d", "matrix") and rng.random() < 0.5
        names = ["p0", "p1", "p2"] if split else ["p0"]
        size = {"6d": 6, "matrix": 9, "bins": bins * (1 if split else 3)}.get(form, 1 if split else 3)
        said["pose"] = {
            "form": form,
            "outputs": names,
            "order": rng.permutation(["yaw", "pitch", "roll"]).tolist(),
            "negate": [n for n in ("yaw", "pitch", "roll") if rng.random() < 0.3],
            "first": 0 if split else first,
            "bin_size": float(rng.choice([1.0, 3.0, 4.5])),
        }
        shapes |= dict.fromkeys(names, (size + (0 if split else first),))
    if "embedding" in kinds:
        said["embedding"] = {"output": "who", "normalise": bool(rng.random() < 0.7)}
        shapes["who"] = (int(rng.integers(1, 200)),)
    if "classes" in kinds:
        count, first, more = (int(v) for v in rng.integers([1, 0, 0], [8, 4, 3]))
        activation = str(rng.choice(["none", "softmax", "sigmoid"]))
        names = [str(i) for i in range(count)]
        said["classes"] = {"names": names, "output": "what", "activation": activation, "first": first}
        shapes["what"] = (first + count + more,)
    return said, shapes


def crop_case(seed: int) -> tuple[CropCase, list[Face], Told]:
    """A case, what Python says of it, and the runtime that said it."""
    rng = np.random.default_rng(seed)
    said, shapes = meaning(rng)
    size = SIZES[rng.integers(len(SIZES))]
    aligned = bool(rng.random() < 0.3)
    edge = str(rng.choice(stream.EDGES[:3] if aligned else stream.EDGES))
    crop: dict[str, Any] = {"align": "arcface", "edge": edge}
    if not aligned:
        grow = rng.uniform(0.3, 2.5, 2).tolist()
        crop = {"grow": grow if rng.random() < 0.5 else grow[0], "square": bool(rng.random() < 0.5), "edge": edge}
        crop["shift"] = rng.uniform(-0.4, 0.4, 2).tolist() if rng.random() < 0.5 else [0.0, 0.0]
    colours = "bgr" if rng.random() < 0.5 else "rgb"
    settings = {"colours": colours, "mean": [104.0, -3.0, 127.5], "scale": [1.0, 1 / 127.5, 0.5]}
    config = pipelines.configure("crop", {"meaning": said, "crop": crop, "preprocess": settings})
    picture = rng.integers(0, 256, (*rng.integers(1, 90, 2), 3), dtype=np.uint8)
    alone = bool(rng.random() < 0.1)
    given = faces(rng, 1 if alone else int(rng.integers(1, 6)), picture.shape[:2])
    numbers = {n: rng.normal(0, 1.5, (len(given), *s)).astype(np.float32) for n, s in shapes.items()}
    if said.get("points", {}).get("points_in") == "heatmaps" and rng.random() < 0.3:
        numbers["points"] = np.round(numbers["points"])  # Equal cells.
    spec = NetworkSpec(
        NETWORK,
        (TensorSpec("image", (1, 3, *size)),),
        tuple(TensorSpec(n, (1, *s)) for n, s in shapes.items()),
    )
    made = from_plain(CropConfig, config.config)
    runtime = Told(spec, numbers, made.preprocess)
    pipeline = CropPipeline({NETWORK: runtime}, made)
    with np.errstate(all="ignore"):  # Of faces without a number.
        wanted = pipeline.detect(picture) if alone else pipeline.locate(picture, given)
    shown = Picture(picture, str(rng.choice(stream.FORMATS)), int(rng.choice([0, 5])))
    none = np.zeros(0, np.float32)
    arrays = tuple(numbers.get(n, none) for n in ("points", "p0", "p1", "p2", "who", "what"))
    return CropCase(crop_constants(spec, config), shown, given, arrays, alone), wanted, runtime


Made = list[tuple[CropCase, list[Face], Told]]


@functools.cache
def made_cases() -> Made:
    return [crop_case(seed) for seed in range(CASES)]


def near(have: Any, want: Any, off: float) -> bool:
    return np.shape(have) == np.shape(want) and np.allclose(have, want, rtol=0, atol=off, equal_nan=True)


def same_face(have: Face, want: Face) -> bool:
    """To a thousandth of a pixel and of a degree, but for points a million pixels away, and 1e-5 of all else."""
    turned, wanted = ([NAN if v is None else v for v in (f.yaw, f.pitch, f.roll)] for f in (have, want))
    far = max(1.0, float(np.nanmax(np.abs(want.landmarks or 0), initial=0.0)) / 1e6)
    largest = max(1.0, float(np.abs(want.embedding or 0).max()))
    return (
        near(have.box, want.box, 1e-6)
        and abs(have.score - want.score) < 1e-6
        and near(have.landmarks or (), want.landmarks or (), 1e-3 * far)
        and near(turned, wanted, 1e-3)
        and near(have.embedding or (), want.embedding or (), 1e-5 * largest)
        and list(have.classes or ()) == list(want.classes or ())
        and near(list((have.classes or {}).values()), list((want.classes or {}).values()), 1e-5)
    )


def same(have: Looked, want: list[Face]) -> bool:
    return have.status == stream.OK and len(have.faces) == len(want) and all(map(same_face, have.faces, want))


def wrong(driver: Driver, made: Made) -> list[int]:
    looked = driver.looked([case for case, _, _ in made])
    return [i for i, (have, (_, want, _)) in enumerate(zip(looked, made, strict=True)) if not same(have, want)]


def test_says_of_faces_what_python_says(driver: Driver) -> None:
    made = made_cases()
    assert wrong(driver, made) == []
    told = [face for _, want, _ in made for face in want]
    assert sum(f.embedding is not None for f in told) > 200
    assert sum(f.classes is not None for f in told) > 200
    assert sum(f.yaw is not None for f in told) > 200
    assert sum(bool(np.isnan(f.landmarks or 0).any()) for f in told) > 20


def test_sees_the_pixels_that_python_sees(driver: Driver) -> None:
    """A level of 255 apart at most, and nearly everywhere equal."""
    made = made_cases()
    differ = count = 0
    for have, (case, _, runtime) in zip(driver.looked([c for c, _, _ in made]), made, strict=True):
        level = np.array(case.constants.input.scale, np.float32)[:, None, None]
        off = np.abs(have.seen - np.stack(runtime.seen)) / level
        assert off.max() < 1.001
        differ += int((off > 0.5).sum())
        count += off.size
    assert differ < 1e-3 * count


# file, what is right, what is wrong
MUTANTS = {
    "shift": ("crop_geometry.hpp", "/ 2 + width * place.shift_x", "/ 2 - width * place.shift_x"),
    "centre": ("crop_geometry.hpp", "from.centred ? 0.5 : 0.0", "from.centred ? 0.0 : 0.0"),
    "turned": ("crop_geometry.hpp", "return {c, d, -(c", "return {c, -d, -(c"),
    "edge": ("crop_geometry.hpp", "right = std::min(std::max(right, left + 1), most_x)", "right = most_x"),
    "quarter": ("crop_decode.hpp", "after > before ? 0.25", "after > before ? 0.5"),
    "order": ("crop_decode.hpp", "if (config.order == Order::yx) std::swap(x, y);", ""),
    "bins": ("crop_decode.hpp", "static_cast<double>(count) / 2) * size", "static_cast<double>(count - 1) / 2) * size"),
    "columns": ("crop_decode.hpp", "return euler(x, cross(z, x), z);", "return euler(x, cross(x, z), z);"),
    "first": ("crop_decode.hpp", "output.data + config.first", "output.data"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_comparison_finds_what_is_wrong(name: str, driver: Driver, tmp_path: Path) -> None:
    path = stream.mutant(tmp_path, *MUTANTS[name], source=stream.CROP_DRIVER)
    made = made_cases()
    looked = Driver(path).looked([case for case, _, _ in made])
    off = [
        not same(have, want) or np.abs(have.seen - np.stack(runtime.seen)).max() > 3
        for have, (_, want, runtime) in zip(looked, made, strict=True)
    ]
    assert any(off)


# --- what should not come ---


def aligned_case() -> CropCase:
    return next(c for c, _, _ in made_cases() if c.constants.place.align != "none" and len(c.faces) > 1 and not c.alone)


def with_place(case: CropCase, **changes: Any) -> CropCase:
    return replace(case, constants=replace(case.constants, place=replace(case.constants.place, **changes)))


def with_points(case: CropCase, **changes: Any) -> CropCase:
    return replace(case, constants=replace(case.constants, points=replace(case.constants.points, **changes)))


def test_bad_calls_give_a_status(driver: Driver) -> None:
    """All in one process: after each of them, the next is answered."""
    good = next(c for c, _, _ in made_cases() if c.constants.points.size and not c.alone and len(c.faces) > 1)
    aligned = aligned_case()
    none = np.zeros((0, 0, 3), np.uint8)
    points, *rest = good.arrays
    cases = {
        "as it should be": (good, stream.OK),
        "no five points": (
            replace(aligned, faces=[replace(f, landmarks=None) for f in aligned.faces]),
            stream.BAD_FACES,
        ),
        "empty picture": (replace(good, picture=Picture(none)), stream.BAD_PICTURE),
        "no data": (replace(good, picture=replace(good.picture, empty=True)), stream.BAD_PICTURE),
        "NaN": (replace(good, arrays=(np.full_like(points, NAN), *rest)), stream.NOT_FINITE),
        "short": (replace(good, arrays=(points[:-1], *rest)), stream.WRONG_SIZE),
        "grow": (with_place(good, grow_x=NAN), stream.BAD_CONFIG),
        "shift": (with_place(good, shift_y=3.0), stream.BAD_CONFIG),
        "cut aligned": (with_place(aligned, edge="cut"), stream.BAD_CONFIG),
        "too many points": (with_points(good, count=1 << 20), stream.BAD_CONFIG),
        "negative first": (with_points(good, points_in="unit", first=-1), stream.BAD_CONFIG),
        "no maps": (with_points(good, points_in="heatmaps", rows=0), stream.BAD_CONFIG),
    }
    looked = driver.looked([case for case, _ in cases.values()])
    found = dict(zip(cases, (each.status for each in looked), strict=True))
    assert found == {name: status for name, (_, status) in cases.items()}


def test_compiles_with_clang_without_exceptions(tmp_path: Path) -> None:
    compiler = shutil.which("clang++")
    if compiler is None:
        pytest.skip("no clang++")
    flags = ("-O2", "-fno-exceptions", "-fno-rtti")
    path = stream.compile_driver(tmp_path / "crops", *flags, compiler=compiler, source=stream.CROP_DRIVER)
    assert wrong(Driver(path), made_cases()[:100]) == []
