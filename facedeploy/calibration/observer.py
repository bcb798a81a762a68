"""What the layers of a model read while its own pipeline looks at pictures.

The pipeline matters: the second network of a cascade must see the crops that the first one really proposes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.calibration.histogram import Histogram
from facedeploy.calibration.observed_graph import Graph
from facedeploy.calibration.range_estimators import clip
from facedeploy.calibration.table import Method
from facedeploy.core.errors import InputError
from facedeploy.core.images import read_picture
from facedeploy.core.preprocess import Image
from facedeploy.graph.ranges import Range, union
from facedeploy.runtimes.base import Array, Runtime, RuntimeOptions
from facedeploy.runtimes.wrapped import Watched

Floats = NDArray[np.float32]


class Observer:
    """Statistics of what the layers of one graph read. Not for several threads: the histograms are not locked.

    Attributes:
        histograms: Tensor -> the values that were seen.
        peaks: Tensor -> the largest magnitude of each channel, (C,) float32.
        runs: How often the graph ran.
    """

    def __init__(self, graph: Graph) -> None:
        self.histograms = {layer.input: Histogram() for layer in graph.layers}
        self.peaks: dict[str, Floats] = {}
        self.runs = 0
        self._graph = graph

    def open(self, options: RuntimeOptions) -> Runtime:
        """The graph as a runtime that is observed."""
        return Watched(self._graph.open(options, self.histograms), self._see, self._graph.spec)

    def ranges(self, method: Method) -> dict[str, Range]:
        """Layer -> the range that is chosen of what it reads; layers that share a weight have one for both."""
        clips = {tensor: clip(histogram, method) for tensor, histogram in self.histograms.items()}
        ranges: dict[str, Range] = {}
        for layer in self._graph.layers:
            found = dataclasses.replace(clips[layer.input], divided=self._graph.divided.get(layer.name, ()))
            ranges[layer.name] = union(ranges[layer.name], found) if layer.name in ranges else found
        return ranges

    def _see(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        self.runs += 1
        for name, histogram in self.histograms.items():
            values = outputs[name] if name in outputs else inputs[name]
            self._peaks(name, values)
            if not histogram.add(values):
                reader = next(v.name for v in self._graph.layers if v.input == name)
                msg = (
                    f"layer {reader} of {self._graph.spec.name} reads values that are not finite: look at the weights, "
                    "and at how pixels are scaled"
                )
                raise InputError(msg)

    def _peaks(self, name: str, values: Array) -> None:
        if values.ndim < 2 or values.size == 0:
            return
        flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        peaks = np.maximum(flat.max(axis=1), -flat.min(axis=1))
        self.peaks[name] = np.maximum(self.peaks[name], peaks) if name in self.peaks else peaks


@dataclass(frozen=True)
class Observed:
    """What pictures show.

    Attributes:
        networks: Network -> statistics of what its layers read.
        digest: SHA-256 over the bytes of the picture files, in their order.
    """

    networks: Mapping[str, Observer]
    digest: str


def observe(entry: PipelineEntry, graphs: Mapping[str, Graph], pictures: Iterable[Path], threads: int) -> Observed:
    """Show pictures to the pipeline over some graphs.

    Args:
        entry: The pipeline.
        graphs: Network -> its graph.
        pictures: Picture files.
        threads: CPU threads of each network; 0 for every core.

    Raises:
        InputError: a picture cannot be read, all are blank, a value is not finite, or a network never ran.
    """
    observers = {name: Observer(graph) for name, graph in graphs.items()}
    digest, count, blank = hashlib.sha256(), 0, True
    with pipelines.open_pipeline(entry, {name: o.open for name, o in observers.items()}, threads) as pipeline:
        for path in pictures:
            image = read_picture(path)
            digest.update(path.read_bytes())
            blank, count = blank and _is_blank(image), count + 1
            try:
                pipeline.detect(image)
            except InputError as error:
                msg = f"{path}: {error}"
                raise InputError(msg) from error
    if blank:
        msg = f"every one of the {count} pictures is of a single colour: calibrate with pictures that show faces"
        raise InputError(msg)
    for name, observer in observers.items():
        if observer.runs == 0:
            msg = f"{name} never ran, because the pictures show no face to it: calibrate with pictures that show faces"
            raise InputError(msg)
    return Observed(observers, digest.hexdigest())


def _is_blank(image: Image) -> bool:
    return image.size == 0 or bool(np.ptp(image.reshape(-1, 3), axis=0).max() == 0)
