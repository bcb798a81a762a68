"""Half precision in the graph: what changes type, what must not, and that the answers stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facedeploy.core.errors import ConversionError
from facedeploy.graph.passes.float16 import compute_float16, store_float16

Array = NDArray[Any]
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
IMAGE = ("image", FLOAT, ("batch", 3, 8, 12))


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """`inputs` and `outputs` are words; `-` is an input that is left out."""
    names = [n.replace("-", "") for n in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), name=f"{kind}_{outputs.split()[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[tuple[str, int, Sequence[int | str]]],
    weights: dict[str, Array],
    inputs: Sequence[tuple[str, int, Sequence[int | str]]] = (IMAGE,),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(*v) for v in inputs],
        [helper.make_tensor_value_info(*v) for v in outputs],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def types(made: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor, as shape inference finds it."""
    graph = onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    return found | {w.name: w.data_type for w in graph.initializer}


def kinds(made: onnx.ModelProto) -> dict[str, int]:
    """Type of the first output of each node that is no cast of this pass, by node name."""
    found = types(made)
    return {n.name: found[n.output[0]] for n in made.graph.node if not n.name.startswith("cast_")}


def run(made: onnx.ModelProto, **feeds: Array) -> dict[str, Array]:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    session = ort.InferenceSession(made.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((2, 3, 8, 12), np.float32)


def noise(name: str, *shape: int) -> Array:
    return np.random.default_rng(len(name)).uniform(-0.5, 0.5, shape).astype(np.float32)


def convolutions() -> onnx.ModelProto:
    """From image to map: first, PRelu, second."""
    weights = {
        "first.weight": noise("first.weight", 4, 3, 3, 3),
        "first.bias": noise("first.bias", 4),
        "slope": np.full((4, 1, 1), 0.3, np.float32),
        "second.weight": noise("second.weight", 2, 4, 1, 1),
    }
    nodes = [
        node("Conv", "image first.weight first.bias", "a", pads=[1, 1, 1, 1]),
        node("PRelu", "a slope", "b"),
        node("Conv", "b second.weight", "map"),
    ]
    return model(nodes, [("map", FLOAT, ("batch", 2, 8, 12))], weights)


def assert_close(made: onnx.ModelProto, original: onnx.ModelProto, *, exact: bool = False) -> None:
    want, have = run(original, image=picture()), run(made, image=picture())
    assert have.keys() == want.keys()
    for name, array in want.items():
        assert have[name].dtype == array.dtype
        if exact:
            np.testing.assert_array_equal(have[name], array)
        else:
            np.testing.assert_allclose(have[name], array, rtol=5e-3, atol=5e-3)


def interface(made: onnx.ModelProto) -> list[bytes]:
    return [v.SerializeToString() for v in (*made.graph.input, *made.graph.output)]


def test_computes_in_half_behind_a_float32_interface() -> None:
    original = convolutions()
    half = compute_float16(original)
    assert set(kinds(half).values()) == {HALF}
    assert interface(half) == interface(original)
    assert {w.data_type for w in half.graph.initializer} == {HALF}
    assert_close(half, original)
    difference = np.abs(run(half, image=picture())["map"] - run(original, image=picture())["map"]).max()
    assert difference > 0


def test_model_given_is_not_changed() -> None:
    original = convolutions()
    before = original.SerializeToString(deterministic=True)
    compute_float16(original)
    store_float16(original)
    assert original.SerializeToString(deterministic=True) == before


def test_kept_nodes_stay_float32() -> None:
    original = convolutions()
    half = compute_float16(original, ["first."])
    assert kinds(half) == {"Conv_a": FLOAT, "PRelu_b": HALF, "Conv_map": HALF}
    assert {w.name: w.data_type for w in half.graph.initializer} == {
        "first.weight": FLOAT,
        "first.bias": FLOAT,
        "slope_half": HALF,
        "second.weight_half": HALF,
    }
    assert_close(half, original)


def test_kept_last_node_needs_no_cast_behind_it() -> None:
    half = compute_float16(convolutions(), ["second."])
    assert kinds(half) == {"Conv_a": HALF, "PRelu_b": HALF, "Conv_map": FLOAT}
    assert [n.op_type for n in half.graph.node].count("Cast") == 2


def test_prefix_that_names_nothing_keeps_nothing() -> None:
    assert compute_float16(convolutions(), ["third."]) == compute_float16(convolutions())


def test_empty_prefix_keeps_everything() -> None:
    original = convolutions()
    half = compute_float16(original, [""])
    assert set(kinds(half).values()) == {FLOAT}
    assert "Cast" not in {n.op_type for n in half.graph.node}
    assert_close(half, original, exact=True)


def test_weight_of_a_kept_and_a_half_node() -> None:
    weights = {"shared": noise("shared", 3, 1, 1), "keep.me": noise("keep.me", 3, 1, 1)}
    nodes = [node("Mul", "image shared", "a"), node("Sum", "a shared keep.me", "b"), node("Mul", "b shared", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], weights)
    half = compute_float16(original, ["keep."])
    assert kinds(half) == {"Mul_a": HALF, "Sum_b": FLOAT, "Mul_map": FLOAT}
    assert {w.name: w.data_type for w in half.graph.initializer} == {
        "shared": FLOAT,
        "shared_half": HALF,
        "keep.me": FLOAT,
    }
    assert_close(half, original)


def test_step_between_kept_nodes_is_kept_and_one_that_reads_a_half_is_not() -> None:
    weights = {"one.w": noise("one.w", 3, 3, 1, 1), "two.w": noise("two.w", 3, 3, 1, 1)}
    nodes = [
        node("Conv", "image one.w", "a"),
        node("Relu", "a", "b"),
        node("Conv", "b two.w", "c"),
        node("Neg", "image", "d"),
        node("Add", "c d", "e"),
        node("Relu", "c", "map"),
    ]
    shape = ("batch", 3, 8, 12)
    original = model(nodes, [("map", FLOAT, shape), ("e", FLOAT, shape)], weights)
    half = compute_float16(original, ["one.", "two."])
    mixed = {"Neg_d": HALF, "Add_e": HALF}
    assert kinds(half) == {"Conv_a": FLOAT, "Relu_b": FLOAT, "Conv_c": FLOAT, "Relu_map": FLOAT} | mixed
    assert "Cast" not in {n.op_type for n in half.graph.node if n.output[0] in ("a", "b", "c", "map")}
    assert_close(half, original)


def test_tensor_is_cast_once_for_several_readers() -> None:
    nodes = [
        node("Relu", "image", "a"),
        node("Neg", "image", "b"),
        node("Abs", "image", "c"),
        node("Sum", "a b c", "map"),
    ]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], {})
    half = compute_float16(original)
    assert [n.op_type for n in half.graph.node].count("Cast") == 2
    assert_close(half, original)


