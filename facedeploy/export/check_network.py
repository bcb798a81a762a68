"""One network on its way into an artifact: what it is compared on, and whether what a compiler made of it is right."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from facedeploy.artifact.folder import describe_file
from facedeploy.artifact.manifest import NetworkEntry, Parity
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.core.target import Target
from facedeploy.export.check_int8 import SCHEMES, check_simulated, write_simulation
from facedeploy.export.compiler import Compiled
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.graph.passes.channel_equalization import equalize_channels
from facedeploy.graph.passes.correct_bias import correct_biases
from facedeploy.graph.ranges import Ranges
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.source import Source, SourceNetwork
from facedeploy.verification import tensors as parity


@dataclass(frozen=True)
class NetworkExport:
    """One network on its way.

    feeds: the inputs that it is compared on. judged: whether the cost of int8 was looked at already, or does not
    matter. require_faster: refuse an int8 that is slower here.
    """

    source: Source
    network: SourceNetwork
    target: Target
    folder: Path
    feeds: list[Arrays]
    deform_conv: DeformConvForm | None
    int8: Ranges
    judged: bool
    require_faster: bool

    def write(self, path: Path) -> None:
        """Write the float32 graph that is compiled; for int8 its channels are of like size."""
        self.network.write(path)
        self._equalise(path)

    def write_corrected(self, path: Path, layers: Ranges) -> None:
        """Write the same with the biases that go with int8 in some layers."""
        self.network.write(path)
        onnx.save(correct_biases(onnx.load(path), layers, SCHEMES[self.target.backend]), path)
        self._equalise(path)

    def _equalise(self, path: Path) -> None:
        if factors := {name: values.divided for name, values in self.int8.items() if values.divided}:
            onnx.save(equalize_channels(onnx.load(path), factors), path)

    def measure(self, reference: Runtime, runtime: Runtime) -> tuple[Parity, ...]:
        """How far a runtime of the network is from the reference."""
        return parity.measure(reference, runtime, self.feeds, self.target.precision, self.source.boxes)


def describe_compiled(spec: NetworkSpec, folder: Path, compiled: Compiled) -> NetworkEntry:
    return NetworkEntry(
        spec=spec,
        files={role: describe_file(folder, name) for role, name in compiled.files.items()},
        engine=compiled.engine,
        lowerings=compiled.lowerings,
        float32=compiled.float32,
        int8=compiled.int8,
        options=compiled.options,
    )


def check_compiled(job: NetworkExport, reference: Runtime, entry: NetworkEntry) -> tuple[Parity, ...]:
    """Load what was compiled in its own runtime and compare; a TensorRT graph also in ONNX Runtime."""
    substitutes: list[Substitute | None] = []
    if job.target.backend == "trt":
        substitutes.append("onnxruntime")
    if job.target.backend != "trt" or _engine_runs_here(entry):
        substitutes.append(None)
    rows: list[Parity] = []
    for substitute in substitutes:
        options = RuntimeOptions()
        with open_network(job.source.model, job.target, entry, job.folder, options, substitute) as runtime:
            rows += job.measure(reference, runtime)
    if job.target.precision == "int8":
        check_simulated(rows, _simulated(job, reference, entry))
    if not job.judged:
        parity.check(rows, job.target.precision)
    return tuple(rows)


def _simulated(job: NetworkExport, reference: Runtime, entry: NetworkEntry) -> tuple[Parity, ...]:
    """How far from float the Q/DQ graph of an int8 network is, in ONNX Runtime."""
    with tempfile.TemporaryDirectory() as work:
        onnx_path, path = Path(work) / "float.onnx", Path(work) / "int8.onnx"
        job.write_corrected(onnx_path, {name: job.int8[name] for name in entry.int8})
        write_simulation(onnx_path, entry, job.int8, job.target.backend, path)
        with OnnxRuntimeRuntime(path, job.network.spec, RuntimeOptions()) as runtime:
            return job.measure(reference, runtime)


def _engine_runs_here(entry: NetworkEntry) -> bool:
    from facedeploy.runtimes.tensorrt_api import gpu_available

    return entry.engine == "ready" and gpu_available()
