"""From a picture to faces: one class per family of models, the same for every backend.

`load.load` opens an artifact, and `detect.detect` does so for one call. A manifest holds a family and its
configuration: `configure` makes that, and `make` turns it into a pipeline over runtimes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from facedeploy.artifact import chain
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.preprocess import Preprocess
from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.pipelines.base import Looker, Pipeline
from facedeploy.pipelines.composed import ComposedPipeline
from facedeploy.pipelines.crop import CropConfig, CropPipeline
from facedeploy.pipelines.custom import BoxesConfig, BoxesPipeline, TensorsConfig, TensorsPipeline
from facedeploy.pipelines.img2pose import Img2PoseConfig, Img2PosePipeline
from facedeploy.pipelines.landmarks106 import Landmarks106Config, Landmarks106Pipeline
from facedeploy.pipelines.mogface import MogFaceConfig, MogFacePipeline
from facedeploy.pipelines.mos import MosConfig, MosPipeline, MosPublishedPipeline
from facedeploy.pipelines.mtcnn import MtcnnConfig, MtcnnPipeline
from facedeploy.runtimes.base import Opener, Runtime, RuntimeOptions

__all__ = [
    "base",
    "configure",
    "detect",
    "detect_files",
    "draw",
    "load",
    "make",
    "preprocess",
    "runtime_options",
    "score_threshold",
]

# family -> its configuration, and the pipeline made from runtimes and a configuration
_FAMILIES: dict[str, tuple[type, type[Any]]] = {
    "mtcnn": (MtcnnConfig, MtcnnPipeline),
    "mos": (MosConfig, MosPipeline),
    "mos-published": (MosConfig, MosPublishedPipeline),
    "landmarks106": (Landmarks106Config, Landmarks106Pipeline),
    "img2pose": (Img2PoseConfig, Img2PosePipeline),
    "mogface": (MogFaceConfig, MogFacePipeline),
    "boxes": (BoxesConfig, BoxesPipeline),
    "tensors": (TensorsConfig, TensorsPipeline),
    "crop": (CropConfig, CropPipeline),
}


def configure(family: str, changes: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> PipelineEntry:
    """Make a family's configuration, with some values changed.

    Args:
        family: Of pipelines, such as "mtcnn".
        changes: Field -> value.
        base: The configuration that is changed; None for the defaults.

    Returns:
        The configuration, as a manifest holds it.

    Raises:
        InputError: no such family, key or value.
    """
    if family not in _FAMILIES:
        msg = f"there is no pipeline family {family!r}; families are {', '.join(_FAMILIES)}"
        raise InputError(msg)
    config_type, pipeline = _FAMILIES[family]
    known = [f.name for f in dataclasses.fields(config_type)]
    if unknown := sorted(set(changes) - set(known)):
        msg = f"{family} has no option {unknown[0]!r}; options are {', '.join(known)}"
        raise InputError(msg)
    config: Any = from_plain(config_type, {**(base or {}), **to_plain(changes)})
    if config.preprocess.resize not in pipeline.resizes:
        msg = f"{family} resizes pictures {' or '.join(sorted(pipeline.resizes))}, not {config.preprocess.resize}"
        raise InputError(msg)
    return PipelineEntry(family, to_plain(config))


def reconfigure(entry: PipelineEntry, changes: Mapping[str, Any] | None) -> PipelineEntry:
    """The same pipeline with some values of its configuration changed: of a chain, those of its detector, unless they
    are for the whole. Raises as `configure` does.
    """
    if entry.family != chain.FAMILY:
        return configure(entry.family, changes or {}, entry.config)
    changes = changes or {}
    config = {**entry.config, **{k: v for k, v in changes.items() if k in entry.config}}
    detector = reconfigure(_entry(config["detector"]), {k: v for k, v in changes.items() if k not in config})
    return PipelineEntry(entry.family, {**config, "detector": to_plain(detector)})


def preprocess(entry: PipelineEntry) -> Preprocess:
    """How the pipeline prepares a network's input."""
    return from_plain(Preprocess, entry.config["preprocess"])


