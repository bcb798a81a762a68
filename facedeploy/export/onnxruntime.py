"""The ONNX file itself is what ONNX Runtime runs."""

from __future__ import annotations

import shutil

from facedeploy.export.compiler import Compiled, Job


def compile_network(job: Job) -> Compiled:
    name = f"{job.spec.name}.onnx"
    shutil.copyfile(job.onnx, job.folder / name)
    return Compiled({"onnx": name})
