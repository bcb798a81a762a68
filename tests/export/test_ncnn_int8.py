"""INT8 in ncnn: its answers against integers in NumPy, what is chained, and the table of ncnn2table.

ncnn computes acc * (1 / (input scale * weight scale)) + bias in float32, the product and the sum rounded once (fused)
or twice, which differs between its kernels; one of ARM divides instead. Every answer must be one of these, and where it
is requantised, one of these rounded to int8. Nothing else is allowed, but for one kernel of x86: depthwise in packs of
8 channels takes the reciprocal from RCPPS, which is off by up to 1.5 * 2^-12 (Intel's and AMD's manuals).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from facedeploy.core.errors import ConversionError, InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.ncnn import int8
from facedeploy.export.ncnn.convert import compile_network
from facedeploy.export.ncnn.find_layers import find_int8_layers
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import calibration_table as table
from facedeploy.formats.ncnn import param as graph
from facedeploy.formats.ncnn.layouts import INT8_TERM, INT8_TYPES
from facedeploy.formats.ncnn.param import NcnnLayer
from facedeploy.graph.from_torch import export_onnx
from facedeploy.graph.ranges import Range
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.ncnn import NcnnRuntime, ncnn_options

Floats = NDArray[np.float32]
Integers = NDArray[np.int8]
Model = tuple[tuple[NcnnLayer, ...], Mapping[str, weights.Arrays]]
Answers = dict[str, Floats]

RECIPROCAL = 1.5 * 2.0**-12
X86 = platform.machine() in ("x86_64", "AMD64")
INPUT = NcnnLayer("Input", "in0", (), ("x",))
RELU, LEAKY, CLIP = ("1", ""), ("2", "1,0.1"), ("3", "2,0,2.5")


# --- layers to test with ---


@dataclass(frozen=True)
class Conv:
    """A convolution from blob to blob, or with kernel 0 an inner product."""

    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = True
    activation: tuple[str, str] = ("", "")
    dilation: int = 1

    def make(self, rng: np.random.Generator, name: str, blobs: tuple[str, str]) -> tuple[NcnnLayer, weights.Arrays]:
        taps = max(self.kernel, 1) ** 2
        size = self.outputs * self.inputs // self.groups * taps
        if self.kernel:
            pad = self.dilation * (self.kernel // 2)
            kind = "Convolution" if self.groups == 1 else "ConvolutionDepthWise"
            params = {0: self.outputs, 1: self.kernel, 2: self.dilation, 3: self.stride, 4: pad, 5: int(self.bias)}
            params |= {6: size} if self.groups == 1 else {6: size, 7: self.groups}
        else:
            kind, params = "InnerProduct", {0: self.outputs, 1: int(self.bias), 2: size}
        words = [(key, str(value)) for key, value in params.items()]
        words += [(9, self.activation[0])] if self.activation[0] else []
        words += [(-23310, self.activation[1])] if self.activation[1] else []
        # Channels of very different size, of weights and biases.
        weight = rng.standard_normal((self.outputs, size // self.outputs)) * np.exp(
            rng.uniform(-4, 4, (self.outputs, 1))
        )
        bias = (rng.standard_normal(self.outputs) * 3).astype(np.float32)
        layer = NcnnLayer(kind, name, (blobs[0],), (blobs[1],), tuple(words))
        return layer, (weight.astype(np.float32).ravel(), *((bias,) if self.bias else ()))


def single(conv: Conv, threshold: float = 9.0, seed: int = 0) -> Model:
    layer, arrays = conv.make(np.random.default_rng(seed), "conv", ("x", "y"))
    return int8.to_int8((INPUT, layer), {"conv": arrays}, {"conv": threshold})


def image(channels: int, seed: int = 1, size: tuple[int, ...] = (11, 14)) -> Floats:
    """Values of which some are clipped at 9."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((channels, *size)) * 4).astype(np.float32)


def picture(conv: Conv) -> Floats:
    return image(conv.inputs) if conv.kernel else image(1, size=(1, conv.inputs))[0, 0]


def run(model: Model, x: Floats, folder: Path, blobs: Sequence[str] = ("y",), /, **options: bool) -> Answers:
    """The blobs as ncnn has them, with the options of our runtime but for `options`; int8 ones as their integers."""
    ncnn = pytest.importorskip("ncnn")
    layers, arrays = model
    (folder / "n.param").write_text(graph.render(layers))
    (folder / "n.bin").write_bytes(weights.write(layers, arrays))
    net = ncnn.Net()
    net.opt.num_threads = 1
    for name, value in {**ncnn_options("int8"), **options}.items():
        setattr(net.opt, name, value)
    assert net.load_param(str(folder / "n.param")) == 0
    assert net.load_model(str(folder / "n.bin")) == 0
    with net.create_extractor() as extractor:
        extractor.set_light_mode(False)
        assert extractor.input("x", ncnn.Mat(x).clone()) == 0
        answers = {blob: extractor.extract(blob) for blob in blobs}
        assert {status for status, _ in answers.values()} == {0}
        return {blob: np.array(mat, np.float32) for blob, (_, mat) in answers.items()}


# --- the same in NumPy ---


@dataclass(frozen=True)
class Bounds:
    """The lowest and highest answer that a layer may give."""

    low: Floats
    high: Floats

    def check(self, answer: Floats) -> None:
        assert answer.shape == self.low.shape
        wrong = ~((self.low <= answer) & (answer <= self.high))
        assert not wrong.any(), f"{wrong.mean():.2%} of the answers, such as {answer[wrong][:3]}"


