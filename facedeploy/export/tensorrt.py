"""ONNX to a TensorRT engine, by either module: `tensorrt`, or `tensorrt_rtx`, which needs no GPU.

The network is strongly typed: every tensor has the type that the graph gives it, so the casts and
the Q/DQ pairs of the graph are the precision.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedeploy.errors import BackendUnavailableError, ConversionError
from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.passes.float16 import compute_float16
from facedeploy.extras import require
from facedeploy.runtimes.tensorrt_api import (
    create,
    differences,
    find_tensorrt,
    reason,
    tensor_spec,
    trt_errors,
    trt_logger,
)
from facedeploy.spec import NetworkSpec, TensorSpec


@dataclass(frozen=True)
class LayerDescription:
    """A layer as TensorRT parsed it. `type` is TensorRT's word, such as CONVOLUTION."""

    name: str
    type: str
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class NetworkDescription:
    """What TensorRT parsed. In the shapes, -1 is a dynamic dimension."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[LayerDescription, ...]


def compile_network(job: Job) -> Compiled:
    """Write the strongly typed graph `<name>.onnx`, and `<name>.engine` where TensorRT is installed.

    Raises:
        ConversionError: TensorRT refuses the graph.
    """
    name = job.spec.name
    graph = job.folder / f"{name}.onnx"
    if job.precision == "fp16":
        onnx = require("onnx", "export")
        onnx.save(compute_float16(onnx.load(job.onnx), job.float32), graph)
    else:
        shutil.copyfile(job.onnx, graph)
    trt = find_tensorrt()
    if trt is None:
        return Compiled({"onnx": graph.name}, engine="pending")
    engine = job.folder / f"{name}.engine"
    engine.write_bytes(build_engine(trt, graph, job.spec))
    return Compiled({"onnx": graph.name, "engine": engine.name}, engine="ready")


def build_engine(trt: Any, onnx: Path, spec: NetworkSpec) -> bytes:
    """Compile `onnx` for the ranges of the spec's axes. `trt` is one of the two modules.

    The engine is for this version of TensorRT and this GPU, or with `tensorrt_rtx` for every GPU
    that this version can target (Ampere and newer, unless the builder is told otherwise).

    Raises:
        BackendUnavailableError: this builder needs a GPU and finds none.
        ConversionError: TensorRT does not parse or build the graph, or reads another spec from it.
    """
    with trt_errors(trt) as errors:
        parsed = _parse(trt, onnx, errors)
        description = _describe(trt, parsed.network)
        if wrong := differences(spec, description.inputs, description.outputs):
            msg = f"TensorRT reads another network than {spec.name} from {onnx}: {'; '.join(wrong)}"
            raise ConversionError(msg)
        config = _configure(trt, parsed.builder, spec)
        engine = parsed.builder.build_serialized_network(parsed.network, config)
    if engine is None:
        msg = f"TensorRT does not build {spec.name} from {onnx}: {reason(errors)}"
        raise ConversionError(msg)
    return bytes(engine)


def describe_network(trt: Any, onnx: Path) -> NetworkDescription:
    """Parse `onnx`, build nothing, and say what the network is. Raises as `build_engine` does."""
    with trt_errors(trt) as errors:
        return _describe(trt, _parse(trt, onnx, errors).network)


@dataclass(frozen=True)
class _Parsed:
    """The network reads weights that the parser owns, so the three live and die together."""

    builder: Any
    network: Any
    parser: Any


def _parse(trt: Any, onnx: Path, errors: list[str]) -> _Parsed:
    builder = create(trt.Builder, trt)
    if builder is None:
        msg = f"{trt.__name__} cannot build without a working NVIDIA GPU: {reason(errors)}"
        raise BackendUnavailableError(msg)
    network = builder.create_network(_flags(trt))
    parser = trt.OnnxParser(network, trt_logger(trt))
    if not parser.parse_from_file(str(onnx)):
        found = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        msg = f"TensorRT does not parse {onnx}: {reason(found or errors)}"
        raise ConversionError(msg)
    return _Parsed(builder, network, parser)


def _flags(trt: Any) -> int:
    # Every network is strongly typed in the versions that have no such flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _configure(trt: Any, builder: Any, spec: NetworkSpec) -> Any:
    config = builder.create_builder_config()
    # On by default; it rounds the factors of a float32 product to 10 bits of mantissa.
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    if spec.axes:
        _add_profile(builder, config, spec)
    return config


def _add_profile(builder: Any, config: Any, spec: NetworkSpec) -> None:
    profile = builder.create_optimization_profile()
    ranges = [spec.input_shapes(which) for which in ("minimum", "optimum", "maximum")]
    try:
        for tensor in spec.inputs:
            profile.set_shape(tensor.name, *(shapes[tensor.name] for shapes in ranges))
        accepted = config.add_optimization_profile(profile) >= 0
    except ValueError:
        accepted = False
    if not accepted:
        msg = f"TensorRT does not take the ranges of {spec.name}'s axes: {spec.axes}"
        raise ConversionError(msg)


def _describe(trt: Any, network: Any) -> NetworkDescription:
    layers = []
    for layer in map(network.get_layer, range(network.num_layers)):
        outputs = map(layer.get_output, range(layer.num_outputs))
        tensors = tuple(_spec(trt, tensor) for tensor in outputs)
        layers.append(LayerDescription(layer.name, layer.type.name, tensors))
    return NetworkDescription(
        inputs=tuple(_spec(trt, network.get_input(i)) for i in range(network.num_inputs)),
        outputs=tuple(_spec(trt, network.get_output(i)) for i in range(network.num_outputs)),
        layers=tuple(layers),
    )


def _spec(trt: Any, tensor: Any) -> TensorSpec:
    return tensor_spec(trt, tensor.name, tensor.shape, tensor.dtype)
