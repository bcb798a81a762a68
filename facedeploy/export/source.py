"""What an export starts from: a published model with its weights, or a user's own network.

Whoever exports, calibrates or verifies asks a `Source`, and need not know which of them it is.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy import parity, pipelines
from facedeploy.artifact import Artifact, Origin, PipelineEntry, sha256
from facedeploy.errors import InputError
from facedeploy.export.onnx import export_onnx
from facedeploy.extras import require
from facedeploy.models import registry
from facedeploy.models.model import Model
from facedeploy.models.specs import InputSize
from facedeploy.pipelines.base import Pipeline
from facedeploy.preprocess import Preprocess
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.spec import NetworkSpec

if TYPE_CHECKING:
    from facedeploy.models.architecture import Modules, Probe

# Of several rungs of weights that fp16 leaves in float32, the first that keeps the answers is taken.
Rungs = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class SourceNetwork:
    """One network of a source.

    reference: opens the network as its author made it; everything is held against that. write: writes the checked
    float32 ONNX file that every backend compiles. rungs: what fp16 may leave in float32, asked with that file.
    """

    spec: NetworkSpec
    reference: Callable[[RuntimeOptions], Runtime]
    write: Callable[[Path], None]
    rungs: Callable[[Path], Rungs]
    probe: Probe | None = None

    def feeds(self, preprocess: Preprocess) -> list[Arrays]:
        """Inputs to compare on."""
        return parity.probe_inputs(self.spec, preprocess, self.probe)


@dataclass(frozen=True)
class Source:
    """model: its id. files: what it was read from, by part. modules: its parts in PyTorch, for the torch target."""

    model: str
    origin: Origin
    files: Mapping[str, Path]
    pipeline: PipelineEntry
    networks: tuple[SourceNetwork, ...]
    modules: Modules = field(default_factory=dict)

    @property
    def boxes(self) -> parity.Boxes:
        """Which outputs are boxes."""
        return parity.Boxes.of(self.pipeline)

    def open(self, threads: int = 0, options: Mapping[str, Any] | None = None) -> Pipeline:
        """The pipeline over the references: what every artifact is held against."""
        entry = pipelines.configure(self.pipeline.family, options or {}, self.pipeline.config)
        opened = {
            n.spec.name: n.reference(pipelines.runtime_options(entry, n.spec.name, threads)) for n in self.networks
        }
        return pipelines.make(entry, opened)


def open_source(
    model: str,
    weights: Path | None = None,
    *,
    input_size: InputSize | None = None,
    config: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """Find what the user means by `model`: the id of a published model, an ONNX file, or `package.module:callable`.

    config: the TOML file of an own network. options: changes to the pipeline's configuration.

    Raises:
        InputError, CheckpointError, BackendUnavailableError: there is no such model, or its files are wrong.
    """
    if model not in registry.MODELS and (kind := _own_kind(model)):
        from facedeploy.own import factory, onnx_file

        if kind == "onnx":
            if weights is not None:
                msg = f"{model} holds its own weights: leave --weights out"
                raise InputError(msg)
            return onnx_file.open_source(Path(model), input_size, config, options)
        return factory.open_source(model, weights, input_size, config, options)
    known = registry.get(model)
    if config is not None:
        msg = f"{model} needs no --config: that is for an ONNX file or a network of your own"
        raise InputError(msg)
    pipeline = configured(known, weights, options)
    return from_model(known, weights, known.network_specs(input_size), pipeline)


def reopen(artifact: Artifact, weights: Path | None = None, factory: str | None = None) -> Source:
    """What an artifact was made from, for its sizes, in the files that the user names.

    factory: `package.module:callable`, for a network that one made. It is never read from the artifact: that would
    run code because a data file says so.

    Raises:
        InputError, CheckpointError: the files are missing, or not those that the artifact was made from.
    """
    manifest = artifact.manifest
    specs = [n.spec for n in manifest.networks]
    if (manifest.origin == "factory") != (factory is not None):
        msg = f"{artifact.path} comes from {_ORIGINS[manifest.origin]}"
        raise InputError(msg)
    if manifest.origin != "registry":
        from facedeploy.own import factory as factories
        from facedeploy.own import onnx_file

        if weights is None:
            msg = f"give --weights the file that {artifact.path} was made from: {manifest.source[0].name}"
            raise InputError(msg)
        files = onnx_file.files(weights) if factory is None else {factories.PART: weights}
        check_files(artifact, files)
        if factory is None:
            return onnx_file.from_file(weights, specs[0], manifest.pipeline)
        return factories.from_factory(factory, weights, specs[0], manifest.pipeline)
    known = registry.get(manifest.model)
    check_files(artifact, known.find_files(weights))
    return from_model(known, weights, specs, manifest.pipeline)


_ORIGINS: dict[Origin, str] = {
    "registry": "a model of `facedeploy models`: leave --factory out",
    "onnx": "an ONNX file: give that to --weights, and leave --factory out",
    "factory": "a callable of a Python module: give --factory package.module:callable, and --weights its checkpoint",
}


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
        rungs = known.float32.get(spec.name, ((),))
        return SourceNetwork(
            spec,
            reference=lambda options: TorchRuntime(networks[spec.name], spec, options),
            write=_once(lambda path: export_onnx(folded()[spec.name], spec, path)),
            rungs=lambda _: rungs,
            probe=known.define().probe,
        )

    return Source(known.id, "registry", files, pipeline, tuple(map(network, specs)), modules)


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


def check_files(artifact: Artifact, files: Mapping[str, Path]) -> None:
    """Check that files are those that an artifact was made from.

    Raises:
        InputError: one of them is another.
    """
    for source in artifact.manifest.source:
        file = files.get(source.part)
        if file is None or not file.is_file():
            msg = f"there is no file {file or source.name}, which {artifact.path} was made from"
            raise InputError(msg)
        if sha256(file) != source.sha256:
            msg = (
                f"{file} is not the checkpoint of {artifact.path}, which was made from "
                f"{source.name} with SHA-256 {source.sha256[:12]}…"
            )
            raise InputError(msg)


def _own_kind(model: str) -> str:
    """What the user's own `model` is: "onnx" for a file, "factory", or "" for neither."""
    if model.lower().endswith(".onnx") or os.path.sep in model or Path(model).is_file():
        return "onnx"
    return "factory" if ":" in model else ""