def expect(
    layer: NcnnLayer, arrays: weights.Arrays, threshold: float, x: Floats | Integers, top: float | None = None
) -> Bounds:
    """What an int8 layer must give, from its float32 weights.

    x: what it reads, float32, or integers where it was requantised. top: threshold of its output if that is int8.
    """
    params = {key: float(value) for key, value in layer.params if key >= 0}
    weight, *bias = arrays
    rows = int(params[0])
    matrix = weight.reshape(rows, -1)
    largest = np.abs(matrix).max(axis=1)
    weight_scale = np.where(largest == 0, 1, np.float32(127) / np.where(largest == 0, 1, largest)).astype(np.float32)
    input_scale = np.float32(127 / threshold if threshold else 1)
    integers = half_away(matrix * weight_scale[:, None])
    read: Integers = x.astype(np.int8) if x.dtype == np.int8 else half_away(x * input_scale)
    total = accumulate(layer, params, integers, read)
    shape = (rows, *(1,) * (total.ndim - 1))
    steps = (input_scale * weight_scale).reshape(shape)
    inverse = np.float32(1) / steps
    shift = bias[0].reshape(shape) if bias else np.zeros(shape, np.float32)
    sums = total.astype(np.float32)
    forms = [sums * inverse + shift, (sums.astype(np.float64) * inverse + shift).astype(np.float32)]
    forms += [] if X86 else [sums / steps + shift]
    low, high = np.min(forms, axis=0), np.max(forms, axis=0)
    if X86 and layer.type == "ConvolutionDepthWise" and rows % 8 == 0:
        slack = np.abs(sums * inverse) * RECIPROCAL
        low, high = np.nextafter(low - slack, -np.inf), np.nextafter(high + slack, np.inf)
    low, high = (activate(layer, v) for v in (low, high))
    if top is None:
        return Bounds(low, high)
    low, high = (half_away(v * np.float32(127 / top)).astype(np.float32) for v in (low, high))
    return Bounds(low, high)


def half_away(values: Floats) -> Integers:
    rounded: Integers = np.clip(np.sign(values) * np.floor(np.abs(values.astype(np.float64)) + 0.5), -127, 127).astype(
        np.int8
    )
    return rounded


def accumulate(layer: NcnnLayer, params: Mapping[int, float], weight: Integers, x: Integers) -> NDArray[np.int64]:
    """The sums of products, in integers; float64 holds those exactly."""
    if layer.type == "InnerProduct":
        return weight.astype(np.int64) @ x.astype(np.int64).ravel()
    kernel, dilation, stride, pad = (int(params[key]) for key in (1, 2, 3, 4))
    kernels = torch.from_numpy(weight.astype(np.float64)).reshape(len(weight), -1, kernel, kernel)
    found = nn.functional.conv2d(
        torch.from_numpy(x.astype(np.float64))[None], kernels, None, stride, pad, dilation, int(params.get(7, 1))
    )
    return found[0].numpy().astype(np.int64)


def activate(layer: NcnnLayer, v: Floats) -> Floats:
    kind = dict(layer.params).get(9, "0")
    if kind == "0":
        return v
    values = [np.float32(n) for n in dict(layer.params).get(-23310, "0").split(",")[1:]]
    if kind == "2":
        return np.where(v > 0, v, v * values[0])
    low, high = values if kind == "3" else (np.float32(0), np.float32(np.inf))
    return np.clip(v, low, high)


# --- single layers ---

LAYERS = [
    *(Conv(i, o, 1) for i, o in [(3, 5), (7, 9), (16, 16), (12, 20), (64, 32), (24, 4)]),
    *(Conv(i, o) for i, o in [(3, 5), (16, 16), (12, 20), (5, 8), (40, 24)]),
    *(Conv(i, o, stride=2) for i, o in [(3, 16), (12, 20), (16, 7)]),
    *(Conv(c, c, groups=c) for c in [8, 12, 13, 16, 20, 24]),
    *(Conv(c, c, stride=2, groups=c) for c in [12, 16, 5]),
    *(Conv(i, o, 0) for i, o in [(10, 3), (32, 16), (100, 10), (17, 24)]),
    *(Conv(16, 16, dilation=2), Conv(13, 16, 5), Conv(16, 16, 5, groups=16), Conv(12, 12, dilation=2, groups=12)),
]


