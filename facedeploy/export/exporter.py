"""`facedeploy export`: checkpoint -> ONNX -> compiled networks, each loaded again and compared, -> artifact."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from facedeploy import parity, pipelines
from facedeploy.artifact import (
    Artifact,
    Manifest,
    NetworkEntry,
    Parity,
    SourceFile,
    describe_file,
    sha256,
    staged,
    write_manifest,
)
from facedeploy.errors import InputError
from facedeploy.export.compiler import Compile, Compiled, Job
from facedeploy.export.lowering import DeformConvForm
from facedeploy.export.onnx import export_onnx
from facedeploy.export.precision import choose_float32
from facedeploy.extras import installed_versions, require
from facedeploy.models import registry
from facedeploy.models.model import Model
from facedeploy.models.specs import InputSize
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.spec import NetworkSpec
from facedeploy.target import Backend, Target

if TYPE_CHECKING:
    from torch import nn

    from facedeploy.models.architecture import Modules

Progress = Callable[[str], None]

# Each module has `compile_network(job)`; it is imported when its target is asked for.
_COMPILERS: dict[Backend, str] = {
    "onnx": "facedeploy.export.onnxruntime",
    "openvino": "facedeploy.export.openvino",
    "ncnn": "facedeploy.export.ncnn.convert",
    "trt": "facedeploy.export.tensorrt",
}
_NEEDS: dict[Backend, tuple[tuple[str, str], ...]] = {
    "torch": (),
    "onnx": (),
    "openvino": (("openvino", "openvino"),),
    "ncnn": (("ncnn", "ncnn"), ("pnnx", "ncnn")),
    "trt": (),
}
# Their forms of DeformConv and of the priors are constants of one size.
_FIXED_SIZE: tuple[Backend, ...] = ("ncnn", "trt")
_TOOLS = (
    "facedeploy",
    "torch",
    "onnx",
    "onnxsim",
    "onnxruntime",
    "openvino",
    "ncnn",
    "pnnx",
    "tensorrt",
    "tensorrt-rtx-cu13",
)


def export(
    model: str,
    target: str | Target,
    weights: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    input_size: InputSize | None = None,
    deform_conv: DeformConvForm | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress = lambda step: None,
) -> Artifact:
    """Compile a model for a target and write the artifact.

    Args:
        model: id of a model, as `facedeploy models` lists them.
        target: such as "openvino-fp16".
        weights: checkpoint file, or the folder of a model with several networks; None for the embedded model.
        output: folder to write; it must not exist or be empty. Default: `<model>-<target>` here.
        input_size: (height, width), or "any" for a network without a fixed size; see the model.
        deform_conv: the form of deformable convolutions; None for what suits the backend.
        options: changes to the pipeline's configuration, kept in the artifact.
        progress: called with the name of each step.

    Raises:
        InputError, CheckpointError, BackendUnavailableError: the call is wrong; nothing is written.
        ConversionError, ParityError: a compiled network is unusable or wrong; nothing is written.
    """
    target = target if isinstance(target, Target) else Target.parse(target)
    known = registry.get(model)
    for module, extra in (("torch", "export"), ("onnxruntime", "export"), *_NEEDS[target.backend]):
        require(module, extra)
    pipeline = pipelines.configure(known.family, options or {}, known.options)
    specs = known.network_specs(input_size)
    if input_size == "any" and target.backend in _FIXED_SIZE:
        msg = f"{target} compiles {model} for one size: give --input-size HEIGHTxWIDTH"
        raise InputError(msg)
    checkpoint = None if weights is None else Path(weights)
    files = known.find_weights(checkpoint)
    output = output or f"{model}-{target}"
    with staged(output) as folder:
        modules = known.load(checkpoint)
        references = known.networks(modules)
        folded = known.fold(references)
        parts = _save_weights(modules, folder) if target.backend == "torch" else {}
        networks: list[NetworkEntry] = []
        rows: list[Parity] = []
        for spec in specs:
            job = _Export(
                known,
                references[spec.name],
                folded[spec.name],
                spec,
                target,
                folder,
                parity.probe_inputs(spec, pipelines.preprocess(pipeline), known.define().probe),
                deform_conv,
            )
            entry, checked = _export_network(job, parts, progress)
            networks.append(entry)
            rows += checked
        write_manifest(
            folder,
            Manifest(
                model=model,
                target=target,
                networks=tuple(networks),
                pipeline=pipeline,
                source=tuple(SourceFile(n, f.name, sha256(f)) for n, f in files.items()),
                tools=installed_versions(*_TOOLS),
                parity=tuple(rows),
            ),
        )
    return Artifact.open(output)


@dataclass(frozen=True)
class _Export:
    """One network on its way. `feeds` are the inputs that it is compared on."""

    model: Model
    reference: nn.Module
    module: nn.Module
    spec: NetworkSpec
    target: Target
    folder: Path
    feeds: list[Arrays]
    deform_conv: DeformConvForm | None


def _export_network(job: _Export, parts: dict[str, str], progress: Progress) -> tuple[NetworkEntry, tuple[Parity, ...]]:
    spec, target = job.spec, job.target
    reference = TorchRuntime(job.reference, spec, RuntimeOptions())
    if target.backend == "torch":
        compiled = Compiled(parts)
    else:
        with tempfile.TemporaryDirectory() as work:
            progress(f"{spec.name}: PyTorch to ONNX")
            onnx = Path(work) / f"{spec.name}.onnx"
            export_onnx(job.module, spec, onnx)
            with OnnxRuntimeRuntime(onnx, spec, RuntimeOptions()) as runtime:
                parity.check(parity.measure(reference, runtime, job.feeds, "fp32"), "fp32")
            float32: tuple[str, ...] = ()
            if target.precision == "fp16":
                progress(f"{spec.name}: half precision in ONNX Runtime")
                rungs = job.model.float32.get(spec.name, ((),))
                float32 = choose_float32(onnx, spec, rungs, job.feeds)
            progress(f"{spec.name}: compile for {target}")
            compile_network = _compiler(target.backend)
            compiled = compile_network(Job(spec, onnx, target.precision, job.folder, float32, job.deform_conv))
    entry = NetworkEntry(
        spec=spec,
        files={role: describe_file(job.folder, name) for role, name in compiled.files.items()},
        engine=compiled.engine,
        lowerings=compiled.lowerings,
        float32=compiled.float32,
    )
    progress(f"{spec.name}: compare with PyTorch")
    return entry, _compare(job, reference, entry)


def _compare(job: _Export, reference: TorchRuntime, entry: NetworkEntry) -> tuple[Parity, ...]:
    """Load what was compiled in its own runtime and compare; a TensorRT graph also in ONNX Runtime."""
    substitutes: list[Substitute | None] = []
    if job.target.backend == "trt":
        substitutes.append("onnxruntime")
    if job.target.backend != "trt" or _engine_runs_here(entry):
        substitutes.append(None)
    rows: list[Parity] = []
    for substitute in substitutes:
        options = RuntimeOptions()
        with open_network(job.model.id, job.target, entry, job.folder, options, substitute) as runtime:
            rows += parity.measure(reference, runtime, job.feeds, job.target.precision)
    parity.check(rows, job.target.precision)
    return tuple(rows)


def _engine_runs_here(entry: NetworkEntry) -> bool:
    from facedeploy.runtimes.tensorrt_api import gpu_available

    return entry.engine == "ready" and gpu_available()


def _save_weights(modules: Modules, folder: Path) -> dict[str, str]:
    """Write the state dict of each part; returns part -> file name."""
    save_file = require("safetensors.torch", "export").save_file
    names = {part: f"{part}.safetensors" for part in modules}
    for part, module in modules.items():
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / names[part])
    return names


def _compiler(backend: Backend) -> Compile:
    return cast(Compile, importlib.import_module(_COMPILERS[backend]).compile_network)
