"""What an export starts from: networks that can be opened as a reference and written as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import Origin, PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.preprocess import Preprocess
from facedeploy.graph.ranges import Ranges
from facedeploy.metrics.box_overlap import BoxOutputs
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.base import Arrays, Opener
from facedeploy.sources.probes import probe_inputs

if TYPE_CHECKING:
    from facedeploy.models.architecture import Modules, Probe


# What fp16 may leave in float32, each candidate more than the one before; the first that keeps the answers is taken.
FallbackCandidates = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class SourceNetwork:
    """One network of a source.

    Attributes:
        spec: Name, inputs and outputs.
        reference: Opens the network as its author made it. Everything is held against that.
        write: Writes the checked float32 ONNX file that every backend compiles.
        fallback_candidates: What fp16 may leave in float32, asked with that file.
        probe: Makes inputs of a network that takes something else than a picture.
    """

    spec: NetworkSpec
    reference: Opener
    write: Callable[[Path], None]
    fallback_candidates: Callable[[Path], FallbackCandidates]
    probe: Probe | None = None

    def feeds(self, preprocess: Preprocess) -> list[Arrays]:
        """Inputs to compare on."""
        return probe_inputs(self.spec, preprocess, self.probe)


@dataclass(frozen=True)
class Source:
    """What an export starts from.

    Attributes:
        model: Its id.
        origin: A published model, an ONNX file, or a callable.
        files: Part -> the file that it was read from.
        pipeline: Pre- and post-processing.
        networks: The networks.
        modules: Part -> module in PyTorch, for the torch target.
        ranges: The table of ranges that comes with the model, or None.
        settings: Plain. Of a user's network: what it wants and gives, and the terms of its weights where it says them.
            Of a published model: the terms of its weights.
        recognised: Why it was taken for the family of its settings; empty where the user said what it is.
        known_ranges: Network -> tensor -> the range that the file itself gives it, where it is quantised already.
        notes: Lines for a person: what was changed of a file; of one that is opened again, what its settings say and
            nothing that is known of it explains.
    """

    model: str
    origin: Origin
    files: Mapping[str, Path]
    pipeline: PipelineEntry
    networks: tuple[SourceNetwork, ...]
    modules: Modules = field(default_factory=dict)
    ranges: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    recognised: str = ""
    known_ranges: Mapping[str, Ranges] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the files, by part."""
        return {part: sha256(file) for part, file in self.files.items()}

    @property
    def boxes(self) -> BoxOutputs:
        """Which outputs are boxes."""
        return BoxOutputs.of(self.pipeline)

    def open(self, threads: int = 0, options: Mapping[str, Any] | None = None) -> Pipeline:
        """The pipeline over the references: what every artifact is held against."""
        entry = pipelines.reconfigure(self.pipeline, options)
        return pipelines.open_pipeline(entry, {n.spec.name: n.reference for n in self.networks}, threads)


def check_files(artifact: Artifact, files: Mapping[str, Path]) -> None:
    """Check that files are those that an artifact was made from.

    Args:
        artifact: The artifact.
        files: Part -> file.

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
