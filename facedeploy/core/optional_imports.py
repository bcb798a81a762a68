"""Libraries that an extra installs: imported when they are first used, or an error that names the extra.

    from facedeploy.core.optional_imports import onnx

is the library itself to a type checker. At run time it is imported with the first attribute that is asked of it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

from facedeploy.core.errors import BackendUnavailableError

__all__ = [
    "LazyModule",
    "find",
    "installed_versions",
    "ncnn",
    "onnx",
    "onnx_inliner",
    "onnxruntime",
    "onnxsim",
    "openvino",
    "openvino_onnx",
    "pnnx",
    "require",
    "torch",
]


def require(module: str, extra: str) -> Any:
    """Import a module that an extra installs.

    Args:
        module: Its name.
        extra: Which extra of this package installs it.

    Returns:
        The module.

    Raises:
        BackendUnavailableError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        msg = f"{missing} is not installed: run `pip install 'facedeploy[{extra}]'`"
        if missing.split(".")[0] != module.split(".")[0]:
            msg = f"{module} does not import ({error}): run `pip install 'facedeploy[{extra}]'`"
        raise BackendUnavailableError(msg) from error


class LazyModule:
    """A library that is imported when an attribute of it is asked for.

    Each time: that takes microseconds, so what runs once a picture keeps the attribute that it needs.
    """

    def __init__(self, module: str, extra: str) -> None:
        self._module, self._extra = module, extra

    def __getattr__(self, name: str) -> Any:
        # Tools that look at this package ask every object for `__wrapped__` and the like; that imports nothing.
        if name.startswith("__") and name != "__version__":
            msg = f"module {self._module!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(require(self._module, self._extra), name)


if TYPE_CHECKING:
    import ncnn
    import onnx
    import onnx.inliner as onnx_inliner
    import onnxruntime
    import onnxsim
    import openvino
    import openvino.frontend.onnx as openvino_onnx
    import pnnx
    import torch
else:
    ncnn = LazyModule("ncnn", "ncnn")
    onnx = LazyModule("onnx", "export")
    onnx_inliner = LazyModule("onnx.inliner", "export")  # onnx itself does not import it.
    onnxruntime = LazyModule("onnxruntime", "onnx")
    onnxsim = LazyModule("onnxsim", "export")
    openvino = LazyModule("openvino", "openvino")
    openvino_onnx = LazyModule("openvino.frontend.onnx", "openvino")
    pnnx = LazyModule("pnnx", "export")
    torch = LazyModule("torch", "export")


def find(*modules: str) -> ModuleType | None:
    """Import the first of `modules` that is installed, or None."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
