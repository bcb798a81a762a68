"""The ONNX file itself is what ONNX Runtime runs."""

from __future__ import annotations

from facedeploy.core.optional_imports import onnx
from facedeploy.export.compiler import Compiled, Job
from facedeploy.graph.lowering import lower


def compile_network(job: Job) -> Compiled:
    """Write `<name>.onnx`."""
    graph, lowerings = lower(onnx.load(job.onnx_path), job.deform_conv, preferred="native")
    name = f"{job.spec.name}.onnx"
    onnx.save(graph, job.folder / name)
    return Compiled({"onnx": name}, lowerings=lowerings)
