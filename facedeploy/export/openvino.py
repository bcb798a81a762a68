"""ONNX to OpenVINO IR."""

from __future__ import annotations

from facedeploy.errors import ConversionError, brief
from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.passes import float16
from facedeploy.extras import require


def compile_network(job: Job) -> Compiled:
    """Write `<name>.xml` and `<name>.bin`; fp16 stores weights in half precision.

    Raises:
        ConversionError: OpenVINO's ONNX reader refuses the graph.
    """
    ov = require("openvino", "openvino")
    name = job.spec.name
    source = job.onnx
    if job.precision == "fp16":
        onnx = require("onnx", "export")
        source = job.onnx.with_name(f"{name}_half.onnx")
        onnx.save(float16.store_float16(onnx.load(job.onnx), job.float32), source)
    try:
        model = ov.Core().read_model(str(source))
    except RuntimeError as error:
        msg = f"OpenVINO does not read the graph of {name}: {brief(error)}"
        raise ConversionError(msg) from error
    # The default halves every weight, whatever the target says.
    ov.save_model(model, str(job.folder / f"{name}.xml"), compress_to_fp16=False)
    return Compiled({"xml": f"{name}.xml", "bin": f"{name}.bin"})
