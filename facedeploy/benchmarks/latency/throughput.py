"""Pictures a second, where a backend computes several inputs at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.confidence import FEWEST, Rounds, mean_of
from facedeploy.benchmarks.latency.protocol import Floats
from facedeploy.benchmarks.record import Protocol, Throughput
from facedeploy.pipelines.load import open_compiled, substitute_for
from facedeploy.runtimes import Substitute
from facedeploy.runtimes.base import Runtime
from facedeploy.runtimes.wrapped import Feeds

_AHEAD = 8  # Inputs for each stream in a round, so that its end, where streams run dry, is a small part.


def measure_throughput(
    candidates: Sequence[tuple[Artifact, Mapping[str, Feeds]]],
    pictures: int,
    protocol: Protocol,
    *,
    runtime: Substitute | None,
    options: Mapping[str, Any],
) -> list[Throughput | None]:
    """Of the networks of each artifact, given all at once what they are given on so many pictures.

    Rounds in which the artifacts take turns, half as long as latency is measured for. None where no network of an
    artifact computes several inputs at once. What a pipeline does between its networks is not part of it.
    """
    with contextlib.ExitStack() as stack:
        opened = [list(_opened(artifact, feeds, protocol, runtime, options, stack)) for artifact, feeds in candidates]
        able = [i for i, candidate in enumerate(opened) if any(r.parallel > 1 for r, _ in candidate)]
        repeats = max(1, -(-_AHEAD * protocol.streams // pictures))
        times = _rounds([opened[i] for i in able], repeats, protocol)
    found: list[Throughput | None] = [None] * len(candidates)
    for i, seconds in zip(able, times, strict=True):
        each = mean_of(seconds[:, None])
        rounds = Rounds((len(seconds),), protocol.seed)
        # mypy infers no type for a lambda with a default.
        rate = rounds.interval(lambda rows, each=each: repeats * pictures / each(rows))  # type: ignore[misc]
        found[i] = Throughput(protocol.streams, rate)
    return found


def _opened(
    artifact: Artifact,
    feeds: Mapping[str, Feeds],
    protocol: Protocol,
    runtime: Substitute | None,
    options: Mapping[str, Any],
    stack: contextlib.ExitStack,
) -> Iterator[tuple[Runtime, Sequence[Any]]]:
    """The networks that are used, with their inputs."""
    entry = pipelines.reconfigure(artifact.manifest.pipeline, options)
    for name, part, network in artifact.compiled():
        if feeds[name].inputs:
            usual = pipelines.runtime_options(entry, name, protocol.threads)
            settings = replace(usual, streams=protocol.streams)
            made = open_compiled(part, network, settings, substitute_for(artifact, part, runtime))
            yield stack.enter_context(made), feeds[name].inputs


def _rounds(
    opened: Sequence[Sequence[tuple[Runtime, Sequence[Any]]]], repeats: int, protocol: Protocol
) -> list[Floats]:
    """Seconds of each round, for each candidate."""
    generator = np.random.default_rng(protocol.seed)
    budget = len(opened) * protocol.seconds / 2
    wanted = max(FEWEST, protocol.rounds or 0)
    for candidate in opened:
        _run(candidate, repeats)
    rounds: list[list[float]] = []
    begun = time.perf_counter()
    while opened and (len(rounds) < wanted or time.perf_counter() - begun < budget):
        times = [0.0] * len(opened)
        for who in generator.permutation(len(opened)).tolist():
            times[who] = _run(opened[who], repeats)
        rounds.append(times)
    return [np.array(column) for column in zip(*rounds, strict=True)]


def _run(candidate: Sequence[tuple[Runtime, Sequence[Any]]], repeats: int) -> float:
    start = time.perf_counter()
    for runtime, inputs in candidate:
        many = [*inputs] * repeats
        if runtime.options.preprocess is None:
            runtime.run_many(many)
        else:
            runtime.run_pictures(many)
    return time.perf_counter() - start
