"""Which weights an fp16 target leaves in float32: decided once, in ONNX Runtime, for every backend."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from facedeploy.artifact.manifest import Parity
from facedeploy.core.errors import ParityError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.passes.float16 import compute_float16
from facedeploy.metrics.box_overlap import PUBLISHED, BoxOutputs
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.verification import tensors as parity

# Against float32 in the same runtime: rounding to half moves no box that matters by more.
TOLERANCE = replace(parity.TOLERANCES["fp16"], overlap=0.99)


def choose_float32(
    onnx_path: Path,
    spec: NetworkSpec,
    candidates: Sequence[tuple[str, ...]],
    feeds: Sequence[Arrays],
    boxes: BoxOutputs = PUBLISHED,
) -> tuple[str, ...]:
    """The first candidate with which half-precision arithmetic gives the answers of float32.

    This machine's processor computes in float32 whatever the target says, and a phone or a GPU does not. So the graph
    is run with its casts written out, and what is found here holds where the halves are real.

    onnx_path: the float32 graph. candidates: each is the beginnings of the names of the weights that stay in
    float32, and holds more of them than the one before. boxes: the outputs that are boxes.

    Raises:
        ParityError: the answers are off with the last candidate too.
    """
    model = onnx.load(onnx_path)
    rows: tuple[Parity, ...] = ()
    with OnnxRuntimeRuntime(onnx_path, spec, RuntimeOptions()) as reference, tempfile.TemporaryDirectory() as work:
        path = Path(work) / onnx_path.name
        for kept in candidates:
            onnx.save(compute_float16(model, kept), path)
            with OnnxRuntimeRuntime(path, spec, RuntimeOptions()) as runtime:
                rows = parity.measure(reference, runtime, feeds, "fp16", boxes)
            if all(map(TOLERANCE.accepts, rows)):
                return kept
    worst = max(rows, key=TOLERANCE.excess)
    msg = f"{spec.name} has no useful half precision: {parity.describe(worst)}; use the fp32 target of this backend"
    raise ParityError(msg)
