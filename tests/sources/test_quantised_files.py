"""Files that are quantised already, in every form that ONNX has, from ONNX Runtime's own tool and from hand."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.errors import InputError
from facedeploy.export.exporter import export
from facedeploy.graph.passes.remove_qdq import dequantize
from facedeploy.graph.quantized_file import kinds_of
from facedeploy.pipelines.custom import NETWORK
from facedeploy.pipelines.load import load
from facedeploy.verification.verify import verify
from tests.sources.test_custom import answers
from tests.support.exported import require
from tests.support.own_networks import SIZE, node, weights

HEIGHT, WIDTH = SIZE
FORMS = {
    "qdq-symmetric": ("qdq",),
    "qdq-asymmetric": ("qdq",),
    "qoperator": ("qoperator",),
    "dynamic": ("dynamic",),
}
INT8 = [form for form in FORMS if form != "dynamic"]


def _pairs(forms: Iterable[str], targets: Sequence[str], whole: str) -> list[Any]:
    """Each form on each target; `make test` takes one form on all of them, and the others on the first."""
    return [
        pytest.param(f, t, marks=[] if f == whole or t == targets[0] else [pytest.mark.slow])
        for f in forms
        for t in targets
    ]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of each test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures(count: int = 6) -> list[Any]:
    """Soft noise, (1, 3, height, width) float32, 0..255."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(0, 255, (count, 3, HEIGHT // 4, WIDTH // 4))
    return [v[None].repeat(4, 2).repeat(4, 3).astype(np.float32) for v in coarse]


def network(path: Path) -> Path:
    """Layers of every kind, ReLU and ReLU6, pooling, a sum, a concatenation, a mean, and a matrix."""

    def conv(source: str, target: str, name: str, **more: Any) -> onnx.NodeProto:
        return node("Conv", [source, name, f"{name}.b"], [target], kernel_shape=[3, 3], pads=[1] * 4, **more)

    nodes = [
        node("Mul", ["x", "unit"], ["u"]),
        conv("u", "c1", "first"),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("p", "c2", "depthwise", group=8),
        node("Clip", ["c2", "lo", "six"], ["r2"]),
        conv("r2", "c3", "third"),
        node("Add", ["c3", "p"], ["s"]),
        node("Relu", ["s"], ["r3"]),
        conv("r3", "c4", "fourth"),
        node("Sigmoid", ["c4"], ["g"]),
        node("Concat", ["g", "r3"], ["k"], axis=1),
        conv("k", "map", "head"),
        node("GlobalAveragePool", ["k"], ["m"]),
        node("Flatten", ["m"], ["f"]),
        node("Gemm", ["f", "matrix", "matrix.b"], ["y"]),
    ]
    shapes = {"first": (8, 3), "depthwise": (8, 1), "third": (8, 8), "fourth": (8, 8), "head": (4, 16)}
    constants: dict[str, Any] = {name: weights(*shape, 3, 3) for name, shape in shapes.items()}
    constants["fourth"] = constants["fourth"][::-1]  # No other layer's weights.
    constants |= {f"{name}.b": 0.1 * weights(shape[0]) for name, shape in shapes.items()}
    constants |= {"matrix": weights(16, 5), "matrix.b": weights(5), "unit": np.float32(1 / 64)}
    constants |= {"lo": np.float32(0), "six": np.float32(6)}
    constants["depthwise"] = constants["depthwise"] * 4  # So that ReLU6 cuts.
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, *SIZE))],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, (1, 4, HEIGHT // 2, WIDTH // 2)),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5)),
        ],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module", name="made")
