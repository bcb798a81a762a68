"""Is int8 worth it here? The compiled networks against the same backend's fp32, side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence

from facedeploy.runtimes.base import Arrays, Runtime

_WARMUP = 3
_ROUNDS = 200
_SECONDS = 3.0  # A slow network gets fewer rounds, but ten.
_FEWEST = 10


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
