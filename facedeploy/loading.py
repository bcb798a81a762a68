"""From an artifact to a pipeline that runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facedeploy import pipelines
from facedeploy.artifact import Artifact
from facedeploy.models import registry
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Runtime, RuntimeOptions
from facedeploy.runtimes.torch import TorchRuntime


def load(
    artifact: str | os.PathLike[str] | Artifact,
    *,
    threads: int = 0,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Open an artifact: `with load("mtcnn-openvino-fp32") as pipeline: pipeline.detect(image)`.

    Args:
        artifact: the folder that `export` wrote; it is checked first.
        threads: CPU threads per network; 0 for every core of this process.
        runtime: "onnxruntime" runs the ONNX file of a `trt` artifact where there is no GPU.
        options: changes to the pipeline's configuration, such as {"min_face": 20}.

    Raises:
        ArtifactError, BackendUnavailableError, InputError: what is wrong and what to do.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    entry = pipelines.configure(opened.manifest.pipeline.family, options or {}, opened.manifest.pipeline.config)
    manifest = opened.manifest
    with contextlib.ExitStack() as stack:
        runtimes: dict[str, Runtime] = {}
        for network in manifest.networks:
            name = network.spec.name
            files = {role: opened.path / f.path for role, f in network.files.items()}
            settings = pipelines.runtime_options(entry, name, threads)
            made = open_network(manifest.model, manifest.target, network.spec, files, settings, runtime)
            runtimes[name] = stack.enter_context(made)
        pipeline = pipelines.make(entry, runtimes)
        stack.pop_all()
    return pipeline


def load_reference(
    model: str, weights: Path, *, threads: int = 0, options: Mapping[str, Any] | None = None
) -> Pipeline:
    """The same pipeline over PyTorch, from a checkpoint: what every artifact is held against."""
    known = registry.get(model)
    modules = known.load(weights)
    settings = RuntimeOptions(threads)
    runtimes = {s.name: TorchRuntime(modules[s.name], s, settings) for s in known.network_specs()}
    return pipelines.make(pipelines.configure(known.family, options or {}), runtimes)