@pytest.mark.parametrize("conv", LAYERS, ids=str)
@pytest.mark.parametrize("activation", [("", ""), RELU, LEAKY, CLIP], ids=["linear", "relu", "leaky", "clip"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_answers_are_those_of_the_integers(conv: Conv, activation: tuple[str, str], bias: bool, tmp_path: Path) -> None:
    conv = replace(conv, activation=activation, bias=bias)
    layer, arrays = conv.make(np.random.default_rng(0), "conv", ("x", "y"))
    model = int8.to_int8((INPUT, layer), {"conv": arrays}, {"conv": 9.0})
    x = picture(conv)
    bounds = expect(layer, arrays, 9.0, x)
    bounds.check(run(model, x, tmp_path)["y"])
    if X86 and not bias and not (conv.groups > 1 and conv.outputs % 8 == 0):
        np.testing.assert_array_equal(bounds.low, bounds.high)  # Without a sum there is nothing to round.


@pytest.mark.parametrize("conv", [Conv(16, 16, groups=16, bias=False), Conv(24, 24, stride=2, groups=24, bias=False)])
def test_depthwise_packs_are_off_by_one_factor_a_channel(conv: Conv, tmp_path: Path) -> None:
    """All of the slack that they get is the reciprocal: the integers under it are exact."""
    layer, arrays = conv.make(np.random.default_rng(0), "conv", ("x", "y"))
    x = picture(conv)
    answer = run(int8.to_int8((INPUT, layer), {"conv": arrays}, {"conv": 9.0}), x, tmp_path)["y"].astype(np.float64)
    params = {key: float(value) for key, value in layer.params}
    matrix = arrays[0].reshape(conv.outputs, -1)
    scale = np.float32(127) / np.abs(matrix).max(axis=1, keepdims=True)
    sums = accumulate(layer, params, half_away(matrix * scale), half_away(x * np.float32(127 / 9)))
    factor = np.abs(answer).sum(axis=(1, 2)) / np.abs(sums).sum(axis=(1, 2))
    np.testing.assert_allclose(answer, sums * factor[:, None, None], rtol=2.0**-23)
    exact = 1 / (np.float32(127 / 9) * scale[:, 0].astype(np.float64))
    assert np.abs(factor / exact - 1).max() < RECIPROCAL


@pytest.mark.parametrize("conv", [Conv(16, 16), Conv(12, 12, groups=12), Conv(30, 20, 0)], ids=str)
def test_a_channel_of_zeros_leaves_its_bias(conv: Conv, tmp_path: Path) -> None:
    layer, (weight, bias) = conv.make(np.random.default_rng(0), "conv", ("x", "y"))
    weight = weight.reshape(conv.outputs, -1).copy()
    weight[3] = 0
    arrays = (weight.ravel(), bias)
    x = picture(conv)
    answer = run(int8.to_int8((INPUT, layer), {"conv": arrays}, {"conv": 9.0}), x, tmp_path)["y"]
    expect(layer, arrays, 9.0, x).check(answer)
    np.testing.assert_array_equal(answer[3], np.full(answer[3].shape, bias[3]))


def test_an_input_of_zeros_leaves_the_bias(tmp_path: Path) -> None:
    layer, arrays = Conv(8, 4).make(np.random.default_rng(0), "conv", ("x", "y"))
    answer = run(int8.to_int8((INPUT, layer), {"conv": arrays}, {"conv": 0.0}), image(8) * 0, tmp_path)["y"]
    np.testing.assert_array_equal(answer, np.broadcast_to(arrays[1][:, None, None], answer.shape))


@pytest.mark.parametrize("kernel", [1, 3])
def test_halves_are_rounded_away_from_zero(kernel: int, tmp_path: Path) -> None:
    """With a scale of 1 and an identity the answer is the rounded input."""
    weight = np.zeros((16, 16, kernel, kernel), np.float32)
    weight[range(16), range(16), kernel // 2, kernel // 2] = 127
    layer, _ = Conv(16, 16, kernel, bias=False).make(np.random.default_rng(0), "conv", ("x", "y"))
    x = np.resize(np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 200, -200], np.float32), (16, 9, 9))
    model = int8.to_int8((INPUT, layer), {"conv": (weight.ravel(),)}, {"conv": 127.0})
    answer = run(model, x, tmp_path)["y"]
    rounded = np.resize(np.array([1, 2, 3, -1, -2, -3, 127, 127, -127], np.float32), (16, 9, 9))
    np.testing.assert_array_equal(answer, rounded * 127)


# --- Winograd ---


def coherent() -> tuple[Model, Floats]:
    """Everything at its largest and of one sign."""
    layer, arrays = Conv(64, 64, bias=False).make(np.random.default_rng(0), "conv", ("x", "y"))
    ones = (np.ones_like(arrays[0]),)
    return int8.to_int8((INPUT, layer), {"conv": ones}, {"conv": 1.0}), np.ones((64, 12, 12), np.float32)


@pytest.mark.parametrize("options", [{}, {"use_winograd43_convolution": False}, {"use_packing_layout": False}])
def test_coherent_inputs_are_exact(options: dict[str, bool], tmp_path: Path) -> None:
    model, x = coherent()
    want = nn.functional.conv2d(torch.ones(1, 64, 12, 12), torch.ones(64, 64, 3, 3), padding=1)[0].numpy()
    np.testing.assert_array_equal(run(model, x, tmp_path, **options)["y"], want)


@pytest.mark.skipif(not X86, reason="ncnn takes no int8 Winograd on ARM with dot products")
def test_without_the_mask_winograd_overflows(tmp_path: Path) -> None:
    """Control: ncnn's default. Should this fail, ncnn has been mended and the mask can go."""
    (layers, arrays), x = coherent()
    bare = tuple(replace(v, params=tuple(p for p in v.params if p[0] != weights.FEATURE_MASK)) for v in layers)
    right = run((layers, arrays), x, tmp_path)["y"]
    assert (np.abs(run((bare, arrays), x, tmp_path)["y"] - right) > 1).all()
    np.testing.assert_array_equal(run((bare, arrays), x, tmp_path, use_winograd_convolution=False)["y"], right)


# --- chains ---


def chain(convs: Sequence[Conv], seed: int = 0) -> Model:
    """Float layers c0, c1, ... with the blobs x, b1, b2, ..., y between them."""
    rng = np.random.default_rng(seed)
    names = ["x", *(f"b{i}" for i in range(1, len(convs))), "y"]
    made = [conv.make(rng, f"c{i}", (names[i], names[i + 1])) for i, conv in enumerate(convs)]
    return (INPUT, *(layer for layer, _ in made)), {layer.name: arrays for layer, arrays in made}


def terms(layers: Sequence[NcnnLayer]) -> dict[str, str]:
    return {v.name: dict(v.params)[INT8_TERM] for v in layers if INT8_TERM in dict(v.params)}


CHAINS = [
    [Conv(3, 16, activation=RELU), Conv(16, 16)],
    [Conv(5, 12, activation=LEAKY), Conv(12, 7, 1, activation=CLIP), Conv(7, 9, stride=2)],
    [Conv(16, 24, 1, activation=RELU), Conv(24, 24, groups=24, activation=RELU), Conv(24, 8, 1)],
    [Conv(6, 13, 1, bias=False), Conv(13, 13, groups=13, activation=RELU), Conv(13, 16, 1)],
    [Conv(20, 20, groups=20, stride=2, activation=RELU), Conv(20, 20, groups=20), Conv(20, 40, 1)],
    [Conv(8, 16, 1, activation=CLIP), Conv(16, 16, 5, groups=16, activation=LEAKY), Conv(16, 5, 1)],
]


@pytest.mark.parametrize("convs", CHAINS, ids=range(len(CHAINS)))
def test_chains_are_exact_link_by_link(convs: list[Conv], tmp_path: Path) -> None:
    layers, arrays = chain(convs)
    x = image(convs[0].inputs)
    floats = run((layers, arrays), x, tmp_path, [v.outputs[0] for v in layers])
    thresholds = {v.name: float(np.abs(floats[v.inputs[0]]).max()) * 0.8 for v in layers[1:]}
    model = int8.to_int8(layers, arrays, thresholds)
    assert [term >= "100" and len(term) == 3 for term in terms(model[0]).values()] == [True] * (len(convs) - 1) + [
        False
    ]
    blobs = run(model, x, tmp_path, [v.outputs[0] for v in layers])
    for layer, after in zip(layers[1:], (*layers[2:], None), strict=True):
        read = x if layer.inputs[0] == "x" else blobs[layer.inputs[0]].astype(np.int8)
        top = None if after is None else thresholds[after.name]
        bounds = expect(layer, arrays[layer.name], thresholds[layer.name], read, top)
        bounds.check(blobs[layer.outputs[0]])
        if top is not None:
            assert np.abs(blobs[layer.outputs[0]]).max() == 127
            assert (bounds.low != bounds.high).mean() < 0.01  # Only at a tie is there a choice.


def test_only_int8_readers_of_one_scale_are_chained() -> None:
    rng = np.random.default_rng(0)
    first, a = Conv(4, 4).make(rng, "first", ("x", "b"))
    split = NcnnLayer("Split", "split", ("b",), ("b0", "b1"))
    left, b = Conv(4, 4, 1).make(rng, "left", ("b0", "y"))
    right, c = Conv(4, 4, 1).make(rng, "right", ("b1", "z"))
    arrays = {"first": a, "left": b, "right": c}
    layers = (INPUT, first, split, left, right)

    def made(inputs: Mapping[str, float], layers: Sequence[NcnnLayer] = layers) -> dict[str, str]:
        return terms(int8.to_int8(layers, arrays, inputs)[0])

    assert made({"first": 1, "left": 2, "right": 2}) == {"first": "102", "left": "2", "right": "2"}
    assert made({"first": 1, "left": 2, "right": 3}) == {"first": "2", "left": "2", "right": "2"}
    assert made({"first": 1, "left": 2}) == {"first": "2", "left": "2"}
    assert made({"left": 2, "right": 2}) == {"left": "2", "right": "2"}
    # An output of the network, here b1, is read by the caller.
    assert made({"first": 1, "left": 2}, layers[:4]) == {"first": "2", "left": "2"}
    pool = NcnnLayer("Pooling", "pool", ("b1",), ("z",), ((0, "0"), (1, "2")))
    assert made({"first": 1, "left": 2}, (*layers[:4], pool)) == {"first": "2", "left": "2"}
    fc = NcnnLayer("InnerProduct", "right", ("b1",), ("z",), ((0, "4"), (1, "1"), (2, "16")))
    assert made({"first": 1, "left": 2, "right": 2}, (*layers[:4], fc)) == {"first": "2", "left": "2", "right": "2"}


def test_a_split_carries_int8(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, a = Conv(8, 16, activation=RELU).make(rng, "first", ("x", "b"))
    split = NcnnLayer("Split", "split", ("b",), ("b0", "b1"))
    left, b = Conv(16, 8, 1).make(rng, "left", ("b0", "y"))
    right, c = Conv(16, 16, groups=16).make(rng, "right", ("b1", "z"))
    arrays = {"first": a, "left": b, "right": c}
    model = int8.to_int8((INPUT, first, split, left, right), arrays, {"first": 9.0, "left": 50.0, "right": 50.0})
    x = image(8)
    blobs = run(model, x, tmp_path, ["b", "y", "z"])
    expect(first, a, 9.0, x, 50.0).check(blobs["b"])
    between = blobs["b"].astype(np.int8)
    expect(left, b, 50.0, between).check(blobs["y"])
    expect(right, c, 50.0, between).check(blobs["z"])


# --- controls: wrong files ---


@pytest.mark.parametrize("which", ["weight", "bottom", "top", "one weight"])
def test_a_wrong_number_in_the_file_is_seen(which: str, tmp_path: Path) -> None:
    layers, arrays = chain([Conv(8, 16, activation=RELU), Conv(16, 16)])
    thresholds = {"c0": 9.0, "c1": 50.0}
    changed, made = int8.to_int8(layers, arrays, thresholds)
    integers, bias, steps, bottom, top = (a.copy() for a in made["c0"])
    if which == "one weight":
        integers[5] -= 1
    else:
        {"weight": steps, "bottom": bottom, "top": top}[which][-1:] *= np.float32(1.02)
    x = image(8)
    answer = run((changed, {**made, "c0": (integers, bias, steps, bottom, top)}), x, tmp_path, ["b1"])["b1"]
    bounds = expect(layers[1], arrays["c0"], 9.0, x, 50.0)
    bounds.check(run((changed, made), x, tmp_path, ["b1"])["b1"])
    with pytest.raises(AssertionError, match="of the answers"):
        bounds.check(answer)


# --- which layers ---


@pytest.mark.parametrize(
    ("layer", "able"),
    [
        (NcnnLayer("Convolution", "a", (), (), ((0, "4"),)), True),
        (NcnnLayer("Convolution", "a", (), (), ((0, "4"), (18, "0.0"))), True),
        (NcnnLayer("Convolution", "a", (), (), ((0, "4"), (18, "-1.5"))), False),
        (NcnnLayer("Convolution", "a", (), (), ((0, "4"), (19, "1"))), False),
        (NcnnLayer("ConvolutionDepthWise", "a", (), (), ((0, "4"), (1, "3"), (6, "36"), (7, "4"))), True),
        (NcnnLayer("ConvolutionDepthWise", "a", (), (), ((0, "4"), (1, "3"), (11, "1"), (6, "12"), (7, "4"))), True),
        (NcnnLayer("ConvolutionDepthWise", "a", (), (), ((0, "4"), (1, "3"), (6, "72"), (7, "2"))), False),
        (NcnnLayer("ConvolutionDepthWise", "a", (), (), ((0, "8"), (1, "3"), (6, "72"), (7, "4"))), False),
        (NcnnLayer("InnerProduct", "a", (), (), ((0, "4"),)), True),
        *(
            (NcnnLayer(kind, "a", (), ()), False)
            for kind in ["Deconvolution", "DeformableConv2D", "Gemm", "MatMul", "LSTM"]
        ),
    ],
)
def test_which_layers_have_an_int8_form(layer: NcnnLayer, able: bool) -> None:
    assert int8.has_int8_form(layer) is able


@pytest.mark.skipif(not X86, reason="seen on x86 with AVX")
def test_grouped_convolutions_are_wrong_in_ncnn(tmp_path: Path) -> None:
    """Why they stay float. Should this fail, ncnn has been mended."""
    conv = Conv(32, 32, groups=2, bias=False)
    layer, (weight,) = conv.make(np.random.default_rng(0), "conv", ("x", "y"))
    parts = [int8.quantize_weight(half, 1) for half in weight.reshape(2, -1)]
    ends = (np.concatenate([s for _, s in parts]), np.array([127 / 9], np.float32))
    arrays: dict[str, weights.Arrays] = {"conv": (np.concatenate([w for w, _ in parts]), *ends)}
    marked = replace(layer, params=(*layer.params, (8, "1"), (31, "64")))
    x = image(32)
    exact = run(((INPUT, layer), {"conv": (weight,)}), x, tmp_path, use_int8_inference=False)["y"]
    found = run(((INPUT, marked), arrays), x, tmp_path)["y"]
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.linalg.norm(found - exact) < np.linalg.norm(exact) / 2


@pytest.mark.parametrize(
    ("name", "threshold", "words"),
    [
        ("other", 1.0, "layer other cannot be int8: it is not in the graph"),
        ("up", 1.0, "layer up cannot be int8: it is a Deconvolution"),
        ("conv", -1.0, "cannot hold values up to -1.0"),
        ("conv", float("nan"), "cannot hold values up to nan"),
        ("conv", float("inf"), "cannot hold values up to inf"),
        ("conv", 1e300, r"cannot hold values up to 1e\+300"),
    ],
)
def test_what_cannot_be_int8_is_named(name: str, threshold: float, words: str) -> None:
    layer, arrays = Conv(4, 4).make(np.random.default_rng(0), "conv", ("x", "y"))
    up = replace(layer, type="Deconvolution", name="up")
    with pytest.raises(ConversionError, match=words):
        int8.to_int8((INPUT, layer, up), {"conv": arrays, "up": arrays}, {name: threshold})


@pytest.mark.parametrize("magnitude", [0.0, 1e-320, 1e-40, 1e-36, 1.0, 6e4, 1e38])
def test_every_scale_is_a_positive_number(magnitude: float) -> None:
    scale = int8.scale_of(magnitude)
    assert scale.dtype == np.float32
    assert 0 < scale < np.inf


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_weights_are_off_by_half_a_step_at_most(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((rows, columns)) * np.exp(rng.uniform(-30, 30, (rows, 1)))).astype(np.float32)
    integers, scales = int8.quantize_weight(weight, rows)
    assert integers.dtype == np.int8
    assert integers.shape == weight.shape
    np.testing.assert_array_equal(np.abs(integers).max(axis=1), 127)
    off = np.abs(integers / scales[:, None].astype(np.float64) - weight) * scales[:, None]
    assert off.max() <= 0.5 + 127 * 2.0**-23


# --- the file ---


@st.composite
def networks(draw: st.DrawFn) -> Model:
    """Int8 layers of all terms among float ones."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    layers: list[NcnnLayer] = []
    arrays: dict[str, weights.Arrays] = {}
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["Convolution", "ConvolutionDepthWise", "InnerProduct", "PReLU"]))
        name, count, outputs, bias = f"layer{i}", draw(st.integers(0, 9)), draw(st.integers(1, 5)), draw(st.booleans())
        if kind == "PReLU":
            layers.append(NcnnLayer(kind, name, (), (), ((0, str(outputs)),)))
            arrays[name] = (rng.random(outputs, np.float32),)
            continue
        depthwise = kind == "ConvolutionDepthWise"
        term = draw(st.sampled_from([0, 1, 101, 2, 102] if depthwise else [0, 2, 102]))
        size, has_bias = (2, 1) if kind == "InnerProduct" else (6, 5)
        groups = draw(st.integers(1, 5)) if depthwise else 1
        params = {0: outputs, has_bias: int(bias), size: count, 8: term, **({7: groups} if depthwise else {})}
        layers.append(NcnnLayer(kind, name, (), (), tuple((key, str(value)) for key, value in params.items())))
        rows = {1: groups, 2: 1}[term % 100] if depthwise and term else outputs
        ends = [] if not term else [rows, 1] if term < 100 or kind == "InnerProduct" else [rows, 1, 1]
        # ncnn itself quantises a float weight that stands before scales.
        kinds: list[Any] = [np.int8, np.float16, np.float32] if term else [np.float16, np.float32]
        weight = rng.integers(-127, 128, count).astype(draw(st.sampled_from(kinds)))
        arrays[name] = (weight, *(rng.random(n, np.float32) for n in [*([outputs] if bias else []), *ends]))
    return tuple(layers), arrays


@settings(deadline=None)
@given(networks())
def test_files_round_trip(model: Model) -> None:
    layers, arrays = model
    data = weights.write(layers, arrays)
    assert len(data) % 4 == 0
    again = weights.read(layers, data)
    assert again.keys() == arrays.keys()
    for name, group in arrays.items():
        assert [a.dtype for a in again[name]] == [a.dtype for a in group]
        assert all(map(np.array_equal, again[name], group))
    for cut in (1, 4):
        with pytest.raises(ConversionError):
            weights.read(layers, data[:-cut])


def test_bytes_of_the_format() -> None:
    params = ((0, "1"), (1, "1"), (5, "1"), (6, "3"), (8, "102"))
    layers = (NcnnLayer("Convolution", "c", (), (), params),)
    half = np.array([0.5], np.float32)
    arrays = {"c": (np.array([1, -2, 127], np.int8), half, half * 2, half * 4, half * 8)}
    assert weights.write(layers, arrays) == bytes.fromhex(
        "384b0d00 01fe7f00 0000003f 0000803f 00000040 00008040".replace(" ", "")
    )


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "InnerProduct"])
def test_int8_weights_need_their_scales(kind: str) -> None:
    size, term = (2, ()) if kind == "InnerProduct" else (6, ((8, "2"),) if kind == "Deconvolution" else ())
    layer = NcnnLayer(kind, "c", (), (), ((0, "1"), (size, "4"), *term))
    with pytest.raises(ConversionError, match="c has the unknown tag 0xd4b38"):
        weights.read((layer,), bytes.fromhex("384b0d00") + bytes(4))


def test_a_quantised_file_is_a_quarter(tmp_path: Path) -> None:
    layers, arrays = chain([Conv(32, 64), Conv(64, 64)])
    before, after = (
        len(weights.write(*m)) for m in ((layers, arrays), int8.to_int8(layers, arrays, {"c0": 1, "c1": 1}))
    )
    assert after / before < 0.27


# --- from end to end ---


class Small(nn.Module):
    """Convolution, ReLU, convolution, depthwise, convolution, sum, pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.second = nn.Conv2d(16, 16, 3, 1, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.grouped = nn.Conv2d(16, 16, 3, 1, 1, groups=2)
        self.third = nn.Conv2d(16, 16, 1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.first(x))
        y = self.third(torch.relu(self.depthwise(torch.relu(self.second(x)))))
        y = self.grouped(x + y)
        return self.fc(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)), self.up(torch.relu(y))


SPEC = NetworkSpec(
    "small",
    (TensorSpec("image", (1, 3, 32, 48)),),
    (TensorSpec("score", (1, 10)), TensorSpec("map", (1, 8, 32, 48))),
)
ALL = ("first.weight", "second.weight", "depthwise.weight", "grouped.weight", "third.weight", "up.weight", "fc.weight")
ABLE = tuple(n for n in ALL if n not in ("up.weight", "grouped.weight"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    torch.manual_seed(0)
    export_onnx(Small().eval(), SPEC, path)
    return path


@pytest.fixture(scope="module")
def feed() -> Floats:
    return np.random.default_rng(3).random((1, 3, 32, 48), np.float32)


@pytest.fixture(scope="module")
def ranges(small: Path, feed: Floats) -> dict[str, Range]:
    """What each layer reads in ONNX Runtime, by the layer's weight."""
    import onnx

    model = onnx.load(small)
    reads = {n.input[1]: n.input[0] for n in model.graph.node if len(n.input) > 1 and n.input[1] in ALL}
    assert set(reads) == set(ALL)
    have = {v.name for v in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in sorted({*reads.values()} - have))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [v.name for v in session.get_outputs()]
    blobs = {"image": feed, **dict(zip(names, session.run(names, {"image": feed}), strict=True))}
    return {name: _range(float(np.abs(blobs[blob]).max())) for name, blob in reads.items()}


def _range(threshold: float) -> Range:
    return Range(-threshold, threshold, threshold, -threshold, threshold)


def compiled(small: Path, folder: Path, ranges: Mapping[str, Range]) -> tuple[Compiled, tuple[NcnnLayer, ...]]:
    pytest.importorskip("pnnx")
    made = compile_network(Job(SPEC, small, "int8", folder, int8=ranges))
    return made, graph.parse((folder / made.files["param"]).read_text())


def answers(made: Compiled, folder: Path, feed: Floats, threads: int = 1) -> dict[str, Any]:
    files = [folder / made.files[kind] for kind in ("param", "bin")]
    with NcnnRuntime(files[0], files[1], "int8", SPEC, RuntimeOptions(threads)) as runtime:
        return runtime.run({"image": feed})


def test_network(small: Path, feed: Floats, ranges: dict[str, Range], tmp_path: Path) -> None:
    made, layers = compiled(small, tmp_path, ranges)
    assert made.int8 == tuple(n for n in ranges if n in ABLE)
    assert made.float32 == ()
    types = sorted((v.type, dict(v.params)[8]) for v in layers if v.type in INT8_TYPES and 8 in dict(v.params))
    assert types == [
        ("Convolution", "102"),  # second, which only the depthwise one reads
        ("Convolution", "2"),
        ("Convolution", "2"),
        ("ConvolutionDepthWise", "101"),
        ("InnerProduct", "2"),
    ]
    want = ort.InferenceSession(small, providers=["CPUExecutionProvider"]).run(["score", "map"], {"image": feed})
    for threads in (1, 2):
        have = answers(made, tmp_path, feed, threads)
        for name, reference in zip(("score", "map"), want, strict=True):
            assert 0 < np.linalg.norm(have[name] - reference) / np.linalg.norm(reference) < 0.01


def test_only_what_is_asked_is_int8(small: Path, ranges: dict[str, Range], tmp_path: Path) -> None:
    made, layers = compiled(small, tmp_path, {"third.weight": ranges["third.weight"]})
    assert made.int8 == ("third.weight",)
    assert list(terms(layers).values()) == ["2"]
    made, layers = compiled(small, tmp_path, {"up.weight": ranges["up.weight"]})
    assert made.int8 == ()
    assert terms(layers) == {}


@pytest.mark.parametrize("name", ABLE)
def test_a_wrong_range_is_seen(name: str, small: Path, feed: Floats, ranges: dict[str, Range], tmp_path: Path) -> None:
    """Control for the comparison with float."""
    made, _ = compiled(small, tmp_path, {**ranges, name: _range(ranges[name].threshold / 4)})
    want = ort.InferenceSession(small, providers=["CPUExecutionProvider"]).run(["score"], {"image": feed})[0]
    have = answers(made, tmp_path, feed)["score"]
    assert np.linalg.norm(have - want) / np.linalg.norm(want) > 0.01


def test_a_weight_that_is_not_there_is_named(small: Path, ranges: dict[str, Range], tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"small has no weight fourth\.weight"):
        compiled(small, tmp_path, {**ranges, "fourth.weight": _range(1.0)})


def test_a_weight_that_pnnx_changed_is_named(
    small: Path, ranges: dict[str, Range], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = weights.read

    def changed(layers: Sequence[NcnnLayer], data: bytes) -> dict[str, weights.Arrays]:
        return {name: (a[0] * np.float32(2), *a[1:]) for name, a in read(layers, data).items()}

    monkeypatch.setattr(weights, "read", changed)
    with pytest.raises(ConversionError, match=r"pnnx changed .*weight, which is to be int8"):
        compiled(small, tmp_path, {"first.weight": ranges["first.weight"]})


def matched(asked: Sequence[str], data: Mapping[str, Floats], layers: Mapping[str, tuple[str, Floats]]) -> object:
    """`layers`: name -> type and weight."""
    import onnx

    graph_ = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(a, n) for n, a in data.items()])
    made = [NcnnLayer(kind, name, (), (), ((0, "1"),)) for name, (kind, _) in layers.items()]
    arrays = {name: (weight.ravel(),) for name, (_, weight) in layers.items()}
    return find_int8_layers(SPEC.name, asked, onnx.helper.make_model(graph_), made, arrays)


def test_layers_are_found_by_their_weights() -> None:
    a, b = np.random.default_rng(0).random((2, 3, 4), np.float32)
    data = {"a.weight": a, "b.weight": b}
    conv, fc = "Convolution", "InnerProduct"
    assert matched(["a.weight"], data, {"one": (conv, a), "two": (conv, b)}) == {"one": {"a.weight"}}
    assert matched(["a.weight"], data, {"one": (conv, a), "two": (conv, a)}) == {
        "one": {"a.weight"},
        "two": {"a.weight"},
    }
    assert matched(["b.weight"], data, {"one": (fc, a), "two": (fc, b.T)}) == {"two": {"b.weight"}}
    assert matched(["a.weight"], data, {"one": ("Gemm", a.T)}) == {}
    with pytest.raises(ConversionError, match=r"pnnx changed b\.weight"):
        matched(["b.weight"], data, {"one": (conv, a), "two": (conv, b[::-1])})


def test_the_lowered_form_of_a_deformable_convolution_is_found() -> None:
    a = np.random.default_rng(0).random((3, 4, 3, 3), np.float32)
    data = {"a.weight.columns": a.reshape(3, -1, 1, 1)}
    assert matched(["a.weight"], data, {"one": ("Convolution", a)}) == {"one": {"a.weight"}}


def test_equal_weights_are_int8_together_or_not_at_all() -> None:
    a = np.random.default_rng(0).random((3, 4), np.float32)
    data, layers = {"a.weight": a, "b.weight": a}, {"one": ("Convolution", a), "two": ("Convolution", a)}
    both = {"a.weight", "b.weight"}
    assert matched(["a.weight", "b.weight"], data, layers) == {"one": both, "two": both}
    with pytest.raises(ConversionError, match=r"b\.weight is to stay float32 and equals a weight that is to be int8"):
        matched(["a.weight"], data, layers)


def test_options_name_what_an_app_must_set() -> None:
    assert ncnn_options("int8") == {**ncnn_options("fp32"), "use_int8_inference": True}
    assert {k for k, v in ncnn_options("fp16").items() if v != ncnn_options("fp32")[k]} == {
        "use_fp16_packed",
        "use_fp16_storage",
        "use_fp16_arithmetic",
    }


# --- ncnn2table's text ---

names = st.text("abcXYZ0189_./-", min_size=1, max_size=8).filter(lambda n: "_param_" not in n)
scales = st.floats(float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max), width=32)


@st.composite
def tables(draw: st.DrawFn) -> table.Scales:
    found = draw(st.dictionaries(names, st.lists(scales, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4))
    reading = draw(st.lists(st.sampled_from(sorted(found)), unique=True))
    return table.Scales({name: draw(scales) for name in reading}, found)


@settings(deadline=None)
@given(tables())
def test_tables_round_trip(scales: table.Scales) -> None:
    text = table.render(scales)
    assert table.parse(text) == scales
    assert table.render(table.parse(text)) == text


@settings(deadline=None)
@given(tables())
def test_thresholds_of_a_table_make_its_scales_again(scales: table.Scales) -> None:
    assert {n: float(int8.scale_of(t)) for n, t in scales.thresholds.items()} == scales.inputs


def test_reads_what_ncnn2table_writes(tmp_path: Path) -> None:
    file = tmp_path / "n.table"
    file.write_text("conv_0_param_0 156.639840 127.500000 \nfc_1_param_0 1.5 \r\nconv_0 51.200001 \nfc_1 0.5 \n\n")
    found = table.read(file)
    assert found.weights == {"conv_0": (float(np.float32(156.63984)), 127.5), "fc_1": (1.5,)}
    assert found.thresholds == {"conv_0": 127 / float(np.float32(51.200001)), "fc_1": 254}


def test_the_table_of_what_was_only_zeros() -> None:
    found = table.parse("a_param_0 1 inf\na inf\n")
    assert found == table.Scales({"a": np.inf}, {"a": (1, np.inf)})
    assert table.parse(table.render(found)) == found
    assert int8.scale_of(found.thresholds["a"]) == 1


def test_the_table_of_a_quantised_network_makes_it_again(tmp_path: Path) -> None:
    layers, arrays = chain([Conv(3, 16), Conv(16, 16, groups=16), Conv(16, 4, 1)])
    thresholds = {"c0": 1 / 3, "c1": 0.0, "c2": 7.7}
    made = int8.to_int8(layers, arrays, thresholds)
    text = table.render(table.scales_of(*made))
    assert [line.split()[0] for line in text.splitlines()] == [
        "c0_param_0",
        "c1_param_0",
        "c2_param_0",
        "c0",
        "c1",
        "c2",
    ]
    again = int8.to_int8(layers, arrays, table.parse(text).thresholds)
    assert again[0] == made[0]
    assert weights.write(*again) == weights.write(*made)


def wrong_tables() -> Iterator[tuple[str, str]]:
    yield "", "line 1: it is empty"
    yield "a_param_0 1\n\na 1\n", "line 2: it is empty"
    yield "a_param_0 1\na\n", "line 2: a has no scale"
    yield "a_param_0\n", "line 1: a_param_0 has no scale"
    yield "a_param_0 1\na 1 2\n", "line 2: a reads one tensor and has 2 scales"
    yield "a_param_0 1\na 1\na 1\n", "line 3: a is there a second time"
    yield "a_param_0 1\na_param_0 1\n", "line 2: a is there a second time"
    yield "a_param_1 1\n", "line 1: a_param_1 names no weight"
    yield "_param_0 1\n", "line 1: _param_0 names no weight"
    yield "a_param_b_param_0 1\n", "line 1: a_param_b_param_0 names no weight"
    yield "a 1\n", "has a scale for what a reads and none for its weight"
    yield "7767517\n3 3\n", "line 1: 7767517 has no scale"
    for word in ("0", "-1", "0.000000", "-inf", "nan", "1e39", "1e-46", "1_0", "0x10", "1,5", "\u0661", "one", "1f"):
        yield f"a_param_0 1 {word}\na 1\n", f"line 1: {word} is no scale"


@pytest.mark.parametrize(("text", "words"), list(wrong_tables()))
def test_text_that_is_no_table(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "n.table"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        table.read(file)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the table"):
        table.read(tmp_path / "none.table")
    with pytest.raises(InputError, match="cannot read the table"):
        table.read(tmp_path)
    (tmp_path / "n.bin").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="it is not text"):
        table.read(tmp_path / "n.bin")
