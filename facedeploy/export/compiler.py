"""What the compilers have in common: one network in, files out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.target import Backend, Precision
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.graph.ranges import Ranges


@dataclass(frozen=True)
class Job:
    """A network to compile.

    Attributes:
        spec: Name, inputs and outputs.
        onnx_path: Its checked float32 graph.
        precision: What to compute in.
        folder: Where the files go.
        float32: How the names of the weights begin that stay in float32 whatever the precision; "" is all of them.
        deform_conv: The form that the user asked for; None for the backend's choice.
        int8: Names of the weights of the layers to quantise -> range of what each reads; only for int8.
    """

    spec: NetworkSpec
    onnx_path: Path
    precision: Precision
    folder: Path
    float32: tuple[str, ...] = ()
    deform_conv: DeformConvForm | None = None
    int8: Ranges = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """What a compiler wrote.

    Attributes:
        files: Role -> file name in the job's folder.
        engine: As in the manifest's `NetworkEntry`.
        lowerings: As in the manifest's `NetworkEntry`.
        float32: As in the manifest's `NetworkEntry`.
        int8: As in the manifest's `NetworkEntry`.
        options: As in the manifest's `NetworkEntry`.
    """

    files: dict[str, str]
    engine: Literal["ready", "pending"] | None = None
    lowerings: dict[str, str] = field(default_factory=dict)
    float32: tuple[str, ...] = ()
    int8: tuple[str, ...] = ()
    options: dict[str, bool] = field(default_factory=dict)


Compile = Callable[[Job], Compiled]

# Each module has `compile_network(job)`; it is imported when its target is asked for.
_COMPILERS: dict[Backend, str] = {
    "onnx": "facedeploy.export.onnxruntime",
    "openvino": "facedeploy.export.openvino",
    "ncnn": "facedeploy.export.ncnn.convert",
    "trt": "facedeploy.export.tensorrt",
}


def find(backend: Backend) -> Compile:
    """What compiles for a backend; its module is imported now."""
    return cast(Compile, importlib.import_module(_COMPILERS[backend]).compile_network)
