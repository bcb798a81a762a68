"""ONNX to OpenVINO IR."""

from __future__ import annotations

from facedeploy.errors import ConversionError
from facedeploy.export.compiler import Compiled, Job
from facedeploy.extras import require


def compile_network(job: Job) -> Compiled:
    """Write `<name>.xml` and `<name>.bin`; fp16 stores the weights in half precision.

    Raises:
        ConversionError: OpenVINO's ONNX reader refuses the graph.
    """
    ov = require("openvino", "openvino")
    name = job.spec.name
    try:
        model = ov.Core().read_model(str(job.onnx))
    except RuntimeError as error:
        msg = f"OpenVINO does not read the graph of {name}: {error}"
        raise ConversionError(msg) from error
    # The default compresses the weights whatever the target says.
    ov.save_model(model, str(job.folder / f"{name}.xml"), compress_to_fp16=job.precision == "fp16")
    return Compiled({"xml": f"{name}.xml", "bin": f"{name}.bin"})
