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
    """A file to be: its path in its folder, and what is in it."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Folder:
    name: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Settings:
    """Of `facedeploy.benchmarks.latency.benchmark.benchmark`, whose names they have."""

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
    """what: "benchmark" the artifacts on the pictures, "detect" with the only one in them, or "build" it. code: digest
    of the bundle. limit: seconds. beat, silence: seconds between signs of life, and without any until the work is given
    up.
    """

    what: What
    artifacts: tuple[Folder, ...]
    pictures: tuple[File, ...]
    settings: Settings
    code: str
    limit: float
    beat: float
    silence: float


@dataclass(frozen=True)
class Engine:
    """What was built of a network: size in bytes."""

    network: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Built:
    """tool, version: of TensorRT. gpu: its name, or None. kept: whether the engines are of an earlier build."""

    engines: tuple[Engine, ...]
    tool: str
    version: str
    gpu: str | None
    kept: bool


@dataclass(frozen=True)
class Answer:
    """One line of a device's: a step of progress, or what ends the talk. error: name of its class, and its sentence.
    record: of a benchmark. opening: of a phone's, from which the record is made here. faces: of each picture.
    """

    step: str | None = None
    error: tuple[str, str] | None = None
    record: Any = None
    opening: Any = None
    built: Built | None = None
    faces: tuple[tuple[Face, ...], ...] | None = None
