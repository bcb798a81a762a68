"""Q/DQ pairs in a graph and channels of like size, against NumPy: ONNX Runtime must compute what the integers say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from facedeploy.graph.passes.channel_equalization import choose_factors, equalize_channels, find_pairs
from facedeploy.graph.passes.insert_qdq import insert_qdq, quantize_weight, quantized, steps
from facedeploy.graph.ranges import Range, Scheme

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Shapes = Mapping[str, Sequence[int | None]]

SCHEMES: tuple[Scheme, ...] = ("symmetric", "asymmetric")
# Narrower than the values, so that both ends are clipped.
RANGE = Range(-4, 5, 2.5, -1.5, 2.75)
# Of an accumulation of a few hundred products in float32, over the largest answer.
ROUNDING = 2e-6


# --- graphs to test with ---


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def graph(nodes: Sequence[onnx.NodeProto], weights: Mapping[str, NDArray[Any]], inputs: Shapes, outputs: Shapes) -> Any:
    """A checked model. An output of four axes may be left open: ()."""

    def values(shapes: Shapes) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v) or [None] * 4) for k, v in shapes.items()]

    tensors = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    made = helper.make_graph(nodes, "test", values(inputs), values(outputs), tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def noise(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(model: onnx.ModelProto, **inputs: Floats) -> list[Floats]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Floats] = session.run(None, inputs)
    return outputs


def watching(model: onnx.ModelProto, *tensors: str) -> onnx.ModelProto:
    """A copy with more outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors)
    return watched


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}


def ops(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    return [n for n in model.graph.node if n.op_type in kinds]


def maker(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto | None:
    return next((n for n in model.graph.node if tensor in n.output), None)


# --- the same in NumPy ---


def fake(x: Floats | Doubles, scheme: Scheme, values: Range = RANGE) -> Doubles:
    """Values as 8 bits hold them: half to even, as ONNX has it."""
    x = x.astype(np.float64)
    if scheme == "symmetric":
        scale = np.float64(np.float32(values.threshold / 127))
        return np.asarray(np.clip(np.rint(x / scale), -128, 127) * scale, np.float64)
    scale = np.float64(np.float32((values.high - values.low) / 255))
    zero = np.rint(-values.low / scale)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale, np.float64)


def fake_weight(weight: Floats, axis: int) -> Doubles:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = (np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)).astype(np.float64)
    return np.asarray(np.rint(weight.astype(np.float64) / scale) * scale, np.float64)


def convolve(x: Doubles, weight: Doubles, bias: Floats, **options: int) -> Doubles:
    found = functional.conv2d(
        torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias.astype(np.float64)), **options
    )
    answer: Doubles = found.numpy()
    return answer


def close(have: Floats, want: Doubles) -> bool:
    return bool(np.abs(have - want).max() <= ROUNDING * np.abs(want).max())


