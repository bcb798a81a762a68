"""What a precision costs when the compile is right: the graph in that precision, which ONNX Runtime runs.

Against float alone a wrong scale could pass for the usual loss of int8. So what was compiled is held against that
graph, input by input. A right compile rounds at other places (a fused sum is rounded once, not twice), so it is off it
too, but by less than the precision itself costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facedeploy.artifact.manifest import NetworkEntry, Parity
from facedeploy.core.errors import ParityError
from facedeploy.core.optional_imports import onnx
from facedeploy.core.target import Backend, Precision, Target
from facedeploy.graph.lowering import DeformConvForm, lower
from facedeploy.graph.passes.float16 import compute_float16
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Ranges, Scheme
from facedeploy.runtimes.base import Arrays
from facedeploy.verification import tensors as parity

SCHEMES: dict[Backend, Scheme] = {"trt": "symmetric", "ncnn": "symmetric", "openvino": "asymmetric"}
# Precisions that have such a graph.
EXPECTED: tuple[Precision, ...] = ("fp16", "int8")
# A network that its precision moves that far amplifies every rounding, and two right compiles differ as much.
_CHAOTIC = 0.3
# How many times what the precision costs a right compile may be off: two that share no rounding are 1.4 times apart.
# Measured are 0.9 at most, and of wrong scales 1.7 and more. Of a few numbers the ratio is a matter of luck: of three
# angles it was 2.1.
_TIMES, _TIMES_OF_FEW = 1.5, 2.5
_FEW = 64
# Relative L2 that is nothing: sums of halves are halves themselves in some runtimes, and in ONNX Runtime they are not.
_SLACK = 5e-3


def write_expected(onnx_path: Path, entry: NetworkEntry, target: Target, layers: Ranges, path: Path) -> None:
    """Write what a right compile of a float32 graph computes, as a graph of the target's precision.

    Args:
        onnx_path: The float32 graph.
        entry: What became of it.
        target: Of fp16 or int8.
        layers: Ranges of at least the layers that the entry has in int8.
        path: The file to write.
    """
    graph = onnx.load(onnx_path)
    if target.precision == "int8":
        form: DeformConvForm = "native" if entry.lowerings.get("DeformConv") == "native" else "gridsample"
        model, _ = lower(graph, form, form)
        chosen = {name: layers[name] for name in entry.int8}
        onnx.save(insert_qdq(model, chosen, SCHEMES[target.backend]), path)
    else:
        onnx.save(compute_float16(graph, entry.float32), path)


def as_expected(off: Parity, cost: Parity, count: int, slack: float = _SLACK) -> bool:
    """Whether an output of a compiled network is what its precision makes of it.

    Args:
        off: How far it is from the graph in that precision.
        cost: How far that graph is from float, on the same inputs.
        count: How many numbers it has.
        slack: Relative L2.
    """
    times = _TIMES_OF_FEW if count < _FEW else _TIMES
    return cost.relative_l2 > _CHAOTIC or parity.within(off, times * cost.relative_l2 + slack)


def check_expected(offs: Sequence[Parity], costs: Sequence[Parity], answer: Arrays, precision: Precision) -> None:
    """Check outputs of a compiled network, each as `as_expected` says. answer: of the graph in that precision.

    Raises:
        ParityError: one is further off, so that the compile is wrong.
    """
    for off, cost in zip(offs, costs, strict=True):
        if not as_expected(off, cost, answer[off.output].size):
            msg = (
                f"{parity.describe(off)} against its {precision} graph in ONNX Runtime, where that costs "
                f"{cost.relative_l2:.2g}, so the conversion is wrong: try another target"
            )
            raise ParityError(msg)
