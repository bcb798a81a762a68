"""A network with some layers in int8 that computes only what those layers change.

The float network's tensors are captured once a picture. A variant then begins at its first quantised layer: what comes
before is read from the capture, and so is every output that does not depend on the layer.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from facedeploy.calibration.observed_graph import Graph
from facedeploy.core.optional_imports import require
from facedeploy.graph.index import infer_values
from facedeploy.graph.ranges import Ranges
from facedeploy.graph.rewrite import part_of, shapeless
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import open_session
from facedeploy.runtimes.wrapped import Replayed, Watched

if TYPE_CHECKING:
    import onnx


class Capture:
    """The float network, and what it computed until `forget`."""

    def __init__(self, graph: Graph, watched: Iterable[str]) -> None:
        """`watched`: tensors that are remembered, beside the outputs."""
        self.graph = graph
        self._watched = tuple(watched)
        self._seen: dict[bytes, Arrays] = {}

    def open(self, options: RuntimeOptions) -> Runtime:
        """The network, which remembers."""
        return Watched(self.graph.open(options, self._watched), self._keep, self.graph.spec)

    def open_replayed(self, options: RuntimeOptions) -> Runtime:
        """The network, which computes nothing that was seen before, and remembers nothing."""
        return Replayed(self.graph.spec, options, self.recall, lambda: self.graph.open(options))

    def _keep(self, inputs: Mapping[str, Array], outputs: Arrays) -> None:
        self._seen[_key(inputs)] = {**inputs, **outputs}

    def recall(self, inputs: Mapping[str, Array]) -> Arrays | None:
        """The tensors of an earlier run on the same inputs."""
        return self._seen.get(_key(inputs))

    def forget(self) -> None:
        self._seen.clear()


class Variant:
    """The part of a graph that quantising some layers changes. boundary: the float tensors that it begins with."""

    def __init__(self, graph: Graph, layers: Ranges) -> None:
        self.graph, self.layers = graph.quantised(layers), layers
        model = self.graph.model
        constants = {w.name for w in model.graph.initializer}
        changed: set[str] = set()
        self._nodes = []
        for node in model.graph.node:
            constant = all(name in constants for name in node.input if name)
            starts = node.op_type == "QuantizeLinear" or any(name in changed for name in node.input)
            if constant or starts:
                self._nodes.append(node)
                (constants if constant and not starts else changed).update(node.output)
        made = {name for node in self._nodes for name in node.output}
        needed = dict.fromkeys(name for node in self._nodes for name in node.input if name)
        weights = {w.name for w in model.graph.initializer}
        self.boundary = tuple(name for name in needed if name not in made and name not in weights)
        self.outputs = tuple(t.name for t in graph.spec.outputs if t.name in changed)
        self._types = infer_values(graph.model)

    def suffix(self) -> onnx.ModelProto:
        """The changed part as a model from the boundary to the outputs."""
        inputs, outputs = ([shapeless(n, self._types) for n in names] for names in (self.boundary, self.outputs))
        return part_of(self.graph.model, self._nodes, inputs, outputs)


def open_variant(variant: Variant, capture: Capture, options: RuntimeOptions) -> Runtime:
    """A variant as a runtime: from the capture where that saw the same inputs, else in whole."""
    names, boundary = list(variant.outputs), variant.boundary
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "suffix.onnx"
        require("onnx", "export").save(variant.suffix(), path)
        suffix = open_session(path, options.threads)

    def recall(inputs: Mapping[str, Array]) -> Arrays | None:
        tensors = capture.recall(inputs)
        if tensors is None:
            return None
        made = suffix.run(names, {name: tensors[name] for name in boundary})
        return {**tensors, **dict(zip(names, made, strict=True))}

    return Replayed(variant.graph.spec, options, recall, lambda: variant.graph.open(options))


def _key(inputs: Mapping[str, Array]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        digest.update(f"{name}{inputs[name].shape}".encode())
        digest.update(inputs[name].data)
    return digest.digest()
