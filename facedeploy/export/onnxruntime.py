"""The ONNX file itself is what ONNX Runtime runs."""

from __future__ import annotations

from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.lowering import lower
from facedeploy.extras import require


def compile_network(job: Job) -> Compiled:
    """Write `<name>.onnx`."""
    onnx = require("onnx", "export")
    graph, lowerings = lower(onnx.load(job.onnx), job.deform_conv, preferred="native")
    name = f"{job.spec.name}.onnx"
    onnx.save(graph, job.folder / name)
    return Compiled({"onnx": name}, lowerings=lowerings)
