"""What is on a device, before anything is sent to it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from facedeploy.core.errors import DeviceError, InputError
from facedeploy.core.serialization import from_plain
from facedeploy.core.target import Backend
from facedeploy.core.version_ranges import DISTRIBUTIONS, complaint
from facedeploy.devices.connection import Device
from facedeploy.devices.shell import readable, talk

PYTHON = (3, 10)
_ASKED = ("numpy", "cv2", "onnxruntime", "openvino", "ncnn", "torch", "tensorrt", "tensorrt_rtx")
# The packages that a module may come from, whose version is asked.
MODULES = {module: DISTRIBUTIONS[module] for module in _ASKED}
# What must be there, one of each; TensorRT's engine runs in either.
ALWAYS = (("numpy",), ("cv2",))
NEEDED: dict[Backend, tuple[str, ...]] = {
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
    "torch": ("torch",),
    "trt": ("tensorrt", "tensorrt_rtx"),
}
_NAMES = {"cv2": "OpenCV (cv2)", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}
_SECONDS, _MOST = 60.0, 1 << 16
_NO_PYTHON = "no Python"
# For any Python, of which there are old ones on devices. It imports nothing: that could take a GPU's memory.
_CODE = f"""
import json, platform, sys
modules = {{}}
try:
    import importlib.util
    from importlib import metadata
    def version(name):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None
    for module, packages in {MODULES!r}.items():
        if importlib.util.find_spec(module):
            modules[module] = next(filter(None, map(version, packages)), "")
except ImportError:
    pass
print(json.dumps({{"system": platform.system(), "machine": platform.machine(),
    "python": platform.python_version(), "modules": modules}}))
"""


@dataclass(frozen=True)
class Probe:
    """What a device with Python is.

    Attributes:
        system: Such as "Linux".
        machine: Such as "aarch64".
        python: Its version.
        modules: Which of `MODULES` it has, each with its version, or "" where nothing says that.
    """

    system: str
    machine: str
    python: str
    modules: dict[str, str]


def probe(device: Device) -> Probe:
    """Ask a device what it is.

    Raises:
        DeviceError: it cannot be reached, or has no Python.
        InputError: it answers something else.
    """
    word = device.python_word
    absent = f"echo; command -v {word} >/dev/null 2>&1 || {{ echo '{_NO_PYTHON}'; exit 0; }}"
    script = f"{absent}; exec {word} -c {shlex.quote(_CODE)}"
    said = b"".join(talk(device, script, "connecting", most=_MOST, limit=_SECONDS))
    # A login script may say something first.
    last = (said.decode(errors="replace").strip().splitlines() or [""])[-1]
    if last == _NO_PYTHON:
        msg = f"there is no {device.python} on {device.name}: install Python 3.10 there, or name it with ?python=PATH"
        raise DeviceError(msg)
    try:
        found = from_plain(Probe, json.loads(last))
    except (ValueError, RecursionError, InputError) as error:
        msg = f"{device.python} on {device.name} does not answer as Python does: {readable(last) or 'it says nothing'}"
        raise DeviceError(msg) from error
    modules = {m: readable(v, 40) for m, v in found.modules.items() if m in MODULES}
    return Probe(readable(found.system, 40), readable(found.machine, 40), readable(found.python, 40), modules)


def check(device: Device, found: Probe, needed: Iterable[tuple[str, ...]]) -> None:
    """Check that a device has what the work needs.

    Args:
        device: The device.
        found: What it is.
        needed: Tuples of modules; it must have one of each.

    Raises:
        InputError: something is missing, or older than this package works with; the sentence names it.
    """
    here = f"{device.python} of {device.name} (Python {found.python}, {found.machine})"
    version = re.match(r"(\d{1,4})\.(\d{1,4})", found.python)
    if version is None or (int(version[1]), int(version[2])) < PYTHON:
        msg = f"{here} is too old: facedeploy needs 3.10 or newer there; name another one with ?python=PATH"
        raise InputError(msg)
    missing = [modules[0] for modules in needed if not set(modules) & set(found.modules)]
    if missing:
        names = ", ".join(_NAMES.get(m, m) for m in missing)
        msg = f"{here} has no {names}: install that there, or name another Python with ?python=PATH"
        raise InputError(msg)
    for modules in needed:
        wrong = {m: complaint(m, found.modules[m], found.python) for m in modules if m in found.modules}
        if all(wrong.values()):
            name, what = next(iter(wrong.items()))
            msg = (
                f"{_NAMES.get(name, name)} {what} on {here}: update it there, or name another Python with ?python=PATH"
            )
            raise InputError(msg)
