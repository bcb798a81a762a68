"""By how much int8 moves the mean of each layer's outputs, layer after layer, each after those before it are set right.

The graph is cut behind every int8 layer, and each piece runs once over all pictures: what a layer gives in int8 is held
against float, channel by channel, and set right before the next piece reads it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.calibration.observed_graph import Graph
from facedeploy.calibration.quantizable_layers import choose
from facedeploy.core.images import read_picture
from facedeploy.graph.index import infer_shapes, infer_values, reads, weight_names
from facedeploy.graph.passes.correct_bias import correctable
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Range, Ranges, Scheme
from facedeploy.graph.rewrite import part_of, shapeless
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import open_session
from facedeploy.runtimes.wrapped import Watched

if TYPE_CHECKING:
    import onnx

PICTURES = 32
_MEMORY = 1 << 30  # Bytes of all values that are kept at a time, about.
_ALIVE = 3  # Tensors of the largest size that are alive at a time, about.

Means = dict[str, NDArray[np.float64]]


class Shown:
    """What a network is shown while its pipeline looks at pictures, as much of it as is needed."""

    def __init__(self, graph: Graph) -> None:
        self.feeds: list[Arrays] = []
        self._graph = graph
        sizes = [math.prod(shape) for shape in infer_shapes(graph.model).values()]
        self._most = max(1, min(PICTURES, _MEMORY // (4 * _ALIVE * max(sizes, default=1) or 1)))

    @property
    def enough(self) -> bool:
        return len(self.feeds) >= self._most

    def open(self, options: RuntimeOptions) -> Runtime:
        return Watched(self._graph.open(options), self._see, self._graph.spec)

    def _see(self, inputs: Mapping[str, Any], _: Arrays) -> None:
        if not self.enough and all(value.size for value in inputs.values()):
            self.feeds.append({name: np.array(value) for name, value in inputs.items()})


def show(
    entry: PipelineEntry, graphs: Mapping[str, Graph], pictures: Iterable[Path], threads: int
) -> dict[str, list[Arrays]]:
    """Network -> what it is shown.

    Args:
        entry: The pipeline.
        graphs: Network -> its float graph.
        pictures: Picture files, of which the first ones are looked at.
        threads: CPU threads of each network; 0 for every core.
    """
    shown = {name: Shown(graph) for name, graph in graphs.items()}
    with pipelines.open_pipeline(entry, {name: s.open for name, s in shown.items()}, threads) as pipeline:
        for path in pictures:
            if all(s.enough for s in shown.values()):
                break
            pipeline.detect(read_picture(path))
    return {name: s.feeds for name, s in shown.items()}


def corrected(graph: Graph, ranges: Ranges, feeds: Sequence[Arrays], threads: int) -> dict[str, Range]:
    """The ranges of a network with the correction of each layer that may be int8, in both schemes."""
    layers = {name: ranges[name] for name in choose(graph.layers) if name in graph.own}
    floats = float_means(graph, layers, feeds, threads)
    sizes = graph.sizes()

    def back(scheme: Scheme) -> dict[str, tuple[float, ...]]:
        found = measure_shifts(graph, layers, feeds, floats, scheme, threads)
        return {n: tuple(float(f"{v:.6g}") for v in -shift * sizes.get(n, 1)) for n, shift in found.items()}

    symmetric, asymmetric = back("symmetric"), back("asymmetric")
    return {
        name: replace(values, symmetric=symmetric.get(name, ()), asymmetric=asymmetric.get(name, ()))
        for name, values in ranges.items()
    }


def float_means(graph: Graph, layers: Ranges, feeds: Sequence[Arrays], threads: int = 0) -> Means:
    """Output of each layer that has a bias -> the mean of each of its channels (C,) in float."""
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _outputs(graph, layers)}
    if not found or not feeds:
        return {}
    with graph.open(RuntimeOptions(threads), found) as runtime:
        for feed in feeds:
            outputs = runtime.run(feed)
            for name, seen in found.items():
                seen.append(_mean(outputs[name]))
    return {name: np.mean(seen, axis=0) for name, seen in found.items()}


def measure_shifts(
    graph: Graph, layers: Ranges, feeds: Sequence[Arrays], floats: Means, scheme: Scheme, threads: int = 0
) -> Means:
    """Name of a layer's weight -> what int8 adds to the mean of each of its outputs (C,), in the graph's own units.

    Args:
        graph: The float graph, of whose layers those that have a bias are measured.
        layers: Those that are int8, with the ranges of what they read.
        feeds: What the network is shown.
        floats: What it gives in float, from `float_means`.
        scheme: Of the int8.
        threads: CPU threads; 0 for every core.
    """
    if not floats:
        return {}
    layer_of = _outputs(graph, layers)
    values = [dict(feed) for feed in feeds]
    found: dict[str, list[NDArray[np.float64]]] = {}
    for piece, last, later in _pieces(insert_qdq(graph.model, layers, scheme), layer_of):
        session = open_session(piece.SerializeToString(), threads)
        names = [v.name for v in piece.graph.output]
        for value in values:
            made = session.run(names, {v.name: value[v.name] for v in piece.graph.input})
            value.update(zip(names, made, strict=True))
        shift = np.mean([_mean(value[last]) for value in values], axis=0) - floats[last]
        found.setdefault(layer_of[last], []).append(shift)
        for value in values:
            value[last] = (value[last] - shift.reshape(_along(value[last].ndim))).astype(np.float32)
            for name in value.keys() - later:
                del value[name]
    return {name: np.mean(shifts, axis=0) for name, shifts in found.items()}


def _outputs(graph: Graph, layers: Ranges) -> dict[str, str]:
    """Output of each of some layers that has a bias -> its weight."""
    return {
        node.output[0]: name for name, nodes in correctable(graph.model).items() if name in layers for node in nodes
    }


def _pieces(model: onnx.ModelProto, ends: Container[str]) -> Iterator[tuple[onnx.ModelProto, str, set[str]]]:
    """The graph in pieces up to its last end: each with the tensor that it ends with, and what is read after it."""
    nodes, begin = list(model.graph.node), 0
    types, weights = infer_values(model), weight_names(model)
    for i, node in enumerate(nodes):
        last = node.output[0]
        if last not in ends:
            continue
        mine = nodes[begin : i + 1]
        made = {name for each in mine for name in each.output}
        read = dict.fromkeys(name for each in mine for name in reads(each))
        later = {name for each in nodes[i + 1 :] for name in reads(each)}
        inputs = [shapeless(name, types) for name in read if name not in made and name not in weights]
        outputs = [shapeless(name, types) for name in sorted({last, *(made & later)})]
        yield part_of(model, mine, inputs, outputs), last, later
        begin = i + 1


def _mean(values: NDArray[Any]) -> NDArray[np.float64]:
    """Of each channel."""
    means: NDArray[np.float64] = values.mean(axis=tuple(i for i in range(values.ndim) if i != 1), dtype=np.float64)
    return means


def _along(rank: int) -> list[int]:
    return [-1 if i == 1 else 1 for i in range(rank)]
