"""One pass over pictures, through the model's own pipeline, to the table of ranges.

The pipeline matters: the second network of a cascade must see the crops that the first one really proposes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedeploy import pipelines
from facedeploy.calibration.observed_graph import Graph
from facedeploy.calibration.observer import Observer
from facedeploy.calibration.range_estimators import clip
from facedeploy.calibration.table import Method, Table
from facedeploy.core.errors import InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.images import expand, read_picture
from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.preprocess import Image
from facedeploy.core.progress import Watch, unwatched
from facedeploy.graph.passes.channel_equalization import choose_factors
from facedeploy.graph.ranges import Range, union
from facedeploy.sources.source import Source

DEFAULT_METHOD: Method = "mse"
DEFAULT_COUNT = 300
FEWEST = 10
_HELD_BACK = 5  # Every fifth picture is not calibrated with, but judged on.
_TOOLS = ("facedeploy", "torch", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Split:
    """Picture files to calibrate with, and others to judge on."""

    calibration: tuple[Path, ...]
    held_back: tuple[Path, ...]


def choose_pictures(images: Sequence[str | os.PathLike[str]], count: int = DEFAULT_COUNT, seed: int = 0) -> Split:
    """At most `count` of the pictures in files and folders: four fifths to calibrate with.

    Raises:
        InputError: no picture, or too few.
    """
    files = sorted(set(expand([Path(i) for i in images])))
    if len(files) < FEWEST or count < FEWEST:
        few = min(len(files), count)
        msg = (
            f"{few} {'picture is' if few == 1 else 'pictures are'} too few to calibrate with: give at least {FEWEST}, "
            "and better 100 to 300, such as the model will see"
        )
        raise InputError(msg)
    random.Random(seed).shuffle(files)
    files = files[:count]
    held = tuple(sorted(files[::_HELD_BACK]))
    return Split(tuple(sorted(set(files) - set(held))), held)


def calibrate(
    source: Source,
    graphs: Mapping[str, Graph],
    pictures: Sequence[Path],
    *,
    method: Method = DEFAULT_METHOD,
    equalised: bool = True,
    threads: int = 0,
    watch: Watch = unwatched,
) -> Table:
    """Run the pipeline over pictures and choose the range of every layer's input.

    pictures: files. equalised: whether channels of very different size are made alike, which takes a second pass.
    watch: shows the progress over files.

    Raises:
        InputError: a picture cannot be read, all are blank, a value is not finite, or a network never ran.
    """
    with _observing(source, graphs, threads) as observers:
        digest = _observe(source, observers, watch(pictures, "calibrate"))
        factors = {name: _factors(graphs[name], observer) if equalised else {} for name, observer in observers.items()}
        networks = {name: _ranges(name, observer, method, {}) for name, observer in observers.items()}
    if any(factors.values()):
        alike = {name: graph.equalised(factors[name]) for name, graph in graphs.items()}
        with _observing(source, alike, threads) as observers:
            _observe(source, observers, watch(pictures, "calibrate again"))
            networks = {name: _ranges(name, observer, method, factors[name]) for name, observer in observers.items()}
    return Table(
        model=source.model,
        source={part: sha256(file) for part, file in source.files.items()},
        method=method,
        pictures=len(pictures),
        digest=digest,
        networks=networks,
        tools=installed_versions(*_TOOLS),
    )


@contextlib.contextmanager
def _observing(source: Source, graphs: Mapping[str, Graph], threads: int) -> Iterator[dict[str, Observer]]:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def observer(name: str, graph: Graph) -> Observer:
            options = pipelines.runtime_options(source.pipeline, name, threads)
            return stack.enter_context(Observer(graph.model, graph.layers, graph.spec, options, work / f"{name}.onnx"))

        yield {name: observer(name, graph) for name, graph in graphs.items()}


def _observe(source: Source, observers: Mapping[str, Observer], pictures: Iterable[Path]) -> str:
    """Show the pictures to the pipeline; their SHA-256."""
    digest, count, blank = hashlib.sha256(), 0, True
    pipeline = pipelines.make(source.pipeline, observers)
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
    return digest.hexdigest()


def _factors(graph: Graph, observer: Observer) -> dict[str, tuple[float, ...]]:
    """Layer -> what to divide each channel of the layer before by. Layers that stay in float are none of ours."""
    mine = [layer for layer in graph.layers if not layer.reason and layer.input in observer.peaks]
    peaks = {layer.name: observer.peaks[layer.input] for layer in mine}
    return {name: tuple(factors.tolist()) for name, factors in choose_factors(graph.model, peaks).items()}


def _ranges(
    name: str, observer: Observer, method: Method, factors: Mapping[str, tuple[float, ...]]
) -> dict[str, Range]:
    if observer.runs == 0:
        msg = f"{name} never ran, because the pictures show no face to it: calibrate with pictures that show faces"
        raise InputError(msg)
    clips = {tensor: clip(histogram, method) for tensor, histogram in observer.histograms.items()}
    ranges: dict[str, Range] = {}
    for layer in observer.watched:
        found = dataclasses.replace(clips[layer.input], divided=factors.get(layer.name, ()))
        ranges[layer.name] = union(ranges[layer.name], found) if layer.name in ranges else found
    return ranges


def _is_blank(image: Image) -> bool:
    return image.size == 0 or bool(np.ptp(image.reshape(-1, 3), axis=0).max() == 0)
