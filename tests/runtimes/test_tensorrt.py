"""The real TensorRT-RTX builder, which needs no GPU; the runtime only where there is one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facedeploy.core.errors import BackendUnavailableError, ConversionError
from facedeploy.core.network_spec import Axis, NetworkSpec, TensorSpec
from facedeploy.export.tensorrt import NetworkDescription, build_engine, describe_network
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.cuda import Cuda, Memory
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.tensorrt import TensorRtRuntime
from facedeploy.runtimes.tensorrt_api import gpu_available

trt = pytest.importorskip("tensorrt_rtx")

DYNAMIC = NetworkSpec(
    name="tiny",
    inputs=(TensorSpec("image", ("batch", 3, "height", "width")),),
    outputs=(TensorSpec("map", ("batch", 4, "height", "width")),),
    axes=(Axis("batch", 1, 2, 4), Axis("height", 8, 16, 32), Axis("width", 8, 24, 48)),
)
FIXED = NetworkSpec(
    name="tiny",
    inputs=(TensorSpec("image", (1, 3, 8, 12)),),
    outputs=(TensorSpec("map", (1, 4, 8, 12)),),
)
with_gpu = pytest.mark.skipif(not gpu_available(), reason="runs an engine: no CUDA device here")
without_gpu = pytest.mark.skipif(gpu_available(), reason="there is a CUDA device here")


def write(path: Path, spec: NetworkSpec, nodes: list[Any], weights: dict[str, Any]) -> Path:
    def values(tensors: tuple[TensorSpec, ...]) -> list[Any]:
        return [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.shape) for t in tensors]

    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", values(spec.inputs), values(spec.outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def convolution(path: Path, spec: NetworkSpec, *, half: bool = False) -> Path:
    """Write image -> 3x3 convolution -> PReLU -> map; `half` is float16 between two casts."""
    rng = np.random.default_rng(0)
    dtype = np.float16 if half else np.float32
    weights = {
        "kernel": rng.standard_normal((4, 3, 3, 3)).astype(dtype),
        "bias": rng.standard_normal(4).astype(dtype),
        "slope": np.full((4, 1, 1), 0.25, dtype),
    }
    start, end = ("half", "result") if half else ("image", "map")
    nodes = [
        helper.make_node("Conv", [start, "kernel", "bias"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["c", "slope"], [end], name="prelu"),
    ]
    if half:
        first = helper.make_node("Cast", ["image"], ["half"], name="to_half", to=TensorProto.FLOAT16)
        last = helper.make_node("Cast", ["result"], ["map"], name="to_float", to=TensorProto.FLOAT)
        nodes = [first, *nodes, last]
    return write(path, spec, nodes, weights)


def dtypes(description: NetworkDescription) -> dict[str, str]:
    return {layer.name: layer.outputs[0].dtype for layer in description.layers}


def test_description_of_a_float32_network(tmp_path: Path) -> None:
    description = describe_network(trt, convolution(tmp_path / "m.onnx", FIXED))
    assert description.inputs == FIXED.inputs
    assert description.outputs == FIXED.outputs
    assert {"CONVOLUTION", "PARAMETRIC_RELU"} <= {layer.type for layer in description.layers}
    assert set(dtypes(description).values()) == {"float32"}


def test_half_precision_layers_are_half(tmp_path: Path) -> None:
    description = describe_network(trt, convolution(tmp_path / "m.onnx", FIXED, half=True))
    found = dtypes(description)
    assert found["conv"] == found["prelu"] == found["to_half"] == "float16"
    assert found["to_float"] == "float32"
    assert [t.dtype for t in (*description.inputs, *description.outputs)] == ["float32"] * 2


def test_dynamic_dimensions_are_described_as_minus_one(tmp_path: Path) -> None:
    description = describe_network(trt, convolution(tmp_path / "m.onnx", DYNAMIC))
    assert description.inputs[0].shape == (-1, 3, -1, -1)
    assert description.outputs[0].shape == (-1, 4, -1, -1)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("spec", [FIXED, DYNAMIC], ids=["fixed", "dynamic"])
def test_builds(tmp_path: Path, spec: NetworkSpec, half: bool) -> None:
    assert build_engine(trt, convolution(tmp_path / "m.onnx", spec, half=half), spec)


def test_dynamic_network_needs_the_axes_of_its_spec(tmp_path: Path) -> None:
    """Without the profile the builder refuses, so a build that succeeds did get one."""
    path = convolution(tmp_path / "m.onnx", DYNAMIC)
    bare = NetworkSpec("tiny", DYNAMIC.inputs, DYNAMIC.outputs)
    with pytest.raises(ConversionError, match="no optimization profile"):
        build_engine(trt, path, bare)


def test_impossible_range_is_refused(tmp_path: Path) -> None:
    path = convolution(tmp_path / "m.onnx", DYNAMIC)
    axes = (Axis("batch", 4, 2, 1), *DYNAMIC.axes[1:])
    with pytest.raises(ConversionError, match="tiny's axes"):
        build_engine(trt, path, NetworkSpec("tiny", DYNAMIC.inputs, DYNAMIC.outputs, axes))


def test_unsupported_op_is_named(tmp_path: Path) -> None:
    spec = NetworkSpec("det", (TensorSpec("x", (2, 3, 3)),), (TensorSpec("y", (2,)),))
    node = helper.make_node("Det", ["x"], ["y"], name="the_node")
    path = write(tmp_path / "m.onnx", spec, [node], {})
    with pytest.raises(ConversionError, match=r"m\.onnx.*the_node.*Det\b.*UNSUPPORTED"):
        build_engine(trt, path, spec)


def test_garbage_is_refused_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "garbage.onnx"
    path.write_bytes(b"not a graph" * 100)
    with pytest.raises(ConversionError, match=r"garbage\.onnx: .*Failed to parse"):
        build_engine(trt, path, FIXED)
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert {r.name for r in errors} == {"facedeploy.tensorrt"}


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"absent\.onnx"):
        describe_network(trt, tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (TensorSpec("picture", (1, 3, 8, 12)), FIXED.outputs[0], "input image is .* not absent"),
        (TensorSpec("image", (1, 3, 12, 8)), FIXED.outputs[0], r"not float32 \(1, 3, 12, 8\)"),
        (TensorSpec("image", (1, 3, 8, 12), "float16"), FIXED.outputs[0], "not float16"),
        (FIXED.inputs[0], TensorSpec("score", (1, 4, 8, 12)), "output score is absent"),
        (FIXED.inputs[0], TensorSpec("map", (1, 4, 8, 11)), r"output map .* not .*11\)"),
    ],
)
def test_network_that_is_not_the_spec(tmp_path: Path, inputs: TensorSpec, outputs: TensorSpec, message: str) -> None:
    path = convolution(tmp_path / "m.onnx", FIXED)
    with pytest.raises(ConversionError, match=message):
        build_engine(trt, path, NetworkSpec("tiny", (inputs,), (outputs,)))


@without_gpu
def test_without_a_gpu_the_runtime_says_what_is_missing(tmp_path: Path) -> None:
    """The engine file does not exist: it is not touched before the GPU is there."""
    with pytest.raises(BackendUnavailableError, match=r"pip install|driver|GPU"):
        TensorRtRuntime(tmp_path / "absent.engine", FIXED, RuntimeOptions())


class _NoCuda(Cuda):
    """A device that is never reached, to see that a runtime which fails half-way closes it."""

    device = "no device"
    stream = 0
    closed = False

    def upload(self, memory: Memory, nbytes: int) -> None:
        raise AssertionError

    def download(self, memory: Memory, nbytes: int) -> None:
        raise AssertionError

    def synchronize(self) -> None:
        raise AssertionError

    def _allocate(self, nbytes: int) -> Memory:
        raise AssertionError

    def _free(self, memory: Memory) -> None:
        raise AssertionError

    def _close(self) -> None:
        self.closed = True


def test_engine_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "broken.engine"
    engine.write_bytes(b"not an engine" * 100)
    cuda = _NoCuda()
    monkeypatch.setattr("facedeploy.runtimes.tensorrt.open_cuda", lambda: cuda)
    message = r"broken\.engine.*tensorrt_rtx.*Serialization.*facedeploy build"
    with pytest.raises(ConversionError, match=message):
        TensorRtRuntime(engine, FIXED, RuntimeOptions())
    assert cuda.closed


@with_gpu
@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 2e-2)], ids=["fp32", "fp16"])
def test_round_trip(tmp_path: Path, half: bool, tolerance: float) -> None:
    """Every size gives what ONNX Runtime gives; the buffers grow, then are larger than the call."""
    path = convolution(tmp_path / "m.onnx", DYNAMIC, half=half)
    engine = tmp_path / "m.engine"
    engine.write_bytes(build_engine(trt, path, DYNAMIC))
    rng = np.random.default_rng(1)
    shapes = [(1, 3, 8, 8), (4, 3, 32, 48), (2, 3, 9, 31)]
    feeds = [{"image": rng.standard_normal(s).astype(np.float32)} for s in shapes]
    options = RuntimeOptions()
    with (
        TensorRtRuntime(engine, DYNAMIC, options) as runtime,
        OnnxRuntimeRuntime(path, DYNAMIC, options) as reference,
    ):
        found, wanted = runtime.run_many(feeds), reference.run_many(feeds)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours["map"], theirs["map"], rtol=tolerance, atol=tolerance)


@with_gpu
def test_engine_of_another_network(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    engine.write_bytes(build_engine(trt, convolution(tmp_path / "m.onnx", DYNAMIC), DYNAMIC))
    with pytest.raises(ConversionError, match="is not tiny"):
        TensorRtRuntime(engine, FIXED, RuntimeOptions())
