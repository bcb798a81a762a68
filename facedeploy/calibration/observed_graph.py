"""The graphs that a calibration looks at: those of the export, with their deformable convolutions lowered.

A lowered deformable convolution has a 1x1 convolution that may be int8, so its input is observed; a backend that keeps
the operator finds no layer of that name, and leaves it in float.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy.calibration.quantizable_layers import QuantizableLayer, find_layers
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import require
from facedeploy.graph.passes.channel_equalization import Floats, choose_factors, equalize_channels
from facedeploy.graph.passes.deform_conv import to_gridsample
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Ranges
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
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
    """

    spec: NetworkSpec
    model: onnx.ModelProto
    layers: tuple[QuantizableLayer, ...]
    divided: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @staticmethod
    def of(model: onnx.ModelProto, spec: NetworkSpec) -> Graph:
        # The lowering is for one size; a graph for any keeps the operator.
        lowered = model if any(axis.name in _SIDES for axis in spec.axes) else to_gridsample(model)
        return Graph(spec, lowered, find_layers(lowered))

    def equalised(self, peaks: Mapping[str, Floats]) -> Graph:
        """The same, with channels of very different size made alike, where layers that may be int8 read them.

        Args:
            peaks: Tensor -> the largest magnitude of each channel (C,).
        """
        mine = {v.name: peaks[v.input] for v in self.layers if not v.reason and v.input in peaks}
        divided = {name: tuple(factors.tolist()) for name, factors in choose_factors(self.model, mine).items()}
        if not divided:
            return self
        return dataclasses.replace(self, model=equalize_channels(self.model, divided), divided=divided)

    def quantised(self, layers: Ranges) -> Graph:
        """The same, with Q/DQ of the symmetric scheme at some layers, which is the accuracy of record."""
        return dataclasses.replace(self, model=insert_qdq(self.model, layers, "symmetric"))

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
