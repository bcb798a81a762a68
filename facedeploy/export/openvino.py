"""ONNX to OpenVINO IR."""

from __future__ import annotations

from typing import Any

from facedeploy.core.errors import ConversionError, brief
from facedeploy.core.optional_imports import onnx, openvino, openvino_onnx
from facedeploy.export.compiler import Compiled, Job
from facedeploy.graph.lowering import lower
from facedeploy.graph.passes import float16
from facedeploy.graph.passes.flat_split import split_flat
from facedeploy.graph.passes.hoist_qdq import hoist_qdq
from facedeploy.graph.passes.insert_qdq import insert_qdq, quantized


def compile_network(job: Job) -> Compiled:
    """Write `<name>.xml` and `<name>.bin`; fp16 stores weights in half precision, int8 as integers.

    Activations are uint8 with a zero point of their own: measured faster than signed ones, and after a ReLU twice as
    fine. bf16 is the arithmetic of the processor, so its file is that of fp32.

    Raises:
        ConversionError: OpenVINO's ONNX reader refuses the graph.
    """
    name = job.spec.name
    graph, lowerings = lower(onnx.load(job.onnx_path), job.deform_conv, preferred="native")
    kept: tuple[str, ...] = ()
    if job.precision == "fp16":
        kept = (*job.float32, *float16.exact_weights(graph))
        graph = float16.store_float16(graph, kept)
    if job.precision == "int8":
        graph = hoist_qdq(insert_qdq(graph, job.int8, "asymmetric"))
    graph = split_flat(graph)
    source = job.onnx_path.with_name(f"{name}_openvino.onnx")
    onnx.save(graph, source)
    core = openvino.Core()
    core.add_extension(openvino_onnx.ConversionExtension("DeformConv", "", _deform_conv))
    try:
        model = core.read_model(str(source))
    except RuntimeError as error:
        msg = f"OpenVINO does not read the graph of {name}: {brief(error)}"
        raise ConversionError(msg) from error
    # The default halves every weight, whatever the target says.
    openvino.save_model(model, str(job.folder / f"{name}.xml"), compress_to_fp16=False)
    files = {"xml": f"{name}.xml", "bin": f"{name}.bin"}
    return Compiled(files, lowerings=lowerings, float32=kept, int8=quantized(graph))


def _deform_conv(node: Any) -> list[Any]:
    """OpenVINO's reader has no rule for DeformConv. The IR that is saved needs none."""
    ops = openvino.opset8

    def attribute(name: str, default: Any) -> Any:
        return node.get_attribute(name) if node.has_attribute(name) else default

    inputs = [node.get_input(i) for i in range(node.get_input_size())]
    data, weight, offset = inputs[:3]
    top, left, bottom, right = attribute("pads", [0, 0, 0, 0])
    result = ops.deformable_convolution(
        data,
        offset,
        weight,
        attribute("strides", [1, 1]),
        [top, left],
        [bottom, right],
        attribute("dilations", [1, 1]),
        *([inputs[4]] if len(inputs) > 4 else []),
        group=attribute("group", 1),
        deformable_group=attribute("offset_group", 1),
        # Without it a sample between the border and one pixel outside is taken for outside.
        bilinear_interpolation_pad=True,
    )
    if len(inputs) > 3:
        result = ops.add(result, ops.reshape(inputs[3], [1, -1, 1, 1], special_zero=False))
    return list(result.outputs())
