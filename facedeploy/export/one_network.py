"""One network on its way into an artifact: to ONNX, compiled, loaded again and compared."""

from __future__ import annotations

import tempfile
from pathlib import Path

from facedeploy.artifact.manifest import NetworkEntry, Parity
from facedeploy.core.errors import ParityError
from facedeploy.core.progress import Progress
from facedeploy.export import compiler
from facedeploy.export.blame import with_blame
from facedeploy.export.check_network import NetworkExport, check_compiled, describe_compiled
from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.expected import SCHEMES
from facedeploy.export.fp16_fallback import choose_float32
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.wrapped import Remembered
from facedeploy.verification import tensors as parity


def export_network(
    job: NetworkExport, parts: dict[str, str], progress: Progress
) -> tuple[NetworkEntry, tuple[Parity, ...]]:
    """Compile a network and compare it with what it came from.

    Args:
        job: The network.
        parts: Part of the weights -> file; only for PyTorch, which compiles nothing.
        progress: Called with the name of each step.

    Returns:
        What the manifest says of it, and how far each output is off.

    Raises:
        ConversionError: a converter failed.
        ParityError: an output is off; it names the first operator that is.
    """
    network, target = job.network, job.target
    spec, boxes = network.spec, job.source.boxes
    reference = Remembered(network.reference(RuntimeOptions()))
    if target.backend == "torch":
        compiled = Compiled(parts)
    else:
        with tempfile.TemporaryDirectory() as work:
            progress(f"{spec.name}: to ONNX")
            onnx_path = Path(work) / f"{spec.name}.onnx"
            job.write(onnx_path)
            with OnnxRuntimeRuntime(onnx_path, spec, RuntimeOptions()) as runtime:
                parity.check(parity.measure(reference, runtime, job.feeds, "fp32", boxes), "fp32")
            float32: tuple[str, ...] = ()
            if target.precision == "fp16":
                progress(f"{spec.name}: half precision in ONNX Runtime")
                float32 = choose_float32(onnx_path, spec, network.fallback_candidates(onnx_path), job.feeds, boxes)
            progress(f"{spec.name}: compile for {target}")
            compiled = _compile(job, onnx_path, float32)
    entry = describe_compiled(spec, job.folder, compiled)
    progress(f"{spec.name}: compare")
    try:
        return entry, check_compiled(job, reference, entry)
    except ParityError as error:
        if target.backend == "torch":
            raise
        raise with_blame(error, [job], [entry], progress) from error


def _compile(job: NetworkExport, onnx_path: Path, float32: tuple[str, ...]) -> Compiled:
    """Compile; for int8 with biases for just those layers that the backend computes in int8."""
    compile_network = compiler.find(job.target.backend)
    layers = job.int8
    while True:
        if layers:
            job.write_corrected(onnx_path, layers)
        compiled = compile_network(
            Job(job.network.spec, onnx_path, job.target.precision, job.folder, float32, job.deform_conv, layers)
        )
        left = {name: values for name, values in layers.items() if name in compiled.int8}
        if all(name in left or not v.correction(SCHEMES[job.target.backend]) for name, v in layers.items()):
            return compiled
        layers = left
