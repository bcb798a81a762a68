"""Weights that several ncnn convolutions share: once in the file, and the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facedeploy.export.ncnn.int8 import to_int8
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph
from facedeploy.formats.ncnn.bin import Arrays, to_half
from facedeploy.formats.ncnn.param import NcnnLayer
from facedeploy.formats.ncnn.shared_weights import share, unshare, unshared

CHANNELS = 64
Network = tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]


def chain(count: int, *, same: bool = True, bias: bool = True, channels: int = CHANNELS) -> Network:
    """Convolutions one after the other, all with the same weights or each with its own."""
    layers = [NcnnLayer("Input", "in0", (), ("in0",))]
    arrays: dict[str, Arrays] = {}
    blob = "in0"
    for i in range(count):
        rng = np.random.default_rng(0 if same else i)
        weight = rng.normal(0, 0.05, 9 * channels**2).astype(np.float32)
        arrays[f"c{i}"] = (weight, *([rng.normal(size=channels).astype(np.float32)] if bias else []))
        values = {0: channels, 1: 3, 11: 3, 4: 1, 14: 1, 5: int(bias), 6: weight.size}
        params = tuple((k, str(v)) for k, v in values.items())
        layers.append(NcnnLayer("Convolution", f"c{i}", (blob,), (f"x{i}",), params))
        blob = f"x{i}"
    return tuple(layers), arrays


def save(network: Network, folder: Path, name: str) -> tuple[Path, Path]:
    files = folder / f"{name}.param", folder / f"{name}.bin"
    files[0].write_text(graph.render(network[0]))
    files[1].write_bytes(weights.write(*network))
    return files


def run(files: tuple[Path, Path], last: str) -> NDArray[np.float32]:
    ncnn = pytest.importorskip("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(files[0])) == 0
    assert net.load_model(str(files[1])) == 0
    image = np.random.default_rng(1).normal(size=(CHANNELS, 9, 11)).astype(np.float32)
    with net.create_extractor() as extractor:
        extractor.input("in0", ncnn.Mat(image).clone())
        status, out = extractor.extract(last)
        assert status == 0
        return np.array(out)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_shared_weights_are_stored_once_and_give_the_same_answers(half: bool, bias: bool, tmp_path: Path) -> None:
    layers, arrays = chain(3, bias=bias)
    if half:
        layers, arrays = to_half(layers, arrays, ())
    plain, shared = save((layers, arrays), tmp_path, "plain"), save(share(layers, arrays), tmp_path, "shared")
    assert shared[1].stat().st_size == pytest.approx(plain[1].stat().st_size / 3, rel=0.01)
    np.testing.assert_allclose(run(shared, "x2"), run(plain, "x2"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_the_way_back_gives_the_files_as_they_were(bias: bool, tmp_path: Path) -> None:
    layers, arrays = chain(3, bias=bias)
    param, data = save((layers, arrays), tmp_path, "plain")
    again, back = unshare(*share(layers, arrays))
    assert again == layers
    assert weights.write(again, back) == data.read_bytes()
    with unshared(*save(share(layers, arrays), tmp_path, "shared")) as files:
        assert [f.read_bytes() for f in files] == [param.read_bytes(), data.read_bytes()]
    with unshared(param, data) as files:
        assert files == (param, data)


def test_shared_files_are_read_as_they_are_written() -> None:
    layers, arrays = share(*to_half(*chain(2), ()))
    read = weights.read(graph.parse(graph.render(layers)), weights.write(layers, arrays))
    assert read.keys() == arrays.keys()
    for name, values in arrays.items():
        for have, want in zip(read[name], values, strict=True):
            assert have.dtype == want.dtype
            np.testing.assert_array_equal(have, want)


def test_weights_of_their_own_stay_where_they_are() -> None:
    network = chain(3, same=False)
    assert share(*network) == network
    small = chain(3, channels=4)
    assert share(*small)[0] == small[0]


def test_layers_in_int8_or_of_another_precision_share_nothing() -> None:
    layers, arrays = chain(2)
    integers = to_int8(layers, arrays, {"c0": 1.0, "c1": 1.0})
    assert share(*integers)[0] == integers[0]
    mixed = to_half(layers, arrays, ["c0"])
    assert share(*mixed)[0] == mixed[0]
