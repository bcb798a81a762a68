"""What the compilers have in common: one network in, files out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.target import Precision
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.graph.ranges import Ranges


@dataclass(frozen=True)
class Job:
    """A network to compile. onnx_path: its checked float32 graph. folder: where the files go.

    float32: beginnings of the names of weights that stay in float32 whatever the precision; "" is all of them.
    deform_conv: the form that the user asked for, or None for the backend's choice.
    int8: the layers to quantise, by the names of their weights, with the range of what each reads; only for int8.
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
    """files: role -> file name in the job's folder; the rest as in the manifest's NetworkEntry."""

    files: dict[str, str]
    engine: Literal["ready", "pending"] | None = None
    lowerings: dict[str, str] = field(default_factory=dict)
    float32: tuple[str, ...] = ()
    int8: tuple[str, ...] = ()
    options: dict[str, bool] = field(default_factory=dict)


Compile = Callable[[Job], Compiled]
