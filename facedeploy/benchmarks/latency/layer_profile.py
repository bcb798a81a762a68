"""Where the time goes inside the networks, and in what precision they really run; measured apart from the latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from facedeploy.benchmarks.record import MeasuredLayer
from facedeploy.runtimes.base import Runtime
from facedeploy.runtimes.wrapped import Feeds


def executed(runtimes: Mapping[str, Runtime]) -> dict[str, int]:
    """Precision, as the backend calls it -> layers of all networks that ran in it, most first."""
    total: Counter[str] = Counter()
    for runtime in runtimes.values():
        total.update(runtime.executed())
    return dict(total.most_common())


def profile(runtimes: Mapping[str, Runtime], feeds: Mapping[str, Feeds], pictures: int) -> tuple[MeasuredLayer, ...]:
    """Measure what the layers of each network take of a picture.

    Args:
        runtimes: Network -> its open runtime.
        feeds: Network -> its inputs.
        pictures: How many pictures the inputs are of.

    Returns:
        The layers, slowest first.
    """
    found = [
        MeasuredLayer(name, v.name, v.kind, v.precision, v.milliseconds * len(feeds[name].inputs) / pictures)
        for name, runtime in runtimes.items()
        if feeds[name].inputs
        for v in runtime.layers(feeds[name].inputs)
    ]
    return tuple(sorted(found, key=lambda v: -v.milliseconds))