def test_graph_input_as_a_branch() -> None:
    """The residual connection reads the input itself, in half and in a kept node."""
    weights = {"w": noise("w", 3, 3, 1, 1), "keep": noise("keep", 1)}
    nodes = [
        node("Conv", "image w", "a"),
        node("Add", "a image", "b"),
        node("Mul", "image keep", "c"),
        node("Add", "b c", "map"),
    ]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], weights)
    half = compute_float16(original, ["keep"])
    assert kinds(half) == {"Conv_a": HALF, "Add_b": HALF, "Mul_c": FLOAT, "Add_map": HALF}
    assert_close(half, original)


@pytest.mark.parametrize("keep", [[], ["tail"], ["head"], [""]], ids=str)
def test_output_that_is_read_again(keep: list[str]) -> None:
    weights = {"head": noise("head", 1), "tail": noise("tail_", 1)}
    nodes = [node("Mul", "image head", "first"), node("Mul", "first tail", "a"), node("Sigmoid", "a", "second")]
    shape = ("batch", 3, 8, 12)
    original = model(nodes, [("first", FLOAT, shape), ("second", FLOAT, shape)], weights)
    half = compute_float16(original, keep)
    assert interface(half) == interface(original)
    first_kept = next((i for i, w in enumerate(("head", "tail")) if w in keep or "" in keep), 3)
    names = ("Mul_first", "Mul_a", "Sigmoid_second")
    assert kinds(half) == {n: FLOAT if i >= first_kept else HALF for i, n in enumerate(names)}
    assert_close(half, original, exact="" in keep)


