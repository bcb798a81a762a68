"""Int8 moves the means of what layers give, and another bias takes that back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from facedeploy.calibration.bias_shifts import corrected, float_means, measure_shifts
from facedeploy.calibration.observed_graph import Graph
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.graph.index import tensor_of
from facedeploy.graph.passes.channel_equalization import equalize_channels
from facedeploy.graph.passes.correct_bias import correct_biases, correctable
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Range, Ranges, Scheme
from facedeploy.runtimes.base import Arrays, RuntimeOptions

Floats = NDArray[np.float32]
SCHEMES: tuple[Scheme, ...] = ("symmetric", "asymmetric")
SIZE = 24
SPEC = NetworkSpec("net", (TensorSpec("x", (1, 3, SIZE, SIZE)),), (TensorSpec("y", (1, 5)),))
LAYERS = {"a": (8, 3, 3, 3), "b": (8, 1, 3, 3), "c": (8, 8, 1, 1), "d": (6, 8), "e": (5, 6)}


def network(rng: np.random.Generator, *, shared: bool = False) -> onnx.ModelProto:
    """Conv, depthwise Conv, Conv without a bias, sum, mean, two Gemm, the last of which stays in float.

    shared: the third layer is there twice.
    """
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "a", "a.bias"], ["a.y"], pads=[1, 1, 1, 1]),
        make("Relu", ["a.y"], ["a.r"]),
        make("Conv", ["a.r", "b", "b.bias"], ["b.y"], group=8),
        make("Relu", ["b.y"], ["b.r"]),
        make("Conv", ["b.r", "c"], ["c.y"]),
        *([make("Relu", ["c.y"], ["c.r"]), make("Conv", ["c.r", "c"], ["c.z"])] if shared else []),
        make("Add", ["b.r", "c.z" if shared else "c.y"], ["sum"]),
        make("GlobalAveragePool", ["sum"], ["mean"]),
        make("Flatten", ["mean"], ["flat"]),
        make("Gemm", ["flat", "d", "d.bias"], ["d.y"], transB=1),
        make("Gemm", ["d.y", "e", "e.bias"], ["y"], transB=1),
    ]
    weights = [tensor_of(rng.normal(0, 0.4, shape).astype(np.float32), name) for name, shape in LAYERS.items()]
    for name, shape in LAYERS.items():
        if name != "c":
            weights.append(tensor_of(rng.normal(0, 0.2, shape[0]).astype(np.float32), f"{name}.bias"))
    value = helper.make_tensor_value_info
    ends = [value("x", 1, [1, 3, SIZE, SIZE])], [value("y", 1, [1, 5])]
    model = helper.make_model(
        helper.make_graph(nodes, "net", *ends, weights), opset_imports=[helper.make_opsetid("", 19)]
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def feeds(rng: np.random.Generator, count: int = 6) -> list[Arrays]:
    return [{"x": rng.uniform(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)} for _ in range(count)]


def means(model: onnx.ModelProto, shown: list[Arrays]) -> dict[str, NDArray[np.float64]]:
    """Of each channel of each layer's output, over all feeds."""
    layers = [node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    with Graph(SPEC, model, ()).open(RuntimeOptions(1), layers) as runtime:
        runs = [runtime.run(feed) for feed in shown]
    return {n: np.mean([np.moveaxis(r[n], 1, 0).reshape(r[n].shape[1], -1).mean(1) for r in runs], 0) for n in layers}


def ranges(model: onnx.ModelProto, shown: list[Arrays]) -> dict[str, Range]:
    """A fifth of what is seen is clipped, so that means move by more than rounding."""
    reads = {node.input[1]: node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    with Graph(SPEC, model, ()).open(RuntimeOptions(1), reads.values()) as runtime:
        runs = [{**feed, **runtime.run(feed)} for feed in shown]
    found = {}
    for name, tensor in reads.items():
        low, high = min(float(r[tensor].min()) for r in runs), max(float(r[tensor].max()) for r in runs)
        peak = 0.8 * max(-low, high)
        found[name] = Range(low, high, peak, max(-peak, min(low, 0.0)), min(peak, high))
    return found


def furthest(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_means_are_those_of_float_again(scheme: Scheme, shared: bool, rng: np.random.Generator) -> None:
    model = network(rng, shared=shared)
    shown = feeds(rng)
    chosen = ranges(model, shown)
    del chosen["e"]
    graph = Graph.of(model, SPEC)
    assert graph.own == set(LAYERS)
    want = means(model, shown)
    found = corrected(graph, chosen, shown, 1)
    before = means(insert_qdq(model, chosen, scheme), shown)
    after = means(insert_qdq(correct_biases(model, found, scheme), found, scheme), shown)
    assert furthest(before, want) > 0.02
    # The mean of two layers that share one weight cannot be right for both; nor what comes after them.
    some = [name for name in want if name in ("a.y", "b.y") or not shared]
    assert furthest({n: after[n] for n in some}, {n: want[n] for n in some}) < 1e-3
    assert furthest(after, want) < furthest(before, want)
    # The other scheme's correction is another one.
    other = SCHEMES[1 - SCHEMES.index(scheme)]
    wrong = means(insert_qdq(correct_biases(model, found, other), found, scheme), shown)
    assert furthest(wrong, want) > 1e-3


def test_corrections_hold_whichever_channels_are_divided(rng: np.random.Generator) -> None:
    """They are kept in the network's own units: a user who keeps a layer in float has its channels undivided."""
    model = network(rng)
    shown = feeds(rng)
    want = means(model, shown)
    graph = Graph.of(model, SPEC)
    divided = {"b": tuple(np.linspace(0.2, 3, 8).tolist())}
    alike = dataclasses.replace(graph, model=equalize_channels(model, divided), before=model, divided=divided)
    chosen = ranges(alike.model, shown)
    del chosen["e"]
    found = corrected(alike, chosen, shown, 1)
    assert np.abs(means(alike.quantised(found).model, shown)["y"] - want["y"]).max() < 3e-3
    wrong = insert_qdq(correct_biases(alike.model, found, "symmetric"), found, "symmetric")
    assert np.abs(means(wrong, shown)["y"] - want["y"]).max() > 0.01


def test_only_layers_that_are_int8_are_measured(rng: np.random.Generator) -> None:
    model, shown = network(rng), feeds(rng)
    chosen = ranges(model, shown)
    graph = Graph.of(model, SPEC)
    some = {name: chosen[name] for name in ("b", "d")}

    def measured(layers: Ranges, seen: list[Arrays]) -> set[str]:
        return set(measure_shifts(graph, layers, seen, float_means(graph, layers, seen), "symmetric"))

    assert measured(some, shown) == {"b", "d"}
    assert measured({}, shown) == set()
    assert measured(chosen, []) == set()
    lowered = dataclasses.replace(graph, own=frozenset("ab"))
    found = corrected(lowered, chosen, shown, 1)
    assert {name for name, values in found.items() if values.symmetric} == {"a", "b"}
    assert found == chosen  # What a layer reads is the same.


# --- the pass ---


def run(model: onnx.ModelProto, feed: Arrays) -> Floats:
    with Graph(SPEC, model, ()).open(RuntimeOptions(1)) as runtime:
        return runtime.run(feed)["y"]


def test_a_correction_is_added_to_the_bias(rng: np.random.Generator) -> None:
    model = network(rng)
    (feed,) = feeds(rng, 1)
    kept = model.SerializeToString()
    none: Ranges = {"a": Range(-1, 1, 1, -1, 1), "who": Range(-1, 1, 1, -1, 1, symmetric=(1.0,))}
    assert (
        correct_biases(model, none, "symmetric") is model
        or run(correct_biases(model, none, "symmetric"), feed) is not None
    )
    change = rng.normal(0, 1, 5)
    values = Range(-1, 1, 1, -1, 1, symmetric=tuple(change.tolist()))
    made = correct_biases(model, {"e": values}, "symmetric")
    np.testing.assert_allclose(run(made, feed), run(model, feed) + change, rtol=1e-5, atol=1e-5)
    assert model.SerializeToString() == kept
    assert "e.bias" not in {w.name for w in made.graph.initializer}
    np.testing.assert_array_equal(run(correct_biases(model, {"e": values}, "asymmetric"), feed), run(model, feed))
    # One without a bias gets one.
    change = rng.normal(0, 1, 8)
    made = correct_biases(model, {"c": Range(-1, 1, 1, -1, 1, symmetric=tuple(change.tolist()))}, "symmetric")
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    by = weights["e"] @ weights["d"] @ change
    np.testing.assert_allclose(run(made, feed), run(model, feed) + by, rtol=1e-4, atol=1e-4)


def test_layers_without_a_constant_bias_are_left_alone(rng: np.random.Generator) -> None:
    model = network(rng)
    gemm = model.graph.node[-1]
    assert "e" in correctable(model)
    gemm.attribute.append(helper.make_attribute("alpha", 2.0))
    assert "e" not in correctable(model)
    del gemm.attribute[-1]
    model.graph.node.insert(0, helper.make_node("Identity", ["e.bias"], ["moved"]))
    model.graph.node[-1].input[2] = "moved"
    assert set(correctable(model)) == {"a", "b", "c", "d"}
