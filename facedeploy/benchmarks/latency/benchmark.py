"""Latency of whole pipelines, picture in and faces out, side by side. docs/explanation/latency.md has every rule."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from facedeploy import pipelines
from facedeploy.artifact.given import AnyArtifact, open_artifacts
from facedeploy.benchmarks.latency import conditions
from facedeploy.benchmarks.latency.cold_start import measure_cold
from facedeploy.benchmarks.latency.layer_profile import executed, profile
from facedeploy.benchmarks.latency.protocol import SECONDS, TURN, make_protocol, measure, run_lap, warm_up
from facedeploy.benchmarks.latency.summarize import Candidate, RunLog, make_record
from facedeploy.benchmarks.latency.throughput import measure_throughput
from facedeploy.benchmarks.latency.vendors import check_vendor
from facedeploy.benchmarks.record import Protocol, Record, numbered
from facedeploy.core.errors import InputError
from facedeploy.core.images import expand, read_picture
from facedeploy.core.paths import StrPath
from facedeploy.core.preprocess import Image
from facedeploy.core.progress import Progress, silent
from facedeploy.machine.emulation import refuse_emulation
from facedeploy.machine.jetson_sensors import read_sensors
from facedeploy.machine.sampler import Sampler
from facedeploy.metrics.face_loss import Prediction
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.load import check_manifest, load
from facedeploy.pipelines.recording import record_feeds
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.wrapped import Lap, Timed


def benchmark(
    artifacts: AnyArtifact | Sequence[AnyArtifact],
    images: StrPath | Sequence[StrPath],
    *,
    threads: int = 0,
    seconds: float = SECONDS,
    rounds: int | None = None,
    streams: int = 1,
    seed: int = 0,
    runtime: Substitute | None = None,
    options: Mapping[str, Any] | None = None,
    max_drop: float = 0.5,
    cold: bool = True,
    layers: bool = False,
    vendors: bool = False,
    progress: Progress = silent,
) -> Record:
    """Time artifacts side by side on real pictures, in turns, from the picture to the faces.

    Args:
        artifacts: Folders that `export` wrote, or artifacts that are open already. The first is what the others are
            compared with.
        images: Picture files and folders of them, or one of them.
        threads: CPU threads per network; 0 for every core of this process.
        seconds: How long to measure, times the number of artifacts.
        rounds: How many rounds to measure, however long they take, instead of `seconds`.
        streams: How many pictures at once; more than 1 measures throughput too.
        seed: Of the order of the turns, and of the resampling of the intervals.
        runtime: "onnxruntime" runs the ONNX files of the artifacts instead of what their targets compiled.
        options: Changes to the configuration of every pipeline, such as {"min_face": 20}.
        max_drop: Points of average precision, against the faces of the first artifact, that one may lose and still be
            named the fastest.
        cold: Whether to measure opening, first picture and memory, in fresh processes.
        layers: Whether to keep what each layer takes.
        vendors: Whether to time the heaviest networks with the vendors' own tools too.
        progress: Called with the name of each step.

    Returns:
        What was measured: latencies with their intervals, the conditions, and how far the faces differ.

    Raises:
        InputError: no artifact, no picture, a wrong number, or the processor is emulated.
        ArtifactError: an artifact is damaged, or its engine is still to be built.
        BackendUnavailableError: a backend is not installed, or this machine cannot run it.
    """
    refuse_emulation()
    opened = open_artifacts(artifacts)
    if not opened:
        msg = "there is no artifact to measure: name at least one"
        raise InputError(msg)
    options = dict(options or {})
    files = expand(images)
    if not files:
        msg = "there is no picture to measure with: name at least one"
        raise InputError(msg)
    for artifact in opened:
        check_manifest(artifact)
    pictures = [read_picture(file) for file in files]
    protocol = make_protocol(
        files, threads=threads, streams=streams, seconds=seconds, rounds=rounds, seed=seed, options=options
    )
    names = numbered(artifact.path.resolve().name for artifact in opened)
    candidates = [Candidate(name, artifact) for name, artifact in zip(names, opened, strict=True)]
    run = _Run(candidates, pictures, protocol, runtime, options, progress)
    run.measure(layers=layers, feeds=layers or vendors or streams > 1)
    if streams > 1:
        run.throughput()
    for c in candidates:
        if vendors:
            progress(f"{c.name}: the vendor's own tool")
            c.vendors = check_vendor(c.artifact, c.feeds, protocol.threads, runtime)
        if cold:
            progress(f"{c.name}: a fresh process")
            c.cold = measure_cold(c.artifact.path, files[0], threads=protocol.threads, runtime=runtime, options=options)
    return make_record(candidates, protocol, run.log, [f.name for f in files], max_drop)


@dataclass
class _Run:
    """One run, on its way."""

    candidates: Sequence[Candidate]
    pictures: Sequence[Image]
    protocol: Protocol
    runtime: Substitute | None
    options: Mapping[str, Any]
    progress: Progress
    log: RunLog = field(default_factory=lambda: RunLog(conditions.now(), conditions.now()))
    sampler: Sampler = field(default_factory=lambda: Sampler(read_sensors))

    def measure(self, *, layers: bool, feeds: bool) -> None:
        """Open all artifacts as often as the protocol says, and measure them each time."""
        begun = time.perf_counter()
        self.log.before = conditions.now()
        for opening in range(self.protocol.openings):
            self.progress(f"opening {opening + 1} of {self.protocol.openings}")
            last = opening == self.protocol.openings - 1
            with contextlib.ExitStack() as stack:
                timed = [(stack.enter_context(pipeline), lap) for pipeline, lap in map(self._open, self.candidates)]
                self._measure_opening(timed, opening)
                if last:
                    self.log.after, self.log.seconds = conditions.now(), time.perf_counter() - begun
                    self.log.during = self.sampler.during()
                    for c, (pipeline, _) in zip(self.candidates, timed, strict=True):
                        self._look(c, pipeline, layers=layers, feeds=feeds)

    def throughput(self) -> None:
        self.progress("throughput")
        found = measure_throughput(
            [(c.artifact, c.feeds) for c in self.candidates],
            len(self.pictures[:TURN]),
            self.protocol,
            runtime=self.runtime,
            options=self.options,
        )
        for c, throughput in zip(self.candidates, found, strict=True):
            c.throughput = throughput

    def _open(self, c: Candidate) -> tuple[Pipeline, Lap]:
        lap = Lap()
        protocol, timed = self.protocol, functools.partial(Timed, lap=lap)
        return load(c.artifact, threads=protocol.threads, runtime=self.runtime, options=self.options, wrap=timed), lap

    def _measure_opening(self, timed: Sequence[tuple[Pipeline, Lap]], opening: int) -> None:
        for c, (pipeline, lap) in zip(self.candidates, timed, strict=True):
            # A backend may compile for every size that it meets, so each picture comes once before anything counts.
            answers = tuple(Prediction(tuple(pipeline.detect(picture))) for picture in self.pictures)
            c.answers = c.answers or answers
            begun = time.perf_counter()
            c.steady &= warm_up(functools.partial(_seconds, pipeline, lap, self.pictures[0]), self.protocol)
            self.log.warmed += time.perf_counter() - begun
        with self.sampler:
            measured = measure(timed, self.pictures, self.protocol, opening)
        for c, times in zip(self.candidates, measured, strict=True):
            c.times.append(times)

    def _look(self, c: Candidate, pipeline: Pipeline, *, layers: bool, feeds: bool) -> None:
        """What else there is to know of a pipeline, now that its time has been taken."""
        c.described = next(iter(pipeline.runtimes.values())).describe()
        c.sizes = _sizes(pipeline)
        c.executed = executed(pipeline.runtimes)
        if feeds:
            seen = self.pictures[:TURN]
            entry = pipelines.reconfigure(c.artifact.manifest.pipeline, self.options)
            c.feeds = record_feeds(entry, pipeline.runtimes, seen)
            if layers:
                c.layers = profile(pipeline.runtimes, c.feeds, len(seen))


def _seconds(pipeline: Pipeline, lap: Lap, picture: Image) -> float:
    return run_lap(pipeline, lap, picture)[0]


def _sizes(pipeline: Pipeline) -> dict[str, tuple[int, ...]]:
    """Height and width of the pictures that networks take; nothing where one of them takes any size."""
    sizes = {name: pipeline.runtimes[name].spec.picture_size for name in sorted(pipeline.pictures)}
    return {} if None in sizes.values() else {name: size for name, size in sizes.items() if size is not None}