def made_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The network in float, and in every form, as ONNX Runtime's quantiser writes them."""
    tool = pytest.importorskip("onnxruntime.quantization")
    folder = tmp_path_factory.mktemp("quantised")
    plain = network(folder / "float.onnx")

    class Reader(tool.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.left = iter(pictures())

        def get_next(self) -> Any:
            return next(({"x": v} for v in self.left), None)

    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True}
    ways: dict[str, dict[str, Any]] = {
        "qdq-symmetric": {"activation_type": tool.QuantType.QInt8, "per_channel": True, "extra_options": symmetric},
        "qdq-asymmetric": {"activation_type": tool.QuantType.QUInt8, "per_channel": True},
        "qoperator": {"activation_type": tool.QuantType.QUInt8, "quant_format": tool.QuantFormat.QOperator},
    }
    logging.disable(logging.WARNING)
    try:
        for name, options in ways.items():
            tool.quantize_static(plain, folder / f"{name}.onnx", Reader(), weight_type=tool.QuantType.QInt8, **options)
        tool.quantize_dynamic(plain, folder / "dynamic.onnx", weight_type=tool.QuantType.QUInt8)
    finally:
        logging.disable(logging.NOTSET)
    yield {name: folder / f"{name}.onnx" for name in ("float", *FORMS)}


def off(have: dict[str, Any], want: dict[str, Any]) -> float:
    """Relative L2 of the worst output."""
    return max(float(np.linalg.norm(have[k] - want[k]) / np.linalg.norm(want[k])) for k in want)


def answer(artifact: Any, picture: Any) -> dict[str, Any]:
    substitute: Any = "onnxruntime" if artifact.manifest.target.backend == "trt" else None
    with load(artifact, threads=1, runtime=substitute) as pipeline:
        outputs: dict[str, Any] = pipeline.runtimes[NETWORK].run({"x": picture})
    return outputs


@pytest.mark.parametrize("form", ["float", *FORMS])
def test_the_form_of_a_file_is_recognised(form: str, made: dict[str, Path]) -> None:
    assert kinds_of(onnx.load(made[form])) == FORMS.get(form, ())


def rounded(plain: Path, file: Path, path: Path) -> Path:
    """The float network with the weights that the integers of a file stand for."""
    theirs = {w.name: numpy_helper.to_array(w) for w in onnx.load(file).graph.initializer}
    model = onnx.load(plain)
    found = 0
    for weight in model.graph.initializer:
        if f"{weight.name}_quantized" in theirs and f"{weight.name}_zero_point" in theirs:
            stored, scale, zero = (theirs[f"{weight.name}_{k}"] for k in ("quantized", "scale", "zero_point"))
            shape = [-1, *[1] * (stored.ndim - 1)] if weight.name != "matrix" else [1, -1]
            value = (stored.astype(np.float32) - zero.astype(np.float32).reshape(shape)) * scale.reshape(shape)
            weight.CopyFrom(numpy_helper.from_array(value, weight.name))
            found += 1
    assert found >= 6  # Some forms store the factor of the Mul so as well.
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("form", "target"), _pairs(FORMS, ["onnx-fp32", "openvino-fp32", "ncnn-fp32", "trt-fp16"], whole="qoperator")
)
def test_a_file_is_read_as_the_float_network_with_its_weights(
    form: str, target: str, made: dict[str, Path], here: Path
) -> None:
    require(target)
    artifact = export(str(made[form]), target)
    picture = pictures(1)[0]
    want = answers(rounded(made["float"], made[form], here / "rounded.onnx"), picture)
    assert off(answers(made[form], picture), want) > 2e-3  # Which the file itself is not.
    assert off(answer(artifact, picture), want) < (1e-2 if target.endswith("fp16") else 5e-4)
    (entry,) = artifact.manifest.networks
    assert {t.dtype for t in (*entry.spec.inputs, *entry.spec.outputs)} == {"float32"}
    assert any("quantised already" in line for line in artifact.manifest.notes)
    assert any("relative L2" in line for line in artifact.manifest.notes)
    assert not verify(artifact, made[form], runtime="onnxruntime" if target.startswith("trt") else None).problems


