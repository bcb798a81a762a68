"""What an ONNX file says of itself, and the counts of parameters and multiply-accumulates, held against known ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facedeploy.core.network_spec import TensorSpec
from facedeploy.graph.facts import facts_of, work_of
from facedeploy.models import registry
from facedeploy.models.model_size import measure
from facedeploy.sources import onnx_file
from facedeploy.sources.settings import InputSettings
from tests.conftest import ASSETS
from tests.support import own_networks
from tests.support.exported import tiny


def graph(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], *shape: int) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.ones(s, np.float32), name) for name, s in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    made = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)


def node(op: str, inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), ["y"], **attributes)


@pytest.mark.parametrize(
    ("made", "macs", "parameters"),
    [
        # 6x8 outputs of 10 channels, each a sum over 4 channels and 9 taps.
        (graph([node("Conv", "x w b")], {"w": (10, 4, 3, 3), "b": (10,)}, 1, 4, 8, 10), 6 * 8 * 10 * 36, 370),
        (graph([node("Conv", "x w", group=4)], {"w": (8, 1, 3, 3)}, 1, 4, 8, 10), 6 * 8 * 8 * 9, 72),
        # Each of 8x10 inputs of 4 channels goes into 5 channels and 4 taps, whatever the stride.
        (
            graph([node("ConvTranspose", "x w", strides=[2, 2])], {"w": (4, 5, 2, 2)}, 1, 4, 8, 10),
            8 * 10 * 4 * 20,
            80,
        ),
        (graph([node("Gemm", "x w b", transB=1)], {"w": (7, 12), "b": (7,)}, 2, 12), 2 * 12 * 7, 91),
        (graph([node("Gemm", "x w", transA=1)], {"w": (12, 7)}, 12, 2), 2 * 12 * 7, 84),
        (graph([node("MatMul", "x w")], {"w": (12, 7)}, 3, 5, 12), 3 * 5 * 12 * 7, 84),
        (graph([node("MatMul", "x x")], {}, 3, 5, 5), 3 * 125, 0),
        (
            graph([node("DeformConv", "x w o")], {"w": (10, 4, 3, 3), "o": (1, 18, 6, 8)}, 1, 4, 8, 10),
            6 * 8 * 10 * 36,
            360 + 864,  # The offsets are a constant here.
        ),
        # What no layer reads is no parameter, and no product.
        (graph([node("Mul", "x w")], {"w": (4, 1, 1)}, 1, 4, 8, 10), 0, 0),
    ],
    ids=["conv", "grouped", "transposed", "gemm", "gemm of a transposed", "matmul", "no weight", "deform", "none"],
)
def test_counts_are_those_by_hand(made: onnx.ModelProto, macs: int, parameters: int) -> None:
    work = work_of(made)
    assert (work.macs, work.parameters) == (macs, parameters)


def test_a_weight_that_is_shared_counts_once_and_its_products_twice() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    work = work_of(graph(nodes, {"w": (6, 6)}, 2, 6))
    assert (work.macs, work.parameters) == (2 * 2 * 36, 36)


@pytest.mark.slow
def test_the_default_model_counts_as_pytorch_counts_it() -> None:
    """PyTorch's counter looks at what modules really compute; it knows nothing of ONNX."""
    model = registry.get(registry.DEFAULT)
    detector = measure(model)[0]
    height, width = detector.shape[2:]
    artifact = tiny("onnx-fp32", (height, width))
    made = onnx.load(artifact.file(detector.network, "onnx"))
    work = work_of(made)
    assert work.macs == detector.macs
    # Those of the module that are left: what BatchNorm had is merged into a bias, and pose is another network.
    learned = dict(model.fold(model.networks(model.build()))[detector.network].named_parameters())
    left = [w for w in made.graph.initializer if w.name.removesuffix("_bias") in learned]
    assert work.parameters == sum(math.prod(w.dims) for w in left)
    assert 0.8 * detector.parameters < work.parameters < detector.parameters


def converted(file: str, size: tuple[int, int] | None, folder: Path) -> onnx.ModelProto:
    path = ASSETS / "weights" / file
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    onnx_file.own_network(path, size, InputSettings()).write(folder / "made.onnx", None)
    return onnx.load(folder / "made.onnx")


def unit(channels: int, to: int) -> int:
    """Products for each cell of YuNet's block: a convolution of one cell, and one of nine in each channel."""
    return channels * to + 9 * to


@pytest.mark.parametrize("side", [320, 640])
def test_yunet_counts_as_its_published_architecture_does(side: int, tmp_path: Path) -> None:
    """The layers are from its configuration (yunet_n.py of libfacedetection.train), summed by hand."""
    work = work_of(converted("yunet/yunet_n_dynamic.onnx", (side, side), tmp_path))
    cells = {stride: (side // stride) ** 2 for stride in (2, 4, 8, 16, 32)}
    levels = cells[8] + cells[16] + cells[32]
    backbone = cells[2] * (27 * 16 + unit(16, 16)) + cells[4] * (unit(16, 16) + unit(16, 64))
    backbone += 2 * unit(64, 64) * (cells[4] + levels)
    # One block in the neck and one that the heads share, then class, objectness, box and points.
    heads = levels * (2 * unit(64, 64) + sum(unit(64, n) for n in (1, 1, 4, 10)))
    assert work.macs == backbone + heads
    # Published: 75,856 with two numbers for each channel of a BatchNorm, where one is left.
    assert 73_000 < work.parameters < 75_856


def test_ulfd_counts_what_its_readme_says(tmp_path: Path) -> None:
    work = work_of(converted("ulfd/version-RFB-320.onnx", None, tmp_path))
    assert 90e6 < work.macs < 109e6
    assert 0.25e6 < work.parameters < 0.3e6


def test_a_file_says_what_it_takes_and_what_is_in_it(tmp_path: Path) -> None:
    old = facts_of(onnx.load(own_networks.opset9(tmp_path / "old.onnx")))
    assert old.opset == 9
    assert old.inputs == (TensorSpec("input/image:0", (1, 3, 32, 40)),)  # Its weights are inputs as well.
    assert [t.name for t in old.outputs] == ["head", "a/b:0"]
    assert old.operators["Conv"] == 2
    assert next(iter(old.operators)) == "Conv"
    assert not old.quantised
    open_ = facts_of(onnx.load(own_networks.opset10(tmp_path / "open.onnx")))
    assert open_.inputs[0].shape == ("N", 3, "height", "width")
    assert open_.producer == ""


def test_a_quantised_file_and_foreign_operators_are_seen(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Gelu", ["d"], ["y"], domain="com.microsoft"),
    ]
    constants = {"s": np.float32(0.1), "z": np.int8(0)}
    path = own_networks.write(
        tmp_path / "q.onnx", nodes, constants, {"y": [1, 3, 32, 40]}, opset=13, domains=["com.microsoft"]
    )
    facts = facts_of(onnx.load(path))
    assert facts.quantised == ("Q/DQ",)
    assert facts.operators["com.microsoft:Gelu"] == 1
