"""The arrays of each layer in the bin, held against ncnn itself: it must read on exactly where the layer ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.core.errors import ConversionError
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph
from facedeploy.formats.ncnn.layouts import WITH_WEIGHTS, blocks
from facedeploy.formats.ncnn.param import NcnnLayer

ncnn = pytest.importorskip("ncnn")

Parameters = dict[int, int]
SENTINEL = np.array([1.25, -2.5, 3.75], np.float32)
# Of a net that has all of them set to 1 these would take the weights away again.
DYNAMIC = (19, 28)
CONVOLUTIONS = ("Convolution", "Deconvolution")


@st.composite
def convolutions(draw: st.DrawFn, sides: int = 2, depthwise: bool = False, int8: bool = False) -> Parameters:
    kernel, group = draw(st.integers(1, 3)), draw(st.integers(1, 4)) if depthwise else 1
    inputs, outputs = (group * draw(st.integers(1, 3)) for _ in range(2))
    if depthwise:  # One input and one output a group: all of ncnn's kernels take this one.
        inputs = outputs = group
    found = {0: outputs, 1: kernel, 5: draw(st.integers(0, 1)), 6: outputs * inputs // group * kernel**sides}
    if depthwise:
        found[7] = group
    if int8:
        terms = ([0, 1, 2, 101, 102] if depthwise else [0, 2, 102]) if sides == 2 else [0]
        found[8] = draw(st.sampled_from(terms))
    return found


@st.composite
def recurrent(draw: st.DrawFn, gates: int) -> Parameters:
    outputs, inputs, direction = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 2))
    hidden = draw(st.integers(1, 5)) if gates == 4 else outputs
    found = {0: outputs, 1: hidden * gates * inputs * (2 if direction == 2 else 1), 2: direction}
    return {**found, 3: hidden} if gates == 4 and (hidden != outputs or draw(st.booleans())) else found


@st.composite
def gemms(draw: st.DrawFn) -> Parameters:
    found = {key: draw(st.integers(0, 1)) for key in (2, 3, 4, 5, 6)}
    return {**found, **{key: draw(st.integers(1, 5)) for key in (7, 8, 9)}, 10: draw(st.integers(-1, 4))}


@st.composite
def attentions(draw: st.DrawFn) -> Parameters:
    heads = draw(st.integers(1, 2))
    embedding = heads * draw(st.integers(1, 3))
    found = {0: embedding, 1: heads, 2: embedding * draw(st.integers(1, 4))}
    return found | ({3: draw(st.integers(1, 4)), 4: draw(st.integers(1, 4))} if draw(st.booleans()) else {})


@st.composite
def tables(draw: st.DrawFn) -> Parameters:
    outputs, words = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    return {0: outputs, 1: words, 2: draw(st.integers(0, 1)), 3: outputs * words}


@st.composite
def products(draw: st.DrawFn) -> Parameters:
    outputs = draw(st.integers(1, 4))
    return {
        0: outputs,
        1: draw(st.integers(0, 1)),
        2: outputs * draw(st.integers(1, 5)),
        8: draw(st.sampled_from([0, 2])),
    }


def some(*keys: int, flag: int | None = None) -> st.SearchStrategy[Parameters]:
    """Sizes, and a flag that is there or not."""
    sizes = {key: st.integers(1, 5) for key in keys}
    optional = {} if flag is None else {flag: st.integers(0, 1)}
    return st.fixed_dictionaries(sizes, optional=optional)


KINDS: dict[str, Callable[[], st.SearchStrategy[Parameters]]] = {
    "Convolution": lambda: convolutions(int8=True),
    "ConvolutionDepthWise": lambda: convolutions(depthwise=True, int8=True),
    "Deconvolution": convolutions,
    "DeconvolutionDepthWise": lambda: convolutions(depthwise=True),
    "DeformableConv2D": convolutions,
    **{f"{k}{n}D": partial(convolutions, n) for k in CONVOLUTIONS for n in (1, 3)},
    **{f"{k}DepthWise{n}D": partial(convolutions, n, True) for k in CONVOLUTIONS for n in (1, 3)},
    "InnerProduct": products,
    "Embed": tables,
    "Gemm": gemms,
    "MultiHeadAttention": attentions,
    "RNN": lambda: recurrent(1),
    "GRU": lambda: recurrent(3),
    "LSTM": lambda: recurrent(4),
    "MemoryData": lambda: st.fixed_dictionaries({0: st.integers(1, 3)}, optional={21: st.integers(0, 1)}),
    "BatchNorm": lambda: some(0),
    "InstanceNorm": lambda: some(0, flag=2),
    "GroupNorm": lambda: some(1, flag=3),
    "LayerNorm": lambda: some(0, flag=2),
    "RMSNorm": lambda: some(0, flag=2),
    "PReLU": lambda: some(0),
    "Bias": lambda: some(0),
    "Scale": lambda: some(0, flag=1),
    "Normalize": lambda: some(3),
    "Padding": lambda: some(6),
    "Quantize": lambda: st.one_of(some(0), st.just({})),
    "Dequantize": lambda: st.one_of(some(0), some(0, 1), st.just({})),
    "Requantize": lambda: st.one_of(some(0, 1), some(0, 1, 2), st.just({})),
}
# Of these the weights may be int8, by the parameter of this number; pnnx writes none, ncnn2int8 does.
QUANTISED = {"Embed": 18, "Gemm": 18, "MultiHeadAttention": 18, "RNN": 8, "GRU": 8, "LSTM": 8}


def drawn(layer: NcnnLayer, seed: int) -> weights.Arrays:
    rng = np.random.default_rng(seed)
    types: list[Any] = [np.float32, np.float16]
    kind = types[seed % 2]
    return tuple(rng.random(b.size, np.float32).astype(kind if b.tagged else np.float32) + 1 for b in blocks(layer))


def reads_on(layer: NcnnLayer, data: bytes, folder: Path) -> bool:
    """Whether ncnn finds the next layer's numbers right behind those of a layer."""
    end = NcnnLayer("MemoryData", "end", (), ("end",), ((0, str(SENTINEL.size)),))
    source = NcnnLayer("Input", "in", (), ("in",))
    inputs = () if layer.type == "MemoryData" else ("in",)
    (folder / "n.param").write_text(graph.render((source, _with_blobs(layer, inputs), end)))
    (folder / "n.bin").write_bytes(data + SENTINEL.tobytes())
    with ncnn.Net() as net:
        net.opt.use_vulkan_compute = False
        if net.load_param(str(folder / "n.param")) or net.load_model(str(folder / "n.bin")):
            return False
        with net.create_extractor() as extractor:
            status, mat = extractor.extract("end")
            return status == 0 and np.array_equal(mat.numpy(), SENTINEL)


