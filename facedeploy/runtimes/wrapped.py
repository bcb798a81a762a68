"""A runtime around another one: it tells what goes in and out, takes the time, or answers from what was seen before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.preprocess import Pixels
from facedeploy.runtimes.base import Array, Arrays, LayerTime, Runtime, RuntimeOptions

T = TypeVar("T")

Wrap = Callable[[Runtime], Runtime]
# Told the named inputs and outputs of a run.
Seen = Callable[[Mapping[str, Array], Arrays], object]


class Wrapped(Runtime):
    """Another runtime, and what is done around its calls. Closing it closes that one.

    Not for several threads: what is kept is not locked.
    """

    backend = "wrapped"
    concurrent = False

    def __init__(self, inner: Runtime, spec: NetworkSpec | None = None) -> None:
        """Wrap a runtime.

        Args:
            inner: The runtime that computes.
            spec: Its spec with fewer outputs; None for the same.
        """
        super().__init__(spec or inner.spec, inner.options)
        self.inner = inner

    @property
    def parallel(self) -> int:
        return self.inner.parallel

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()

    def executed(self) -> dict[str, int]:
        return self.inner.executed()

    def layers(self, feeds: Any) -> tuple[LayerTime, ...]:
        return self.inner.layers(feeds)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self.inner.run(inputs)

    def _close(self) -> None:
        self.inner.close()


class Watched(Wrapped):
    """Calls `seen` with the named inputs and outputs of every run; pictures become tensors here, one at a time."""

    def __init__(self, inner: Runtime, seen: Seen, spec: NetworkSpec | None = None) -> None:
        super().__init__(inner, spec)
        self._seen = seen
        self._names = [t.name for t in self.spec.outputs]

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        outputs = self.inner.run(inputs)
        self._seen(inputs, outputs)
        return {name: outputs[name] for name in self._names}


class Remembered(Wrapped):
    """Runs each input once: the same arrays again get the same answer, which nobody may change."""

    def __init__(self, inner: Runtime) -> None:
        super().__init__(inner)
        self._seen: dict[tuple[int, ...], tuple[Mapping[str, Array], Arrays]] = {}

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        # The inputs are kept, so that no other array gets the number of one of them.
        key = tuple(map(id, inputs.values()))
        if key not in self._seen:
            self._seen[key] = inputs, self.inner.run(inputs)
        return dict(self._seen[key][1])


@dataclass
class Feeds:
    """What one network was given.

    Attributes:
        inputs: In the order given: pictures (N, H, W, 3) uint8 where it is run on pictures, else named arrays.
        seconds: What each of them took.
    """

    inputs: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Recorded(Wrapped):
    """Keeps the inputs, as they are given, and the seconds of each of them: they run one at a time."""

    def __init__(self, inner: Runtime, feeds: Feeds) -> None:
        super().__init__(inner)
        self._feeds = feeds

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        return [self.run(feed) for feed in feeds]

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        return [self._keep(lambda picture: self.inner.run_pictures([picture])[0], each) for each in pictures]

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self._keep(self.inner.run, inputs)

    def _keep(self, run: Callable[[T], Arrays], feed: T) -> Arrays:
        start = time.perf_counter()
        outputs = run(feed)
        self._feeds.seconds.append(time.perf_counter() - start)
        self._feeds.inputs.append(feed)
        return outputs


@dataclass
class Lap:
    """One picture's way through a pipeline, in seconds of a clock.

    Attributes:
        begun: When it began.
        fed: When the first network had its first input; None until then.
        network: Spent inside the runtimes.
    """

    begun: float = 0.0
    fed: float | None = None
    network: float = 0.0

    def begin(self) -> None:
        self.begun, self.fed, self.network = time.perf_counter(), None, 0.0

    def feed(self, moment: float) -> None:
        if self.fed is None:
            self.fed = moment

    def phases(self) -> tuple[float, float, float, float]:
        """Seconds until now: whole, preprocess, network and postprocess, of which the last three are the whole."""
        whole = time.perf_counter() - self.begun
        preprocess = whole if self.fed is None else self.fed - self.begun
        return whole, preprocess, self.network, whole - preprocess - self.network


class Timed(Wrapped):
    """Adds the time spent in the inner runtime to a lap, without the time that its inputs take to make."""

    def __init__(self, inner: Runtime, lap: Lap) -> None:
        super().__init__(inner)
        self._lap = lap

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        return self._time(self.inner.run_many, feeds)

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        return self._time(self.inner.run_pictures, pictures)

    def _time(self, run: Callable[[Iterable[T]], list[Arrays]], feeds: Iterable[T]) -> list[Arrays]:
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
                self._lap.feed(start + outside)
                yield feed

        start = time.perf_counter()
        outputs = run(watched())
        self._lap.network += time.perf_counter() - start - outside
        return outputs

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        start = time.perf_counter()
        self._lap.feed(start)
        outputs = self.inner.run(inputs)
        self._lap.network += time.perf_counter() - start
        return outputs


class Replayed(Runtime):
    """Answers from what was seen before; where that says nothing, it runs the network."""

    backend = "replayed"
    concurrent = False

    def __init__(
        self,
        spec: NetworkSpec,
        options: RuntimeOptions,
        recall: Callable[[Mapping[str, Array]], Arrays | None],
        whole: Callable[[], Runtime],
    ) -> None:
        """Make the runtime; nothing is opened yet.

        Args:
            spec: The network's inputs and outputs.
            options: How it runs.
            recall: The tensors for some inputs, at least the outputs, or None.
            whole: Opens the network, which may have more outputs; it is called once, at the first None.
        """
        super().__init__(spec, options)
        self._recall, self._whole = recall, whole
        self._opened: Runtime | None = None

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        tensors = self._recall(inputs)
        if tensors is None:
            self._opened = self._opened or self._whole()
            tensors = self._opened.run(inputs)
        return {t.name: tensors[t.name] for t in self.spec.outputs}

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
