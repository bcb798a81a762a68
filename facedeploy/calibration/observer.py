"""A runtime that computes what the network computes, and keeps statistics of what its layers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.calibration.histogram import Histogram
from facedeploy.calibration.quantizable_layers import QuantizableLayer
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import require
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]


class Observer(Runtime):
    """Runs a float32 graph in ONNX Runtime. Not for several threads: the histograms are not locked."""

    backend = "observer"
    concurrent = False

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Sequence[QuantizableLayer],
        spec: NetworkSpec,
        options: RuntimeOptions,
        path: Path,
    ) -> None:
        """`path`: a file that may be written, for the graph with what is observed among its outputs."""
        super().__init__(spec, options)
        inputs = [t.name for t in spec.inputs]
        self.watched = tuple(layers)
        names = list(dict.fromkeys(v.input for v in layers))
        outside = [n for n in names if n not in inputs and n not in {t.name for t in spec.outputs}]
        save_with_outputs(model, outside, path)
        self._inner = OnnxRuntimeRuntime(path, with_outputs(spec, outside), options)
        self._wanted = [t.name for t in spec.outputs]
        self.histograms = {name: Histogram() for name in names}
        # Largest magnitude of each channel of what is watched.
        self.peaks: dict[str, Floats] = {}
        self.runs = 0

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        outputs = self._inner.run(inputs)
        self.runs += 1
        for name, histogram in self.histograms.items():
            values = outputs[name] if name in outputs else inputs[name]
            self._peaks(name, values)
            if not histogram.add(values):
                reader = next(v.name for v in self.watched if v.input == name)
                msg = (
                    f"layer {reader} of {self.spec.name} reads values that are not finite: look at the weights, and at "
                    "how pixels are scaled"
                )
                raise InputError(msg)
        return {name: outputs[name] for name in self._wanted}

    def _peaks(self, name: str, values: Array) -> None:
        if values.ndim < 2 or values.size == 0:
            return
        flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        peaks = np.maximum(flat.max(axis=1), -flat.min(axis=1))
        self.peaks[name] = np.maximum(self.peaks[name], peaks) if name in self.peaks else peaks

    def _close(self) -> None:
        self._inner.close()


def with_outputs(spec: NetworkSpec, names: Sequence[str]) -> NetworkSpec:
    """The same network with more outputs, of shapes that nobody asks for."""
    more = tuple(TensorSpec(name, ()) for name in names)
    return NetworkSpec(spec.name, spec.inputs, (*spec.outputs, *more), spec.axes)


def save_with_outputs(model: onnx.ModelProto, names: Sequence[str], path: Path) -> None:
    """Write the graph with more of its tensors among its outputs."""
    library: Any = require("onnx", "export")
    copy = library.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(library.ValueInfoProto(name=name) for name in names)
    library.save(copy, path)
