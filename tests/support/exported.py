"""Artifacts and traced graphs that many tests ask for, out of the store."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from facedeploy.artifact.folder import Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.network_spec import InputSize, NetworkSpec
from facedeploy.core.target import Target
from facedeploy.export import exporter
from facedeploy.export.exporter import export
from facedeploy.graph import from_torch
from facedeploy.models import registry
from tests.support import store

real_trace = from_torch._trace
# Modules that a backend's targets need.
MODULES = {"openvino": ("openvino",), "ncnn": ("ncnn", "pnnx"), "trt": ("tensorrt_rtx",)}
Trace = Callable[[torch.nn.Module, NetworkSpec], onnx.ModelProto]


def require(target: str) -> None:
    """Skip the test where the backend of a target is not installed."""
    for module in MODULES.get(Target.parse(target).backend, ()):
        pytest.importorskip(module)


def exported(
    model: str,
    target: str,
    weights: Path | None = None,
    *,
    make: Callable[..., Artifact] = export,
    how: Sequence[object] = (),
    **options: Any,
) -> Artifact:
    """The artifact of a model, made once. Copy it before you change it.

    Args:
        model: its id.
        target: such as "ncnn-fp16".
        weights: a checkpoint file or a folder of them; what is in it counts, not where it is.
        make: what exports.
        how: parts of the key, of what `make` does otherwise: a test file that holds it, say.
        options: of `export`.
    """
    require(target)
    key = [store.exporter(), model, target, *([weights] if weights else []), *how, sorted(options.items())]

    def write(folder: Path) -> None:
        make(model, target, weights, folder / target, **options)

    return Artifact.open(store.made_once(f"{model}-{target}", key, write) / target)


class _Pickler(pickle.Pickler):
    """The same bytes for the same module: a tensor is its numbers, and not where they lie in memory."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            array = value.detach().contiguous().numpy()
            return tuple, ((str(array.dtype), array.shape, array.tobytes()),)
        return NotImplemented


def trace_once(trace: Trace = from_torch._trace) -> Trace:
    """PyTorch's tracer, which takes five seconds a network, asked once for each of ours. What we do to its graph comes
    after it and is done each time.
    """

    def traced(module: torch.nn.Module, spec: NetworkSpec) -> onnx.ModelProto:
        if not type(module).__module__.startswith("facedeploy."):
            return trace(module, spec)  # Who knows what its code depends on.
        state = io.BytesIO()
        try:
            _Pickler(state).dump(module.eval())
        except (pickle.PicklingError, AttributeError, TypeError):
            return trace(module, spec)

        def write(folder: Path) -> None:
            onnx.save(trace(module, spec), folder / "traced.onnx")

        place = store.made_once("traced", [store.exporter(), state.getvalue(), spec], write)
        return onnx.load(place / "traced.onnx")

    return traced


def tiny(target: str, size: InputSize, *, timed: bool = False) -> Artifact:
    """The default model, made once; int8 however far off and however slow it is here.

    Args:
        target: such as "openvino-int8".
        size: (height, width), or "any".
        timed: whether the export looks at the speed of int8, which takes seconds.
    """
    int8: dict[str, Any] = {"int8": Int8Options(force=True)} if target.endswith("int8") else {}
    make = export if timed or not int8 else _untimed
    return exported(registry.DEFAULT, target, make=make, how=[timed], input_size=size, **int8)


def _untimed(*words: Any, **options: Any) -> Artifact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "against_fp32", lambda *_: 2.0)
        return export(*words, **options)