def test_constants_become_half() -> None:
    value = numpy_helper.from_array(noise("value", 3, 1, 1))
    nodes = [node("Constant", "", "c", value=value), node("Add", "image c", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], {})
    half = compute_float16(original)
    found = types(half)
    assert [found[name] for n in half.graph.node if n.op_type == "Add" for name in (*n.input, *n.output)] == [HALF] * 3
    assert_close(half, original)


@pytest.mark.parametrize("attribute", [{"value_float": 0.3}, {"value_floats": [0.3, 0.1]}], ids=str)
def test_constants_without_a_tensor(attribute: dict[str, Any]) -> None:
    nodes = [
        node("Constant", "", "c", **attribute),
        node("ReduceMax", "c", "d", keepdims=0),
        node("Add", "image d", "map"),
    ]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], {})
    half = compute_float16(original)
    assert kinds(half)["Add_map"] == HALF
    assert_close(half, original)


@pytest.mark.parametrize("value", [None, 0.25], ids=["default", "given"])
def test_constant_of_a_shape(value: float | None) -> None:
    """Without a value it is float32 zeros."""
    given = {} if value is None else {"value": helper.make_tensor("v", FLOAT, [1], [value])}
    nodes = [node("Shape", "image", "s"), node("ConstantOfShape", "s", "c", **given), node("Add", "image c", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], {})
    half = compute_float16(original)
    assert kinds(half)["Add_map"] == HALF
    assert_close(half, original)


def test_casts_of_the_model() -> None:
    """A cast to float32 becomes one to half; one to an integer, and what is an integer, stays."""
    nodes = [
        node("Shape", "image", "shape", start=3),
        node("Cast", "shape", "width", to=FLOAT),
        node("Div", "image width", "a"),
        node("Cast", "image", "whole", to=INT64),
        node("Cast", "whole", "b", to=FLOAT),
        node("Add", "a b", "map"),
    ]
    shape = ("batch", 3, 8, 12)
    original = model(nodes, [("map", FLOAT, shape), ("whole", INT64, shape)], {})
    half = compute_float16(original)
    found = types(half)
    assert [found[k] for k in ("shape", "whole")] == [INT64, INT64]
    assert kinds(half)["Cast_b"] == kinds(half)["Cast_width"] == kinds(half)["Add_map"] == HALF
    assert_close(half, original)


def test_casts_of_kept_models_stay() -> None:
    nodes = [node("Shape", "image", "s", start=3), node("Cast", "s", "w", to=FLOAT), node("Div", "image w", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], {})
    half = compute_float16(original, [""])
    assert set(kinds(half).values()) == {INT64, FLOAT}
    assert_close(half, original, exact=True)


@pytest.mark.parametrize("origin", ["weight", "constant", "computed"])
def test_scales_of_resize_stay_float32(origin: str) -> None:
    """The output is 13 wide; with the scale rounded to half it would be 12. Halves compute 1.5 without rounding."""
    scales = np.array([1, 1, 2, 1.5 if origin == "computed" else 13 / 12], np.float32)
    before = {
        "weight": [],
        "constant": [node("Constant", "", "used", value=numpy_helper.from_array(scales))],
        "computed": [node("Neg", "scales", "n"), node("Abs", "n", "used")],
    }[origin]
    resize = node("Resize", f"a - {'used' if before else 'scales'}", "map", mode="linear")
    shape = ("batch", 3, 16, int(12 * scales[3]))
    original = model([*before, node("Relu", "image", "a"), resize], [("map", FLOAT, shape)], {"scales": scales})
    half = compute_float16(original)
    found = types(half)
    inputs = next(n for n in half.graph.node if n.op_type == "Resize").input
    assert (found[inputs[0]], inputs[1], found[inputs[2]]) == (HALF, "", FLOAT)
    assert_close(half, original)