def _with_blobs(layer: NcnnLayer, inputs: tuple[str, ...]) -> NcnnLayer:
    return NcnnLayer(layer.type, layer.name, inputs, ("out",), layer.params)


def made(kind: str, parameters: Parameters) -> NcnnLayer:
    return NcnnLayer(kind, "layer", (), (), tuple((key, str(value)) for key, value in parameters.items()))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_ncnn_reads_on_where_a_layer_ends(kind: str, tmp_path: Path) -> None:
    @settings(deadline=None, max_examples=15, database=None)
    @given(KINDS[kind](), st.integers(0, 99))
    def check(parameters: Parameters, seed: int) -> None:
        layer = made(kind, parameters)
        arrays = {"layer": drawn(layer, seed)} if blocks(layer) else {}
        if any(a.dtype == np.float16 for a in arrays.get("layer", ())) and parameters.get(8):
            arrays = {"layer": tuple(a.astype(np.float32) for a in arrays["layer"])}
        data = weights.write((layer,), arrays)
        assert reads_on(layer, data, tmp_path)
        read = weights.read((layer,), data)
        assert weights.write((layer,), read) == data
        for have, want in zip(read.get("layer", ()), arrays.get("layer", ()), strict=True):
            assert have.dtype == want.dtype
            np.testing.assert_array_equal(have, want)

    check()


@pytest.mark.parametrize("kind", sorted(QUANTISED))
def test_ncnn_reads_on_where_an_int8_layer_ends(kind: str, tmp_path: Path) -> None:
    @settings(deadline=None, max_examples=10, database=None)
    @given(KINDS[kind](), st.integers(0, 99))
    def check(parameters: Parameters, seed: int) -> None:
        layer = made(kind, {**parameters, QUANTISED[kind]: 1})
        if not (found := blocks(layer)):
            return
        rng = np.random.default_rng(seed)
        # The biases of these are tagged as well, and stay float.
        bias = {"RNN": (1,), "GRU": (1,), "LSTM": (1,)}.get(kind, ())
        arrays: weights.Arrays = tuple(
            rng.integers(1, 100, b.size).astype(np.int8 if b.tagged and i not in bias else np.float32)
            for i, b in enumerate(found)
        )
        data = weights.write((layer,), {"layer": arrays})
        assert reads_on(layer, data, tmp_path)
        assert weights.write((layer,), weights.read((layer,), data)) == data

    check()


@pytest.mark.parametrize("change", [4, -4])
def test_the_check_sees_a_layer_that_ends_elsewhere(change: int, tmp_path: Path) -> None:
    """Negative control."""
    layer = made("InstanceNorm", {0: 4})
    data = weights.write((layer,), {"layer": drawn(layer, 0)})
    assert reads_on(layer, data, tmp_path)
    assert not reads_on(layer, data + bytes(change) if change > 0 else data[:change], tmp_path)
    with pytest.raises(ConversionError):
        weights.read((layer,), data + bytes(change) if change > 0 else data[:change])


def test_every_layer_that_loads_weights_is_known() -> None:
    """Also one that a new release of ncnn brings: each is given parameters that are all 1, and is seen reading."""

    class Reader(ncnn.DataReader):  # type: ignore[misc,name-defined]
        asked = 0

        def scan(self, _format: str, _place: Any) -> int:
            return 0

        def read(self, _place: Any, size: int) -> int:
            self.asked += size
            return 0

    reader = Reader()
    binary = ncnn.ModelBinFromDataReader(reader)
    loading = set()
    for index in range(1000):
        if (layer := ncnn.create_layer(index)) is not None:
            parameters = ncnn.ParamDict()
            for key in set(range(32)) - set(DYNAMIC):
                parameters.set(key, 1)
            layer.load_param(parameters)
            before = reader.asked
            layer.load_model(binary)
            if reader.asked > before:
                loading.add(index)
    assert loading == {ncnn.layer_to_index(kind) for kind in WITH_WEIGHTS}
    assert set(KINDS) == WITH_WEIGHTS


def test_weights_that_are_inputs_are_not_in_the_bin() -> None:
    for kind, key in (("Convolution", 19), ("Deconvolution", 28)):
        assert weights.read((made(kind, {0: 2, 5: 1, 6: 8, key: 1}),), b"") == {}
    assert weights.read((made("Scale", {0: -233}),), b"") == {}
