"""What a benchmark writes down: numbers, and the conditions under which they were measured.

All times are milliseconds, sizes are bytes. `record_file` writes records and reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from facedeploy.core.serialization import to_plain
from facedeploy.machine.records import During, Machine, State
from facedeploy.metrics.interval import Interval

VERSION = 1

Phase = Literal["whole", "preprocess", "network", "postprocess"]
PHASES: tuple[Phase, ...] = ("whole", "preprocess", "network", "postprocess")


@dataclass(frozen=True)
class Protocol:
    """How latency was measured. Only numbers with equal `digest` may be set side by side.

    version: of the rules in `protocol`, which a change of any of them raises. pictures: SHA-256 over those of the
    files, in order; count: how many. threads: of the runtimes; streams: for the throughput. seconds: of measuring,
    times the number of artifacts; 0 where `rounds` says how many rounds instead. steady, window, cap: warm-up ends when
    the medians of the last two windows of runs differ by no more than this fraction, after `cap` seconds at the latest.
    seed: of the order in which artifacts take turns. options: changes to the pipelines. openings: how often the
    artifacts are opened anew in a run.
    """

    version: int
    pictures: str
    count: int
    threads: int
    streams: int
    seconds: float
    rounds: int | None
    steady: float
    window: int
    cap: float
    seed: int
    options: Mapping[str, Any]
    openings: int = 1

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(to_plain(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Conditions:
    """Of one run. elsewhere: cores that other processes kept busy meanwhile, on average; stolen: that the hypervisor
    gave to others; None where the system does not say. warmed: seconds of warm-up; steady: whether it ended by its rule
    and not by its cap. remarks: a sentence for each thing that a reader must know before trusting the numbers. during:
    what the board's sensors said meanwhile.
    """

    machine: Machine
    before: State
    after: State
    seconds: float
    elsewhere: float | None
    stolen: float | None
    warmed: float
    steady: bool
    remarks: tuple[str, ...]
    during: During | None = None


@dataclass(frozen=True)
class Spread:
    """Of one phase. p50 and mean with the interval that rounds drawn anew give."""

    p50: Interval
    p90: float
    p99: float
    mean: Interval


@dataclass(frozen=True)
class Layer:
    """A layer as the backend ran it. precision: as the backend calls it ("u8", "f32"); milliseconds: a picture's."""

    network: str
    name: str
    kind: str
    precision: str
    milliseconds: float


@dataclass(frozen=True)
class Cold:
    """Of a fresh process. load: opening and compiling. first: the first picture. memory: its largest resident size
    above what it held before it opened the artifact; None where the system does not say.
    """

    load: float
    first: float
    memory: int | None


@dataclass(frozen=True)
class Throughput:
    """Pictures a second with several streams."""

    streams: int
    pictures_per_second: Interval


@dataclass(frozen=True)
class VendorCheck:
    """The same network, timed in turns by us and by the vendor's own tool, or a bare loop over the backend's own API.

    ours, theirs: medians. ratio: ours over theirs.
    """

    network: str
    tool: str
    ours: float
    theirs: float
    ratio: Interval


@dataclass(frozen=True)
class Found:
    """A face that an artifact found in a picture: its box (x1, y1, x2, y2) in pixels."""

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Measurement:
    """One artifact. name: of its folder. digest: SHA-256 of its manifest, which holds those of its files.

    runtime: what the backend says of itself. executed: precision -> number of layers, as the backend ran them; empty
    where it does not say. spread: by phase. samples: by phase, rounds of one time for each picture, in the order of
    `Record.pictures`; `Record.openings` says which rounds belong together. ratio: how many times faster than the first
    artifact, paired round by round; 1 for itself. found: faces of each picture. lost: points of average precision
    against the faces of the first artifact of the same model; None where that found none.
    """

    name: str
    digest: str
    model: str
    target: str
    input_sizes: Mapping[str, tuple[int, ...]]
    size: int
    runtime: Mapping[str, Any]
    executed: Mapping[str, int]
    layers: tuple[Layer, ...]
    cold: Cold | None
    spread: Mapping[str, Spread]
    samples: Mapping[str, tuple[tuple[float, ...], ...]]
    ratio: Interval
    throughput: Throughput | None
    vendors: tuple[VendorCheck, ...]
    found: tuple[tuple[Found, ...], ...]
    lost: float | None


@dataclass(frozen=True)
class Score:
    """One measure of one artifact on one data set.

    measure: such as "AP", "AP hard", "yaw", "NME"; unit: "points", "degrees" or "percent". value: with the interval
    that pictures drawn anew give. change: against the first artifact on the same pictures, paired; None for that one
    and where the two cannot be paired. faces: labelled ones that count.
    """

    artifact: str
    dataset: str
    measure: str
    unit: str
    higher_is_better: bool
    value: Interval
    change: Interval | None
    pictures: int
    faces: int


@dataclass(frozen=True)
class Record:
    """One run. pictures: files by name, in the order of the samples. openings: rounds of each, in order. fastest: name
    of the artifact that is fastest beyond doubt among those of the first one's model that lose at most `max_drop`
    points against it.
    """

    version: int
    protocol: Protocol
    protocol_digest: str
    conditions: Conditions
    pictures: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    scores: tuple[Score, ...]
    max_drop: float
    fastest: str | None
    openings: tuple[int, ...] = ()


def numbered(names: Iterable[str]) -> tuple[str, ...]:
    """Names of artifacts as records have them: of those that are alike, all but the first get a number."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(found)
