"""All faces of a picture in one call: a crop network that was made for one face, as one that takes several."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from facedeploy.core.errors import FacedeployError
from facedeploy.core.network_spec import Axis, NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.passes.free_batch import free_batch
from facedeploy.pipelines.custom import BATCH
from facedeploy.runtimes.base import Array, Arrays, Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.wrapped import Wrapped
from facedeploy.sources.source import SourceNetwork

Write = Callable[[Path], None]

_AXIS = Axis(BATCH, 1, 4, 32)
_TRIED = 3  # Pictures of a batch that is compared with one after the other.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5


def for_faces(network: SourceNetwork) -> SourceNetwork:
    """The same network for all faces of a picture at once, where its graph gives the same for several pictures as for
    one after the other; else the network as it is. The reference stays what it was, one face at a time.
    """
    spec, write = network.spec, _once(network.write)
    if any(not t.shape or t.shape[0] != 1 for t in spec.outputs):
        return network
    wished = _of_batch(spec)

    def write_batch(path: Path) -> None:
        write(path)
        onnx.save(free_batch(onnx.load(path), wished), path)

    def reference(options: RuntimeOptions) -> Runtime:
        return OneByOne(network.reference(options), wished)

    if not _same(wished, write_batch, reference):
        return dataclasses.replace(network, write=write)
    return dataclasses.replace(network, spec=wished, write=write_batch, reference=reference)


class OneByOne(Wrapped):
    """A network for one picture, as one for a batch."""

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        count = len(next(iter(inputs.values())))
        answers = [self.inner.run({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(count)]
        return {t.name: np.concatenate([a[t.name] for a in answers]) for t in self.spec.outputs}


def _same(spec: NetworkSpec, write: Write, reference: Opener) -> bool:
    """Whether the graph takes a batch, and answers as the reference."""
    (image,) = spec.inputs
    shape = (_TRIED, *spec.input_shapes("optimum")[image.name][1:])
    noise = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as work, reference(RuntimeOptions()) as one:
        path = Path(work) / "batch.onnx"
        try:
            write(path)
            with OnnxRuntimeRuntime(path, spec, RuntimeOptions()) as runtime:
                have = runtime.run({image.name: noise})
        except FacedeployError:
            return False
        want = one.run({image.name: noise})
    return all(have[k].shape == v.shape and np.allclose(have[k], v, _RELATIVE, _ABSOLUTE) for k, v in want.items())


def _of_batch(spec: NetworkSpec) -> NetworkSpec:
    """The same network with its first axis open."""

    def opened(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(dataclasses.replace(t, shape=(BATCH, *t.shape[1:])) for t in tensors)

    return NetworkSpec(spec.name, opened(spec.inputs), opened(spec.outputs), (_AXIS,))


def _once(write: Write) -> Write:
    """The same, which remembers what was written."""
    made: list[bytes] = []

    def again(path: Path) -> None:
        if not made:
            write(path)
            made.append(path.read_bytes())
        path.write_bytes(made[0])

    return again
