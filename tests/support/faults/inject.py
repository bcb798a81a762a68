"""Put a fault into an export: into what is compiled, or into what runs it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import onnx

from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.target import Backend, Target
from facedeploy.export import check_faces, check_network, compiler
from facedeploy.export.compiler import Compile, Compiled, Job
from facedeploy.pipelines import load
from facedeploy.runtimes import open_network
from facedeploy.runtimes.base import Runtime, RuntimeOptions
from tests.support.faults.graph_changes import Change, graph_faults
from tests.support.faults.range_changes import RangeChange, range_changes
from tests.support.faults.runtime_changes import PIXEL_CHANGES, RUNTIME_CHANGES, RuntimeChange


@dataclass(frozen=True)
class Fault:
    """A kind of fault: one of the four is given."""

    name: str
    graph: Change | None = None
    ranges: RangeChange | None = None
    runtime: RuntimeChange | None = None
    pixels: RuntimeChange | None = None

    @property
    def opening(self) -> RuntimeChange | None:
        return self.runtime or self.pixels

    def concerns(self, target: Target) -> bool:
        return self.ranges is None or target.precision == "int8"


def all_faults() -> tuple[Fault, ...]:
    return (
        *(Fault(name, graph=change) for name, change in graph_faults().items()),
        *(Fault(name, ranges=change) for name, change in range_changes().items()),
        *(Fault(name, runtime=change) for name, change in RUNTIME_CHANGES.items()),
        *(Fault(name, pixels=change) for name, change in PIXEL_CHANGES.items()),
    )


@contextmanager
def injected(network: str, fault: Fault) -> Iterator[list[bool]]:
    """A network of the model is compiled, or runs, wrong. Yields whether something was changed."""
    if fault.opening is not None:
        with running_wrong(network, fault.opening, only_pictures=fault.pixels is not None) as seen:
            yield seen
    else:
        with compiled_wrong(network, fault.graph, fault.ranges) as seen:
            yield seen


@contextmanager
def compiled_wrong(network: str, change: Change | None, ranges: RangeChange | None = None) -> Iterator[list[bool]]:
    """A network of the model is compiled from a graph, or with ranges, that were changed."""
    right, seen = compiler.find, []

    def find(backend: Backend) -> Compile:
        def compile_network(job: Job) -> Compiled:
            if job.spec.name != network:
                return right(backend)(job)
            if ranges is not None:
                changed = ranges(job.int8)
                seen.append(changed != job.int8)
                job = replace(job, int8=changed)
            if change is None:
                return right(backend)(job)
            model = onnx.load(job.onnx_path)
            seen.append(change(model))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "wrong.onnx"
                onnx.save(model, path)
                return right(backend)(replace(job, onnx_path=path))

        return compile_network

    with mock.patch.object(compiler, "find", find):
        yield seen


@contextmanager
def running_wrong(network: str, change: RuntimeChange, *, only_pictures: bool = False) -> Iterator[list[bool]]:
    """The compiled network of that name runs wrong, wherever it is opened."""
    seen: list[bool] = []
    opens_wrong = change()

    def opened(
        model: str, target: Target, entry: NetworkEntry, folder: Path, options: RuntimeOptions, *rest: Any
    ) -> Runtime:
        right: Callable[[RuntimeOptions], Runtime] = lambda o: open_network(model, target, entry, folder, o, *rest)  # noqa: E731
        if entry.spec.name != network:
            return right(options)
        seen.append(options.preprocess is not None or not only_pictures)
        return opens_wrong(right, options)

    with ExitStack() as stack:
        for module in (check_network, check_faces, load):
            stack.enter_context(mock.patch.object(module, "open_network", opened))
        yield seen