CONVOLUTIONS = {
    "plain": ((8, 6, 3, 3), {"padding": 1}),
    "strided": ((8, 6, 3, 3), {"stride": 2, "padding": 1}),
    "dilated": ((8, 6, 3, 3), {"dilation": 2}),
    "grouped": ((8, 3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((6, 1, 5, 5), {"groups": 6, "padding": 2}),
    "pointwise": ((8, 6, 1, 1), {}),
}


def convolution(name: str) -> tuple[Any, Floats, Callable[[Scheme], Doubles]]:
    """A model of one convolution, its input, and the answer in int8."""
    shape, options = CONVOLUTIONS[name]
    # Output channels of very different size, so that one scale for all would not do.
    weight = noise(*shape, seed=1) * np.exp(np.linspace(-4, 4, shape[0], dtype=np.float32)).reshape(-1, 1, 1, 1)
    bias, x = noise(shape[0], seed=2), noise(1, 6, 9, 11, seed=3) * 2
    pad = options.get("padding", 0)
    attributes = {"pads": [pad] * 4, "group": options.get("groups", 1), "strides": [options.get("stride", 1)] * 2}
    dilations = [options.get("dilation", 1)] * 2
    nodes = [node("Conv", ["x", "w", "b"], "y", dilations=dilations, **attributes)]
    model = graph(nodes, {"w": weight, "b": bias}, {"x": x.shape}, {"y": ()})
    return model, x, lambda scheme: convolve(fake(x, scheme), fake_weight(weight, 0), bias, **options)


# --- Q/DQ against NumPy ---


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_computes_what_the_integers_say(name: str, scheme: Scheme) -> None:
    model, x, want = convolution(name)
    (have,) = run(insert_qdq(model, {"w": RANGE}, scheme), x=x)
    assert close(have, want(scheme))
    # The controls: neither float nor another scale is as close.
    (exact,) = run(model, x=x)
    assert not close(exact, want(scheme))
    wider = Range(-4, 5, 2.6, -1.6, 2.75)
    (other,) = run(insert_qdq(model, {"w": wider}, scheme), x=x)
    assert not close(other, want(scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_computes_what_the_integers_say(transposed: int, scheme: Scheme) -> None:
    weight = noise(10, 7, seed=1) * np.exp(np.linspace(-3, 3, 7, dtype=np.float32))
    x, bias = noise(4, 10, seed=2) * 2, noise(7, seed=3)
    stored = np.ascontiguousarray(weight.T) if transposed else weight
    nodes = [node("Gemm", ["x", "w", "b"], "y", transB=transposed)]
    model = graph(nodes, {"w": stored, "b": bias}, {"x": (4, 10)}, {"y": (4, 7)})
    (have,) = run(insert_qdq(model, {"w": RANGE}, scheme), x=x)
    want = fake(x, scheme) @ fake_weight(weight, 1) + bias
    assert close(have, want)
    assert not close((fake(x, scheme) @ fake_weight(weight, 0) + bias).astype(np.float32), want)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_product_of_matrices_computes_what_the_integers_say(scheme: Scheme) -> None:
    weight, x = noise(10, 7, seed=1) * np.exp(np.linspace(-3, 3, 7, dtype=np.float32)), noise(2, 5, 10, seed=2) * 2
    model = graph([node("MatMul", ["x", "w"], "y")], {"w": weight}, {"x": x.shape}, {"y": (2, 5, 7)})
    (have,) = run(insert_qdq(model, {"w": RANGE}, scheme), x=x)
    assert close(have, fake(x, scheme) @ fake_weight(weight, 1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_range_of_zero_divides_nothing_by_zero(scheme: Scheme) -> None:
    model, x, _ = convolution("plain")
    bias = constants(model)["b"]
    made = insert_qdq(model, {"w": Range(0, 0, 0, 0, 0)}, scheme)
    (have,) = run(made, x=np.zeros_like(x))
    np.testing.assert_allclose(have, np.broadcast_to(bias.reshape(1, -1, 1, 1), have.shape), rtol=1e-6)
    assert all(np.isfinite(v).all() and (v > 0).all() for k, v in constants(made).items() if k.endswith("_scale"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_channel_without_weights_stays_zero(scheme: Scheme) -> None:
    weight = noise(4, 3, 1, 1)
    weight[1] = 0
    weight[2] = 1e-44
    model = graph([node("Conv", ["x", "w"], "y")], {"w": weight}, {"x": (1, 3, 2, 2)}, {"y": ()})
    (have,) = run(insert_qdq(model, {"w": RANGE}, scheme), x=noise(1, 3, 2, 2, seed=1))
    assert np.isfinite(have).all()
    assert (have[0, 1:3] == 0).all()
    assert (have[0, [0, 3]] != 0).all()


def test_weights_are_rounded_to_the_nearest_and_use_both_ends() -> None:
    weight = noise(16, 8, 3, 3)
    stored, scale = quantize_weight(weight, 0)
    assert stored.dtype == np.int8
    peaks = np.abs(stored.astype(int)).reshape(16, -1).max(axis=1)
    assert (peaks == 127).all()
    off = np.abs(stored * scale.reshape(-1, 1, 1, 1) - weight)
    assert (off <= scale.reshape(-1, 1, 1, 1) * 0.50001).all()


# --- where the pairs stand ---


def residual() -> tuple[Any, dict[str, Floats]]:
    """relu(x) -> (conv a -> relu -> conv b) + relu(x) -> relu -> conv c, and conv d, which reads the same sum."""
    weights = {
        **{k: noise(4, 4, 3, 3, seed=i) for i, k in enumerate("abd")},
        "c": noise(3, 4, 1, 1, seed=7),
        **{f"{k}.bias": noise(4, seed=20 + i) for i, k in enumerate("abd")},
    }
    pads = {"pads": [1] * 4}
    nodes = [
        node("Relu", ["x"], "skip"),
        node("Conv", ["skip", "a", "a.bias"], "inner", **pads),
        node("Relu", ["inner"], "between"),
        node("Conv", ["between", "b", "b.bias"], "branch", **pads),
        node("Add", ["branch", "skip"], "sum"),
        node("Relu", ["sum"], "joined"),
        node("Conv", ["joined", "c"], "y"),
        node("Conv", ["joined", "d", "d.bias"], "z", **pads),
    ]
    return graph(nodes, weights, {"x": (1, 4, 8, 8)}, {"y": (), "z": ()}), weights


LAYERS = {"a": RANGE, "b": RANGE, "c": RANGE, "d": RANGE}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pairs_stand_where_layers_read_and_nowhere_else(scheme: Scheme) -> None:
    model, weights = residual()
    made = insert_qdq(model, LAYERS, scheme)
    # One pair a tensor, whoever reads it: the sum has two readers.
    assert [n.input[0] for n in ops(made, "QuantizeLinear")] == ["skip", "between", "joined"]
    for layer in ops(made, "Conv"):
        for name in layer.input[:2]:
            above = maker(made, name)
            assert above is not None
            assert above.op_type == "DequantizeLinear"
        # The bias is added to the sums of 32 bits, so that it stays as it is.
        for bias in layer.input[2:]:
            np.testing.assert_array_equal(constants(made)[bias], weights[bias])
    for value in made.graph.output:
        above = maker(made, value.name)
        assert above is not None
        assert above.op_type == "Conv"
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert quantized(made) == ("a", "b", "c", "d")
    assert not weights.keys() & {"a", "b", "c", "d"} & constants(made).keys()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_types_and_zero_points_are_those_of_the_scheme(scheme: Scheme) -> None:
    made = insert_qdq(residual()[0], LAYERS, scheme)
    values = constants(made)
    for pair in ops(made, "QuantizeLinear"):
        zero, scale = values[pair.input[2]], values[pair.input[1]]
        assert zero.dtype == (np.int8 if scheme == "symmetric" else np.uint8)
        assert zero.shape == scale.shape == ()  # One for the tensor.
        assert (int(zero) == 0) == (scheme == "symmetric")
    for weight in ops(made, "DequantizeLinear"):
        if weight.input[0] in values:
            stored, scale, zero = (values[n] for n in weight.input)
            assert stored.dtype == zero.dtype == np.int8
            assert (zero == 0).all()
            assert scale.shape == (len(stored),)
            assert next(a.i for a in weight.attribute if a.name == "axis") == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_residual_sum_takes_the_rounded_form_of_the_skip(scheme: Scheme) -> None:
    model, w = residual()
    made = insert_qdq(model, LAYERS, scheme)
    (total,) = ops(made, "Add")
    branch, skip = total.input
    assert branch == "branch"
    above = maker(made, skip)
    assert above is not None
    assert above.op_type == "DequantizeLinear"
    x = noise(1, 4, 8, 8, seed=9) * 2
    start = np.maximum(x, 0).astype(np.float64)
    y, z, branch_, sum_ = run(watching(made, "branch", "sum"), x=x)
    assert close(sum_, branch_ + fake(start, scheme))
    # The control: the sum with the skip as it was gives another answer.
    assert not close(sum_, branch_ + start)
    # Layer by layer, from what ONNX Runtime gave the one before: a value in the middle of two steps may go either way.
    joined = fake(np.maximum(sum_, 0), scheme)
    assert close(y, convolve(joined, fake_weight(w["c"], 0), np.zeros(3, np.float32)))
    assert close(z, convolve(joined, fake_weight(w["d"], 0), w["d.bias"], padding=1))


def test_a_sum_whose_branch_stays_float_is_left_alone() -> None:
    made = insert_qdq(residual()[0], {"a": RANGE}, "symmetric")
    (total,) = ops(made, "Add")
    assert list(total.input) == ["branch", "skip"]
    assert quantized(made) == ("a",)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_layers_share_a_weight(scheme: Scheme) -> None:
    weight = noise(4, 4, 1, 1)
    nodes = [node("Conv", ["x", "w"], "h"), node("Conv", ["h", "w"], "y")]
    model = graph(nodes, {"w": weight}, {"x": (1, 4, 5, 5)}, {"y": ()})
    made = insert_qdq(model, {"w": RANGE}, scheme)
    assert len([n for n in ops(made, "DequantizeLinear") if n.input[0] in constants(made)]) == 1
    assert quantized(made) == ("w",)
    x, rounded, none = noise(1, 4, 5, 5, seed=1), fake_weight(weight, 0), np.zeros(4, np.float32)
    want = convolve(fake(convolve(fake(x, scheme), rounded, none), scheme), rounded, none)
    assert close(run(made, x=x)[0], want)


def test_two_ranges_of_one_tensor_are_two_pairs() -> None:
    nodes = [node("Conv", ["x", "a"], "y"), node("Conv", ["x", "b"], "z")]
    weights = {"a": noise(2, 3, 1, 1), "b": noise(2, 3, 1, 1, seed=1)}
    model = graph(nodes, weights, {"x": (1, 3, 4, 4)}, {"y": (), "z": ()})
    other = Range(-1, 1, 1, -1, 1)
    x, none = noise(1, 3, 4, 4, seed=2), np.zeros(2, np.float32)
    y, z = run(insert_qdq(model, {"a": RANGE, "b": other}, "symmetric"), x=x)
    assert close(y, convolve(fake(x, "symmetric"), fake_weight(weights["a"], 0), none))
    assert close(z, convolve(fake(x, "symmetric", other), fake_weight(weights["b"], 0), none))


def test_layers_that_the_graph_does_not_have_are_left_alone() -> None:
    model, x, _ = convolution("plain")
    made = insert_qdq(model, {"other": RANGE}, "symmetric")
    assert [n.op_type for n in made.graph.node] == ["Conv"]
    np.testing.assert_array_equal(run(made, x=x)[0], run(model, x=x)[0])
    assert quantized(made) == ()


def test_a_constant_that_is_an_output_stays() -> None:
    weights = {"w": noise(2, 3, 1, 1), "anchors": np.arange(4, dtype=np.float32)}
    model = graph([node("Conv", ["x", "w"], "y")], weights, {"x": (1, 3, 4, 4)}, {"y": (1, 2, 4, 4), "anchors": (4,)})
    made = insert_qdq(model, {"w": RANGE}, "symmetric")
    np.testing.assert_array_equal(run(made, x=noise(1, 3, 4, 4))[1], weights["anchors"])


def test_the_model_given_is_not_changed() -> None:
    model, _ = residual()
    before = model.SerializeToString()
    insert_qdq(model, LAYERS, "asymmetric")
    assert model.SerializeToString() == before


def test_steps_keep_zero_and_both_ends() -> None:
    made = steps(RANGE, "asymmetric")
    ends = (np.array([0, 255]) - int(made.zero)) * np.float64(made.scale)
    # Zero takes a whole step, so that each end moves by half of one at most.
    assert np.abs(ends - (RANGE.low, RANGE.high)).max() <= made.scale * 0.501


# --- channels of like size ---


def chain(*between: str, flat: bool = False) -> tuple[Any, dict[str, Floats], Floats]:
    """Convolution a, 6 channels of very different size -> what is between -> conv b, or where flat gemm b."""
    sizes = np.exp(np.linspace(-3, 3, 6, dtype=np.float32))
    weights = {"a": noise(6, 3, 3, 3) * sizes.reshape(-1, 1, 1, 1), "a.bias": noise(6, seed=1) * sizes}
    nodes, name, side = [node("Conv", ["x", "a", "a.bias"], "t0")], "t0", 6
    for i, op in enumerate(between, 1):
        inputs = [name]
        attributes: dict[str, Any] = {}
        if op == "PRelu":
            weights["slope"] = np.linspace(0.1, 0.6, 6, dtype=np.float32).reshape(6, 1, 1)
            inputs.append("slope")
        elif op in ("MaxPool", "AveragePool"):
            attributes, side = {"kernel_shape": [2, 2], "strides": [2, 2]}, side // 2
        elif op == "Clip":
            weights |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
            inputs += ["low", "high"]
        elif op == "Add":
            weights["shift"] = np.ones((1, 6, 1, 1), np.float32)
            inputs.append("shift")
        nodes.append(node(op, inputs, f"t{i}", **attributes))
        name = f"t{i}"
    if flat:
        nodes += [node("Flatten", [name], "flat"), node("Gemm", ["flat", "b"], "y", transB=1)]
        weights["b"] = noise(5, 6 * side * side, seed=2)
    else:
        nodes.append(node("Conv", [name, "b"], "y"))
        weights["b"] = noise(4, 6, 1, 1, seed=2)
    outputs = {"y": (1, 5) if flat else ()}
    return graph(nodes, weights, {"x": (1, 3, 8, 8)}, outputs), weights, noise(1, 3, 8, 8, seed=5)


def peaks(model: onnx.ModelProto, tensor: str, x: Floats) -> Floats:
    """The largest magnitude of each channel."""
    values = run(watching(model, tensor), x=x)[-1]
    found: Floats = np.abs(np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)).max(axis=1)
    return found


HOMOGENEOUS = {
    "nothing": ((), False),
    "Relu": (("Relu",), False),
    "LeakyRelu": (("LeakyRelu",), False),
    "PRelu and MaxPool": (("PRelu", "MaxPool"), False),
    "AveragePool": (("Relu", "AveragePool"), False),
    "Flatten": (("PRelu", "MaxPool"), True),
}


@pytest.mark.parametrize("case", HOMOGENEOUS)
def test_equalised_channels_give_the_same_answers(case: str) -> None:
    between, flat = HOMOGENEOUS[case]
    model, weights, x = chain(*between, flat=flat)
    read = "flat" if flat else f"t{len(between)}"
    factors = choose_factors(model, {"b": peaks(model, read, x)})
    assert list(factors) == ["b"]
    assert factors["b"].shape == (6,)
    assert factors["b"].max() > 3 * factors["b"].min()
    made = equalize_channels(model, factors)
    want, have = run(model, x=x)[0], run(made, x=x)[0]
    # float32's own rounding, over a few hundred products.
    assert np.abs(have - want).max() <= 1e-5 * np.abs(want).max()
    # The channels are nearer to each other now, and that is in the weights of both layers.
    before, after = (p[p > 0] for p in (peaks(model, f"t{len(between)}", x), peaks(made, f"t{len(between)}", x)))
    assert after.max() / np.median(after) < before.max() / np.median(before)
    assert not np.array_equal(constants(made)["a"], weights["a"])
    assert not np.array_equal(constants(made)["b"], weights["b"])


def test_channels_of_a_depthwise_convolution_are_equalised_on_both_sides() -> None:
    sizes = np.exp(np.linspace(-3, 3, 6, dtype=np.float32)).reshape(-1, 1, 1, 1)
    weights = {"a": noise(6, 3, 3, 3) * sizes, "d": noise(6, 1, 3, 3, seed=1) * sizes, "b": noise(4, 6, 1, 1, seed=2)}
    nodes = [node("Conv", ["x", "a"], "t0"), node("Relu", ["t0"], "t1"), node("Conv", ["t1", "d"], "t2", group=6)]
    nodes += [node("Relu", ["t2"], "t3"), node("Conv", ["t3", "b"], "y")]
    model = graph(nodes, weights, {"x": (1, 3, 8, 8)}, {"y": ()})
    x = noise(1, 3, 8, 8, seed=5)
    factors = choose_factors(model, {"d": peaks(model, "t1", x), "b": peaks(model, "t3", x)})
    assert set(factors) == {"d", "b"}
    made = equalize_channels(model, factors)
    want, have = run(model, x=x)[0], run(made, x=x)[0]
    assert np.abs(have - want).max() <= 1e-5 * np.abs(want).max()
    assert all(not np.array_equal(constants(made)[k], weights[k]) for k in "adb")


@pytest.mark.parametrize("between", [("Clip",), ("Sigmoid",), ("Add",), ("Relu", "Sigmoid")], ids="-".join)
def test_what_minds_a_scale_is_not_stepped_over(between: tuple[str, ...]) -> None:
    model, _, x = chain(*between)
    assert find_pairs(model) == {}
    assert choose_factors(model, {"b": peaks(model, f"t{len(between)}", x)}) == {}
    np.testing.assert_array_equal(
        run(equalize_channels(model, {"b": np.full(6, 2, np.float32)}), x=x)[0], run(model, x=x)[0]
    )


def test_stepping_over_it_would_change_the_answers() -> None:
    """The control: through a Clip the same factors are no longer the same network."""
    model, weights, x = chain("Clip")
    factors = np.array([0.1, 0.3, 1, 1, 3, 10], np.float32)
    scaled = {"a": weights["a"] / factors.reshape(-1, 1, 1, 1), "a.bias": weights["a.bias"] / factors}
    scaled["b"] = weights["b"] * factors.reshape(1, -1, 1, 1)
    wrong = graph(model.graph.node, {**weights, **scaled}, {"x": (1, 3, 8, 8)}, {"y": ()})
    assert np.abs(run(wrong, x=x)[0] - run(model, x=x)[0]).max() > 0.1


@pytest.mark.parametrize(("shape", "stays"), [((1, 24), True), ((-1, 24), True), ((4, 6), False), ((8, 3), False)])
def test_a_reshape_that_mixes_channels_is_not_stepped_over(shape: tuple[int, int], stays: bool) -> None:
    weights = {"a": noise(6, 3, 1, 1), "b": noise(5, shape[1])}
    nodes = [
        node("Conv", ["x", "a"], "h"),
        node("Reshape", ["h", "shape"], "f"),
        node("Gemm", ["f", "b"], "y", transB=1),
    ]
    constant = {"shape": np.array(shape, np.int64)}
    model = graph(nodes, {**weights, **constant}, {"x": (1, 3, 2, 2)}, {"y": (None, 5)})
    assert set(find_pairs(model)) == ({"b"} if stays else set())
    if stays:
        x = noise(1, 3, 2, 2, seed=4)
        factors = np.array([0.1, 0.5, 1, 1, 2, 10], np.float32)
        np.testing.assert_allclose(run(equalize_channels(model, {"b": factors}), x=x)[0], run(model, x=x)[0], rtol=1e-4)


@pytest.mark.parametrize("readers", ["a layer", "an output"])
def test_a_tensor_with_two_readers_is_left_alone(readers: str) -> None:
    weights = {"a": noise(4, 3, 1, 1), "b": noise(2, 4, 1, 1), "c": noise(2, 4, 1, 1)}
    nodes = [node("Conv", ["x", "a"], "h"), node("Relu", ["h"], "r"), node("Conv", ["r", "b"], "y")]
    outputs: dict[str, Sequence[int | None]] = {"y": ()}
    if readers == "a layer":
        nodes.append(node("Conv", ["r", "c"], "z"))
        outputs["z"] = ()
    else:
        outputs["h"] = ()
        del weights["c"]
    assert find_pairs(graph(nodes, weights, {"x": (1, 3, 4, 4)}, outputs)) == {}


def test_a_weight_that_two_layers_share_is_left_alone() -> None:
    nodes = [node("Conv", ["x", "w"], "h"), node("Conv", ["h", "w"], "y")]
    assert find_pairs(graph(nodes, {"w": noise(4, 4, 1, 1)}, {"x": (1, 4, 4, 4)}, {"y": ()})) == {}


def test_factors_have_a_geometric_mean_of_one() -> None:
    model, _, x = chain("Relu")
    factors = choose_factors(model, {"b": peaks(model, "t1", x)})["b"].astype(np.float64)
    assert np.exp(np.log(factors).mean()) == pytest.approx(1, rel=1e-5)


def test_channels_of_like_size_are_left_alone() -> None:
    model, _, _ = chain("Relu")
    assert choose_factors(model, {"b": np.array([1, 1.2, 0.9, 2, 1.5, 1], np.float32)}) == {}


def test_a_channel_that_never_fires_keeps_its_size() -> None:
    model, _, x = chain("Relu")
    seen = peaks(model, "t1", x)
    seen[2] = 0
    factors = choose_factors(model, {"b": seen})["b"]
    assert np.isfinite(factors).all()
    assert (factors > 0).all()
    assert factors[2] == 1
    assert np.exp(np.log(np.delete(factors, 2)).mean()) == pytest.approx(1, rel=1e-5)
    assert choose_factors(model, {"b": np.zeros(6, np.float32)}) == {}


def test_factors_stay_where_float32_is_exact() -> None:
    model, _, _ = chain("Relu")
    factors = choose_factors(model, {"b": np.array([1e-20, 1e-10, 1, 1, 1e10, 1e20], np.float32)})["b"]
    assert factors.max() <= 64.01
    assert factors.min() >= 1 / 64.01
