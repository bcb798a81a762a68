"""Both layouts of MTCNN's checkpoints, each with its own cascade; facenet-pytorch's against one written out again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facedeploy import pipelines
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.boxes import iou_matrix
from facedeploy.core.errors import CheckpointError, InputError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.models import registry
from facedeploy.models.checkpoint import read_state_dict
from facedeploy.models.mtcnn_facenet import MTCNN_FACENET
from facedeploy.pipelines.load import load
from facedeploy.pipelines.mtcnn import MtcnnConfig, pyramid
from facedeploy.pipelines.resize import Area
from facedeploy.sources.published import load_reference
from facedeploy.verification.verify import verify
from tests.support import facenet_cascade as again
from tests.support import fill as filling
from tests.support import store
from tests.support.exported import exported
from tests.support.fill import fill, noise

MODEL = registry.get("mtcnn")
LAYOUTS = {m.architecture.rpartition(":")[2]: m for m in MODEL.layouts}
SIDES = {"pnet": (1, 3, 37, 50), "rnet": (3, 3, 24, 24), "onet": (3, 3, 48, 48)}
# Where drawn weights see faces everywhere: the edges of the picture too.
LOW: dict[str, Any] = {"thresholds": [0.4, 0.4, 0.4]}
PIXELS, SCORE = 0.01, 1e-5
WRONG: dict[str, dict[str, Any]] = {
    "conventions": {"conventions": "sysu"},
    "resize": {"preprocess": {"colours": "rgb", "mean": [127.5] * 3, "scale": 1 / 128}},
    "colours": {"preprocess": {"colours": "bgr", "mean": [127.5] * 3, "scale": 1 / 128, "resize": "area"}},
}
GetFolder = Callable[[str], Path]


def states(folder: Path) -> again.States:
    return {name: read_state_dict(file) for name, file in MODEL.find_weights(folder).items()}


@pytest.fixture(scope="session")
def drawn() -> GetFolder:
    """`drawn("MTCNN_FACENET")`: a folder of that layout with deterministic weights."""

    def get(layout: str) -> Path:
        def write(folder: Path) -> None:
            for name, module in LAYOUTS[layout].build().items():
                torch.save(fill(module.state_dict(), gain=1.0), folder / f"{name}.pt")

        return store.made_once("mtcnn-drawn", [store.exporter(), Path(filling.__file__), layout], write)

    return get


@pytest.fixture(scope="session")
def real(published: Path) -> GetFolder:
    """`real("MTCNN_FACENET")`: the weights published as the first layout, in a folder of that layout."""

    def get(layout: str) -> Path:
        def write(folder: Path) -> None:
            for name, state in again.from_sysu(states(published)).items():
                torch.save(state, folder / f"{name}.pt")

        key = [Path(again.__file__), published]
        return published if layout == "MTCNN" else store.made_once("mtcnn-facenet", key, write)

    return get


def difference(faces: list[Face], found: again.Found) -> tuple[float, float]:
    """Largest of boxes and landmarks in pixels, and of scores; infinite where the numbers of faces differ."""
    if len(faces) != len(found.scores):
        return np.inf, np.inf
    boxes = np.abs(np.array([f.box for f in faces]) - found.boxes).max()
    landmarks = np.abs(np.array([f.landmarks for f in faces]) - found.landmarks).max()
    return max(boxes, landmarks), float(np.abs(np.array([f.score for f in faces]) - found.scores).max())


def find(folder: Path, image: NDArray[np.uint8], **options: Any) -> list[Face]:
    with load_reference("mtcnn", folder, threads=1, options=options) as pipeline:
        return pipeline.detect(image)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["{}.pt", "{}_epoch_20.pth"])
def test_layout_is_found_by_its_keys_whatever_the_names(
    layout: str, name: str, drawn: GetFolder, tmp_path: Path
) -> None:
    for part, file in MODEL.find_weights(drawn(layout)).items():
        shutil.copy(file, tmp_path / name.format(part))
    assert MODEL.of(tmp_path) == LAYOUTS[layout]
    with load_reference("mtcnn", tmp_path, threads=1) as pipeline:
        config = pipelines.configure("mtcnn", {}, LAYOUTS[layout].options).config
        assert pipelines.to_plain(pipeline.config) == config  # type: ignore[attr-defined]


def test_networks_of_two_layouts_are_refused(drawn: GetFolder, tmp_path: Path) -> None:
    for part, layout in {"pnet": "MTCNN", "rnet": "MTCNN_FACENET", "onet": "MTCNN"}.items():
        shutil.copy(drawn(layout) / f"{part}.pt", tmp_path)
    with pytest.raises(CheckpointError, match="do not belong together") as error:
        load_reference("mtcnn", tmp_path)
    assert "Enderfga" in str(error.value)
    assert "timesler" in str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_weight_is_named_in_the_layout_of_the_rest(layout: str, drawn: GetFolder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(drawn(layout), tmp_path / "weights"))
    state = read_state_dict(folder / "rnet.pt")
    lost = next(iter(state))
    torch.save({k: v for k, v in state.items() if k != lost}, folder / "rnet.pt")
    with pytest.raises(CheckpointError, match=f"missing {lost}"):
        load_reference("mtcnn", folder)


@pytest.mark.parametrize("name", SIDES)
def test_networks_compute_what_the_published_ones_do_and_so_do_folded_ones(name: str, drawn: GetFolder) -> None:
    folder = drawn("MTCNN_FACENET")
    modules = LAYOUTS["MTCNN_FACENET"].load(folder)
    pixels = torch.from_numpy(noise(name, SIDES[name]) * 127.5 + 127.5).float()
    with torch.inference_mode():
        wanted = again.run(name, states(folder)[name], pixels)
        outputs = [[v.numpy() for v in m[name]((pixels - 127.5) / 128)] for m in (modules, MTCNN_FACENET.fold(modules))]
    if name == "onet":
        wanted[2] = np.stack([wanted[2][:, :5], wanted[2][:, 5:]], axis=2).reshape(-1, 10)
    for score, *rest in outputs:
        np.testing.assert_allclose(score[:, 0], wanted[0], atol=1e-6)
        for value, want in zip(rest, wanted[1:], strict=True):
            np.testing.assert_allclose(value, want, atol=2e-6)


@pytest.mark.parametrize(("size", "min_face"), [((60, 90), 20), ((37, 200), 20), ((100, 80), 24), ((40, 30), 12)])
def test_cascade_equals_the_published_one(size: tuple[int, int], min_face: int, drawn: GetFolder) -> None:
    folder = drawn("MTCNN_FACENET")
    image = group_photo(np.random.default_rng(size[0]), *size, 1)
    found = again.detect(states(folder), image, (0.4, 0.4, 0.4), min_face)
    assert len(found.scores) > 5
    pixels, score = difference(find(folder, image, min_face=min_face, **LOW), found)
    assert pixels < PIXELS
    assert score < SCORE


@pytest.mark.parametrize("wrong", WRONG)
def test_other_conventions_do_not_equal_it(wrong: str, drawn: GetFolder) -> None:
    folder = drawn("MTCNN_FACENET")
    image = group_photo(np.random.default_rng(60), 60, 90, 1)
    found = again.detect(states(folder), image, (0.4, 0.4, 0.4))
    assert max(difference(find(folder, image, **LOW, **WRONG[wrong]), found)) > PIXELS


@pytest.mark.parametrize("size", [(3, 5), (40, 37), (24, 24), (61, 7)])
def test_area_is_that_of_pytorch(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None]

    def wanted(part: torch.Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
        resized: NDArray[np.float32] = torch.nn.functional.interpolate(part, size=size, mode="area").numpy()
        return resized.transpose(0, 2, 3, 1)

    np.testing.assert_array_equal(Area(image).picture(*size), wanted(tensor, size))
    corners = np.array([[0, 0, 49, 36], [3, 5, 3, 5], [10, 2, 41, 6]])
    for crop, (x1, y1, x2, y2) in zip(Area(image).crops(corners, size[0]), corners, strict=True):
        part = tensor[:, :, y1 : y2 + 1, x1 : x2 + 1]
        np.testing.assert_array_equal(crop, wanted(part, (size[0], size[0]))[0])


def test_levels_are_a_pixel_longer_and_end_at_the_field_of_p() -> None:
    config = MtcnnConfig(min_face=20.0, conventions="facenet")
    assert [(v.height, v.width) for v in pyramid(20, 40, config)] == [(13, 25)]
    assert pyramid(19, 40, config) == []


@pytest.mark.parametrize("family", ["mos", "mogface", "landmarks106"])
def test_other_families_do_not_resize_by_area(family: str) -> None:
    with pytest.raises(InputError, match=f"{family} resizes pictures bilinear, not area"):
        pipelines.configure(family, {"preprocess": {"resize": "area"}})


@pytest.mark.parametrize("picture", ["samples/mtcnn_mid.png", "face_counting/test/10006.jpg"])
def test_cascade_with_real_weights_equals_the_published_one(picture: str, real: GetFolder, assets: Path) -> None:
    folder = real("MTCNN_FACENET")
    image = read_picture(assets / "images" / picture)
    pixels, score = difference(find(folder, image), again.detect(states(folder), image))
    assert pixels < PIXELS
    assert score < SCORE


@pytest.mark.parametrize("number", [10006, 10074, 10097, 10122])
def test_both_layouts_find_the_same_people(number: int, real: GetFolder, assets: Path) -> None:
    image = read_picture(assets / "images" / "face_counting" / "test" / f"{number}.jpg")
    first, second = (np.array([f.box for f in find(real(layout), image, min_face=20)]) for layout in LAYOUTS)
    assert len(first) == len(second) > 0
    assert iou_matrix(first, second).max(axis=1).min() > 0.6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "target",
    ["torch-fp32", *(pytest.param(t, marks=pytest.mark.slow) for t in ("onnx-fp32", "ncnn-fp16", "trt-fp16"))],
)
def test_artifacts_keep_the_layout_and_are_right(layout: str, target: str, real: GetFolder, crowd: Path) -> None:
    made = exported("mtcnn", target, real(layout))
    substitute: Any = {"runtime": "onnxruntime"} if target.startswith("trt") else {}
    found = verify(made, real(layout), [crowd], threads=1, **substitute)
    assert found.problems == ()
    assert found.faces is not None
    assert found.faces.matched > 0
    assert made.manifest.pipeline.config["conventions"] == LAYOUTS[layout].options.get("conventions", "sysu")


@pytest.mark.slow
def test_artifact_is_not_verified_with_the_other_layout(real: GetFolder) -> None:
    made = exported("mtcnn", "onnx-fp32", real("MTCNN_FACENET"))
    with pytest.raises(InputError):
        verify(made, real("MTCNN"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", ["openvino-int8", "ncnn-int8", "trt-int8"])
def test_int8_is_calibrated_on_what_the_cascade_sees(layout: str, target: str, real: GetFolder, assets: Path) -> None:
    options = Int8Options(assets / "images" / "face_counting" / "train", count=24, force=True)
    made = exported("mtcnn", target, real(layout), int8=options)
    image = read_picture(assets / "images" / "face_counting" / "test" / "10006.jpg")
    substitute: Any = {"runtime": "onnxruntime"} if target.startswith("trt") else {}
    with load(made, threads=1, options={"min_face": 20}, **substitute) as pipeline:
        assert len(pipeline.detect(image)) == 4
