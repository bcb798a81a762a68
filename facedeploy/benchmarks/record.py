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
from facedeploy.metrics.interval import Interval, Unbounded

VERSION = 1

Phase = Literal["whole", "preprocess", "network", "postprocess"]
PHASES: tuple[Phase, ...] = ("whole", "preprocess", "network", "postprocess")


@dataclass(frozen=True)
class Protocol:
    """How latency was measured. Only numbers with equal `digest` may be set side by side.

    Attributes:
        version: Of the rules; a change of any of them raises it.
        pictures: SHA-256 over those of the picture files, in order.
        count: How many pictures.
        threads: CPU threads of each runtime.
        streams: How many pictures at once, for the throughput.
        seconds: Of measuring, times the number of artifacts; 0 where `rounds` says how many rounds instead.
        rounds: How many rounds, however long they take; None where `seconds` says how long.
        steady: Warm-up ends when the medians of the last two windows of runs differ by no more than this fraction.
        window: Runs in such a window.
        cap: Seconds after which warm-up ends at the latest.
        seed: Of the order in which artifacts take turns.
        options: Changes to the pipelines.
        openings: How often the artifacts are opened anew in a run.
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
    """Under what conditions a run took place.

    Attributes:
        machine: What it ran on.
        before: The machine before the run.
        after: The machine after the run.
        seconds: How long the run took.
        elsewhere: Cores that other processes kept busy meanwhile, on average; None where the system does not say.
        stolen: Cores that the hypervisor gave to others meanwhile, on average; None where the system does not say.
        warmed: Seconds of warm-up.
        steady: Whether warm-up ended by its rule and not by its cap.
        remarks: A sentence for each thing that a reader must know before trusting the numbers.
        during: What the board's sensors said meanwhile; None where there are none.
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
    """How the times of one phase are spread, in milliseconds.

    Attributes:
        p50: Median, with the interval that rounds drawn anew give.
        p90: 90th percentile.
        p99: 99th percentile.
        mean: Mean, with the interval that rounds drawn anew give.
    """

    p50: Interval
    p90: float
    p99: float
    mean: Interval


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer as the backend ran it.

    Attributes:
        network: The network that it is in.
        name: Its name in the compiled network.
        kind: What it does, as the backend calls it.
        precision: What it computes in, as the backend calls it, such as "u8" or "f32".
        milliseconds: Of one picture.
    """

    network: str
    name: str
    kind: str
    precision: str
    milliseconds: float


@dataclass(frozen=True)
class Cold:
    """What an artifact costs in a fresh process.

    Attributes:
        load: Milliseconds of opening and compiling.
        first: Milliseconds of the first picture.
        memory: Bytes of the largest resident size above that before opening; None where the system does not say.
    """

    load: float
    first: float
    memory: int | None


@dataclass(frozen=True)
class Throughput:
    """Pictures a second with several streams.

    Attributes:
        streams: How many pictures at once.
        pictures_per_second: With its interval.
    """

    streams: int
    pictures_per_second: Interval


@dataclass(frozen=True)
class VendorCheck:
    """The same network, timed in turns by us and by the vendor's own tool, or a bare loop over the backend's own API.

    Attributes:
        network: Which network was timed.
        tool: The vendor's tool, or the backend's own API.
        ours: Median of our times, milliseconds.
        theirs: Median of the tool's times, milliseconds.
        ratio: Ours over theirs.
    """

    network: str
    tool: str
    ours: float
    theirs: float
    ratio: Interval


@dataclass(frozen=True)
class Found:
    """A face that an artifact found in a picture.

    Attributes:
        box: (x1, y1, x2, y2), pixels.
        score: 0..1.
    """

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Measurement:
    """What was measured of one artifact.

    Attributes:
        name: Of its folder.
        digest: SHA-256 of its manifest, which holds those of its files.
        model: Id of the model.
        target: Such as "openvino-fp16".
        input_sizes: Network -> (height, width) in pixels.
        size: Bytes of the compiled files.
        runtime: What the backend says of itself.
        executed: Precision -> number of layers, as the backend ran them; empty where it does not say.
        layers: What each layer takes; empty where nobody asked.
        cold: What it costs in a fresh process; None where nobody asked.
        spread: Phase -> how its times are spread.
        samples: Phase -> rounds of one time for each picture, in the order of `Record.pictures`.
            `Record.openings` says which rounds belong together.
        ratio: How many times as fast as the first artifact, paired round by round; 1 for itself.
        throughput: Pictures a second with several streams; None where nobody asked.
        vendors: Our times beside those of the vendor's tool.
        found: Faces of each picture.
        lost: Points of average precision against the faces of the first artifact of the same model; None where that
            found none.
    """

    name: str
    digest: str
    model: str
    target: str
    input_sizes: Mapping[str, tuple[int, ...]]
    size: int
    runtime: Mapping[str, Any]
    executed: Mapping[str, int]
    layers: tuple[MeasuredLayer, ...]
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

    Attributes:
        artifact: Its name.
        dataset: Its name.
        measure: Such as "AP", "AP hard", "yaw" or "NME".
        unit: "points", "degrees" or "percent".
        higher_is_better: Whether a larger value is the better one.
        value: With the interval that leaving pictures out gives; without one where too few pictures count.
        change: Against the first artifact on the same pictures, paired; None for that one, and where the two cannot be
            paired.
        pictures: How many were measured.
        faces: Labelled faces that count.
    """

    artifact: str
    dataset: str
    measure: str
    unit: str
    higher_is_better: bool
    value: Interval | Unbounded
    change: Interval | Unbounded | None
    pictures: int
    faces: int


@dataclass(frozen=True)
class Record:
    """What one run of a benchmark writes down.

    Attributes:
        version: Of the format.
        protocol: How latency was measured.
        protocol_digest: Of the protocol.
        conditions: Under what conditions.
        pictures: Names of the files, in the order of the samples.
        measurements: Of each artifact, in the order in which they were named.
        scores: Accuracy of each artifact on each data set.
        max_drop: Points of average precision that the fastest may lose.
        fastest: Name of the artifact that is fastest beyond doubt among those of the first one's model that lose at
            most `max_drop` points against it; None where there is none.
        openings: How many rounds each opening has, in order.
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
