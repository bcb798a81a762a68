"""What is rewritten for OpenVINO alone: the answers stay the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from facedeploy.graph.passes.flat_split import split_flat
from facedeploy.graph.passes.hoist_qdq import hoist_qdq
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Range

Floats = NDArray[np.float32]


def weight(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


def model(nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto], channels: int = 3) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1, channels, 8, 8])],
        [value("y", onnx.TensorProto.FLOAT, ["n", "c", "h", "w"])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(graph: onnx.ModelProto, x: Floats) -> Floats:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    answer: Floats = ort.InferenceSession(graph.SerializeToString(), options).run(None, {"x": x})[0]
    return answer


def two_layers(between: Sequence[onnx.NodeProto], channels: int, extra: Sequence[onnx.TensorProto] = ()) -> Any:
    """Conv a, what is between ("a" to "b"), Conv b; quantised with ranges that clip."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"]),
        *between,
        helper.make_node("Conv", ["b", "second"], ["y"]),
    ]
    weights = [weight(rng, "first", channels, 3, 1, 1), weight(rng, "second", 4, channels, 1, 1), *extra]
    ranges = {"first": Range(-3, 3, 2, -2, 2.5), "second": Range(0, 4, 3, 0, 3)}
    return insert_qdq(model(nodes, weights), ranges, "asymmetric")


def kinds(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node if node.op_type not in ("Conv", "DequantizeLinear")]


RELU = helper.make_node("Relu", ["a"], ["r"])
POOL = helper.make_node("MaxPool", ["r"], ["b"], kernel_shape=[2, 2], strides=[2, 2])


def test_rounding_moves_before_the_pooling_and_takes_the_relu_with_it() -> None:
    graph = two_layers([RELU, POOL], 16)
    moved = hoist_qdq(graph)
    assert kinds(graph) == ["QuantizeLinear", "Relu", "MaxPool", "QuantizeLinear"]
    assert kinds(moved) == ["QuantizeLinear", "QuantizeLinear", "MaxPool"]
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32) * 2
    assert np.array_equal(run(moved, x), run(graph, x))


def test_rounding_moves_before_every_pooling_of_a_chain() -> None:
    rng = np.random.default_rng(0)
    nodes = []
    for i in range(3):
        nodes += [
            helper.make_node("Conv", [f"x{i}" if i else "x", f"w{i}"], [f"c{i}"]),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"]),
            helper.make_node("MaxPool", [f"r{i}"], [f"x{i + 1}"], kernel_shape=[2, 2]),
        ]
    nodes.append(helper.make_node("Conv", ["x3", "w3"], ["y"]))
    weights = [weight(rng, f"w{i}", 16, 16 if i else 3, 1, 1) for i in range(4)]
    ranges = {w.name: Range(0, 4, 3, 0, 3) for w in weights}
    graph = insert_qdq(model(nodes, weights), ranges, "asymmetric")
    moved = hoist_qdq(graph)
    assert kinds(moved) == ["QuantizeLinear", *["QuantizeLinear", "MaxPool"] * 3]
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32) * 2
    assert np.array_equal(run(moved, x), run(graph, x))


def test_few_channels_are_pooled_in_float() -> None:
    graph = two_layers([RELU, POOL], 10)
    assert kinds(hoist_qdq(graph)) == kinds(graph)


@pytest.mark.parametrize(("top", "dropped"), [(6.0, True), (3.0, True), (2.0, False)])
def test_a_clip_goes_only_where_the_rounding_cuts_as_much(top: float, dropped: bool) -> None:
    bounds = [numpy_helper.from_array(np.array(v, np.float32), n) for v, n in ((0.0, "low"), (top, "high"))]
    graph = two_layers([helper.make_node("Clip", ["a", "low", "high"], ["b"])], 4, bounds)
    moved = hoist_qdq(graph)
    assert ("Clip" not in kinds(moved)) == dropped
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32) * 3
    assert np.array_equal(run(moved, x), run(graph, x))
    # The control: without the clip the answers would differ where the rounding cuts less.
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    assert np.array_equal(run(two_layers(nodes, 4), x), run(graph, x)) == dropped


def test_a_relu_that_something_else_reads_stays() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["c"]),
        helper.make_node("Mul", ["c", "r"], ["y"]),
    ]
    graph = insert_qdq(model(nodes, [weight(rng, "w", 3, 3, 1, 1)]), {"w": Range(0, 4, 3, 0, 3)}, "asymmetric")
    assert "Relu" in kinds(hoist_qdq(graph))


def test_a_split_of_channels_is_flat_and_gives_the_same_parts() -> None:
    sizes = numpy_helper.from_array(np.array([18, 9]), "sizes")
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["offset", "mask"], axis=1),
        helper.make_node("Concat", ["mask", "offset"], ["y"], axis=1),
    ]
    graph = model(nodes, [sizes], channels=27)
    flat = split_flat(graph)
    assert [n.op_type for n in flat.graph.node] == ["Reshape", "Split", "Reshape", "Reshape", "Concat"]
    x = np.random.default_rng(0).normal(size=(1, 27, 8, 8)).astype(np.float32)
    assert np.array_equal(run(flat, x), run(graph, x))


def test_a_split_of_rows_is_left_alone() -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = model(nodes, [])
    assert [n.op_type for n in split_flat(graph).graph.node] == ["Split", "Add"]
