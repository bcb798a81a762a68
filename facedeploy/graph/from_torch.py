"""A PyTorch module, or somebody's ONNX file, to the one kind of ONNX file that is compiled: simplified, checked."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy.core.errors import ConversionError, brief
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx, require, torch
from facedeploy.graph.complaints import complaint
from facedeploy.graph.decode.attach import attach
from facedeploy.graph.decode.build import decoded_spec
from facedeploy.graph.passes.annotations import name_output_axes, strip_annotations
from facedeploy.graph.passes.merge_convolutions import merge_convolutions
from facedeploy.graph.passes.simplify import simplify
from facedeploy.graph.passes.upgrade_opset import upgrade_opset
from facedeploy.graph.torch_operators import translations

if TYPE_CHECKING:
    from torch import nn

# TensorRT 10.0 to 10.3, which is what JetPack 6 has, reads opsets 9 to 20; DeformConv and GridSample need 19 and 20.
OPSET = 20


def export_onnx(module: nn.Module, spec: NetworkSpec, path: Path, head: onnx.ModelProto | None = None) -> None:
    """Write a module as a checked float32 ONNX file.

    Args:
        module: The network.
        spec: Names, shapes and dynamic axes of the module's inputs and outputs.
        path: The file to write.
        head: What decodes the outputs, as `graph.decode.build` writes it; None for no decoding.

    Raises:
        ConversionError: the exporter, the simplifier or the ONNX checker refuses the module.
    """
    model = _trace(module, spec)
    try:
        _finish(simplify(model), spec, path, head)
    except ConversionError as error:
        msg = f"{spec.name}: {error}"
        raise ConversionError(msg) from error


def convert_onnx(model: onnx.ModelProto, spec: NetworkSpec, path: Path, head: onnx.ModelProto | None = None) -> None:
    """Write an ONNX model of any age as the same kind of file, for the fixed shapes of the spec. head: as above.

    Raises:
        ConversionError: its operators cannot be brought to this opset, or the graph is invalid.
    """
    _finish(upgrade_opset(model, spec, OPSET), spec, path, head)


def _finish(model: onnx.ModelProto, spec: NetworkSpec, path: Path, head: onnx.ModelProto | None) -> None:
    """What every simplified float32 graph goes through last; `model` is changed.

    Raises:
        ConversionError: the ONNX checker refuses the graph.
    """
    if head is not None:
        model = simplify(attach(model, head))
        spec = decoded_spec(spec, head)
    merge_convolutions(model)
    strip_annotations(model)
    name_output_axes(model, spec)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        msg = f"the ONNX graph is not valid: {complaint(error, model)}"
        raise ConversionError(msg) from error
    onnx.save(model, path)


def _trace(module: nn.Module, spec: NetworkSpec) -> Any:
    require("onnxscript", "export")  # The exporter writes with it.
    axes = {a.name: torch.export.Dim(a.name, min=a.minimum) for a in spec.axes}
    # An example of size 1 would make the tracer take the axis for a constant.
    sizes = {a.name: max(2, a.minimum * 4) for a in spec.axes}
    examples = tuple(torch.zeros([d if isinstance(d, int) else sizes[d] for d in t.shape]) for t in spec.inputs)
    dynamic = tuple({i: axes[d] for i, d in enumerate(t.shape) if isinstance(d, str)} for t in spec.inputs)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                module.eval(),
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=[t.name for t in spec.inputs],
                output_names=[t.name for t in spec.outputs],
                dynamic_shapes=dynamic if spec.axes else None,
                custom_translation_table=translations(),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        msg = f"{spec.name}: PyTorch cannot export the module: {brief(error)}"
        raise ConversionError(msg) from error
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints progress to stdout, and warns about torchvision, which nothing here uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
