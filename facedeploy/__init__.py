"""facedeploy: from a face model's PyTorch checkpoint to the device that it must run on.

    import facedeploy

    artifact = facedeploy.export("mtcnn", "openvino-fp32", weights="weights/mtcnn")
    with facedeploy.load(artifact) as pipeline:
        faces = pipeline.detect(image)  # (H, W, 3) uint8, BGR

The verbs are imported when they are first used, so that `import facedeploy` needs no backend and no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facedeploy.benchmarks.latency.benchmark import benchmark
    from facedeploy.export.exporter import export
    from facedeploy.pipelines.load import load
    from facedeploy.verification.verify import verify

__all__ = ["benchmark", "export", "load", "verify"]

_HOMES = {
    "benchmark": "facedeploy.benchmarks.latency.benchmark",
    "export": "facedeploy.export.exporter",
    "load": "facedeploy.pipelines.load",
    "verify": "facedeploy.verification.verify",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    msg = f"module 'facedeploy' has no attribute {name!r}"
    raise AttributeError(msg)
