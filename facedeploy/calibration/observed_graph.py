"""The graphs that a calibration looks at, and what their layers read while the model's own pipeline looks at pictures.

They are those of the export, with their deformable convolutions lowered. The pipeline matters: the second network of a
cascade must see the crops that the first one really proposes.

A lowered deformable convolution has a 1x1 convolution that may be int8, so its input is observed; a backend that keeps
the operator finds no layer of that name, and leaves it in float.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.calibration.histogram import Histogram
from facedeploy.calibration.quantizable_layers import QuantizableLayer, find_layers
from facedeploy.calibration.range_estimators import clip
from facedeploy.calibration.table import Method
from facedeploy.core.errors import InputError
from facedeploy.core.images import read_picture
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import require
from facedeploy.core.preprocess import Image
from facedeploy.graph.passes.channel_equalization import Floats, choose_factors, equalize_channels, find_pairs
from facedeploy.graph.passes.correct_bias import correct_biases, correctable
from facedeploy.graph.passes.deform_conv import to_gridsample
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Range, Ranges, union
from facedeploy.runtimes.base import Array, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.wrapped import Watched
from facedeploy.sources.source import Source

if TYPE_CHECKING:
    import onnx


_SIDES = ("height", "width")


@dataclass(frozen=True)
class Graph:
    """A graph and its layers.

    Attributes:
        spec: The network's inputs and outputs.
        model: The ONNX graph.
        layers: Its layers, in the order of computation.
        divided: Name of a layer's weight -> by what each channel of the layer before was divided, where they were.
        before: The graph before its channels were divided; None where they were not.
        own: Weights whose layers are the network's own, and no lowered form of another operator.
    """

    spec: NetworkSpec
    model: onnx.ModelProto
    layers: tuple[QuantizableLayer, ...]
    divided: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    before: onnx.ModelProto | None = None
    own: frozenset[str] = frozenset()

    @staticmethod
    def of(model: onnx.ModelProto, spec: NetworkSpec) -> Graph:
        # The lowering is for one size; a graph for any keeps the operator.
        lowered = model if any(axis.name in _SIDES for axis in spec.axes) else to_gridsample(model)
        return Graph(spec, lowered, find_layers(lowered), own=frozenset(correctable(model)))

    def equalised(self, peaks: Mapping[str, Floats]) -> Graph:
        """The same, with channels of very different size made alike, where layers that may be int8 read them.

        Args:
            peaks: Tensor -> the largest magnitude of each channel (C,).
        """
        mine = {v.name: peaks[v.input] for v in self.layers if not v.reason and v.input in peaks}
        divided = {name: tuple(factors.tolist()) for name, factors in choose_factors(self.model, mine).items()}
        if not divided:
            return self
        return dataclasses.replace(
            self, model=equalize_channels(self.model, divided), divided=divided, before=self.model
        )

    def quantised(self, layers: Ranges) -> Graph:
        """The same, with Q/DQ of the symmetric scheme at some layers, which is the accuracy of record."""
        corrected = correct_biases(self.before or self.model, layers, "symmetric")
        if self.divided:
            corrected = equalize_channels(corrected, self.divided)
        return dataclasses.replace(self, model=insert_qdq(corrected, layers, "symmetric"))

    def sizes(self) -> dict[str, Floats]:
        """Name of a weight -> by what each output of its layer was divided, where they were."""
        pairs = find_pairs(self.before or self.model)
        return {pairs[second].first.input[1]: np.array(factors, np.float32) for second, factors in self.divided.items()}

    def open(self, options: RuntimeOptions, also: Iterable[str] = ()) -> OnnxRuntimeRuntime:
        """Open the graph in ONNX Runtime, which cannot profile it afterwards: the file is gone then.

        Args:
            options: How it runs.
            also: Tensors that become outputs too, of shapes that nobody asks for; inputs among them are left out.
        """
        library: Any = require("onnx", "export")
        known = {t.name for t in (*self.spec.inputs, *self.spec.outputs)}
        more = [name for name in dict.fromkeys(also) if name not in known]
        copy = library.ModelProto()
        copy.CopyFrom(self.model)
        copy.graph.output.extend(library.ValueInfoProto(name=name) for name in more)
        spec = dataclasses.replace(self.spec, outputs=(*self.spec.outputs, *(TensorSpec(name, ()) for name in more)))
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / f"{self.spec.name}.onnx"
            library.save(copy, path)
            return OnnxRuntimeRuntime(path, spec, options)


def open_graphs(source: Source) -> dict[str, Graph]:
    """The graphs of a source's networks, by name.

    Raises:
        ConversionError: a network cannot be written as ONNX.
    """
    onnx = require("onnx", "export")
    made = {}
    with tempfile.TemporaryDirectory() as work:
        for network in source.networks:
            path = Path(work) / f"{network.spec.name}.onnx"
            network.write(path)
            made[network.spec.name] = Graph.of(onnx.load(path), network.spec)
    return made


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
