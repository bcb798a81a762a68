"""ONNX to ncnn with pnnx, whose exit status says nothing: what it wrote is looked at instead."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facedeploy.errors import ConversionError
from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.lowering import lower
from facedeploy.export.ncnn import deform_conv, graph, weights
from facedeploy.export.passes.float16 import exact_weights
from facedeploy.export.positions import Step, exact_steps, spread
from facedeploy.extras import require
from facedeploy.spec import NetworkSpec

if TYPE_CHECKING:
    import onnx

_TIMEOUT_SECONDS = 900
# layer type -> the inputs that say where, and how much, it samples
_SAMPLERS = {"DeformableConv2D": (1, 2), "GridSample": (1,)}
_MODULATORS = {"GridSample": "BinaryOp"}
_CONTRACTIONS = frozenset({"Convolution", "ConvolutionDepthWise", "Deconvolution", "InnerProduct", "Gemm", "MatMul"})


def compile_network(job: Job) -> Compiled:
    """Write `<name>.param`, with the network's own tensor names, and `<name>.bin`.

    Raises:
        ConversionError: pnnx wrote nothing, or layers that ncnn does not have.
    """
    onnx = require("onnx", "export")
    name = job.spec.name
    # ncnn's own layer has no ARM kernel and is many times slower there; on x86 it is a tenth faster.
    model, lowerings = lower(onnx.load(job.onnx), job.deform_conv, "gridsample", deform_conv.refuse)
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / f"{name}.onnx"
        onnx.save(model, source)
        param, data = run_pnnx(job.spec, source, Path(work))
        text, binary = param.read_bytes(), data.read_bytes()
    try:
        layers, binary, kept = _finish(job, model, text.decode(errors="replace"), binary)
    except ConversionError as error:
        msg = f"pnnx wrote unusable files for {name}: {error}"
        raise ConversionError(msg) from error
    (job.folder / f"{name}.param").write_text(graph.render(layers), encoding="utf-8")
    (job.folder / f"{name}.bin").write_bytes(binary)
    return Compiled({"param": f"{name}.param", "bin": f"{name}.bin"}, lowerings=lowerings, float32=kept)


def _finish(
    job: Job, model: onnx.ModelProto, text: str, binary: bytes
) -> tuple[tuple[graph.Layer, ...], bytes, tuple[str, ...]]:
    """Check what pnnx wrote, name the blobs, and store the weights in the job's precision."""
    layers = graph.parse(text)
    _check_layers(layers, job.spec.name)
    layers, arrays = deform_conv.restore(layers, weights.read(layers, binary), model)
    layers = graph.rename_blobs(layers, _names(job.spec))
    if job.precision == "fp32":
        return layers, weights.write(layers, arrays), ()
    kept = (*job.float32, *exact_weights(model))
    layers, arrays = weights.to_half(layers, arrays, _kept_layers(job, model, layers, arrays))
    return layers, weights.write(layers, arrays), kept


def run_pnnx(spec: NetworkSpec, source: Path, work: Path) -> tuple[Path, Path]:
    """Run pnnx on the ONNX file `source` in the folder `work`. Returns the param and bin files."""
    executable = require("pnnx", "ncnn").EXEC_PATH
    command = [executable, str(source), *_shape_arguments(spec)]
    command += ["fp16=0"]  # Its own halving takes every layer.
    files = {kind: work / f"{spec.name}.{kind}" for kind in ("param", "bin")}
    command += [f"ncnn{kind}={path}" for kind, path in files.items()]
    # The rest of what it writes goes beside its input unless it is told where.
    others = {"pnnxparam": "pnnx.param", "pnnxbin": "pnnx.bin", "pnnxonnx": "pnnx.onnx"}
    others |= {"pnnxpy": "pnnx.py", "ncnnpy": "ncnn.py"}
    command += [f"{key}={work / file}" for key, file in others.items()]
    try:
        result = subprocess.run(
            command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        msg = f"pnnx did not finish {spec.name} in {_TIMEOUT_SECONDS} seconds"
        raise ConversionError(msg) from error
    if not all(path.is_file() and path.stat().st_size for path in files.values()):
        tail = " | ".join((result.stdout + result.stderr).strip().splitlines()[-3:])
        msg = f"pnnx wrote no ncnn files for {spec.name} (exit status {result.returncode}): {tail}"
        raise ConversionError(msg)
    return files["param"], files["bin"]


def _shape_arguments(spec: NetworkSpec) -> list[str]:
    """There is no batch in the graph of ncnn, so only the other axes are shown to be dynamic."""

    def shapes(which: str) -> str:
        sizes = spec.input_shapes(which).values()
        return ",".join("[" + ",".join(map(str, (1, *s[1:]))) + "]f32" for s in sizes)

    arguments = [f"inputshape={shapes('optimum')}"]
    if shapes("maximum") != shapes("optimum"):
        arguments.append(f"inputshape2={shapes('maximum')}")
    return arguments


def _names(spec: NetworkSpec) -> dict[str, str]:
    """How pnnx names inputs and outputs, to how the network does."""
    names = {f"in{i}": t.name for i, t in enumerate(spec.inputs)}
    return names | {f"out{i}": t.name for i, t in enumerate(spec.outputs)}


def _kept_layers(
    job: Job, model: onnx.ModelProto, layers: tuple[graph.Layer, ...], arrays: dict[str, weights.Arrays]
) -> set[str]:
    """Names of the layers that stay in float32: those that positions are computed with, and those of the job's
    weights. pnnx renames layers, so these are found by their weights.

    Raises:
        ConversionError: a weight that must stay in float32 is in no layer.
    """
    if "" in job.float32:
        return {v.name for v in layers}
    onnx = require("onnx", "export")
    # A constant has no precision of its own.
    steps = [Step(v.type, v.inputs, () if v.type == "MemoryData" else v.outputs) for v in layers]
    kept = {layers[i].name for i in exact_steps(steps, _SAMPLERS, _CONTRACTIONS, _MODULATORS)}
    for tensor in model.graph.initializer:
        if job.float32 and tensor.name.startswith(job.float32) and len(tensor.dims) > 1:
            wanted = onnx.numpy_helper.to_array(tensor).ravel()
            found = {name for name, (weight, *_) in arrays.items() if np.array_equal(weight, wanted)}
            if not found:
                msg = f"{job.spec.name}: pnnx changed {tensor.name}, which must stay in float32"
                raise ConversionError(msg)
            kept |= found
    learned = {i for i, v in enumerate(layers) if v.name in arrays}
    return {layers[i].name for i in spread(steps, {i for i, v in enumerate(layers) if v.name in kept}, learned)}


def _check_layers(layers: tuple[graph.Layer, ...], name: str) -> None:
    ncnn = require("ncnn", "ncnn")
    unknown = sorted({v.type for v in layers if v.type != deform_conv.COPIED and ncnn.layer_to_index(v.type) < 0})
    if unknown:
        msg = f"pnnx wrote layers for {name} that ncnn does not have: {', '.join(unknown)}"
        raise ConversionError(msg)
