"""A compile whose faces are wrong is refused, in every precision; what a right one costs is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import facedeploy
from facedeploy import runtimes
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.errors import ParityError
from facedeploy.core.face import Face
from facedeploy.core.synthetic_faces import scene
from facedeploy.export import check_faces, exporter, scenes
from facedeploy.export.scenes import Scene
from facedeploy.graph.index import tensor_of
from facedeploy.runtimes.base import Runtime, RuntimeOptions
from tests.support.exported import require
from tests.support.faults.graph_changes import move_output
from tests.support.faults.inject import compiled_wrong

SIZE = (240, 320)
STRIDE_8 = SIZE[0] * SIZE[1] // 64  # The first rows of the outputs, one a cell.
ROWS = STRIDE_8 * 21 // 16 + 5
TARGETS = ("openvino-fp32", "openvino-fp16", "openvino-int8", "ncnn-fp16", "trt-fp16", "trt-int8")


def plus(model: onnx.ModelProto, output: str, values: np.ndarray) -> None:
    """Add something to an output, where the graph has it: it may be a piece of the network."""
    if all(v.name != output for v in model.graph.output):
        return
    moved = move_output(model, output)
    model.graph.initializer.append(tensor_of(values.astype(np.float32), "fault"))
    model.graph.node.append(helper.make_node("Add", [moved, "fault"], [output]))


def boxes_of_stride_8(model: onnx.ModelProto) -> None:
    """Three pixels to the right and down."""
    plus(model, "boxes", np.concatenate([np.full((1, STRIDE_8, 4), 3.0), np.zeros((1, 380, 4))], axis=1))


def anchors(model: onnx.ModelProto) -> None:
    """Half a cell too far, on every level."""
    strides = np.repeat([8, 16, 32], [STRIDE_8, STRIDE_8 // 4, 80]).reshape(1, -1, 1)
    plus(model, "boxes", np.repeat(strides / 2, 4, axis=2))


def landmarks(model: onnx.ModelProto) -> None:
    """Three pixels to the right."""
    plus(model, "landmarks", np.tile([3.0, 0.0], 5).reshape(1, 1, 10))


def clipped(model: onnx.ModelProto) -> None:
    """Every ReLU ends at 1.5, as its values are small here."""
    model.graph.initializer.extend([tensor_of(np.float32(0), "low"), tensor_of(np.float32(1.5), "high")])
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.CopyFrom(helper.make_node("Clip", [node.input[0], "low", "high"], list(node.output), name=node.name))


GRAPH_FAULTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    f.__name__: f for f in (boxes_of_stride_8, anchors, landmarks, clipped)
}
# fault -> what the message names
WHERE = {"boxes_of_stride_8": "Concat", "anchors": "Concat", "landmarks": "Add", "clipped": "Relu"}
PIXEL_FAULTS: dict[str, dict[str, Any]] = {
    "colours": {"colours": "rgb"},
    "scale": {"scale": 1 / 255},
    "mean": {"mean": (0.0, 0.0, 0.0)},
}


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "against_fp32", lambda *_: 2.0)


def export(target: str, folder: Path) -> None:
    require(target)
    facedeploy.export("mos-tiny", target, output=folder / "out", input_size=SIZE)
    assert (folder / "out").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fault", GRAPH_FAULTS)
def test_a_graph_that_is_compiled_wrong_is_refused(fault: str, target: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> bool:
        GRAPH_FAULTS[fault](model)
        onnx.checker.check_model(model, full_check=True)
        return True

    where = rf"the first operator that is off is (detector's )?{WHERE[fault]} \(node"
    with compiled_wrong("detector", change), pytest.raises(ParityError, match=where):
        export(target, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fault", PIXEL_FAULTS)
def test_a_runtime_that_gets_the_wrong_pixels_is_refused(
    fault: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensors of the network are right: only what runs on pictures shows it."""
    right = runtimes.open_network

    def opened(model: Any, target: Any, entry: Any, folder: Any, options: RuntimeOptions, *rest: Any) -> Runtime:
        if options.preprocess is not None:  # The pose network looks at no pixels.
            wrong = dataclasses.replace(options.preprocess, **PIXEL_FAULTS[fault])
            options = dataclasses.replace(options, preprocess=wrong)
        return right(model, target, entry, folder, options, *rest)

    monkeypatch.setattr(check_faces, "open_network", opened)
    with pytest.raises(
        ParityError, match=r"of a picture and not of its tensor detector.* off .*; each operator is right by itself"
    ):
        export(target, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("target", TARGETS)
def test_a_right_compile_is_never_refused(
    target: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = scenes.draw
    monkeypatch.setattr(scenes, "draw", lambda size: draw(size, seed))
    export(target, tmp_path)


def test_a_runtime_with_a_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = scenes._look
    again = 2 + 2 * len(scenes.draw(SIZE)) + 1  # After what is seen for the tensors, the reference, and each once.
    calls: list[int] = []

    def look(pipeline: Any, each: Scene) -> list[Face]:
        calls.append(1)
        return right(pipeline, each)[: 2 if len(calls) == again else None]

    monkeypatch.setattr(scenes, "_look", look)
    with pytest.raises(ParityError, match="the same picture gives other faces the second time"):
        export("onnx-fp32", tmp_path)


def test_scenes_show_faces_of_all_sizes() -> None:
    rng = np.random.default_rng(0)
    found = [scene(rng, *size) for size in ((240, 320), (640, 640), (352, 224), (96, 128))]
    for image, faces in found:
        assert image.dtype == np.uint8
        sides = sorted(f.box[2] - f.box[0] for f in faces)
        assert sides[0] < max(15, min(image.shape[:2]) / 20)
        assert sides[-1] > 0.2 * min(image.shape[:2])
        assert all(f.landmarks is not None and len(f.landmarks) == 5 for f in faces)
    assert all(len(faces) >= 7 for _, faces in found[:3])
    first, second = (scene(np.random.default_rng(0), 240, 320)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_int8_without_pictures_is_judged_on_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("trt-int8")
    monkeypatch.setattr(check_faces, "judge", lambda *_: ("boxes are off by 9 % of their size",))
    with pytest.raises(ParityError, match=r"on drawn scenes boxes are off by 9 %.*int8 costs this network too much"):
        export("trt-int8", tmp_path)
    facedeploy.export("mos-tiny", "trt-int8", output=tmp_path / "f", input_size=SIZE, int8=Int8Options(force=True))
