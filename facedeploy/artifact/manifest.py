"""What `manifest.json` says: the networks, their files, the pipeline, where they came from and how close they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from facedeploy.artifact.loss import Loss
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.target import Target

FORMAT = "facedeploy-artifact"


VERSION = 1


# Where the networks come from: a published model, a user's ONNX file, or a callable of a user's module.
Origin = Literal["registry", "onnx", "factory"]


@dataclass(frozen=True)
class FileEntry:
    """A file of the artifact: path relative to the folder, and what it must contain."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class NetworkEntry:
    """One compiled network. `files` maps a role (onnx, engine, xml, bin, param) to a file; for PyTorch the roles are
    the parts of the checkpoint.

    engine: for TensorRT, whether the engine is here ("ready") or must be built on the device ("pending").
    lowerings: op -> the form that was chosen for this backend. float32: beginnings of the names of weights that
    stay in float32 in a reduced precision ("" is all). int8: names of the weights of the layers that are int8.
    options: of the backend, which an app that loads the files itself must set (ncnn's Option).
    """

    spec: NetworkSpec
    files: dict[str, FileEntry]
    engine: Literal["ready", "pending"] | None = None
    lowerings: dict[str, str] = field(default_factory=dict)
    float32: tuple[str, ...] = ()
    int8: tuple[str, ...] = ()
    options: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineEntry:
    """Pre- and post-processing as data: a family of pipelines and its configuration."""

    family: str
    config: dict[str, Any]


@dataclass(frozen=True)
class SourceFile:
    """A checkpoint file that the networks came from: which part of a checkpoint, and its file."""

    part: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Parity:
    """How far one output of a compiled network is from PyTorch's, the worst of several inputs.

    overlap: of an output of boxes, the smallest IoU of a box whose score is above 0.3 with PyTorch's box.
    """

    network: str
    output: str
    runtime: str
    max_abs: float
    relative_l2: float
    cosine: float
    overlap: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of an int8 artifact come from. method: how clips were chosen. pictures: how many; digest: their
    SHA-256. loss: what the whole loses on held-back pictures, where that was measured. faster: how many times faster
    the networks ran than the same backend's fp32 on the machine that exported them, on all its cores.
    """

    method: str
    pictures: int
    digest: str
    loss: Loss | None = None
    faster: float | None = None


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`.

    origin: for anything but "registry", `model` is only a name, and nothing is looked up or imported by it.
    """

    model: str
    target: Target
    networks: tuple[NetworkEntry, ...]
    pipeline: PipelineEntry
    source: tuple[SourceFile, ...]
    tools: dict[str, str]
    parity: tuple[Parity, ...]
    calibration: Calibration | None = None
    origin: Origin = "registry"
    format: str = FORMAT
    version: int = VERSION

    def network(self, name: str) -> NetworkEntry:
        return next(n for n in self.networks if n.spec.name == name)