@pytest.mark.parametrize(
    ("form", "target"), _pairs(INT8, ["openvino-int8", "ncnn-int8", "trt-int8"], whole="qdq-symmetric")
)
def test_int8_takes_the_ranges_of_the_file_and_no_pictures(form: str, target: str, made: dict[str, Path]) -> None:
    require(target)
    artifact = export(str(made[form]), target, int8=Int8Options(force=True))
    (entry,) = artifact.manifest.networks
    assert set(entry.int8) == {"first", "depthwise", "third", "fourth"}  # What is last stays in float, as ever.
    calibration = artifact.manifest.calibration
    assert calibration is not None
    assert (calibration.method, calibration.pictures) == ("file", 0)
    picture = pictures(1)[0]
    truth, file = answers(made["float"], picture), answers(made[form], picture)
    # An unsigned scale from zero up costs a bit where there are only signed ones.
    bits = 1.2 if form == "qdq-symmetric" else 2.5
    assert off(answer(artifact, picture), truth) < bits * off(file, truth)


def test_symmetric_integers_go_through_as_they_are(made: dict[str, Path]) -> None:
    """Weights and scales of the graph that TensorRT compiles are those of the file, to the bit of a float."""
    require("trt-int8")
    artifact = export(str(made["qdq-symmetric"]), "trt-int8", int8=Int8Options(force=True))
    theirs, ours = onnx.load(made["qdq-symmetric"]), onnx.load(artifact.file(NETWORK, "onnx"))
    before, after = ({w.name: numpy_helper.to_array(w) for w in m.graph.initializer} for m in (theirs, ours))
    for name in ("first", "depthwise", "third", "fourth"):
        assert np.array_equal(before[f"{name}_quantized"], after[f"{name}_quantized"]), name
        # The factor in front of the first layer is in its weights now, and so out of what it reads.
        factor = 64 if name == "first" else 1
        assert np.allclose(before[f"{name}_scale"], after[f"{name}_scale"] * factor, rtol=1e-6), name
    scales = {k: float(v) for k, v in after.items() if k.endswith("_scale") and v.ndim == 0}
    scales["x_scale"] /= 64
    known = [float(v) for v in before.values() if v.shape in ((), (1,)) and v.dtype == np.float32]
    assert len(scales) == 4
    for name, scale in scales.items():
        assert any(abs(scale - k) < 1e-6 * k for k in known), name


def test_a_dynamic_file_has_no_ranges(made: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="no table of ranges: give --calibration"):
        export(str(made["dynamic"]), "openvino-int8")


# From hand


def save(
    path: Path, nodes: list[onnx.NodeProto], constants: dict[str, Any], *, kinds: tuple[int, int], **shapes: Any
) -> Path:
    image, output = shapes.get("image", (1, 3, *SIZE)), shapes.get("output", (1, 8, *SIZE))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kinds[0], image)],
        [helper.make_tensor_value_info("y", kinds[1], output)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT)
BYTES = (TensorProto.UINT8, TensorProto.UINT8)


def integers(path: Path, *, y_scale: float = 8.0, kinds: tuple[int, int] = FLOATS) -> Path:
    """One QLinearConv, with floats around it or without."""
    rng = np.random.default_rng(0)
    constants = {
        "sx": np.float32(1),
        "zx": np.uint8(0),
        "w": rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
        "sw": np.float32(0.01),
        "zw": np.int8(0),
        "sy": np.float32(y_scale),
        "zy": np.uint8(128),
    }
    ends = ("q", "c") if kinds == FLOATS else ("x", "y")
    inputs = [ends[0], "sx", "zx", "w", "sw", "zw", "sy", "zy"]
    nodes = [node("QLinearConv", inputs, [ends[1]], kernel_shape=[3, 3], pads=[1] * 4)]
    if kinds == FLOATS:
        nodes = [node("QuantizeLinear", ["x", "sx", "zx"], ["q"]), *nodes]
        nodes += [node("DequantizeLinear", ["c", "sy", "zy"], ["y"])]
    return save(path, nodes, constants, kinds=kinds)


