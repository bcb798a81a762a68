"""What ONNX's own tools stop at: said in words that they take, or refused in a sentence that names the operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from facedeploy.core.errors import ConversionError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.graph.complaints import complaint
from facedeploy.graph.from_torch import convert_onnx
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.custom_network import measured_spec
from tests.support.own_networks import node, weights, write

SHAPE = (1, 3, 10, 12)


def stored(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, Any], opset: int) -> Path:
    write(path, nodes, constants, {}, opset=opset, shape=SHAPE)
    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    onnx.save(model, path)
    return path


def converted(path: Path) -> tuple[float, onnx.ModelProto]:
    """How far the converted graph is from the file, and the graph."""
    draft = NetworkSpec("network", (TensorSpec("x", SHAPE),), (TensorSpec("y", ()),))
    feed = {"x": np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)}
    with OnnxRuntimeRuntime(path, draft, RuntimeOptions(1)) as reference:
        spec = measured_spec("network", draft.inputs[0], reference.run)
        want = reference.run(feed)["y"]
    made = path.with_name("made.onnx")
    convert_onnx(onnx.load(path), spec, made)
    with OnnxRuntimeRuntime(made, spec, RuntimeOptions(1)) as runtime:
        have = runtime.run(feed)["y"]
    return float(np.abs(have - want).max()), onnx.load(made)


def statistics(*shape: int) -> dict[str, Any]:
    """Scale, shift, mean, variance."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name in "gbmv"}


def normalised(source: str, **attributes: Any) -> onnx.NodeProto:
    return node("BatchNormalization", [source, *"gbmv"], ["y"], **attributes)


@pytest.mark.parametrize("spatial", [0, 1])
@pytest.mark.parametrize("opset", [7, 8])
def test_spatial_behind_a_fully_connected_layer(opset: int, spatial: int, tmp_path: Path) -> None:
    nodes = [
        node("Flatten", ["x"], ["f"]),
        node("Gemm", ["f", "w", "c"], ["q"], transB=1),
        normalised("q", spatial=spatial),
    ]
    constants = {"w": weights(7, 360), "c": weights(7, 1)[:, 0], **statistics(7)}
    off, model = converted(stored(tmp_path / "n.onnx", nodes, constants, opset))
    assert off < 1e-5
    assert "spatial" not in {a.name for n in model.graph.node for a in n.attribute}


def test_each_place_of_a_map(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["r"]), normalised("r", spatial=0)]
    off, _ = converted(stored(tmp_path / "n.onnx", nodes, statistics(*SHAPE[1:]), 8))
    assert off < 1e-5


@pytest.mark.parametrize(
    ("nodes", "constants", "opset"),
    [
        (
            [node("Conv", ["x", "w"], ["c"]), node("GroupNormalization", ["c", "g", "b"], ["y"], num_groups=3)],
            {"w": weights(6, 3, 1, 1), "g": weights(3, 1)[:, 0], "b": weights(3, 1)[:, 0] + 1},
            18,
        ),
        ([node("Transpose", ["x"], ["y"])], {}, 13),
        (
            [node("Flatten", ["x"], ["f"]), node("Transpose", ["f"], ["t"]), node("Gemm", ["t", "w"], ["y"], transA=1)],
            {"w": weights(360, 4)},
            13,
        ),
        ([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1)], {}, 13),
    ],
    ids=["groups of opset 18", "axes turned round", "turned twice", "size rounded up"],
)
def test_what_the_tools_stop_at(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], opset: int, tmp_path: Path
) -> None:
    off, _ = converted(stored(tmp_path / "n.onnx", nodes, constants, opset))
    assert off < 1e-4


def sentence(path: Path) -> str:
    spec = NetworkSpec("network", (TensorSpec("x", SHAPE),), (TensorSpec("y", SHAPE),))
    with pytest.raises(ConversionError) as caught:
        convert_onnx(onnx.load(path), spec, path.with_name("made.onnx"))
    text = str(caught.value)
    assert "Assert" not in text
    assert ".h:" not in text
    assert ".cc" not in text
    assert "\n" not in text
    return text


def test_an_operator_that_cannot_be_brought_here_is_named(tmp_path: Path) -> None:
    """Its statistics are computed, so that nothing can be said of their axes."""
    nodes = [
        node("ReduceMean", ["x"], ["g"], axes=[0, 2, 3], keepdims=0),
        node("BatchNormalization", ["x", *"gggg"], ["y"], spatial=0, name="odd"),
    ]
    text = sentence(stored(tmp_path / "n.onnx", nodes, {}, 8))
    assert text.startswith("BatchNormalization (node odd) of opset 8 cannot be brought to opset 20: export it")


def test_an_operator_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], name="wide")]
    assert "Conv (node wide)" in sentence(stored(tmp_path / "n.onnx", nodes, {"w": weights(4, 5, 3, 3)}, 13))


def test_an_opset_that_is_too_old(tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x"], ["y"], shape=[1, 3, 120])]
    assert sentence(stored(tmp_path / "n.onnx", nodes, {}, 4)).startswith("opset 4 is older than the tools know")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "/project/onnx/adapters/transformers.h:35: operator(): Assertion `node->i(attr) == value` failed: "
            "Attribute spatial must have value 1",
            "Attribute spatial must have value 1",
        ),
        (
            "[ShapeInferenceError] Inference error(s): (op_type:MaxPool, node name: p_1): "
            "[ShapeInferenceError] sizes differ",
            "MaxPool (node p_1): sizes differ",
        ),
        (
            "No Op registered for Swirl with domain_version of 13",
            "Swirl: No Op registered for Swirl with domain_version of 13",
        ),
        ("ir.h:291: find: Assertion `!required` failed", "find"),
        ("", "it stops with RuntimeError"),
    ],
)
def test_complaints(said: str, told: str) -> None:
    assert complaint(RuntimeError(said)) == told
