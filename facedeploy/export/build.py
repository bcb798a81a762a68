"""`facedeploy build`: finish a TensorRT artifact on the machine that will run it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from facedeploy.artifact.folder import Artifact, describe_file, write_chain, write_manifest
from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.errors import BackendUnavailableError, InputError
from facedeploy.core.progress import Progress, silent
from facedeploy.export.tensorrt import build_engine
from facedeploy.runtimes.tensorrt_api import find_tensorrt


@dataclass(frozen=True)
class Engines:
    """What was built.

    Attributes:
        networks: Network -> the bytes of its engine.
        tool: TensorRT's module, such as "tensorrt".
        version: Its version.
    """

    networks: Mapping[str, bytes]
    tool: str
    version: str


class Builder(Protocol):
    """Another place where engines are built, such as a device."""

    def build(self, artifact: Artifact, progress: Progress) -> Engines:
        """Build the engine of every network of a `trt` artifact."""


def build(artifact: str | os.PathLike[str], *, builder: Builder | None = None, progress: Progress = silent) -> Artifact:
    """Build every engine of a `trt` artifact and add it to the folder.

    The manifest is replaced last, in one step: until then the artifact is what it was.

    Args:
        artifact: The folder that `export` wrote.
        builder: Builds them; None for this machine.
        progress: Called with the name of each step.

    Returns:
        The artifact with its engines.

    Raises:
        InputError: the artifact is for another backend.
        BackendUnavailableError: no TensorRT here.
        ConversionError: TensorRT refuses a network.
        Others: what `builder` raises.
    """
    opened = Artifact.open(artifact)
    if opened.parts:
        return _build_chain(opened, builder, progress)
    check_buildable(opened)
    return add_engines(opened, _build_here(opened, progress) if builder is None else builder.build(opened, progress))


def _build_chain(whole: Artifact, builder: Builder | None, progress: Progress) -> Artifact:
    """Build the engines of every part that has some to build."""
    parts = [part.path for part in whole.parts.values() if part.manifest.target.backend == "trt"]
    if not parts:
        check_buildable(whole)
    try:
        for path in parts:
            build(path, builder=builder, progress=progress)
    finally:  # A part that is done is another one, whatever becomes of the next.
        write_chain(whole.path, list(whole.parts))
    return Artifact.open(whole.path)


def _build_here(artifact: Artifact, progress: Progress) -> Engines:
    trt = find_builder(artifact)
    engines = {}
    for network in artifact.manifest.networks:
        progress(f"{network.spec.name}: build the engine")
        engines[network.spec.name] = build_engine(trt, artifact.file(network.spec.name, "onnx"), network.spec)
    return Engines(engines, trt.__name__, str(trt.__version__))


def check_buildable(artifact: Artifact) -> None:
    """Check that there is something to build.

    Raises:
        InputError: the artifact is for another backend.
    """
    if artifact.manifest.target.backend != "trt":
        msg = f"{artifact.path} is a {artifact.manifest.target} artifact and needs no build"
        raise InputError(msg)


def find_builder(artifact: Artifact) -> Any:
    """The module that builds an artifact's engines here. Raises as `build` does."""
    check_buildable(artifact)
    trt = find_tensorrt()
    if trt is None:
        msg = "TensorRT is not installed: a Jetson has it from JetPack; elsewhere `pip install 'facedeploy[tensorrt]'`"
        raise BackendUnavailableError(msg)
    return trt


def add_engines(artifact: Artifact, engines: Engines) -> Artifact:
    """Put engines into an artifact.

    Args:
        artifact: A `trt` artifact.
        engines: Network -> engine.

    Returns:
        The artifact with its engines.
    """
    manifest = artifact.manifest
    networks = tuple(_with_engine(artifact, n, engines.networks[n.spec.name]) for n in manifest.networks)
    tools = {**manifest.tools, engines.tool: engines.version}
    write_manifest(artifact.path, dataclasses.replace(manifest, networks=networks, tools=tools))
    built = Artifact.open(artifact.path)
    _remove_unused(artifact, built)
    return built


def _with_engine(artifact: Artifact, network: NetworkEntry, engine: bytes) -> NetworkEntry:
    # Named by content, so that an engine of an earlier build is not touched before the manifest changes.
    name = f"{network.spec.name}-{hashlib.sha256(engine).hexdigest()[:12]}.engine"
    (artifact.path / name).write_bytes(engine)
    files = {**network.files, "engine": describe_file(artifact.path, name)}
    return dataclasses.replace(network, files=files, engine="ready")


def _remove_unused(before: Artifact, after: Artifact) -> None:
    """Delete the engines that the new manifest no longer names."""
    old, new = ({f.path for n in a.manifest.networks for f in n.files.values()} for a in (before, after))
    for name in old - new:
        (after.path / name).unlink()
