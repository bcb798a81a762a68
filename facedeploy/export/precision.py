"""Which weights an fp16 target leaves in float32: decided once, in ONNX Runtime, for every backend."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from facedeploy import parity
from facedeploy.errors import ParityError
from facedeploy.export.passes.float16 import compute_float16
from facedeploy.extras import require
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.spec import NetworkSpec


def choose_float32(
    onnx: Path, spec: NetworkSpec, rungs: Sequence[tuple[str, ...]], reference: Runtime, feeds: Sequence[Arrays]
) -> tuple[str, ...]:
    """The first rung with which half-precision arithmetic gives the answers of the reference.

    This machine's processor computes in float32 whatever the target says, and a phone or a GPU does not. So the graph
    is run with its casts written out, and what is found here holds where the halves are real.

    rungs: beginnings of names of weights that stay in float32, each rung more than the one before.

    Raises:
        ParityError: the answers are off with the last rung too.
    """
    library = require("onnx", "export")
    model = library.load(onnx)
    for rung in rungs:
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / onnx.name
            library.save(compute_float16(model, rung), path)
            with OnnxRuntimeRuntime(path, spec, RuntimeOptions()) as runtime:
                rows = parity.measure(reference, runtime, feeds, "fp16")
        try:
            parity.check(rows, "fp16")
        except ParityError:
            if rung == rungs[-1]:
                raise
            continue
        return rung
    msg = f"{spec.name} has no choice of what stays in float32"
    raise ValueError(msg)
