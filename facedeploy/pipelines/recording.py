"""What the networks of a pipeline are really given on pictures."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from facedeploy.core.preprocess import Image, Pixels
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.base import Array, Arrays, Runtime


@dataclass
class Feeds:
    """Inputs of one network, in the order given, and the seconds that each call took. An input is a stack of pictures
    where the network is run on pictures, else named arrays.
    """

    inputs: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Recorder(Runtime):
    """Another runtime, whose inputs are kept."""

    backend = "recorder"
    concurrent = False

    def __init__(self, inner: Runtime, feeds: Feeds) -> None:
        super().__init__(inner.spec, inner.options)
        self.inner = inner
        self._feeds = feeds

    @property
    def parallel(self) -> int:
        return self.inner.parallel

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        return [self.run(feed) for feed in feeds]

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        outputs = []
        for picture in pictures:
            start = time.perf_counter()
            outputs += self.inner.run_pictures([picture])
            self._keep(picture, start)
        return outputs

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        start = time.perf_counter()
        outputs = self.inner.run(inputs)
        self._keep(inputs, start)
        return outputs

    def _keep(self, feed: Any, start: float) -> None:
        self._feeds.seconds.append(time.perf_counter() - start)
        self._feeds.inputs.append(feed)

    def _close(self) -> None:
        self.inner.close()


def record_feeds(pipeline: Pipeline, images: Sequence[Image]) -> dict[str, Feeds]:
    """Run a pipeline on pictures; the inputs of each of its networks, by name."""
    plain = dict(pipeline.runtimes)
    feeds = {name: Feeds() for name in plain}
    pipeline.runtimes.update({name: Recorder(inner, feeds[name]) for name, inner in plain.items()})
    try:
        for image in images:
            pipeline.detect(image)
    finally:
        pipeline.runtimes.update(plain)
    return feeds
