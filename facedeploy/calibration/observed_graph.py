"""The graphs that a calibration looks at: those of the export, with their deformable convolutions lowered.

A lowered deformable convolution has a 1x1 convolution that may be int8, so its input is observed; a backend that keeps
the operator finds no layer of that name, and leaves it in float.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facedeploy.calibration.quantizable_layers import QuantizableLayer, find_layers
from facedeploy.calibration.table import Table
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import require
from facedeploy.graph.passes.channel_equalization import equalize_channels
from facedeploy.graph.passes.deform_conv import to_gridsample
from facedeploy.sources.source import Source

if TYPE_CHECKING:
    import onnx


_SIDES = ("height", "width")


@dataclass(frozen=True)
class Graph:
    """A float32 graph and its layers."""

    spec: NetworkSpec
    model: onnx.ModelProto
    layers: tuple[QuantizableLayer, ...]

    @staticmethod
    def of(model: onnx.ModelProto, spec: NetworkSpec) -> Graph:
        # The lowering is for one size; a graph for any keeps the operator.
        lowered = model if any(axis.name in _SIDES for axis in spec.axes) else to_gridsample(model)
        return Graph(spec, lowered, find_layers(lowered))

    def equalised(self, factors: Mapping[str, Sequence[float]]) -> Graph:
        """The same, with its channels divided: name of a layer's weight -> factors."""
        return dataclasses.replace(self, model=equalize_channels(self.model, factors)) if factors else self


def equalised(graphs: Mapping[str, Graph], table: Table) -> dict[str, Graph]:
    """The graphs that the ranges of a table hold for."""
    return {
        name: graph.equalised({k: v.divided for k, v in table.networks.get(name, {}).items() if v.divided})
        for name, graph in graphs.items()
    }


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
