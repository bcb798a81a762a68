"""TensorRT and TensorRT-RTX on an NVIDIA GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.core.errors import BackendUnavailableError, ConversionError, FacedeployError
from facedeploy.core.network_spec import NetworkSpec, Shape, TensorSpec
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.cuda import Memory, open_cuda
from facedeploy.runtimes.tensorrt_api import create, differences, installed, reason, tensor_spec, trt_errors


class TensorRtRuntime(Runtime):
    """One engine with one execution context and one stream, on the first GPU.

    Not `concurrent`: the context holds the shapes and the buffers of the call that is running.
    Another object per thread works, but costs its memory again.
    """

    backend = "tensorrt"
    concurrent = False
    bounded = True

    _runtime: Any = None
    _engine: Any = None
    _context: Any = None

    def __init__(self, engine: Path, spec: NetworkSpec, options: RuntimeOptions) -> None:
        """Load `engine`, which either module may have built.

        Raises:
            BackendUnavailableError: no TensorRT, no CUDA binding or no GPU.
            ConversionError: the engine does not load here, or is not one of `spec`.
        """
        super().__init__(spec, options)
        modules = installed()
        if not modules:
            msg = (
                "neither tensorrt nor tensorrt_rtx imports here: "
                "run `pip install 'facedeploy[tensorrt]'`, or with 'facedeploy[tensorrt-rtx]'"
            )
            raise BackendUnavailableError(msg)
        self._memory: dict[str, Memory] = {}
        self._cuda = open_cuda()
        try:
            self._trt = self._load(engine, modules)
            self._check_engine(engine)
            with trt_errors(self._trt) as errors:
                self._context = self._engine.create_execution_context()
            self._expect(self._context is not None, "has no execution context", errors)
        except BaseException:
            self.close()
            raise

    def _load(self, engine: Path, modules: list[Any]) -> Any:
        """Deserialize with the module that built the engine, and return that module."""
        plan = engine.read_bytes()
        reasons = []
        for trt in modules:
            with trt_errors(trt) as errors:
                self._runtime = create(trt.Runtime, trt)
                if self._runtime is not None:
                    self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is not None:
                return trt
            reasons.append(f"{trt.__name__} {trt.__version__}: {reason(errors)}")
        msg = (
            f"{engine} does not load on {self._cuda.device} ({'; '.join(reasons)}): "
            "run `facedeploy build` on this machine"
        )
        raise ConversionError(msg)

    def _check_engine(self, path: Path) -> None:
        engine, trt = self._engine, self._trt
        tensors: dict[Any, list[TensorSpec]] = {
            trt.TensorIOMode.INPUT: [],
            trt.TensorIOMode.OUTPUT: [],
        }
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            shape, dtype = engine.get_tensor_shape(name), engine.get_tensor_dtype(name)
            tensors[engine.get_tensor_mode(name)].append(tensor_spec(trt, name, shape, dtype))
        inputs, outputs = map(tuple, tensors.values())
        if wrong := differences(self.spec, inputs, outputs):
            msg = f"{path} is not {self.spec.name}, run `facedeploy build`: {'; '.join(wrong)}"
            raise ConversionError(msg)

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        context, cuda = self._context, self._cuda
        with trt_errors(self._trt) as errors:
            for name, array in inputs.items():
                accepted = context.set_input_shape(name, array.shape)
                self._expect(accepted, f"does not take {name} as {array.shape}", errors)
            hosts = {n: self._bind(n, a.shape, a.dtype) for n, a in inputs.items()}
            outputs = {t.name: self._bind_output(t, errors) for t in self.spec.outputs}
            for name, array in inputs.items():
                np.copyto(hosts[name], array)
                cuda.upload(self._memory[name], array.nbytes)
            started = context.execute_async_v3(cuda.stream)
            if started:
                for name, host in outputs.items():
                    cuda.download(self._memory[name], host.nbytes)
            cuda.synchronize()
            self._expect(started, "does not run", errors)
        return {name: host.copy() for name, host in outputs.items()}

    def _bind_output(self, tensor: TensorSpec, errors: list[str]) -> Array:
        shape = tuple(self._context.get_tensor_shape(tensor.name))
        self._expect(-1 not in shape, f"does not know the shape of {tensor.name}", errors)
        return self._bind(tensor.name, shape, np.dtype(tensor.dtype))

    def _bind(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Give the context memory for a tensor, and return its host side. Memory only grows."""
        nbytes = math.prod(shape) * dtype.itemsize
        memory = self._memory.get(name)
        if memory is None or memory.host.nbytes < nbytes:
            if memory is not None:
                self._cuda.free(self._memory.pop(name))
            memory = self._memory[name] = self._cuda.allocate(nbytes)
        self._context.set_tensor_address(name, memory.address)
        return memory.host[:nbytes].view(dtype).reshape(shape)

    def _expect(self, done: bool, what: str, errors: list[str]) -> None:
        if not done:
            msg = f"the TensorRT engine of {self.spec.name} {what}: {reason(errors)}"
            raise FacedeployError(msg)

    def _close(self) -> None:
        # A context goes before its engine, an engine before its runtime, all before their stream.
        self._context = None
        self._engine = None
        self._runtime = None
        self._memory.clear()
        self._cuda.close()

    def describe(self) -> dict[str, Any]:
        trt = self._trt
        ours = {"module": trt.__name__, "version": trt.__version__, "device": self._cuda.device}
        return {**super().describe(), **ours}
