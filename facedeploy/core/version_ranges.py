"""Which versions of other packages this one works with, as its own metadata says: `pyproject.toml` alone decides.

packaging, which reads ranges, is imported when it is needed: what runs on another device does not have it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Iterator
from typing import Any

__all__ = ["DISTRIBUTIONS", "complaint", "installed_version", "wanted"]

# The packages that a module may come from; the first is the one that `pyproject.toml` names.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "cv2": (
        *("opencv-python-headless", "opencv-python"),
        *("opencv-contrib-python-headless", "opencv-contrib-python"),
    ),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
    "pnnx": ("pnnx",),
    "torch": ("torch",),
    "onnx": ("onnx",),
    "onnxscript": ("onnxscript",),
    "onnxsim": ("onnxsim",),
    "safetensors": ("safetensors",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}


def installed_version(module: str) -> str:
    """The version of the package that a module comes from; "" where none says it."""
    for name in DISTRIBUTIONS.get(module, (module,)):
        try:
            # A folder that is left of a package has no version.
            return importlib.metadata.version(name) or ""
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def wanted(module: str, python: str = "") -> str:
    """The range of versions of a module that this package asks for.

    Args:
        module: Such as "onnxruntime".
        python: Version of the Python that has it; "" for this one.

    Returns:
        Such as ">=1.25"; "" where nothing is asked, or this package is not installed.
    """
    name = DISTRIBUTIONS.get(module, (module,))[0]
    python = python or platform.python_version()
    found = (range_ for asked, range_ in _asked(".".join(python.split(".")[:2])) if asked == name)
    return next(found, "")


def complaint(module: str, version: str, python: str = "") -> str:
    """What is wrong with a version.

    Args:
        module: Such as "onnxruntime".
        version: What is installed; "" where that is not known.
        python: Version of the Python that has it; "" for this one.

    Returns:
        Such as "1.24.4 is too old (1.25 or newer is needed)"; "" where it fits, or cannot be judged.
    """
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    asked = wanted(module, python)
    try:
        fits = SpecifierSet(asked).contains(Version(version), prereleases=True)
    except InvalidVersion:  # Of a build that somebody made.
        return ""
    if fits:
        return ""
    least = asked.removeprefix(">=")
    if "," in asked or least == asked:
        return f"{version} does not fit ({asked} is needed)"
    return f"{version} is too old ({least} or newer is needed)"


@functools.cache
def _asked(python: str) -> tuple[tuple[str, str], ...]:
    return tuple(_read(python))


def _read(python: str) -> Iterator[tuple[str, str]]:
    """Each package that this one asks for under a Python such as "3.11", in any of its extras, and the range."""
    from packaging.requirements import Requirement

    try:
        own: Any = importlib.metadata.metadata("facedeploy")
    except importlib.metadata.PackageNotFoundError:
        return
    extras = ("", *(own.get_all("Provides-Extra") or ()))
    for line in own.get_all("Requires-Dist") or ():
        asked = Requirement(line)
        places = [{"extra": extra, "python_version": python, "python_full_version": f"{python}.0"} for extra in extras]
        if asked.name != "facedeploy" and (not asked.marker or any(map(asked.marker.evaluate, places))):
            yield asked.name, str(asked.specifier)