def score_threshold(entry: PipelineEntry) -> float:
    """The score below which the pipeline gives no face; 0 for one that looks at faces found elsewhere."""
    if entry.family == chain.FAMILY:
        return score_threshold(parts(entry)[chain.DETECTOR])
    last: float = entry.config.get("score_threshold", entry.config.get("thresholds", (0.0,))[-1])
    return last


def runtime_options(entry: PipelineEntry, network: str, threads: int) -> RuntimeOptions:
    """Say how a pipeline wants one of its networks to run.

    Args:
        entry: Family and configuration.
        network: Name of the network.
        threads: CPU threads; 0 for every core of this process.

    Returns:
        Threads, streams and preprocessing.
    """
    if entry.family == chain.FAMILY:
        part, _, name = network.partition("/")
        return runtime_options(parts(entry)[part], name, threads)
    return _options(entry.family, preprocess(entry), network, threads)


def make(entry: PipelineEntry, runtimes: Mapping[str, Runtime]) -> Pipeline:
    """Make the pipeline that `configure` described.

    Args:
        entry: Family and configuration.
        runtimes: Network -> its open runtime; the pipeline closes them.

    Returns:
        The pipeline.
    """
    if entry.family == chain.FAMILY:
        made_of = {
            part: make(own, {n.partition("/")[2]: r for n, r in runtimes.items() if n.partition("/")[0] == part})
            for part, own in parts(entry).items()
        }
        lookers = {name: made for name, made in made_of.items() if isinstance(made, Looker)}
        return ComposedPipeline(made_of[chain.DETECTOR], lookers)
    config_type, pipeline = _FAMILIES[entry.family]
    made: Pipeline = pipeline(runtimes, from_plain(config_type, entry.config))
    return made


def decodes(entry: PipelineEntry) -> bool:
    """Whether faces come out."""
    return entry.family == chain.FAMILY or bool(_FAMILIES[entry.family][1].decodes)


def finds(entry: PipelineEntry) -> bool:
    """Whether the pipeline looks for faces, and not only at one that it is shown."""
    return entry.family == chain.FAMILY or bool(_FAMILIES[entry.family][1].finds)


def looks(entry: PipelineEntry) -> bool:
    """Whether the pipeline can look at faces that another one has found."""
    return entry.family != chain.FAMILY and issubclass(_FAMILIES[entry.family][1], Looker)


def detector_of(entry: PipelineEntry) -> PipelineEntry:
    """The pipeline that finds the faces: of a chain its detector, else the pipeline itself."""
    return _entry(entry.config["detector"]) if entry.family == chain.FAMILY else entry


def with_detector(entry: PipelineEntry, detector: PipelineEntry) -> PipelineEntry:
    """The same pipeline with another one that finds the faces, as `detector_of` gives it."""
    if entry.family != chain.FAMILY:
        return detector
    return PipelineEntry(entry.family, {**entry.config, "detector": to_plain(detector)})


def open_pipeline(entry: PipelineEntry, networks: Mapping[str, Opener], threads: int = 0) -> Pipeline:
    """Open the networks as the pipeline wants them to run, and make it over them. Closing it closes them.

    Args:
        entry: The family and its configuration.
        networks: Name -> what opens its runtime.
        threads: CPU threads of each; 0 for every core.
    """
    with contextlib.ExitStack() as stack:
        runtimes = {
            name: stack.enter_context(opened(runtime_options(entry, name, threads)))
            for name, opened in networks.items()
        }
        made = make(entry, runtimes)
        stack.pop_all()
    return made


def parts(entry: PipelineEntry) -> dict[str, PipelineEntry]:
    """The pipelines of a chain, by part; of any other the pipeline itself, without a name."""
    if entry.family != chain.FAMILY:
        return {"": entry}
    lookers = entry.config["lookers"]
    return {chain.DETECTOR: _entry(entry.config["detector"]), **{name: _entry(v) for name, v in lookers.items()}}


def _entry(plain: Mapping[str, Any]) -> PipelineEntry:
    return from_plain(PipelineEntry, plain)


def _options(family: str, pixels: Preprocess, network: str, threads: int) -> RuntimeOptions:
    _, pipeline = _FAMILIES[family]
    options = RuntimeOptions(threads)
    streams = options.threads if network in pipeline.many else 1
    return RuntimeOptions(
        options.threads, streams, pixels if network in pipeline.pictures and pixels.eight_bits else None
    )
