"""ONNX to a TensorRT engine, by either module: `tensorrt`, or `tensorrt_rtx`, which needs no GPU.

The network is strongly typed: every tensor has the type that the graph gives it, so the casts and
the Q/DQ pairs of the graph are the precision.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedeploy.core.errors import BackendUnavailableError, ConversionError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.export.compiler import Compiled, Job
from facedeploy.graph.lowering import DeformConvForm, lower
from facedeploy.graph.passes.deform_conv import DeformConv
from facedeploy.graph.passes.float16 import compute_float16, exact_weights
from facedeploy.graph.passes.insert_qdq import insert_qdq, quantized
from facedeploy.runtimes.tensorrt_api import (
    create,
    differences,
    find_tensorrt,
    reason,
    tensor_spec,
    trt_errors,
    trt_logger,
)

_IMPORTS_DEFORM_CONV = (10, 1)


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
    trt = find_tensorrt()
    model, lowerings = lower(
        onnx.load(job.onnx_path), job.deform_conv, _preferred(trt), functools.partial(_refuse, trt)
    )
    kept: tuple[str, ...] = ()
    if job.precision == "fp16":
        kept = (*job.float32, *exact_weights(model))
        model = compute_float16(model, kept)
    if job.precision == "int8":
        model = insert_qdq(model, job.int8, "symmetric")
    integers = quantized(model)
    graph = job.folder / f"{name}.onnx"
    onnx.save(model, graph)
    files = {"onnx": graph.name}
    if trt is None:
        return Compiled(files, "pending", lowerings, kept, integers)
    engine = job.folder / f"{name}.engine"
    engine.write_bytes(build_engine(trt, graph, job.spec))
    return Compiled({**files, "engine": engine.name}, "ready", lowerings, kept, integers)


def check_graph(job: Job) -> None:
    """Have TensorRT parse the float32 graph of a job, and build nothing.

    Raises:
        BackendUnavailableError: no TensorRT here.
        ConversionError: TensorRT does not take it; where it lacks operators, these stand after the last colon.
    """
    trt = find_tensorrt()
    if trt is None:
        msg = "no TensorRT here: run `pip install 'facedeploy[tensorrt-rtx]'` or `'facedeploy[tensorrt]'`"
        raise BackendUnavailableError(msg)
    model, _ = lower(onnx.load(job.onnx_path), job.deform_conv, _preferred(trt), functools.partial(_refuse, trt))
    graph = job.folder / f"{job.spec.name}.onnx"
    onnx.save(model, graph)
    with trt_errors(trt) as errors:
        builder = _builder(trt, errors)
        network = builder.create_network(_flags(trt))
        parser = trt.OnnxParser(network, trt_logger(trt))
        lacking = sorted({n.op_type for n in model.graph.node if not parser.supports_operator(n.op_type)})
    if lacking:
        msg = f"TensorRT does not import operators of {job.spec.name}: {', '.join(lacking)}"
        raise ConversionError(msg)
    describe_network(trt, graph)


def _preferred(trt: Any | None) -> DeformConvForm:
    # Where no TensorRT is here, what the device has is not known, and GridSample needs no plugin anywhere.
    return "gridsample" if trt is None else "native"


def _refuse(trt: Any | None, op: DeformConv) -> str:
    """Why TensorRT's importer does not take an operator as it is."""
    if trt is not None and trt.__name__ != "tensorrt":
        return "TensorRT-RTX has no deformable convolution and no plugin for one"
    if trt is not None and _version(trt) < _IMPORTS_DEFORM_CONV:
        return f"TensorRT {trt.__version__} does not import DeformConv, which 10.1 does"
    if op.pads[:2] != op.pads[2:]:
        return f"TensorRT pads both ends of an axis alike, not {op.pads}"
    return ""


def _version(trt: Any) -> tuple[int, int]:
    major, minor, *_ = str(trt.__version__).split(".")
    return int(major), int(minor)


def build_engine(trt: Any, onnx_path: Path, spec: NetworkSpec) -> bytes:
    """Compile an ONNX file for the ranges of the spec's axes. `trt` is one of the two modules.

    The engine is for this version of TensorRT and this GPU, or with `tensorrt_rtx` for every GPU
    that this version can target (Ampere and newer, unless the builder is told otherwise).

    Raises:
        BackendUnavailableError: this builder needs a GPU and finds none.
        ConversionError: TensorRT does not parse or build the graph, or reads another spec from it.
    """
    with trt_errors(trt) as errors:
        parsed = _parse(trt, onnx_path, errors)
        description = _describe(trt, parsed.network)
        if wrong := differences(spec, description.inputs, description.outputs):
            msg = f"TensorRT reads another network than {spec.name} from {onnx_path}: {'; '.join(wrong)}"
            raise ConversionError(msg)
        config = _configure(trt, parsed.builder, spec)
        engine = parsed.builder.build_serialized_network(parsed.network, config)
    if engine is None:
        msg = f"TensorRT does not build {spec.name} from {onnx_path}: {reason(errors)}"
        raise ConversionError(msg)
    return bytes(engine)


def describe_network(trt: Any, onnx_path: Path) -> NetworkDescription:
    """Parse an ONNX file, build nothing, and say what the network is. Raises as `build_engine` does."""
    with trt_errors(trt) as errors:
        return _describe(trt, _parse(trt, onnx_path, errors).network)


@dataclass(frozen=True)
class _Parsed:
    """The network reads weights that the parser owns, so the three live and die together."""

    builder: Any
    network: Any
    parser: Any


def _parse(trt: Any, onnx_path: Path, errors: list[str]) -> _Parsed:
    builder = _builder(trt, errors)
    network = builder.create_network(_flags(trt))
    parser = trt.OnnxParser(network, trt_logger(trt))
    if not parser.parse_from_file(str(onnx_path)):
        found = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        msg = f"TensorRT does not parse {onnx_path}: {reason(found or errors)}"
        raise ConversionError(msg)
    return _Parsed(builder, network, parser)


def _builder(trt: Any, errors: list[str]) -> Any:
    builder = create(trt.Builder, trt)
    if builder is None:
        msg = f"{trt.__name__} cannot build without a working NVIDIA GPU: {reason(errors)}"
        raise BackendUnavailableError(msg)
    return builder


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
