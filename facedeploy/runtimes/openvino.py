"""OpenVINO on the CPU."""

from __future__ import annotations

import queue
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.core.errors import BackendUnavailableError, ConversionError, FacedeployError, brief
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import openvino
from facedeploy.core.preprocess import Pixels, Preprocess
from facedeploy.core.target import Precision
from facedeploy.runtimes.base import Array, Arrays, LayerTime, Runtime, RuntimeOptions

# A running request, the arrays whose memory it reads, and those that it writes to.
_Started = tuple[Any, Mapping[str, Array], Arrays]
# Nodes of the compiled graph that compute nothing.
_NO_LAYERS = frozenset({"Const", "Constant", "Input", "Output", "Parameter", "Result"})
_FEWEST_RUNS = 10  # Of layers that are timed, so that the counters' microseconds do not show.


class OpenVinoRuntime(Runtime):
    """Each call takes its own inference request from a pool, so threads may share a runtime.

    The precision is always set. Left alone, a CPU with bf16 runs in bf16; asked for f16, the same CPU answers
    with bf16 as well, so f16 arithmetic is requested only where the device lists it. Elsewhere `fp16` means
    half-precision weights and float32 arithmetic.

    `run_pictures` compiles the network with the normalisation in front of it: pixels are a quarter of the memory.
    """

    backend = "openvino"
    concurrent = True

    def __init__(self, xml: Path, precision: Precision, spec: NetworkSpec, options: RuntimeOptions) -> None:
        super().__init__(spec, options)
        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": self._arithmetic(precision),
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": options.streams,
        }
        self._xml = xml
        self._lock = threading.Lock()
        self._pools: dict[bool, _Pool] = {}
        self._pool(pixels=options.preprocess is not None)

    def _arithmetic(self, precision: Precision) -> str:
        """What the float layers compute in.

        Raises:
            BackendUnavailableError: bf16 is asked for, and this processor has none.
        """
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16":
            if "BF16" not in capabilities:
                msg = "this processor has no bf16 arithmetic: use openvino-fp32, or a processor with AVX512-BF16 or AMX"
                raise BackendUnavailableError(msg)
            return "bf16"
        return "f16" if precision == "fp16" and "FP16" in capabilities else "f32"

    @property
    def parallel(self) -> int:
        return self.options.streams

    @property
    def _in_flight(self) -> int:
        # With one stream, memory that is freed early is used again, which spares the system a page fault for every
        # 4 kB; with more, a long computation must not hold up the others.
        return 1 if self.options.streams == 1 else 8 * self.options.streams

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        return self._pool(pixels=False).run([inputs])[0]

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        """Run over several inputs; one computes while the next is being prepared."""
        return self._pool(pixels=False).run(map(self._checked, feeds))

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        """Run over stacks of pictures; the normalisation is part of the compiled network."""
        return self._pool(pixels=True).run(map(self._checked_picture, pictures))

    def _pool(self, *, pixels: bool) -> _Pool:
        """The network for pixels or for tensors, compiled when it is first needed."""
        pool = self._pools.get(pixels)
        if pool:
            return pool
        self._check_open()
        with self._lock:
            if pixels not in self._pools:
                compiled = self._compile(self._preprocess if pixels else None)
                self._pools[pixels] = _Pool(compiled, self.spec, self._in_flight)
            return self._pools[pixels]

    def _checked(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self._check(inputs)
        return inputs

    def _checked_picture(self, picture: Pixels) -> Mapping[str, Array]:
        name = self.spec.inputs[0].name
        self._check_picture(picture)
        return {name: picture}

    def executed(self) -> dict[str, int]:
        """Of the network as it was compiled, what the plugin calls `runtimePrecision`."""
        self._check_open()
        compiled = next(iter(self._pools.values())).compiled
        return dict(Counter(precision for _, kind, precision in _nodes(compiled) if kind not in _NO_LAYERS))

    def layers(self, feeds: Sequence[Any]) -> tuple[LayerTime, ...]:
        """The plugin's own counters (`PERF_COUNT`), without the first time that each input is seen."""
        self._check_open()
        pixels = self.options.preprocess is not None
        compiled = self._compile(self._preprocess if pixels else None, {"PERF_COUNT": True, "NUM_STREAMS": 1})
        pool = _Pool(compiled, self.spec, 1)
        check = self._checked_picture if pixels else self._checked
        first = self._counted(pool, list(map(check, feeds)))
        repeats = -(-_FEWEST_RUNS // max(len(feeds), 1))
        then = self._counted(pool, list(map(check, feeds)) * repeats)
        # The counters are means over all runs until now.
        runs, all_runs = len(feeds), len(feeds) * (1 + repeats)
        precisions = {name: precision for name, _, precision in _nodes(compiled)}
        return tuple(
            LayerTime(
                name, kind, precisions.get(name, ""), max(0.0, (mean * all_runs - before * runs) / (all_runs - runs))
            )
            for (name, kind, before), (_, _, mean) in zip(first, then, strict=True)
            if mean
        )

    def _counted(self, pool: _Pool, feeds: Sequence[Mapping[str, Array]]) -> list[tuple[str, str, float]]:
        """Name, kind and mean milliseconds of every node, after running some inputs one after the other."""
        for feed in feeds:
            pool.run([feed])
        return [(v.node_name, v.node_type, v.real_time.total_seconds() * 1e3) for v in pool.counters()]

    def _compile(self, preprocess: Preprocess | None = None, changes: Mapping[str, Any] | None = None) -> Any:
        try:
            model = self._core.read_model(str(self._xml))
            self._check_names(model)
            if preprocess:
                model = self._with_pixels(model, preprocess)
            return self._core.compile_model(model, "CPU", {**self._settings, **(changes or {})})
        except RuntimeError as error:
            msg = f"OpenVINO does not load {self._xml}: {brief(error)}"
            raise ConversionError(msg) from error

    def _with_pixels(self, model: Any, preprocess: Preprocess) -> Any:
        """The same network from (N, H, W, 3) uint8 BGR."""
        ov = openvino
        prepared = ov.preprocess.PrePostProcessor(model)
        source = prepared.input(self.spec.inputs[0].name)
        source.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        source.model().set_layout(ov.Layout("NCHW"))
        steps = source.preprocess().convert_element_type(ov.Type.f32)
        if preprocess.colours == "rgb":
            steps = steps.reverse_channels()
        if any(preprocess.mean):
            steps = steps.mean(list(preprocess.mean))
        steps.scale([1 / v for v in preprocess.scales])
        return prepared.build()

    def _check_names(self, model: Any) -> None:
        have = [set(p.get_names()) for p in (*model.inputs, *model.outputs)]
        want = [t.name for t in (*self.spec.inputs, *self.spec.outputs)]
        if len(have) != len(want) or not all(name in names for name, names in zip(want, have, strict=True)):
            msg = f"{self._xml} is not {self.spec.name}: it has the tensors {have}, not {want}"
            raise ConversionError(msg)

    def _close(self) -> None:
        self._pools.clear()

    def describe(self) -> dict[str, Any]:
        self._check_open()
        hint = next(iter(self._pools.values())).compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        return {**super().describe(), "version": openvino.get_version(), "precision": hint}


class _Pool:
    """A compiled network and its idle inference requests, each with the arrays that its results were written to."""

    def __init__(self, compiled: Any, spec: NetworkSpec, in_flight: int) -> None:
        self.compiled = compiled
        self._spec = spec
        self._in_flight = in_flight
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._inputs = [t.name for t in spec.inputs]
        self._outputs = [t.name for t in spec.outputs]
        self._tensor = openvino.Tensor
        # Where the sizes are known, a result is written to where it stays, which spares a copy; and to the same place
        # again when nobody holds that any more, which spares the system a page fault for every 4 kB.
        ports = zip(spec.outputs, compiled.outputs, strict=True)
        known = {t.name: port for t, port in ports if port.partial_shape.is_static and port.shape}
        self._fixed = {name: (tuple(port.shape), port.element_type.to_dtype()) for name, port in known.items()}

    def run(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        outputs: list[Arrays] = []
        running: deque[_Started] = deque()
        try:
            for feed in feeds:
                running.append(self._start(feed))
                if len(running) > self._in_flight:
                    outputs.append(self._finish(running.popleft()))
            outputs.extend(map(self._finish, running))
        except BaseException:
            for request, _, _ in running:  # They still read memory that is about to be freed.
                request.wait()
            raise
        return outputs

    def counters(self) -> list[Any]:
        """What the last request counted of each node."""
        request, outputs = self._idle.get_nowait()
        self._idle.put((request, outputs))
        return list(request.profiling_info)

    def _start(self, inputs: Mapping[str, Array]) -> _Started:
        try:
            request, outputs = self._idle.get_nowait()
        except queue.Empty:
            request, outputs = self.compiled.create_infer_request(), {}
        # OpenVINO shares only memory that is contiguous and may be written.
        inputs = {
            name: a if a.flags.writeable and a.flags.c_contiguous else np.array(a, order="C")
            for name, a in inputs.items()
        }
        try:
            # By index: a look-up by name goes through the names of all ports.
            for i, name in enumerate(self._inputs):
                request.set_input_tensor(i, self._tensor(inputs[name], shared_memory=True))
            if len(outputs) < len(self._fixed) or _holders(outputs) > _NOBODY:
                outputs = {name: np.empty(shape, dtype) for name, (shape, dtype) in self._fixed.items()}
                for name, array in outputs.items():
                    request.set_tensor(name, self._tensor(array, shared_memory=True))
            request.start_async()
        except RuntimeError as error:
            msg = f"OpenVINO refuses an input of {self._spec.name}: {brief(error)}"
            raise FacedeployError(msg) from error
        return request, inputs, outputs

    def _finish(self, started: _Started) -> Arrays:
        request, _, outputs = started
        try:
            request.wait()
        except RuntimeError as error:
            msg = f"OpenVINO stops in {self._spec.name}: {brief(error)}"
            raise FacedeployError(msg) from error
        results = dict(outputs)
        if len(results) < len(self._outputs):
            results = {n: results[n] if n in results else np.array(request.get_tensor(n).data) for n in self._outputs}
        self._idle.put((request, outputs))
        return results


def _holders(arrays: Arrays) -> int:
    """References to the most held of some arrays, those of this function and of the dict among them. An array that is
    a part of another one holds that.
    """
    return max([sys.getrefcount(array) for array in arrays.values()], default=0)


_NOBODY = _holders({"": np.empty(1)})


def _nodes(compiled: Any) -> Iterator[tuple[str, str, str]]:
    """Name, kind and precision of the nodes that a compiled network runs."""
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        # What a neighbour does on the way has no implementation of its own.
        if not info["primitiveType"].astype(str).startswith("unknown"):
            yield node.get_friendly_name(), info["layerType"].astype(str), info["runtimePrecision"].astype(str)