def test_integer_weights_are_left_alone() -> None:
    weights = {"shape": np.array([0, -1], np.int64), "w": noise("w", 288, 4)}
    nodes = [node("Reshape", "image shape", "a"), node("MatMul", "a w", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 4))], weights)
    half = compute_float16(original)
    assert {w.name: w.data_type for w in half.graph.initializer} == {"shape": INT64, "w_half": HALF}
    assert_close(half, original)


@pytest.mark.parametrize("keep", [[], ["keep"], [""]], ids=str)
def test_names_that_are_taken(keep: list[str]) -> None:
    """The pass names its own tensors; the model may have had the same idea."""
    nodes = [node("Relu", "image", "a"), node("Mul", "a keep", "a_half"), node("Add", "a a_half", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], {"keep": noise("keep", 1)})
    assert_close(compute_float16(original, keep), original)


def test_stored_names_that_are_taken() -> None:
    weights = {"w": noise("w", 3, 3, 1, 1), "w_half": noise("w_half", 3, 3, 1, 1)}
    nodes = [node("Conv", "image w", "a"), node("Conv", "a w_half", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], weights)
    assert_close(store_float16(original), original)


def overflowing(value: float) -> onnx.ModelProto:
    weights = {"fine": noise("fine", 3, 3, 1, 1), "huge.weight": np.full((3, 3, 1, 1), value, np.float32)}
    nodes = [node("Conv", "image fine", "a"), node("Conv", "a huge.weight", "map")]
    return model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], weights)


@pytest.mark.parametrize("rewrite", [compute_float16, store_float16])
@pytest.mark.parametrize("value", [1e6, -1e6, float("inf")])
def test_weight_too_large_for_half_is_named(rewrite: Any, value: float) -> None:
    with pytest.raises(ConversionError, match=r"huge\.weight holds .*fp32 target"):
        rewrite(overflowing(value))


@pytest.mark.parametrize("rewrite", [compute_float16, store_float16])
def test_weight_too_large_for_half_may_be_kept(rewrite: Any) -> None:
    original = overflowing(1e6)
    kept = {w.name: w.data_type for w in rewrite(original, ["huge."]).graph.initializer}
    assert kept == {"fine_half": HALF, "huge.weight": FLOAT}


def test_largest_half_is_not_too_large() -> None:
    assert {w.data_type for w in compute_float16(overflowing(65504.0)).graph.initializer} == {HALF}


def test_constant_too_large_for_half_is_refused() -> None:
    value = helper.make_tensor("v", FLOAT, [1], [1e6])
    nodes = [node("Constant", "", "c", value=value), node("Add", "image c", "map")]
    with pytest.raises(ConversionError, match="1e\\+06"):
        compute_float16(model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], {}))


def test_stores_in_half_and_computes_in_float32() -> None:
    original = convolutions()
    stored = store_float16(original)
    assert {k: v for k, v in kinds(stored).items() if v != FLOAT} == {}
    assert interface(stored) == interface(original)
    assert {w.name: w.data_type for w in stored.graph.initializer} == {
        "first.weight_half": HALF,
        "first.bias": FLOAT,
        "slope_half": HALF,
        "second.weight_half": HALF,
    }
    assert_close(stored, original)


def test_stored_weight_is_the_weight_rounded_to_half() -> None:
    """Rounding the weights by hand gives the same answers to the bit, so nothing else was touched."""
    rounded = convolutions()
    for weight in rounded.graph.initializer:
        if len(weight.dims) > 1:
            array = numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    assert_close(store_float16(convolutions()), rounded, exact=True)


def test_store_keeps_what_it_is_told_to() -> None:
    original = convolutions()
    stored = store_float16(original, ["first.", "slope"])
    assert [w.name for w in stored.graph.initializer if w.data_type == HALF] == ["second.weight_half"]
    assert_close(stored, original)
    assert store_float16(original, [""]) == original


def test_stored_weight_may_have_several_readers() -> None:
    weights = {"shared": noise("shared", 3, 3, 1, 1)}
    nodes = [node("Conv", "image shared", "a"), node("Conv", "a shared", "map")]
    original = model(nodes, [("map", FLOAT, ("batch", 3, 8, 12))], weights)
    stored = store_float16(original)
    assert [n.op_type for n in stored.graph.node].count("Cast") == 1
    assert_close(stored, original)
