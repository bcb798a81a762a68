"""Is int8 worth it here? The compiled networks against the same backend's fp32, side by side."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.target import Precision, Target
from facedeploy.export.check_network import NetworkExport, describe_compiled
from facedeploy.export.compiler import Compile, Job
from facedeploy.runtimes import open_network
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions

_WARMUP = 3
_ROUNDS = 200
_SECONDS = 3.0  # A slow network gets fewer rounds, but ten.
_FEWEST = 10


def against_fp32(jobs: Sequence[NetworkExport], networks: Sequence[NetworkEntry], compile_network: Compile) -> float:
    """How many times faster compiled networks are than the same backend's fp32, on this machine."""
    backend = jobs[0].target.backend
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def opened(
            job: NetworkExport, entry: NetworkEntry, precision: Precision, folder: Path
        ) -> tuple[Runtime, Arrays]:
            made = open_network(job.source.model, Target(backend, precision), entry, folder, RuntimeOptions())
            return stack.enter_context(made), job.feeds[-1]

        ours = [opened(job, entry, job.target.precision, job.folder) for job, entry in zip(jobs, networks, strict=True)]
        floats = []
        for job in jobs:
            compiled = compile_network(Job(job.network.spec, job.float_graph, "fp32", work))
            floats.append(opened(job, describe_compiled(job.network.spec, work, compiled), "fp32", work))
        return speedup(ours, floats)


def speedup(fast: Sequence[tuple[Runtime, Arrays]], slow: Sequence[tuple[Runtime, Arrays]]) -> float:
    """How many times faster the first networks run than the second, each on its input.

    They take turns, and the best round of each counts: whatever else the machine does only adds time.
    """
    best = [float("inf")] * 2
    begin = time.perf_counter()
    for i in range(_WARMUP + _ROUNDS):
        for which in (0, 1) if i % 2 else (1, 0):
            taken = _time((fast, slow)[which])
            if i >= _WARMUP:
                best[which] = min(best[which], taken)
        if i >= _WARMUP + _FEWEST and time.perf_counter() - begin > _SECONDS:
            break
    return best[1] / best[0]


def _time(group: Sequence[tuple[Runtime, Arrays]]) -> float:
    start = time.perf_counter()
    for runtime, feed in group:
        runtime.run(feed)
    return time.perf_counter() - start
