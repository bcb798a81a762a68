"""Latency of whole pipelines, picture in and faces out, measured side by side.

The artifacts take turns, picture by picture, so that a drift of the machine's speed hits all of them alike.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from facedeploy.artifact import Artifact
from facedeploy.calibration.judge import Answer, Judge
from facedeploy.errors import InputError
from facedeploy.loading import load
from facedeploy.pictures import expand, read_picture
from facedeploy.pipelines.base import Image, Pipeline
from facedeploy.preprocess import Pixels
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import Array, Arrays, Runtime

T = TypeVar("T")


@dataclass(frozen=True)
class Latency:
    """What was measured of one artifact. Times in milliseconds.

    load: opening and compiling. first: the first picture. samples: one per picture and round, in the order taken.
    network: median of the part that is spent inside the runtimes. host: the other part (decode, resize, crop,
    suppression), 0..1 of the whole. ratio: median over rounds of the first artifact's time for a round over this
    one's: how many times faster. network_ratio: the same with only the network's part of the first artifact's time:
    over 1, this whole pipeline is faster than that network alone. lost: points of average precision against the first
    artifact's faces on these pictures (IoU 0.5); None where that found none.
    """

    artifact: str
    model: str
    target: str
    runtime: dict[str, Any]
    size: int
    faces: int
    load: float
    first: float
    p50: float
    p90: float
    p99: float
    network: float
    host: float
    ratio: float
    network_ratio: float
    lost: float | None
    samples: tuple[float, ...]


@dataclass(frozen=True)
class LatencyReport:
    """All artifacts of one run, and the conditions of the run.

    fastest: the artifact that is fastest of those of the first one's model that lose at most `max_drop` points against
    it; None where the first one found no face.
    """

    rows: tuple[Latency, ...]
    pictures: tuple[str, ...]
    rounds: int
    warmup: int
    options: dict[str, Any]
    max_drop: float
    fastest: str | None


class Stopwatch(Runtime):
    """A runtime that adds up the time spent in another one, without the time that its inputs take to make."""

    backend = "stopwatch"
    concurrent = False

    def __init__(self, inner: Runtime) -> None:
        super().__init__(inner.spec, inner.options)
        self.inner = inner
        self.seconds = 0.0

    @property
    def parallel(self) -> int:
        return self.inner.parallel

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        return self._watch(self.inner.run_many, feeds)

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        return self._watch(self.inner.run_pictures, pictures)

    def _watch(self, run: Callable[[Iterable[T]], list[Arrays]], feeds: Iterable[T]) -> list[Arrays]:
        outside = 0.0

        def watched() -> Iterator[T]:
            nonlocal outside
            iterator = iter(feeds)
            while True:
                start = time.perf_counter()
                try:
                    feed = next(iterator)
                except StopIteration:
                    return
                finally:
                    outside += time.perf_counter() - start
                yield feed

        start = time.perf_counter()
        outputs = run(watched())
        self.seconds += time.perf_counter() - start - outside
        return outputs

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        start = time.perf_counter()
        outputs = self.inner.run(inputs)
        self.seconds += time.perf_counter() - start
        return outputs

    def _close(self) -> None:
        self.inner.close()


@dataclass
class _Contestant:
    artifact: Artifact
    pipeline: Pipeline
    watches: list[Stopwatch]
    load: float
    runtime: dict[str, Any]
    first: float = 0.0
    answers: tuple[Answer, ...] = ()


def benchmark(
    artifacts: Sequence[str | os.PathLike[str]],
    images: Sequence[str | os.PathLike[str]],
    *,
    threads: int = 0,
    rounds: int = 30,
    warmup: int = 5,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
    max_drop: float = 0.5,
) -> LatencyReport:
    """Time artifacts on real pictures; the first artifact is what the others are compared with.

    Raises:
        InputError: no picture, a wrong count, or what `load` raises.
    """
    if rounds < 1 or warmup < 0:
        msg = f"rounds must be at least 1 and warm-up at least 0, not {rounds} and {warmup}"
        raise InputError(msg)
    files = expand([Path(i) for i in images])
    pictures = [read_picture(f) for f in files]
    contestants: list[_Contestant] = []
    try:
        for path in artifacts:
            contestants.append(_open(Path(path), threads, runtime, options))  # noqa: PERF401  # closed if one fails
        for c in contestants:
            c.first = _time(c.pipeline, pictures[0])
            c.answers = tuple(Answer(tuple(c.pipeline.detect(p))) for p in pictures)
        _run_rounds(contestants, pictures, warmup)
        times = _run_rounds(contestants, pictures, rounds)
    finally:
        for c in contestants:
            c.pipeline.close()
    judge = Judge(contestants[0].answers, 0.0)
    rows = tuple(_row(c, times[i], times[0], judge) for i, c in enumerate(contestants))
    files_used = tuple(map(str, files))
    return LatencyReport(rows, files_used, rounds, warmup, dict(options or {}), max_drop, _fastest(rows, max_drop))


def _lost(judge: Judge, answers: Sequence[Answer]) -> float | None:
    points = judge.loss(answers).ap
    return None if points is None or math.isnan(points) else points


def _fastest(rows: Sequence[Latency], max_drop: float) -> str | None:
    able = [r for r in rows if r.model == rows[0].model and r.lost is not None and r.lost <= max_drop]
    return max(able, key=lambda r: r.ratio).artifact if able else None


def _open(path: Path, threads: int, runtime: Substitute | None, options: Mapping[str, Any] | None) -> _Contestant:
    artifact = Artifact.open(path)
    start = time.perf_counter()
    pipeline = load(artifact, threads=threads, runtime=runtime, options=options)
    elapsed = time.perf_counter() - start
    described = next(iter(pipeline.runtimes.values())).describe()
    watches = {name: Stopwatch(inner) for name, inner in pipeline.runtimes.items()}
    pipeline.runtimes.update(watches)
    return _Contestant(artifact, pipeline, list(watches.values()), elapsed, described)


def _run_rounds(contestants: Sequence[_Contestant], pictures: Sequence[Image], rounds: int) -> Array:
    """Seconds: (contestants, 2, rounds, pictures), of the whole and of the networks in it.

    Who begins changes from round to round.
    """
    times = np.zeros((len(contestants), 2, rounds, len(pictures)))
    for r in range(rounds):
        order = np.roll(np.arange(len(contestants)), r).tolist()
        for p, picture in enumerate(pictures):
            for i in order:
                before = sum(w.seconds for w in contestants[i].watches)
                whole = _time(contestants[i].pipeline, picture)
                times[i, :, r, p] = whole, sum(w.seconds for w in contestants[i].watches) - before
    return times


def _time(pipeline: Pipeline, picture: Image) -> float:
    start = time.perf_counter()
    pipeline.detect(picture)
    return time.perf_counter() - start


def _row(c: _Contestant, times: Array, reference: Array, judge: Judge) -> Latency:
    whole, network = times
    samples = whole.ravel() * 1e3
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
    manifest = c.artifact.manifest
    return Latency(
        artifact=str(c.artifact.path),
        model=manifest.model,
        target=str(manifest.target),
        runtime=c.runtime,
        size=c.artifact.size,
        faces=sum(len(a.faces) for a in c.answers),
        load=c.load * 1e3,
        first=c.first * 1e3,
        p50=p50,
        p90=p90,
        p99=p99,
        network=float(np.median(network)) * 1e3,
        host=1 - float(network.sum() / whole.sum()),
        ratio=float(np.median(reference[0].sum(axis=1) / whole.sum(axis=1))),
        network_ratio=float(np.median(reference[1].sum(axis=1) / whole.sum(axis=1))),
        lost=_lost(judge, c.answers),
        samples=tuple(samples.tolist()),
    )
