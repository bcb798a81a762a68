"""From a face model's PyTorch checkpoint to the device that it must run on.

    import facedeploy

    artifact = facedeploy.export("mtcnn", "openvino-fp32", weights="weights/mtcnn")
    with facedeploy.load(artifact) as pipeline:
        faces = pipeline.detect(image)  # (H, W, 3) uint8, BGR

`export` writes an artifact, `load` opens it, `detect` finds faces in one call, `draw` draws them. `verify` compares an
artifact with what it was made from, and `benchmark` times artifacts side by side. `inspect` says what a network of your
own is. Every error is a `FacedeployError`.

Each name is imported when it is first used, so that `import facedeploy` needs no backend and no time.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facedeploy.artifact.folder import Artifact
    from facedeploy.benchmarks.latency.benchmark import benchmark
    from facedeploy.calibration.quantize_plan import Int8Options
    from facedeploy.core.errors import (
        ArtifactError,
        BackendUnavailableError,
        CheckpointError,
        ConversionError,
        DeviceError,
        FacedeployError,
        InputError,
        ParityError,
        SlowerError,
    )
    from facedeploy.core.face import Face
    from facedeploy.export.exporter import export
    from facedeploy.export.inspection import Inspection, inspect
    from facedeploy.pipelines.detect import detect
    from facedeploy.pipelines.draw import draw
    from facedeploy.pipelines.load import load
    from facedeploy.verification.verify import verify

    __version__: str

__all__ = [
    "Artifact",
    "ArtifactError",
    "BackendUnavailableError",
    "CheckpointError",
    "ConversionError",
    "DeviceError",
    "Face",
    "FacedeployError",
    "InputError",
    "Inspection",
    "Int8Options",
    "ParityError",
    "SlowerError",
    "__version__",
    "benchmark",
    "detect",
    "draw",
    "export",
    "inspect",
    "load",
    "verify",
]

_HOMES = {
    "Artifact": "facedeploy.artifact.folder",
    "ArtifactError": "facedeploy.core.errors",
    "BackendUnavailableError": "facedeploy.core.errors",
    "CheckpointError": "facedeploy.core.errors",
    "ConversionError": "facedeploy.core.errors",
    "DeviceError": "facedeploy.core.errors",
    "Face": "facedeploy.core.face",
    "FacedeployError": "facedeploy.core.errors",
    "InputError": "facedeploy.core.errors",
    "Inspection": "facedeploy.export.inspection",
    "Int8Options": "facedeploy.calibration.quantize_plan",
    "ParityError": "facedeploy.core.errors",
    "SlowerError": "facedeploy.core.errors",
    "benchmark": "facedeploy.benchmarks.latency.benchmark",
    "detect": "facedeploy.pipelines.detect",
    "draw": "facedeploy.pipelines.draw",
    "export": "facedeploy.export.exporter",
    "inspect": "facedeploy.export.inspection",
    "load": "facedeploy.pipelines.load",
    "verify": "facedeploy.verification.verify",
}


class _Package(ModuleType):
    """`facedeploy.export` is a verb and a folder; the attribute is the verb.

    Python binds a folder to its parent when it imports it, which would hide the verb. That binding is left out here.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


if not TYPE_CHECKING:  # To a type checker this would make every misspelt name an Any.

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return _version()
        if name not in _HOMES:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(importlib.import_module(_HOMES[name]), name)
        if name == "export":
            # `import facedeploy.export.exporter as x` asks the verb for `exporter`: it knows what its folder holds.
            value.__dict__ = vars(sys.modules["facedeploy.export"])
        return value


def _version() -> str:
    """What the installed package says.

    Raises:
        AttributeError: it is not installed; these are only its files.
    """
    metadata = importlib.import_module("importlib.metadata")
    try:
        return str(metadata.version("facedeploy"))
    except metadata.PackageNotFoundError as error:
        msg = "facedeploy is not installed, so its version is not known: run `pip install .`"
        raise AttributeError(msg) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
