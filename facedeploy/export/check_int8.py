"""Is a compiled int8 network what its Q/DQ graph says? ONNX Runtime runs that graph, and is held against it.

Against float alone a wrong scale could pass for the usual loss of int8. A right compile rounds at other places than the
simulation (a fused sum is rounded once, not twice), so it is a little off it, and about as far from float.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facedeploy.artifact.manifest import NetworkEntry, Parity
from facedeploy.core.errors import ParityError
from facedeploy.core.optional_imports import onnx
from facedeploy.core.target import Backend
from facedeploy.graph.lowering import DeformConvForm, lower
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Ranges, Scheme
from facedeploy.verification import tensors as parity

SCHEMES: dict[Backend, Scheme] = {"trt": "symmetric", "ncnn": "symmetric", "openvino": "asymmetric"}
# A network whose int8 is that far from float amplifies every rounding, and two right compiles differ as much.
CHAOTIC = 0.3


def write_simulation(onnx_path: Path, entry: NetworkEntry, layers: Ranges, backend: Backend, path: Path) -> None:
    """Write the Q/DQ graph of what a backend quantised.

    Args:
        onnx_path: The float32 graph.
        entry: The compiled network.
        layers: Ranges of at least the layers that the entry has in int8.
        backend: Whose scheme is simulated.
        path: The file to write.
    """
    form: DeformConvForm = "native" if entry.lowerings.get("DeformConv") == "native" else "gridsample"
    model, _ = lower(onnx.load(onnx_path), form, form)
    chosen = {name: layers[name] for name in entry.int8}
    onnx.save(insert_qdq(model, chosen, SCHEMES[backend]), path)


def check_simulated(rows: Sequence[Parity], simulated: Sequence[Parity]) -> None:
    """Hold the differences from float of a compiled network against those of its simulation, output by output.

    Raises:
        ParityError: one is much larger, so that the compile is wrong.
    """
    expected = {(row.network, row.output): row for row in simulated}
    for row in rows:
        want = expected[row.network, row.output]
        if want.relative_l2 > CHAOTIC:
            continue
        if not parity.as_expected(row, want):
            msg = (
                f"{parity.describe(row)}, and {want.relative_l2:.2g} when its int8 is simulated in ONNX Runtime, so "
                "the conversion is wrong: try another target"
            )
            raise ParityError(msg)
