"""One process of the runner, in which the artifacts take turns: what it is asked, and what it answers, checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedeploy.benchmarks.confidence import FEWEST
from facedeploy.benchmarks.latency.protocol import TURN, Floats
from facedeploy.benchmarks.record import PHASES, Protocol
from facedeploy.core.errors import DeviceError, InputError
from facedeploy.core.face import Face
from facedeploy.core.serialization import from_plain
from facedeploy.devices.python.messages import possible
from facedeploy.metrics.face_loss import Prediction

VERSION = 1
# The three phases are the whole, but for the digits that are printed.
_ROUNDING = 1e-6
_SLACK = 1.05  # Two clocks.
_MOST_FACES = 100_000
_CORES = 1024


@dataclass(frozen=True)
class Picture:
    """A picture on the phone: a file of height x width x 3 bytes, BGR.

    Attributes:
        height: Pixels.
        width: Pixels.
        path: As the runner names it.
    """

    height: int
    width: int
    path: str


@dataclass(frozen=True)
class Part:
    """What an artifact did in one process.

    Attributes:
        steady: Whether the warm-up came to rest.
        load: Milliseconds that opening it took.
        first: Milliseconds that the first picture took.
        memory: Bytes.
        times: Seconds, (phases, rounds, pictures).
        faces: What it found in each picture.
    """

    steady: bool
    load: float
    first: float
    memory: int | None
    times: tuple[tuple[tuple[float, ...], ...], ...]
    faces: tuple[tuple[Face, ...], ...]

    @property
    def array(self) -> Floats:
        return np.array(self.times, np.float64)

    @property
    def answers(self) -> tuple[Prediction, ...]:
        return tuple(Prediction(faces) for faces in self.faces)


@dataclass(frozen=True)
class Opening:
    """What one process of the runner measured.

    Attributes:
        ncnn: Version of ncnn.
        usable: Numbers of the cores that it might use.
        seconds: Of measuring.
        warmed: Seconds of warm-up.
        processor: Core-seconds of all cores in both.
        artifacts: What each artifact did.
    """

    ncnn: str
    usable: tuple[int, ...]
    seconds: float
    warmed: float
    processor: float
    artifacts: tuple[Part, ...]


def request(
    protocol: Protocol,
    artifacts: Sequence[str],
    pictures: Sequence[Picture],
    *,
    rounds: int,
    seed: int,
    beat: float,
    silence: float,
    limit: float,
) -> bytes:
    """Write what the runner reads from its standard input.

    Args:
        protocol: How to measure.
        artifacts: Folders of the artifacts, as the runner names them.
        pictures: The pictures, as the runner names them.
        rounds: As `rounds_of` says, or 0 to run every picture only once.
        seed: Of the order of the turns.
        beat: Seconds between signs of life.
        silence: Seconds without a sign of life after which either side gives the other up.
        limit: Seconds that all the work may take.
    """
    values = {
        "facedeploy": VERSION,
        "threads": protocol.threads,
        "rounds": rounds,
        "seconds": protocol.seconds * len(artifacts) / protocol.openings,
        "fewest": fewest_of(protocol),
        "steady": protocol.steady,
        "window": protocol.window,
        "cap": protocol.cap,
        "turn": TURN,
        "seed": seed,
        "beat": beat,
        "silence": silence,
        "limit": limit,
    }
    lines = [f"{name} {value}" for name, value in values.items()]
    lines += [f"artifact {path}" for path in artifacts]
    lines += [f"picture {p.height} {p.width} {p.path}" for p in pictures]
    return "\n".join([*lines, "end", ""]).encode()


def rounds_of(protocol: Protocol, opening: int) -> int:
    """How many rounds an opening gets; -1 where the time says."""
    if protocol.rounds is None:
        return -1
    share, more = divmod(protocol.rounds, protocol.openings)
    return share + (opening < more)


def fewest_of(protocol: Protocol) -> int:
    """The least that an opening measures where the time says."""
    return math.ceil(FEWEST / protocol.openings)


def read_opening(
    data: Any, where: str, *, artifacts: int, pictures: int, rounds: int, fewest: int, elapsed: float
) -> Opening:
    """Read the runner's answer, if it is one to what was asked.

    Args:
        data: What it said, as JSON has it.
        where: What messages call it.
        artifacts: How many it was asked to measure.
        pictures: How many it was given.
        rounds: How many it was asked for; -1 for at least `fewest`.
        fewest: Rounds that it must measure at least.
        elapsed: Seconds that passed here meanwhile.

    Raises:
        DeviceError: it is none, or says what cannot be.
    """
    try:
        opening = from_plain(Opening, data)
    except InputError as error:
        msg = f"{where} answers what cannot be read ({error}): was its runner built from this release?"
        raise DeviceError(msg) from error
    problem = next(_problems(opening, artifacts, pictures, rounds, fewest, elapsed), None)
    if problem is not None:
        msg = f"{where} answers what cannot be: {problem}"
        raise DeviceError(msg)
    return opening


def _problems(o: Opening, artifacts: int, pictures: int, rounds: int, fewest: int, elapsed: float) -> Iterator[str]:
    if len(o.artifacts) != artifacts:
        yield f"{len(o.artifacts)} artifacts, not {artifacts}"
        return
    cores = o.usable
    if not cores or len(set(cores)) != len(cores) or not all(0 <= core < _CORES for core in cores):
        yield f"cores {cores}"
    for what, value in (("measuring", o.seconds), ("warm-up", o.warmed), ("processor", o.processor)):
        if not 0 <= value <= (elapsed * _SLACK + 1) * (max(len(cores), 1) if what == "processor" else 1):
            yield f"{value} seconds of {what} in {elapsed:.1f}"
    counts = {len(phase) for part in o.artifacts for phase in part.times}
    for part in o.artifacts:
        yield from _of_part(part, pictures)
    if len(counts) != 1 or (min(counts) != rounds if rounds >= 0 else min(counts) < fewest):
        yield f"{sorted(counts)} rounds, not {rounds if rounds >= 0 else f'at least {fewest}'}"
    elif (spent := sum(float(part.array[0].sum()) for part in o.artifacts)) > elapsed * _SLACK + 1:
        yield f"{spent:.1f} seconds of pictures in {elapsed:.1f}"


def _of_part(part: Part, pictures: int) -> Iterator[str]:
    if len(part.times) != len(PHASES) or any(len(row) != pictures for phase in part.times for row in phase):
        yield f"not {len(PHASES)} phases of {pictures} pictures"
        return
    if len({len(phase) for phase in part.times}) != 1:
        yield "phases of different numbers of rounds"
        return
    times = part.array.reshape(len(PHASES), -1)
    if not np.isfinite(times).all() or (times < 0).any() or (times[0] <= 0).any():
        yield "a time that is no positive number"
    elif times.size and float(np.abs(times[1:].sum(axis=0) - times[0]).max()) > _ROUNDING:
        yield "phases that are not the whole"
    if not all(math.isfinite(v) and v >= 0 for v in (part.load, part.first, part.memory or 0)):
        yield f"{part.load} ms to load, {part.first} ms for the first picture, {part.memory} bytes"
    if len(part.faces) != pictures:
        yield f"faces of {len(part.faces)} pictures, not {pictures}"
    for faces in part.faces:
        if len(faces) > _MOST_FACES or not all(possible(face) for face in faces):
            yield "a face that cannot be"
