"""One network on its way into an artifact: what it is compared on, and whether what a compiler made of it is right."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from facedeploy.artifact.folder import describe_file
from facedeploy.artifact.manifest import NetworkEntry, Parity
from facedeploy.core.errors import ParityError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.core.target import Target
from facedeploy.export.compiler import Compiled
from facedeploy.export.expected import EXPECTED, SCHEMES, check_expected, write_expected
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.graph.passes.channel_equalization import equalize_channels
from facedeploy.graph.passes.correct_bias import correct_biases
from facedeploy.graph.ranges import Ranges
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.wrapped import Remembered
from facedeploy.sources.source import Source, SourceNetwork
from facedeploy.verification import tensors as parity

_THREADS = (0, 1)
_REPEATED = 1e-3  # Relative L2 between two answers of one runtime to one input.


@dataclass(frozen=True)
class NetworkExport:
    """One network on its way.

    work: a folder for graphs that are needed more than once. feeds: the inputs that it is compared on.
    """

    source: Source
    network: SourceNetwork
    target: Target
    folder: Path
    work: Path
    feeds: list[Arrays]
    deform_conv: DeformConvForm | None
    int8: Ranges

    @property
    def float_graph(self) -> Path:
        """The float32 graph as it came; nobody changes the file."""
        path = self.work / f"{self.network.spec.name}.onnx"
        if not path.is_file():
            self.network.write(path)
        return path

    def expected_graph(self, entry: NetworkEntry) -> Path:
        """The graph that says in ONNX Runtime what the precision costs when the compile is right."""
        name = self.network.spec.name
        path, compiled = (self.work / f"{name}-{role}.onnx" for role in ("expected", "compiled"))
        if not path.is_file():
            self.write_compiled(entry, compiled)
            write_expected(compiled, entry, self.target, self.int8, path)
        return path

    def write(self, path: Path) -> None:
        """Write the float32 graph that is compiled; for int8 its channels are of like size."""
        shutil.copyfile(self.float_graph, path)
        self._equalise(path)

    def write_corrected(self, path: Path, layers: Ranges) -> None:
        """Write the same with the biases that go with int8 in some layers."""
        onnx.save(correct_biases(onnx.load(self.float_graph), layers, SCHEMES[self.target.backend]), path)
        self._equalise(path)

    def write_compiled(self, entry: NetworkEntry, path: Path) -> None:
        """Write the float32 graph that was compiled."""
        if self.target.precision == "int8":
            self.write_corrected(path, {name: self.int8[name] for name in entry.int8})
        else:
            self.write(path)

    def _equalise(self, path: Path) -> None:
        if factors := {name: values.divided for name, values in self.int8.items() if values.divided}:
            onnx.save(equalize_channels(onnx.load(path), factors), path)


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
    """Load what was compiled in its own runtime and compare; a TensorRT graph also in ONNX Runtime.

    It is loaded twice, to run with all threads and with one: a runtime takes other paths then.

    Raises:
        ParityError: an output is off, or a call changes the answer to another.
    """
    precision, boxes = job.target.precision, job.source.boxes
    found: dict[tuple[str, str], Parity] = {}
    excess: Callable[[Parity], float] = parity.TOLERANCES[precision].excess
    with ExitStack() as stack:
        expected = None
        if precision in EXPECTED:
            graph = OnnxRuntimeRuntime(job.expected_graph(entry), job.network.spec, RuntimeOptions())
            expected = stack.enter_context(Remembered(graph))
        for substitute, threads in product(candidates(job.target, entry), _THREADS):
            options = RuntimeOptions(threads)
            # The way with one thread is another one for all inputs alike.
            feeds = job.feeds[:1] if threads else job.feeds
            with open_network(job.source.model, job.target, entry, job.folder, options, substitute) as runtime:
                for row in parity.measure(reference, runtime, feeds, precision, boxes):
                    before = found.get((row.runtime, row.output), row)
                    found[row.runtime, row.output] = max(before, row, key=excess)
                if expected is not None:
                    for feed in feeds:
                        offs = parity.measure(expected, runtime, [feed], precision, boxes)
                        costs = parity.measure(reference, expected, [feed], precision, boxes)
                        check_expected(offs, costs, expected.run(feed), precision)
                if not threads:
                    check_memory(runtime, job.feeds[-1])
    rows = tuple(found.values())
    if precision != "int8":
        parity.check(rows, precision)
    return rows


def check_memory(runtime: Runtime, feed: Arrays) -> None:
    """Check that a runtime answers the same whatever it ran before, and that an answer stays what it was.

    Args:
        runtime: The open runtime.
        feed: What it is asked.

    Raises:
        ParityError: it does not.
    """
    first = runtime.run(feed)
    kept = {name: values.copy() for name, values in first.items()}
    runtime.run({name: np.ascontiguousarray(values[..., ::-1]) for name, values in feed.items()})
    _check_same(runtime, kept, first, "changes when the next input is run")
    _check_same(runtime, kept, runtime.run(feed), "is another one later")


def _check_same(runtime: Runtime, kept: Arrays, answer: Arrays, otherwise: str) -> None:
    for name, values in kept.items():
        if not _same(values, answer[name]):
            msg = (
                f"the answer of {runtime.spec.name}.{name} to an input {otherwise}: the runtime keeps something, so "
                "try another target"
            )
            raise ParityError(msg)


def _same(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    size, off = float(np.linalg.norm(a)), float(np.linalg.norm(a - b))
    return off <= _REPEATED * size or not math.isfinite(size)


def candidates(target: Target, entry: NetworkEntry) -> tuple[Substitute | None, ...]:
    """What runs a compiled network here: its own runtime, and for TensorRT ONNX Runtime on the same file."""
    if target.backend != "trt":
        return (None,)
    return ("onnxruntime", None) if _engine_runs_here(entry) else ("onnxruntime",)


def _engine_runs_here(entry: NetworkEntry) -> bool:
    from facedeploy.runtimes.tensorrt_api import gpu_available

    return entry.engine == "ready" and gpu_available()
