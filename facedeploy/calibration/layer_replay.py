"""A network with some layers in int8 that computes only what those layers change.

The float network's tensors are captured once a picture. A variant then begins at its first quantised layer: what comes
before is read from the capture, and so is every output that does not depend on the layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy.calibration.observed_graph import Graph
from facedeploy.calibration.observer import save_with_outputs, with_outputs
from facedeploy.core.optional_imports import require
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Ranges
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime, open_session

if TYPE_CHECKING:
    import onnx


class Capture(Runtime):
    """The float network, which remembers what it computed until `forget`."""

    backend = "capture"
    concurrent = False

    def __init__(self, graph: Graph, watched: Sequence[str], options: RuntimeOptions, path: Path) -> None:
        super().__init__(graph.spec, options)
        outside = [n for n in dict.fromkeys(watched) if n not in {t.name for t in graph.spec.outputs}]
        save_with_outputs(graph.model, outside, path)
        self._inner = OnnxRuntimeRuntime(path, with_outputs(graph.spec, outside), options)
        self._seen: dict[bytes, Arrays] = {}

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        tensors = {**inputs, **self._inner.run(inputs)}
        self._seen[_key(inputs)] = tensors
        return {t.name: tensors[t.name] for t in self.spec.outputs}

    def again(self, inputs: Mapping[str, Array]) -> Arrays:
        """Run without remembering."""
        outputs = self._inner.run(inputs)
        return {t.name: outputs[t.name] for t in self.spec.outputs}

    def recall(self, inputs: Mapping[str, Array]) -> Arrays | None:
        """The tensors of an earlier run on the same inputs."""
        return self._seen.get(_key(inputs))

    def forget(self) -> None:
        self._seen.clear()

    def _close(self) -> None:
        self._inner.close()


class Variant:
    """The part of a graph that quantising some layers changes. boundary: the float tensors that it begins with."""

    def __init__(self, graph: Graph, layers: Ranges) -> None:
        self.graph, self.layers = graph, layers
        library: Any = require("onnx", "export")
        self.model = insert_qdq(graph.model, layers, "symmetric")
        constants = {w.name for w in self.model.graph.initializer}
        changed: set[str] = set()
        self._nodes = []
        for node in self.model.graph.node:
            constant = all(name in constants for name in node.input if name)
            starts = node.op_type == "QuantizeLinear" or any(name in changed for name in node.input)
            if constant or starts:
                self._nodes.append(node)
                (constants if constant and not starts else changed).update(node.output)
        made = {name for node in self._nodes for name in node.output}
        needed = dict.fromkeys(name for node in self._nodes for name in node.input if name)
        weights = {w.name for w in self.model.graph.initializer}
        self.boundary = tuple(name for name in needed if name not in made and name not in weights)
        self.outputs = tuple(t.name for t in graph.spec.outputs if t.name in changed)
        inferred = library.shape_inference.infer_shapes(graph.model).graph
        self._types = {
            v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.value_info, *inferred.output)
        }

    def suffix(self) -> onnx.ModelProto:
        """The changed part as a model from the boundary to the outputs."""
        library: Any = require("onnx", "export")
        model: onnx.ModelProto = library.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        for name in ("node", "input", "output", "value_info", "initializer"):
            graph.ClearField(name)
        used = {name for node in self._nodes for name in node.input}
        graph.node.extend(self._nodes)
        graph.initializer.extend(w for w in self.model.graph.initializer if w.name in used)
        graph.input.extend(self._value(name) for name in self.boundary)
        graph.output.extend(self._value(name) for name in self.outputs)
        return model

    def _value(self, name: str) -> onnx.ValueInfoProto:
        library: Any = require("onnx", "export")
        kind = self._types.get(name, library.TensorProto.FLOAT)
        value: onnx.ValueInfoProto = library.helper.make_tensor_value_info(name, kind, None)
        return value


class Replay(Runtime):
    """A variant as a runtime: from the capture where that saw the same inputs, else in whole."""

    backend = "replay"
    concurrent = False

    def __init__(self, variant: Variant, capture: Capture, options: RuntimeOptions, path: Path) -> None:
        super().__init__(variant.graph.spec, options)
        self._variant, self._capture, self._path = variant, capture, path
        require("onnx", "export").save(variant.suffix(), path)
        self._suffix = open_session(path, options.threads)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        tensors = self._capture.recall(inputs)
        if tensors is None:
            return self._whole.run(inputs)
        names = list(self._variant.outputs)
        made = self._suffix.run(names, {name: tensors[name] for name in self._variant.boundary})
        return {t.name: tensors[t.name] for t in self.spec.outputs} | dict(zip(names, made, strict=True))

    @cached_property
    def _whole(self) -> OnnxRuntimeRuntime:
        path = self._path.with_suffix(".whole.onnx")
        require("onnx", "export").save(self._variant.model, path)
        return OnnxRuntimeRuntime(path, self.spec, self.options)

    def _close(self) -> None:
        del self._suffix
        if "_whole" in self.__dict__:
            self._whole.close()


def _key(inputs: Mapping[str, Array]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        digest.update(f"{name}{inputs[name].shape}".encode())
        digest.update(inputs[name].data)
    return digest.digest()
