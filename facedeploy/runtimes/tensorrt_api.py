"""What the TensorRT runtime and the TensorRT compiler share: the module, its log, its errors, its tensors.

TensorRT and TensorRT-RTX are two modules with one API, so they have one code, and the module is passed in.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from facedeploy.core.errors import BackendUnavailableError
from facedeploy.core.network_spec import NetworkSpec, Shape, TensorSpec
from facedeploy.core.optional_imports import find
from facedeploy.runtimes.cuda import open_cuda

_LOG = logging.getLogger("facedeploy.tensorrt")
# Errors reach the user as exceptions, so without logging set up they are not printed as well.
_LOG.addHandler(logging.NullHandler())
_LEVELS = {"VERBOSE": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING}


def find_tensorrt() -> Any | None:
    """Find the module to build engines with, or None.

    That is `tensorrt` where a GPU answers, else `tensorrt_rtx`, whose builder needs none.
    """
    modules = installed()
    if len(modules) > 1:
        return modules[0] if gpu_available() else modules[-1]
    return modules[0] if modules else None


def gpu_available() -> bool:
    """Whether this machine has a CUDA device and a binding to reach it."""
    try:
        open_cuda().close()
    except BackendUnavailableError:
        return False
    return True


def installed() -> list[Any]:
    return [m for m in map(find, ("tensorrt", "tensorrt_rtx")) if m]


@functools.cache
def trt_logger(trt: Any) -> Any:
    """Make the logger of every object of the module `trt`; TensorRT keeps one per process.

    It writes to the Python logger `facedeploy.tensorrt`.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]  # its type is known when it runs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.collectors: dict[int, list[str]] = {}

        def log(self, severity: Any, message: str) -> None:
            level = _LEVELS.get(severity.name, logging.ERROR)
            _LOG.log(level, "%s", message)
            if level == logging.ERROR:
                for errors in list(self.collectors.values()):
                    errors.append(" ".join(message.split()))

    return Logger()


@contextmanager
def trt_errors(trt: Any) -> Iterator[list[str]]:
    """Collect what TensorRT logs as errors meanwhile, on whichever of its threads."""
    errors: list[str] = []
    collectors = trt_logger(trt).collectors
    collectors[id(errors)] = errors
    try:
        yield errors
    finally:
        del collectors[id(errors)]


def reason(errors: list[str]) -> str:
    return "; ".join(dict.fromkeys(errors)) or "TensorRT gives no reason"


def create(factory: Callable[[Any], Any], trt: Any) -> Any | None:
    """Make a Builder or Runtime; None where TensorRT fails, which its bindings call a TypeError."""
    if trt.__name__ == "tensorrt":
        # The importer makes a plugin of DeformConv, and an engine with it loads only where plugins are registered.
        trt.init_libnvinfer_plugins(trt_logger(trt), "")
    try:
        return factory(trt_logger(trt))
    except TypeError:
        return None


def tensor_spec(trt: Any, name: str, shape: Any, dtype: Any) -> TensorSpec:
    """Describe a tensor of TensorRT's; -1 is a dynamic dimension."""
    names = {trt.float32: "float32", trt.float16: "float16", trt.bfloat16: "bfloat16"}
    return TensorSpec(name, tuple(shape), names.get(dtype, dtype.name.lower()))


def differences(spec: NetworkSpec, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> list[str]:
    """How the tensors that TensorRT has differ from those of the spec, a phrase each."""
    found: list[str] = []
    for kind, wanted, given in (("input", spec.inputs, inputs), ("output", spec.outputs, outputs)):
        want = {t.name: (t.dtype, _dynamic(t)) for t in wanted}
        have = {t.name: (t.dtype, t.shape) for t in given}
        found += (
            f"{kind} {name} is {_text(have.get(name))}, not {_text(want.get(name))}"
            for name in sorted(want.keys() | have.keys())
            if want.get(name) != have.get(name)
        )
    return found


def _dynamic(tensor: TensorSpec) -> Shape:
    return tuple(d if isinstance(d, int) else -1 for d in tensor.shape)


def _text(tensor: tuple[str, tuple[int | str, ...]] | None) -> str:
    return f"{tensor[0]} {tensor[1]}" if tensor else "absent"
