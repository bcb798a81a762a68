"""What a TensorRT engine needs of CUDA: a stream, memory, copies. Over cuda-python or pycuda."""

from __future__ import annotations

import abc
import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import BackendUnavailableError, FacedeployError
from facedeploy.core.optional_imports import find


@dataclass(frozen=True, eq=False)
class Memory:
    """Device memory at `address`, and as many page-locked bytes on the host to copy from and to."""

    address: int
    host: NDArray[np.uint8]


class Cuda(abc.ABC):
    """A stream of the first CUDA device (`CUDA_VISIBLE_DEVICES` chooses), and its memory.

    `device` is the device's name and `stream` the stream's handle. Copies are asynchronous: after
    `synchronize` they are done. A call that CUDA refuses raises FacedeployError with CUDA's error.
    """

    device: str
    stream: int

    def __init__(self) -> None:
        self._live: list[Memory] = []

    def allocate(self, nbytes: int) -> Memory:
        memory = self._allocate(nbytes)
        self._live.append(memory)
        return memory

    def free(self, memory: Memory) -> None:
        """Free both sides; `memory.host` must not be used again, and the stream must be idle."""
        self._live.remove(memory)
        self._free(memory)

    def close(self) -> None:
        """Free the stream and all memory that is still allocated."""
        while self._live:
            self.free(self._live[-1])
        self._close()

    @abc.abstractmethod
    def upload(self, memory: Memory, nbytes: int) -> None:
        """Copy the first `nbytes` from the host to the device."""

    @abc.abstractmethod
    def download(self, memory: Memory, nbytes: int) -> None:
        """Copy the first `nbytes` from the device to the host."""

    @abc.abstractmethod
    def synchronize(self) -> None:
        """Wait for all work on the stream."""

    @abc.abstractmethod
    def _allocate(self, nbytes: int) -> Memory: ...

    @abc.abstractmethod
    def _free(self, memory: Memory) -> None: ...

    @abc.abstractmethod
    def _close(self) -> None: ...


def open_cuda() -> Cuda:
    """Open the first device with whichever of cuda-python and pycuda works here.

    Raises:
        BackendUnavailableError: neither is installed, or there is no driver or no device.
    """
    reasons = []
    for binding, modules in _BINDINGS.items():
        if module := find(*modules):
            try:
                return binding(module)
            except BackendUnavailableError as error:
                reasons.append(str(error))
    msg = "neither cuda-python nor pycuda imports here: run `pip install 'facedeploy[tensorrt]'`"
    raise BackendUnavailableError("; ".join(reasons) or msg)


class _CudaPython(Cuda):
    """The runtime API, whose calls return (error, results...)."""

    def __init__(self, rt: Any) -> None:
        super().__init__()
        self._rt = rt
        _check_device(rt)
        self.device = self._call("cudaGetDeviceProperties", 0).name.decode()
        # A non-blocking stream does not wait for what others put on the default stream.
        self._stream = self._call("cudaStreamCreateWithFlags", rt.cudaStreamNonBlocking)
        self.stream = int(self._stream)

    def upload(self, memory: Memory, nbytes: int) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        source = memory.host.ctypes.data
        self._call("cudaMemcpyAsync", memory.address, source, nbytes, kind, self._stream)

    def download(self, memory: Memory, nbytes: int) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        target = memory.host.ctypes.data
        self._call("cudaMemcpyAsync", target, memory.address, nbytes, kind, self._stream)

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self._stream)

    def _allocate(self, nbytes: int) -> Memory:
        address = int(self._call("cudaMalloc", nbytes))
        try:
            pinned = int(self._call("cudaMallocHost", nbytes))
        except FacedeployError:
            self._rt.cudaFree(address)
            raise
        return Memory(address, np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(pinned)))

    # Releases report the errors of earlier work, which were raised where they happened.
    def _free(self, memory: Memory) -> None:
        self._rt.cudaFree(memory.address)
        self._rt.cudaFreeHost(memory.host.ctypes.data)

    def _close(self) -> None:
        self._rt.cudaStreamDestroy(self._stream)

    def _call(self, name: str, *args: Any) -> Any:
        error, *results = getattr(self._rt, name)(*args)
        if error != 0:
            msg = f"{name} fails on the GPU: {error.name}"
            raise FacedeployError(msg)
        return results[0] if results else None


def _check_device(rt: Any) -> None:
    try:
        error, count = rt.cudaGetDeviceCount()
        version = rt.cudaDriverGetVersion()[1]
    except RuntimeError:  # How cuda-python 12 says that there is no libcuda.
        error, count, version = 0, 0, 0
    if not version:
        msg = "no NVIDIA driver is installed: a TensorRT engine runs on a machine with an NVIDIA GPU"
    elif error == rt.cudaError_t.cudaErrorInsufficientDriver:
        major, minor = version // 1000, version % 1000 // 10
        msg = (
            f"the NVIDIA driver is for CUDA {major}.{minor} and the installed cuda-python "
            f"for a newer one: run `pip install 'cuda-python=={major}.*'`"
        )
    elif error != 0 or not count:
        msg = f"CUDA finds no GPU here ({error.name}): check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    else:
        return
    raise BackendUnavailableError(msg)


class _PyCuda(Cuda):
    """The driver API on the primary context, which is the one that TensorRT uses.

    The context is current only within a call: pycuda aborts a process that ends with one on its
    stack, and each thread has a stack of its own.
    """

    def __init__(self, drv: Any) -> None:
        super().__init__()
        self._drv = drv
        try:
            self._context = _primary_context(drv)
            self.device = drv.Device(0).name()
        except drv.Error as error:
            msg = f"CUDA finds no GPU here ({error}): check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
            raise BackendUnavailableError(msg) from error
        self._allocations: dict[int, Any] = {}
        with self._current():
            self._stream = drv.Stream()
        self.stream = int(self._stream.handle)

    def upload(self, memory: Memory, nbytes: int) -> None:
        with self._current():
            self._drv.memcpy_htod_async(memory.address, memory.host[:nbytes], self._stream)

    def download(self, memory: Memory, nbytes: int) -> None:
        with self._current():
            self._drv.memcpy_dtoh_async(memory.host[:nbytes], memory.address, self._stream)

    def synchronize(self) -> None:
        with self._current():
            self._stream.synchronize()

    def _allocate(self, nbytes: int) -> Memory:
        with self._current():
            allocation = self._drv.mem_alloc(nbytes)
            memory = Memory(int(allocation), self._drv.pagelocked_empty(nbytes, np.uint8))
        self._allocations[memory.address] = allocation
        return memory

    def _free(self, memory: Memory) -> None:
        with self._current():
            self._allocations.pop(memory.address).free()
            memory.host.base.free()  # type: ignore[union-attr]  # pycuda's owner of the memory

    def _close(self) -> None:
        with self._current():
            del self._stream

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._drv.Error as error:
            msg = f"CUDA fails on the GPU: {error}"
            raise FacedeployError(msg) from error
        finally:
            self._drv.Context.pop()


# Kept for the life of the process: a context that another library still uses must not be released.
@functools.cache
def _primary_context(drv: Any) -> Any:
    drv.init()
    return drv.Device(0).retain_primary_context()


# cuda.cudart is where cuda-python before 12.6 keeps the runtime API.
_BINDINGS: dict[Callable[[Any], Cuda], tuple[str, ...]] = {
    _CudaPython: ("cuda.bindings.runtime", "cuda.cudart"),
    _PyCuda: ("pycuda.driver",),
}
