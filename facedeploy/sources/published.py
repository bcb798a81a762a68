"""A published model with its weights, as a `Source`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import require
from facedeploy.core.serialization import to_plain
from facedeploy.graph.from_torch import export_onnx
from facedeploy.models import registry
from facedeploy.models.model import Model
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.sources.source import Source, SourceNetwork

if TYPE_CHECKING:
    pass


def configured(known: Model, weights: Path | None, options: Mapping[str, Any] | None) -> PipelineEntry:
    """The pipeline of a published model, with the constants that came with its weights, and some options changed.

    Raises:
        InputError: there is no such option, or a file of constants is missing or wrong.
    """
    base = {**known.options, **known.read_constants(weights)}
    return pipelines.configure(known.family, options or {}, base)


def from_model(known: Model, weights: Path | None, specs: Sequence[NetworkSpec], pipeline: PipelineEntry) -> Source:
    """A published model.

    Raises:
        InputError, CheckpointError: no such checkpoint, or it is not of this model.
    """
    require("torch", "export")
    files = known.find_files(weights)
    modules = known.load(weights)
    networks = known.networks(modules)
    folded = functools.cache(lambda: known.fold(networks))

    def network(spec: NetworkSpec) -> SourceNetwork:
        candidates = known.float32.get(spec.name, ((),))
        return SourceNetwork(
            spec,
            reference=lambda options: TorchRuntime(networks[spec.name], spec, options),
            write=_once(lambda path: export_onnx(folded()[spec.name], spec, path)),
            fallback_candidates=lambda _: candidates,
            probe=known.define().probe,
        )

    return Source(
        known.id,
        "registry",
        files,
        pipeline,
        tuple(map(network, specs)),
        modules,
        known.embedded_ranges,
        settings={"source": to_plain(known.terms)},
    )


def _once(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same, which remembers what was written: tracing takes seconds."""
    made: list[bytes] = []

    def again(path: Path) -> None:
        if made:
            path.write_bytes(made[0])
        else:
            write(path)
            made.append(path.read_bytes())

    return again


def load_reference(
    model: str,
    weights: Path | None = None,
    *,
    specs: Sequence[NetworkSpec] = (),
    threads: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Open the pipeline of a published model over PyTorch.

    Args:
        model: Id of the model.
        weights: The checkpoint; None for the embedded one.
        specs: The networks' shapes; None for the model's own.
        threads: CPU threads per network; 0 for every core of this process.
        options: Changes to the pipeline's configuration.
    """
    known = registry.get(model).of(weights)
    entry = configured(known, weights, options)
    return from_model(known, weights, specs or known.network_specs(), entry).open(threads)
