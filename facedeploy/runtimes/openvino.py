"""OpenVINO on the CPU."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.errors import ConversionError, FacedeployError, brief
from facedeploy.extras import require
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.spec import NetworkSpec
from facedeploy.target import Precision

# A running request and the arrays whose memory it reads.
_Started = tuple[Any, Mapping[str, Array]]


class OpenVinoRuntime(Runtime):
    """Each call takes its own inference request from a pool, so threads may share a runtime.

    The precision is always set. Left alone, a CPU with bf16 runs in bf16; asked for f16, the same CPU answers
    with bf16 as well, so f16 arithmetic is requested only where the device lists it. Elsewhere `fp16` means
    half-precision weights and float32 arithmetic.
    """

    backend = "openvino"
    concurrent = True

    def __init__(self, xml: Path, precision: Precision, spec: NetworkSpec, options: RuntimeOptions) -> None:
        super().__init__(spec, options)
        self._ov = require("openvino", "openvino")
        core = self._ov.Core()
        has_half = "FP16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "f16" if precision == "fp16" and has_half else "f32",
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": options.streams,
        }
        try:
            self._compiled: Any = core.compile_model(str(xml), "CPU", settings)
        except RuntimeError as error:
            msg = f"OpenVINO does not load {xml}: {brief(error)}"
            raise ConversionError(msg) from error
        self._names = [t.name for t in spec.outputs]
        have = [set(p.get_names()) for p in (*self._compiled.inputs, *self._compiled.outputs)]
        want = [t.name for t in spec.inputs] + self._names
        if len(have) != len(want) or not all(name in names for name, names in zip(want, have, strict=True)):
            msg = f"{xml} is not {spec.name}: it has the tensors {have}, not {want}"
            raise ConversionError(msg)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # With one stream, memory that is freed early is used again, which spares the system a page fault for every
        # 4 kB (a fifth of MTCNN's time); with more, a long computation must not hold up the others.
        self._in_flight = 1 if options.streams == 1 else 8 * options.streams

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        request = self._start(inputs)
        return self._finish(request)

    def run_many(self, feeds: Iterable[Mapping[str, Array]]) -> list[Arrays]:
        """Run over several inputs; one computes while the next is being prepared."""
        outputs: list[Arrays] = []
        running: deque[_Started] = deque()
        try:
            for feed in feeds:
                self._check(feed)
                running.append(self._start(feed))
                if len(running) > self._in_flight:
                    outputs.append(self._finish(running.popleft()))
            outputs.extend(map(self._finish, running))
        except BaseException:
            for request, _ in running:  # They still read memory that is about to be freed.
                request.wait()
            raise
        return outputs

    def _start(self, inputs: Mapping[str, Array]) -> _Started:
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        # OpenVINO shares only memory that may be written. The copies live as long as the request runs.
        inputs = {name: a if a.flags.writeable else a.copy() for name, a in inputs.items()}
        try:
            for name, array in inputs.items():
                request.set_tensor(name, self._ov.Tensor(array, shared_memory=True))
            request.start_async()
        except RuntimeError as error:
            msg = f"OpenVINO stops in {self.spec.name}: {brief(error)}"
            raise FacedeployError(msg) from error
        return request, inputs

    def _finish(self, started: _Started) -> Arrays:
        request, _ = started
        try:
            request.wait()
        except RuntimeError as error:
            msg = f"OpenVINO stops in {self.spec.name}: {brief(error)}"
            raise FacedeployError(msg) from error
        outputs = {name: np.array(request.get_tensor(name).data) for name in self._names}
        self._idle.put(request)
        return outputs

    def _close(self) -> None:
        self._idle = queue.SimpleQueue()
        del self._compiled

    def describe(self) -> dict[str, Any]:
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        return {**super().describe(), "version": self._ov.get_version(), "precision": hint}
