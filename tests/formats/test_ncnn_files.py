"""ncnn's two files: the graph as text and the weights as bytes, generated ones and those that pnnx wrote."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.artifact.folder import describe_file
from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.errors import ConversionError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.target import Target
from facedeploy.export.ncnn.arm_fp16 import for_arm_fp16
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph
from facedeploy.formats.ncnn.param import NcnnLayer
from facedeploy.runtimes import open_network
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from tests.conftest import GetArtifact

NETWORKS = ["pnet", "rnet", "onet"]
FP16_TAG = (0x01306B47).to_bytes(4, "little")


class Written(NamedTuple):
    """A network as pnnx wrote it, with the blobs renamed."""

    spec: NetworkSpec
    param: str
    bin: bytes

    @property
    def layers(self) -> tuple[NcnnLayer, ...]:
        return graph.parse(self.param)


@pytest.fixture(params=NETWORKS)
def written(request: pytest.FixtureRequest, artifact: GetArtifact) -> Written:
    return _written(artifact, request.param)


@pytest.fixture
def onet(artifact: GetArtifact) -> Written:
    return _written(artifact, "onet")


def _written(artifact: GetArtifact, name: str) -> Written:
    made = artifact("ncnn-fp32")
    param, data = made.file(name, "param").read_text(), made.file(name, "bin").read_bytes()
    return Written(made.manifest.network(name).spec, param, data)


# --- the graph ---

words = st.text(string.ascii_letters + string.digits + "_./:-=", min_size=1, max_size=8)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[NcnnLayer, ...]:
    layers: list[NcnnLayer] = []
    taken = 0
    for _ in range(draw(st.integers(0, 6))):
        count = draw(st.integers(0, 3))
        outputs = tuple(f"{draw(words)}{taken + i}" for i in range(count))
        taken += count
        inputs = tuple(draw(st.lists(words, max_size=3)))
        params = tuple(draw(st.lists(st.tuples(st.integers(-23400, 99), words), max_size=3)))
        layers.append(NcnnLayer(draw(words), draw(words), inputs, outputs, params))
    blobs = [b for v in layers for b in v.outputs]
    return tuple(layers) if len(set(blobs)) == len(blobs) else ()


@settings(deadline=None)
@given(graphs())
def test_graph_round_trip(layers: tuple[NcnnLayer, ...]) -> None:
    assert graph.parse(graph.render(layers)) == layers


def test_parses_what_the_format_says() -> None:
    text = (
        "7767517\n2 3\n"
        "Input            image  0 1 data 0=12 1=12\n"
        "\n"
        "Slice\tcut 1 2 data left=1 right -23300=2,3,-233 31=3\n"
    )
    assert graph.parse(text) == (
        NcnnLayer("Input", "image", (), ("data",), ((0, "12"), (1, "12"))),
        NcnnLayer("Slice", "cut", ("data",), ("left=1", "right"), ((-23300, "2,3,-233"), (31, "3"))),
    )


def test_graph_of_pnnx_round_trip(written: Written) -> None:
    """The spaces differ between writers; the words may not."""
    again = graph.render(written.layers)
    assert [line.split() for line in again.splitlines()] == [line.split() for line in written.param.splitlines()]
    assert graph.parse(again) == written.layers
    assert {t.name for t in (*written.spec.inputs, *written.spec.outputs)} <= {
        b for v in written.layers for b in v.outputs
    }


@pytest.mark.parametrize(
    "text",
    ["", "\n", "7767517", "7767518\n0 0\n", "1 7767517\n0 0\n", "0 0\n7767517\n", "\x00\x01binary", "7767517\n0\n"]
    + ["7767517\n0 0 0\n", "7767517\nzero 0\n"],
)
def test_text_that_is_no_graph(text: str) -> None:
    with pytest.raises(ConversionError, match="not an ncnn param file"):
        graph.parse(text)


@pytest.mark.parametrize("counts", ["2 1", "0 1", "1 0", "1 2", "-1 1"])
def test_counts_must_agree(counts: str) -> None:
    with pytest.raises(ConversionError, match=r"announces .* holds 1 and 1"):
        graph.parse(f"7767517\n{counts}\nInput in0 0 1 image\n")


@pytest.mark.parametrize(
    "line",
    ["Input", "Input in0", "Input in0 0", "Input in0 0 1", "Input in0 0 2 image", "Input in0 -1 2 image"]
    + ["Input in0 0 one image", "Input in0 0 1 image 0", "Input in0 0 1 image 0=", "Input in0 0 1 image a=1"],
)
def test_truncated_line(line: str) -> None:
    with pytest.raises(ConversionError, match="not an ncnn param file"):
        graph.parse(f"7767517\n1 1\n{line}\n")


def test_graph_cut_anywhere_is_refused(onet: Written) -> None:
    lines = onet.param.splitlines()
    for end in range(len(lines)):
        with pytest.raises(ConversionError):
            graph.parse("\n".join(lines[:end]))


# --- new names for blobs ---

CHAIN = (
    NcnnLayer("Input", "in0", (), ("a",)),
    NcnnLayer("Split", "split", ("a",), ("b", "c")),
    NcnnLayer("BinaryOp", "a", ("b", "c"), ("d",), ((0, "2"),)),
)


def test_renames_blobs_where_they_are_made_and_read() -> None:
    renamed = graph.rename_blobs(CHAIN, {"a": "image", "d": "score"})
    assert renamed == (
        NcnnLayer("Input", "in0", (), ("image",)),
        NcnnLayer("Split", "split", ("image",), ("b", "c")),
        NcnnLayer("BinaryOp", "a", ("b", "c"), ("score",), ((0, "2"),)),
    )


def test_blobs_may_exchange_names() -> None:
    renamed = graph.rename_blobs(CHAIN, {"b": "c", "c": "b"})
    assert [v.outputs for v in renamed] == [("a",), ("c", "b"), ("d",)]
    assert renamed[2].inputs == ("c", "b")
    assert graph.rename_blobs(renamed, {"b": "c", "c": "b"}) == CHAIN


def test_blob_to_rename_must_exist() -> None:
    with pytest.raises(ConversionError, match="no blob out1; it has a, b, c, d"):
        graph.rename_blobs(CHAIN, {"d": "score", "out1": "box"})


@pytest.mark.parametrize("names", [{"a": "d"}, {"b": "x", "c": "x"}, {"d": "image", "a": "image"}])
def test_two_blobs_do_not_get_one_name(names: dict[str, str]) -> None:
    with pytest.raises(ConversionError, match="one name"):
        graph.rename_blobs(CHAIN, names)


# --- the weights ---


def tagged(name: str, count: int, outputs: int = 0, kind: str = "Convolution") -> NcnnLayer:
    size, bias = (2, 1) if kind == "InnerProduct" else (6, 5)
    return NcnnLayer(kind, name, (), (), ((0, str(outputs)), (bias, "1" if outputs else "0"), (size, str(count))))


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[NcnnLayer], dict[str, weights.Arrays]]:
    kinds = ["Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise", "DeformableConv2D"]
    layers: list[NcnnLayer] = []
    arrays: dict[str, weights.Arrays] = {}
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    for i in range(draw(st.integers(0, 5))):
        others = ["InnerProduct", "PReLU", "BatchNorm", "MemoryData", "Gemm", "Pooling"]
        kind, name = draw(st.sampled_from([*kinds, *others])), f"layer{i}"
        count, outputs = draw(st.integers(0, 9)), draw(st.integers(0, 5))
        if kind in ("PReLU", "BatchNorm"):
            count += 1
            layers.append(NcnnLayer(kind, name, (), (), ((0, str(count)),)))
            arrays[name] = tuple(rng.random(count, np.float32) for _ in range(4 if kind == "BatchNorm" else 1))
        elif kind == "MemoryData":
            # Width, height, depth, channels; 0 is an axis that is not there.
            sides = draw(st.tuples(*[st.integers(0, 3)] * 4))
            layers.append(NcnnLayer(kind, name, (), (), tuple(zip((0, 1, 11, 2), map(str, sides), strict=True))))
            arrays[name] = (rng.random(math.prod(v or 1 for v in sides), np.float32),)
        elif kind == "Gemm":
            layers.append(NcnnLayer(kind, name, (), (), ((5, "1"), (8, str(count)), (9, str(outputs)))))
            arrays[name] = (rng.random(count * outputs, np.float32),)
        elif kind == "Pooling":
            layers.append(NcnnLayer(kind, name, (), (), ((0, "1"), (6, "9"))))
        else:
            layers.append(tagged(name, count, outputs, kind))
            weight = rng.random(count, np.float32).astype(draw(st.sampled_from([np.float16, np.float32])))
            arrays[name] = (weight, rng.random(outputs, np.float32)) if outputs else (weight,)
    return layers, arrays


def assert_same(have: dict[str, weights.Arrays], want: dict[str, weights.Arrays]) -> None:
    assert have.keys() == want.keys()
    for name, arrays in want.items():
        assert [a.dtype for a in have[name]] == [a.dtype for a in arrays]
        for a, b in zip(have[name], arrays, strict=True):
            np.testing.assert_array_equal(a, b)


@settings(deadline=None)
@given(networks())
def test_weights_round_trip(network: tuple[list[NcnnLayer], dict[str, weights.Arrays]]) -> None:
    layers, arrays = network
    data = weights.write(layers, arrays)
    assert len(data) % 4 == 0
    assert_same(weights.read(layers, data), arrays)
    assert weights.write(layers, weights.read(layers, data)) == data


def test_bytes_of_the_format() -> None:
    layers = (tagged("half", 3, 1), NcnnLayer("PReLU", "p", (), (), ((0, "1"),)), tagged("full", 1, 0, "InnerProduct"))
    arrays: dict[str, weights.Arrays] = {
        "half": (np.array([1, 2, -2], np.float16), np.array([0.5], np.float32)),
        "p": (np.array([0.25], np.float32),),
        "full": (np.array([1], np.float32),),
    }
    expected = FP16_TAG + bytes.fromhex("003c 0040 00c0 0000") + bytes.fromhex("0000003f 0000803e 00000000 0000803f")
    assert weights.write(layers, arrays) == expected
    assert_same(weights.read(layers, expected), arrays)


def test_weights_of_pnnx_round_trip(written: Written) -> None:
    arrays = weights.read(written.layers, written.bin)
    assert weights.write(written.layers, arrays) == written.bin
    assert set(arrays) == {v.name for v in written.layers if v.type in ("Convolution", "InnerProduct", "PReLU")}
    assert all(np.isfinite(a).all() and a.dtype == np.float32 for group in arrays.values() for a in group)


def test_weights_cut_anywhere_are_refused(onet: Written) -> None:
    for end in [*range(0, 400, 7), *range(400, len(onet.bin), 9973), len(onet.bin) - 1]:
        with pytest.raises(ConversionError, match="end early"):
            weights.read(onet.layers, onet.bin[:end])


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 4, b"weights"])
def test_weights_left_over_are_refused(onet: Written, extra: bytes) -> None:
    with pytest.raises(ConversionError, match=f"^{len(extra)} bytes"):
        weights.read(onet.layers, onet.bin + extra)


def test_weights_of_another_network_are_refused(artifact: GetArtifact) -> None:
    pnet, rnet = _written(artifact, "pnet"), _written(artifact, "rnet")
    for layers, data in ((pnet.layers, rnet.bin), (rnet.layers, pnet.bin)):
        with pytest.raises(ConversionError):
            weights.read(layers, data)


def test_layer_with_weights_that_is_not_known() -> None:
    layers = (tagged("conv", 1), NcnnLayer("Swirl", "swirl", (), (), ((0, "2"),)))
    with pytest.raises(ConversionError, match="8 bytes"):
        weights.read(layers, bytes(16))


@pytest.mark.parametrize("tag", [1, 0x0002C056, 0x000D4B38])
def test_unknown_tag_names_the_layer(tag: int) -> None:
    with pytest.raises(ConversionError, match=f"conv has the unknown tag {tag:#x}"):
        weights.read((tagged("conv", 1),), tag.to_bytes(4, "little") + bytes(4))


@pytest.mark.parametrize("count", [-1, 10**12])
def test_impossible_count_is_refused(count: int) -> None:
    with pytest.raises(ConversionError, match="end early"):
        weights.read((tagged("conv", count),), bytes(64))


# --- half precision ---


def learned(layers: Iterable[NcnnLayer]) -> list[str]:
    return [v.name for v in layers if v.type in ("Convolution", "InnerProduct")]


def test_halves_the_weights_but_not_biases_slopes_and_kept_layers() -> None:
    layers = (
        tagged("a", 3, 2),
        NcnnLayer("PReLU", "p", (), (), ((0, "2"),)),
        tagged("b", 3, 2),
        NcnnLayer("Pooling", "q", (), ()),
    )
    arrays: dict[str, weights.Arrays] = {
        "a": (np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5], np.float32)),
        "p": (np.array([0.6, 0.7], np.float32),),
        "b": (np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5], np.float32)),
    }
    new, halved = weights.to_half(layers, arrays, {"b"})
    assert_same(halved, {**arrays, "a": (np.array([0.1, 0.2, 0.3], np.float16), arrays["a"][1])})
    assert new == (*layers[:2], replace(layers[2], params=(*layers[2].params, (31, "3"))), layers[3])
    assert arrays["a"][0].dtype == np.float32


def test_what_stays_in_float32_is_given_float32_and_half_takes_no_winograd() -> None:
    """X is in half; kept convolutions read it, one of them beside what is in float32 already; a split gives that on."""

    def conv(name: str, reads: str, *more: tuple[int, str]) -> NcnnLayer:
        return NcnnLayer("Convolution", name, (reads,), (name,), ((0, "8"), *more))

    square, kept = (1, "3"), (31, "3")
    layers = (
        NcnnLayer("Input", "in0", (), ("image",)),
        conv("first", "image", square, kept),
        conv("x", "first", square),
        conv("strided", "x", square, (3, "2")),
        conv("wide", "strided", square, (11, "5")),
        conv("point", "wide", (1, "1")),
        NcnnLayer("Split", "split", ("point",), ("a", "b")),
        conv("exact", "a", square, kept),
        NcnnLayer("Split", "again", ("exact",), ("c", "d")),
        NcnnLayer("BinaryOp", "sum", ("b", "c"), ("sum",), (kept,)),
        conv("last", "d", square, (31, "4")),
    )
    made = {v.name: v for v in for_arm_fp16(layers)}
    assert [*made] == [
        *("in0", "first", "x", "strided", "wide", "point", "split", "a_float32", "exact", "again", "b_float32", "sum"),
        "last",
    ]
    assert made["first"] == layers[1]
    assert made["a_float32"] == NcnnLayer("Dropout", "a_float32", ("a",), ("a_float32",))
    assert (made["exact"].inputs, made["sum"].inputs) == (("a_float32",), ("b_float32", "c"))
    masks = {name: dict(v.params).get(31) for name, v in made.items()}
    assert {name for name, mask in masks.items() if mask == "3"} == {"first", "exact", "again", "sum"}
    assert (masks["x"], masks["last"]) == ("64", "68")
    assert {name for name, mask in masks.items() if mask} == {"first", "exact", "again", "sum", "x", "last"}


def test_half_weights_of_pnnx_are_half_the_size(written: Written) -> None:
    layers, arrays = weights.to_half(written.layers, weights.read(written.layers, written.bin), ())
    data = weights.write(layers, arrays)
    assert layers == written.layers
    assert_same(weights.read(layers, data), arrays)
    assert {n for n, (w, *_) in arrays.items() if w.dtype == np.float16} == set(learned(layers))
    assert 0.5 <= len(data) / len(written.bin) < 0.55


def test_weight_too_large_for_half_is_named() -> None:
    arrays: dict[str, weights.Arrays] = {"huge": (np.array([1e6], np.float32),), "fine": (np.array([1.0], np.float32),)}
    layers = (tagged("huge", 1), tagged("fine", 1))
    with pytest.raises(ConversionError, match="huge"):
        weights.to_half(layers, arrays, ())
    _, kept = weights.to_half(layers, arrays, {"huge"})
    assert kept["huge"][0].tolist() == [1e6]


def run(folder: Path, spec: NetworkSpec, layers: tuple[NcnnLayer, ...], data: bytes, precision: Any = "fp16") -> Arrays:
    (folder / "n.param").write_text(graph.render(layers))
    (folder / "n.bin").write_bytes(data)
    entry = NetworkEntry(spec, {kind: describe_file(folder, f"n.{kind}") for kind in ("param", "bin")})
    shape = tuple(d if isinstance(d, int) else 3 if d == "batch" else 40 for d in spec.inputs[0].shape)
    image: NDArray[np.float32] = np.random.default_rng(5).random(shape, np.float32)
    with open_network("mtcnn", Target("ncnn", precision), entry, folder, RuntimeOptions(1)) as runtime:
        return runtime.run({"image": image})


def difference(a: Arrays, b: Arrays) -> float:
    assert a.keys() == b.keys()
    return max(float(np.linalg.norm(a[k] - b[k]) / np.linalg.norm(b[k])) for k in b)


def test_ncnn_loads_half_weights(written: Written, tmp_path: Path) -> None:
    full = run(tmp_path, written.spec, written.layers, written.bin, "fp32")
    layers, arrays = weights.to_half(written.layers, weights.read(written.layers, written.bin), ())
    half = run(tmp_path, written.spec, layers, weights.write(layers, arrays))
    assert 0 < difference(half, full) < 2e-2


def test_kept_layers_compute_in_float32(written: Written, tmp_path: Path) -> None:
    """All kept is fp32, whatever half precision the processor has."""
    full = run(tmp_path, written.spec, written.layers, written.bin, "fp32")
    read = weights.read(written.layers, written.bin)
    layers, arrays = weights.to_half(written.layers, read, {v.name for v in written.layers})
    assert weights.write(layers, arrays) == written.bin
    assert difference(run(tmp_path, written.spec, layers, written.bin), full) < 1e-5


def test_layers_that_are_not_kept_do_not_compute_in_float32(onet: Written, tmp_path: Path) -> None:
    """Negative control: the same float32 weights without the mask."""
    full = run(tmp_path, onet.spec, onet.layers, onet.bin, "fp32")
    assert difference(run(tmp_path, onet.spec, onet.layers, onet.bin), full) > 1e-5


def test_first_layer_kept_and_the_rest_half(onet: Written, tmp_path: Path) -> None:
    full = run(tmp_path, onet.spec, onet.layers, onet.bin, "fp32")
    first = learned(onet.layers)[0]
    layers, arrays = weights.to_half(onet.layers, weights.read(onet.layers, onet.bin), {first})
    masked = [v.name for v in layers if (31, "3") in v.params]
    assert masked == [first]
    assert arrays[first][0].dtype == np.float32
    assert 0 < difference(run(tmp_path, onet.spec, layers, weights.write(layers, arrays)), full) < 2e-2


def test_ncnn_reads_the_graph_as_rendered(written: Written, tmp_path: Path) -> None:
    """Negative control: the runtime sees a change that is made through this reader and writer."""
    full = run(tmp_path, written.spec, written.layers, written.bin, "fp32")
    arrays = weights.read(written.layers, written.bin)
    name = learned(written.layers)[0]
    doubled = {**arrays, name: (arrays[name][0] * np.float32(2), *arrays[name][1:])}
    assert (
        difference(run(tmp_path, written.spec, written.layers, weights.write(written.layers, doubled), "fp32"), full)
        > 0.01
    )
