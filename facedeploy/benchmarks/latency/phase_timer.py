"""Where the time of a pipeline goes: before its first network, in its networks, and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from facedeploy.core.preprocess import Image, Pixels
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.base import Array, Arrays, Runtime

T = TypeVar("T")


@dataclass
class Lap:
    """One picture's way through a pipeline, in seconds of a clock. fed: when the first network had its first input;
    None until then. network: spent inside the runtimes.
    """

    begun: float = 0.0
    fed: float | None = None
    network: float = 0.0

    def begin(self) -> None:
        self.begun, self.fed, self.network = time.perf_counter(), None, 0.0

    def phases(self) -> tuple[float, float, float, float]:
        """Seconds until now: whole, preprocess, network and postprocess, of which the last three are the whole."""
        whole = time.perf_counter() - self.begun
        preprocess = whole if self.fed is None else self.fed - self.begun
        return whole, preprocess, self.network, whole - preprocess - self.network


class Stopwatch(Runtime):
    """A runtime that adds the time spent in another one to a lap, without the time that its inputs take to make."""

    backend = "stopwatch"
    concurrent = False

    def __init__(self, inner: Runtime, lap: Lap) -> None:
        super().__init__(inner.spec, inner.options)
        self.inner = inner
        self._lap = lap

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
                asked = time.perf_counter()
                try:
                    feed = next(iterator)
                except StopIteration:
                    return
                finally:
                    outside += time.perf_counter() - asked
                # The runtime's own share of the wait is its time already, so it is not this phase's.
                self._feed(start + outside)
                yield feed

        start = time.perf_counter()
        outputs = run(watched())
        self._lap.network += time.perf_counter() - start - outside
        return outputs

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        start = time.perf_counter()
        self._feed(start)
        outputs = self.inner.run(inputs)
        self._lap.network += time.perf_counter() - start
        return outputs

    def _feed(self, moment: float) -> None:
        if self._lap.fed is None:
            self._lap.fed = moment

    def describe(self) -> dict[str, object]:
        return self.inner.describe()

    def _close(self) -> None:
        self.inner.close()


def watch(pipeline: Pipeline) -> Lap:
    """Put a stopwatch before every runtime of a pipeline, and return the lap that they share."""
    lap = Lap()
    pipeline.runtimes.update({name: Stopwatch(inner, lap) for name, inner in pipeline.runtimes.items()})
    return lap


def run_lap(pipeline: Pipeline, lap: Lap, image: Image) -> tuple[float, float, float, float]:
    """Run a watched pipeline once: seconds, as of `Lap.phases`."""
    lap.begin()
    pipeline.detect(image)
    return lap.phases()
