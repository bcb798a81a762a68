"""What a device is asked, and what it answers: JSON, and files named by their SHA-256."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from facedeploy.core.face import Face
from facedeploy.runtimes import Substitute

What = Literal["benchmark", "build", "detect"]

MARK = "facedeploy"  # A line of standard output is ours if it is an object whose first key is this.


@dataclass(frozen=True)
class File:
    """A file to be.

    Attributes:
        path: In its folder.
        sha256: Hexadecimal digest of what is in it.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Folder:
    name: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class MeasurementSettings:
    """What `facedeploy.benchmark` takes under the same names.

    Attributes:
        threads: CPU threads per network; 0 for every core of this process.
        seconds: Of measuring, times the number of artifacts.
        rounds: How many rounds instead of `seconds`; None for `seconds`.
        streams: How many pictures at once; more than 1 measures throughput too.
        seed: Of the order of the turns.
        runtime: "onnxruntime" runs the ONNX files of the artifacts.
        options: Changes to the configuration of every pipeline.
        max_drop: Points of average precision that the fastest may lose.
        cold: Whether to measure a fresh process too.
        layers: Whether to keep what each layer takes.
        vendors: Whether to time with the vendors' own tools too.
    """

    threads: int = 0
    seconds: float = 3.0
    rounds: int | None = None
    streams: int = 1
    seed: int = 0
    runtime: Substitute | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    max_drop: float = 0.5
    cold: bool = True
    layers: bool = False
    vendors: bool = False

    def named(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True)
class Request:
    """What a device is asked.

    Attributes:
        what: "benchmark" the artifacts on the pictures, "detect" with the only one in them, or "build" it.
        artifacts: Their folders.
        pictures: Their files.
        settings: What to measure and how, as `benchmark` takes it.
        code: Digest of the bundle of this package.
        limit: Seconds that all the work may take.
        beat: Seconds between signs of life.
        silence: Seconds without a sign of life after which the work is given up.
    """

    what: What
    artifacts: tuple[Folder, ...]
    pictures: tuple[File, ...]
    settings: MeasurementSettings
    code: str
    limit: float
    beat: float
    silence: float


@dataclass(frozen=True)
class Engine:
    """What was built of a network.

    Attributes:
        network: Its name.
        sha256: Hexadecimal digest of the engine.
        size: Bytes.
    """

    network: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Built:
    """Engines that a device built.

    Attributes:
        engines: Of each network.
        tool: Which TensorRT built them.
        version: Of that TensorRT.
        gpu: Its name, or None.
        kept: Whether the engines are of an earlier build.
    """

    engines: tuple[Engine, ...]
    tool: str
    version: str
    gpu: str | None
    kept: bool


@dataclass(frozen=True)
class WorkerMessage:
    """One line of a device: a step of progress, or what ends the talk.

    Attributes:
        step: Name of a step.
        error: Name of its class, and its sentence.
        record: Of a benchmark.
        opening: Of a phone's benchmark, from which the record is made here.
        built: Of a build.
        faces: Of each picture.
    """

    step: str | None = None
    error: tuple[str, str] | None = None
    record: Any = None
    opening: Any = None
    built: Built | None = None
    faces: tuple[tuple[Face, ...], ...] | None = None
