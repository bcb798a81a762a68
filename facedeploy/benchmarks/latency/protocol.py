"""How latency is measured: who runs when, how often, and what counts. docs/explanation/latency.md says why.

A change of any rule here raises `VERSION`, so that its numbers are not set beside older ones.
"""

from __future__ import annotations

import gc
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.benchmarks.confidence import FEWEST
from facedeploy.benchmarks.record import PHASES, Protocol
from facedeploy.core.errors import InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.preprocess import Image
from facedeploy.core.serialization import to_plain
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.wrapped import Lap

VERSION = 1
OPENINGS = 5
SECONDS = 3.0
STEADY, WINDOW, CAP = 0.05, 5, 2.0
TURN = 8  # Pictures that an artifact gets at a time.
# Workers that spin after a call for the next one take the cores from whoever's turn it is then.
_QUIET, _LOOK, _PATIENCE = 0.3, 1e-3, 0.05

Floats = NDArray[np.float64]
Timed = tuple[Pipeline, Lap]


def make_protocol(
    files: Sequence[Path],
    *,
    threads: int,
    streams: int,
    seconds: float,
    rounds: int | None,
    seed: int,
    options: Mapping[str, Any],
) -> Protocol:
    """The rules of one run.

    Raises:
        InputError: there cannot be so many of something.
    """
    if rounds is not None and rounds < 1:
        msg = f"rounds must be at least 1, not {rounds}"
        raise InputError(msg)
    if not 0 < seconds < math.inf:
        msg = f"seconds must be positive, not {seconds}"
        raise InputError(msg)
    resolved = RuntimeOptions(threads, streams)
    if streams > 1 and streams > resolved.threads:
        msg = f"{streams} streams need at least {streams} threads, not {resolved.threads}"
        raise InputError(msg)
    pictures = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    return Protocol(
        version=VERSION,
        pictures=pictures,
        count=len(files),
        threads=resolved.threads,
        streams=streams,
        seconds=float(seconds) if rounds is None else 0.0,  # The digest of 2 is not that of 2.0.
        rounds=rounds,
        steady=STEADY,
        window=WINDOW,
        cap=CAP,
        seed=seed,
        options=to_plain(dict(options)),
        openings=OPENINGS if rounds is None else min(OPENINGS, rounds),
    )


def warm_up(run: Callable[[], float], protocol: Protocol) -> bool:
    """Run until steady: whether it became so.

    `run` gives seconds. The medians of two windows are compared at the earliest when there are two.
    """
    times: list[float] = []
    window, begun = protocol.window, time.perf_counter()
    while True:
        times.append(run())
        if len(times) >= 2 * window:
            before, now = np.median(times[-2 * window : -window]), np.median(times[-window:])
            if abs(now - before) <= protocol.steady * before:
                return True
            if time.perf_counter() - begun > protocol.cap:
                return False


def run_lap(pipeline: Pipeline, lap: Lap, image: Image) -> tuple[float, float, float, float]:
    """Run a pipeline whose runtimes are timed once: seconds, as of `Lap.phases`."""
    lap.begin()
    pipeline.detect(image)
    return lap.phases()


def measure(candidates: Sequence[Timed], pictures: Sequence[Image], protocol: Protocol, opening: int) -> Floats:
    """Seconds of one opening: (candidates, phases, rounds, pictures), in the order of `PHASES`.

    In a round every artifact runs every picture, `TURN` pictures at a time, and who runs next is drawn. Whoever's turn
    it is waits until the last one's workers have stopped, and runs once without being counted. The first turn of all is
    not counted: whoever warmed up last has an advantage in it.
    """
    generator = np.random.default_rng([protocol.seed, opening])
    rounds: list[Floats] = []
    with _without_collections():
        _round(candidates, pictures[:TURN], generator)
        begun = time.perf_counter()
        while _goes_on(len(rounds), time.perf_counter() - begun, protocol, opening, len(candidates)):
            rounds.append(_round(candidates, pictures, generator))
    return np.stack(rounds, axis=2)


def _round(candidates: Sequence[Timed], pictures: Sequence[Image], generator: np.random.Generator) -> Floats:
    """Seconds (candidates, phases, pictures)."""
    times = np.zeros((len(candidates), len(PHASES), len(pictures)))
    for turn in (slice(i, i + TURN) for i in range(0, len(pictures), TURN)):
        for who in generator.permutation(len(candidates)).tolist():
            pipeline, lap = candidates[who]
            _settle()
            run_lap(pipeline, lap, pictures[turn.start])
            times[who, :, turn] = np.transpose([run_lap(pipeline, lap, p) for p in pictures[turn]])
    return times


def _goes_on(done: int, spent: float, protocol: Protocol, opening: int, candidates: int) -> bool:
    if protocol.rounds is not None:
        share, more = divmod(protocol.rounds, protocol.openings)
        return done < share + (opening < more)
    return done * protocol.openings < FEWEST or spent < protocol.seconds * candidates / protocol.openings


def _settle() -> None:
    """Wait until no thread of this process is busy, or patience ends."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < _PATIENCE:
        spent, looked = time.process_time(), time.perf_counter()
        time.sleep(_LOOK)
        if time.process_time() - spent < _QUIET * (time.perf_counter() - looked):
            return


@contextmanager
def _without_collections() -> Iterator[None]:
    """No garbage is collected meanwhile: it would be of all artifacts, and fall on one."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
