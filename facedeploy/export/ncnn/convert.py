"""ONNX to ncnn with pnnx, whose exit status says nothing: what it wrote is looked at instead."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facedeploy.core.errors import ConversionError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import ncnn, onnx, pnnx
from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.ncnn import deform_conv, int8
from facedeploy.export.ncnn.arm_fp16 import for_arm_fp16
from facedeploy.export.ncnn.find_layers import find_int8_layers, find_layers
from facedeploy.export.ncnn.forms.outputs import put_back, set_aside
from facedeploy.export.ncnn.forms.prepare import prepare
from facedeploy.export.ncnn.reductions import repeat_axes
from facedeploy.export.ncnn.refusals import operators, stops_at
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import calibration_table as table
from facedeploy.formats.ncnn import param as graph
from facedeploy.formats.ncnn.layouts import blocks
from facedeploy.formats.ncnn.shared_weights import share
from facedeploy.graph.decode.writer import PREFIX
from facedeploy.graph.lowering import DeformConvForm, lower
from facedeploy.graph.passes.float16 import exact_weights
from facedeploy.graph.sampling_positions import Step, averages, exact_steps, feeding, spread
from facedeploy.runtimes.ncnn import ncnn_options

_TIMEOUT_SECONDS = 900
_WAY_OUT = "write this part of the network in another way, or export for another backend"
# layer type -> the inputs that say where, and how much, it samples
_SAMPLERS = {"DeformableConv2D": (1, 2), "GridSample": (1,)}
_MODULATORS = {"GridSample": "BinaryOp"}
_MOVES = frozenset({"Concat", "Crop", "ExpandDims", "Flatten", "Permute", "Reshape", "Slice", "Split", "Squeeze"})
_CONTRACTIONS = frozenset({"Convolution", "ConvolutionDepthWise", "Deconvolution", "InnerProduct", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Converted:
    """What pnnx made of a graph, in float32.

    Attributes:
        model: The ONNX graph that it was given.
        lowerings: Operator -> the form that was chosen.
        layers: Of ncnn's graph.
        arrays: Layer -> its arrays.
    """

    model: onnx.ModelProto
    lowerings: dict[str, str]
    layers: tuple[graph.NcnnLayer, ...]
    arrays: dict[str, weights.Arrays]


def compile_network(job: Job) -> Compiled:
    """Write `<name>.param`, with the network's own tensor names, and `<name>.bin`; for int8 also `<name>.table`.

    Raises:
        ConversionError: pnnx wrote nothing, or layers that ncnn does not have, or a weight of the job is not in them.
    """
    name = job.spec.name
    converted = convert(job.spec, job.onnx_path, job.deform_conv)
    layers, arrays = converted.layers, converted.arrays
    files = {"param": f"{name}.param", "bin": f"{name}.bin"}
    kept: tuple[str, ...] = ()
    quantised: tuple[str, ...] = ()
    if job.precision == "fp16":
        kept = (*job.float32, *exact_weights(converted.model))
        layers, arrays = weights.to_half(layers, arrays, _kept_layers(job, converted))
        layers = for_arm_fp16(layers)
    elif job.precision == "int8":
        wanted = find_int8_layers(job.spec.name, job.int8, converted.model, layers, arrays)
        thresholds = {v: max(job.int8[n].threshold for n in names) for v, names in wanted.items()}
        layers, arrays = int8.to_int8(layers, arrays, thresholds)
        found = {n for names in wanted.values() for n in names}
        quantised = tuple(n for n in job.int8 if n in found)
        files["table"] = f"{name}.table"
        (job.folder / files["table"]).write_text(table.render(table.scales_of(layers, arrays)), encoding="utf-8")
    layers, arrays = share(layers, arrays)
    (job.folder / files["param"]).write_text(graph.render(layers), encoding="utf-8")
    (job.folder / files["bin"]).write_bytes(weights.write(layers, arrays))
    options = ncnn_options(job.precision)
    return Compiled(files, lowerings=converted.lowerings, float32=kept, int8=quantised, options=options)


def convert(spec: NetworkSpec, path: Path, form: DeformConvForm | None = None) -> Converted:
    """Convert an ONNX file and check what pnnx wrote.

    Raises:
        ConversionError: it wrote nothing, or layers that ncnn does not have.
    """
    # ncnn's own layer has no ARM kernel and is many times slower there; on x86 it is a tenth faster.
    model, lowerings = lower(onnx.load(path), form, "gridsample", deform_conv.refuse)
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / f"{spec.name}.onnx"
        prepare(model)
        aside = set_aside(model, spec.name)  # What was not the same may be, in its new form.
        repeat_axes(model)
        onnx.save(model, source)
        param, data = _run_pnnx(model, spec, source, Path(work))
        text, binary = param.read_bytes(), data.read_bytes()
    try:
        layers = _name_apart(graph.parse(text.decode(errors="replace")))
        _check_layers(layers, spec.name, model)
        layers, arrays = deform_conv.restore(layers, weights.read(layers, binary), model)
        names = _names(spec, [v.name for v in model.graph.output])
        layers = graph.rename_blobs(graph.make_room(layers, names), names)
        layers, arrays = put_back(layers, arrays, aside, spec)
        return Converted(model, lowerings, layers, arrays)
    except ConversionError as error:
        msg = f"pnnx wrote unusable files for {spec.name}: {error}; {_WAY_OUT}"
        raise ConversionError(msg) from error


def _name_apart(layers: Sequence[graph.NcnnLayer]) -> tuple[graph.NcnnLayer, ...]:
    """The layers, of which each that holds weights has a name of its own: pnnx may give one to several."""
    taken: set[str] = set()
    named = []
    for layer in layers:
        name = layer.name
        while name in taken and blocks(layer):
            name += "_"
        taken.add(name)
        named.append(replace(layer, name=name))
    return tuple(named)


def _run_pnnx(model: onnx.ModelProto, spec: NetworkSpec, source: Path, work: Path) -> tuple[Path, Path]:
    """As `run_pnnx`, with the operator named at which it stops."""

    def runs(part: NetworkSpec, path: Path, folder: Path) -> bool:
        try:
            run_pnnx(part, path, folder)
        except ConversionError:
            return False
        return True

    try:
        return run_pnnx(spec, source, work)
    except ConversionError as error:
        if not (found := stops_at(model, spec, runs)):
            raise
        msg = f"pnnx cannot convert {found} of {spec.name}: {_WAY_OUT}"
        raise ConversionError(msg) from error


def run_pnnx(spec: NetworkSpec, source: Path, work: Path) -> tuple[Path, Path]:
    """Run pnnx on the ONNX file `source` in the folder `work`. Returns the param and bin files."""
    command = [pnnx.EXEC_PATH, str(source), *_shape_arguments(spec)]
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
        msg = f"pnnx wrote no ncnn files for {spec.name} (exit status {result.returncode}): {_WAY_OUT}"
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


def _names(spec: NetworkSpec, outputs: Sequence[str]) -> dict[str, str]:
    """How pnnx names inputs and outputs, to how the network does."""
    names = {f"in{i}": t.name for i, t in enumerate(spec.inputs)}
    return names | {f"out{i}": name for i, name in enumerate(outputs)}


def _kept_layers(job: Job, converted: Converted) -> set[str]:
    """Names of the layers that stay in float32: those that positions are computed with, and those of the job's
    weights. pnnx renames layers, so these are found by their weights.

    Raises:
        ConversionError: a weight that must stay in float32 is in no layer.
    """
    model, layers, arrays = converted.model, converted.layers, converted.arrays
    if "" in job.float32:
        return {v.name for v in layers}
    # A constant has no precision of its own.
    steps = [Step(v.type, v.inputs, () if v.type == "MemoryData" else v.outputs) for v in layers]
    kept = {layers[i].name for i in exact_steps(steps, _SAMPLERS, _CONTRACTIONS, _MODULATORS)}
    for tensor in model.graph.initializer:
        if job.float32 and tensor.name.startswith(job.float32) and len(tensor.dims) > 1:
            found = find_layers(onnx.numpy_helper.to_array(tensor), arrays)
            if not found:
                msg = f"{job.spec.name}: pnnx changed {tensor.name}, which must stay in float32"
                raise ConversionError(msg)
            kept |= found
    learned = {i for i, v in enumerate(layers) if blocks(v)}
    names = _decoding(converted)
    stops = learned - averages(steps, learned, _MOVES)
    decoding = feeding(steps, {i for i, v in enumerate(layers) if v.name in names}, stops, _MOVES)
    kept |= {layers[i].name for i in decoding}
    return {layers[i].name for i in spread(steps, {i for i, v in enumerate(layers) if v.name in kept}, learned)}


def _decoding(converted: Converted) -> set[str]:
    """Names of the layers that turn the numbers of a head into pixels, by the constants that they read."""
    constants = [t for t in converted.model.graph.initializer if t.name.startswith(PREFIX) and len(t.dims) > 1]
    found = set().union(*(find_layers(onnx.numpy_helper.to_array(t), converted.arrays) for t in constants))
    read = {output for v in converted.layers if v.name in found for output in v.outputs}
    return found | {v.name for v in converted.layers if not read.isdisjoint(v.inputs)}


def _check_layers(layers: tuple[graph.NcnnLayer, ...], name: str, model: onnx.ModelProto) -> None:
    unknown = sorted({v.type for v in layers if v.type != deform_conv.COPIED and ncnn.create_layer(v.type) is None})
    if unknown:
        named = ", ".join(operators(unknown, model))
        msg = f"pnnx wrote layers for {name} that ncnn does not have: {named}"
        raise ConversionError(msg)