@pytest.mark.parametrize("target", ["trt-fp16", "ncnn-fp32", "openvino-fp32", "onnx-fp32"])
@pytest.mark.parametrize("kinds", [FLOATS, BYTES], ids=["floats", "bytes"])
def test_an_integer_convolution_alone(kinds: tuple[int, int], target: str, here: Path) -> None:
    require(target)
    path = integers(here / "net.onnx", kinds=kinds)
    artifact = export(str(path), target)
    picture = np.round(pictures(1)[0])
    want = answers(path, picture.astype(np.uint8) if kinds == BYTES else picture)["y"].astype(np.float32)
    have = answer(artifact, picture)["y"]
    if kinds == BYTES:  # Out come the values that the integers stand for.
        want = (want - 128) * 8
    inside = np.abs(want) < 127 * 8 - 8
    assert inside.mean() > 0.8
    assert np.abs(have - want)[inside].max() <= 8 / 2 + 0.5


@pytest.mark.parametrize("target", ["openvino-int8", pytest.param("ncnn-int8", marks=pytest.mark.slow), "trt-int8"])
def test_a_network_of_one_layer_has_no_int8_by_the_rules(target: str, here: Path) -> None:
    require(target)
    path = integers(here / "net.onnx")
    with pytest.raises(InputError, match="name them with --int8-layer"):
        export(str(path), target)
    made = export(str(path), target, int8=Int8Options(allow=("*",), force=True))
    assert made.manifest.networks[0].int8 == ("w",)


def test_a_range_that_cuts_everything_is_refused(here: Path) -> None:
    path = integers(here / "net.onnx", y_scale=0.01)
    with pytest.raises(InputError, match=r"gives another y read as float than as it came .* relative L2"):
        export(str(path), "onnx-fp32")
    assert not (here / "net-onnx-fp32").exists()


def test_what_has_no_float_form_is_named(here: Path) -> None:
    constants = {"s": np.float32(1), "z": np.uint8(0)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("BitShift", ["q", "z"], ["b"], direction="RIGHT"),
        node("DequantizeLinear", ["b", "s", "z"], ["y"]),
    ]
    path = save(here / "net.onnx", nodes, constants, kinds=FLOATS, output=(1, 3, *SIZE))
    with pytest.raises(
        InputError, match=r"quantised already \(weights only\).*BitShift computes on integers.*float file"
    ):
        export(str(path), "onnx-fp32")


@pytest.mark.parametrize(("scale", "cut"), [(6 / 255, 6.0), (0.05, np.inf)])
def test_a_relu_that_the_range_stood_for_is_put_back(scale: float, cut: float, here: Path) -> None:
    """A quantiser drops ReLU and ReLU6 before a Q that clips as they do."""
    constants: dict[str, Any] = {
        "w": weights(4, 3, 1, 1) / 32,
        "v": np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1),
        "s": np.float32(scale),
        "z": np.uint8(0),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Conv", ["d", "v"], ["y"]),
    ]
    path = save(here / "net.onnx", nodes, constants, kinds=FLOATS, output=(1, 4, *SIZE))
    picture = pictures(1)[0]
    (have,) = answer(export(str(path), "onnx-fp32"), picture).values()
    before = np.einsum("oi,bihw->bohw", constants["w"][:, :, 0, 0], picture)
    assert before.min() < -1
    assert before.max() > 6.5
    assert np.allclose(have, np.clip(before, 0, cut), atol=1e-4)


def test_ranges_are_those_of_the_integers() -> None:
    """Symmetric and not, of what may be negative and what may not."""

    def found(scale: float, zero: Any, before: list[onnx.NodeProto], name: str) -> Any:
        nodes = [
            *before,
            node("QuantizeLinear", [name, "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("Conv", ["d", "w"], ["y"]),
        ]
        tensors = {"s": np.float32(scale), "z": zero, "w": weights(2, 3, 1, 1)}
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, *SIZE))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, *SIZE))],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
        )
        values = dequantize(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])).ranges[name]
        return values.threshold, values.low, values.high

    relu = [node("Relu", ["x"], ["r"])]
    assert found(0.5, np.int8(0), [], "x") == (63.5, -64, 63.5)
    assert found(0.5, np.int8(0), relu, "r") == (63.5, 0, 63.5)
    assert found(0.5, np.uint8(0), relu, "r") == (127.5, 0, 127.5)
    assert found(0.5, np.uint8(100), [], "x") == (77.5, -50, 77.5)
    assert found(0.5, np.int8(-128), [], "x") == (127.5, 0, 127.5)
