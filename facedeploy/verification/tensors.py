"""Parity: how far a runtime is from the reference, per output, over several inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from facedeploy.artifact.manifest import Parity
from facedeploy.core.errors import ParityError
from facedeploy.core.target import Precision
from facedeploy.metrics.box_overlap import PUBLISHED, BoxOutputs
from facedeploy.runtimes.base import Array, Arrays, Runtime
from facedeploy.verification.ties import Ordering, orderings


@dataclass(frozen=True)
class Tolerance:
    """An output passes within `relative` (L2 of the difference over L2 of the reference) or within `absolute`.

    The second is for outputs that are zero for practical purposes, such as the score of an empty picture. Boxes must
    also overlap the reference's by `overlap`, each of them: an L2 norm hides the one that went astray.
    """

    relative: float
    absolute: float
    overlap: float

    def accepts(self, row: Parity) -> bool:
        return self.excess(row) <= 1

    def excess(self, row: Parity) -> float:
        """How many times over the tolerance a row is."""
        values = min(row.relative_l2 / self.relative, row.max_abs / self.absolute)
        boxes = 0.0 if row.overlap is None else (1 - row.overlap) / (1 - self.overlap)
        return max(values, boxes)


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(relative=1e-3, absolute=1e-5, overlap=0.95),
    "fp16": Tolerance(relative=2e-2, absolute=1e-3, overlap=0.95),
    # Eight bits of mantissa: a twentieth is what a deep network keeps of them.
    "bf16": Tolerance(relative=5e-2, absolute=1e-3, overlap=0.9),
    "int8": Tolerance(relative=0.3, absolute=5e-2, overlap=0.7),
}


def measure(
    reference: Runtime, runtime: Runtime, feeds: Iterable[Arrays], precision: Precision, boxes: BoxOutputs = PUBLISHED
) -> tuple[Parity, ...]:
    """Compare every output of a network. Of several inputs the one counts that is worst for the precision.

    Args:
        reference: Runs the network as it came.
        runtime: Runs the compiled network.
        feeds: Inputs of both, by name.
        precision: Whose tolerance says what is worst.
        boxes: The outputs whose boxes must also overlap.

    Returns:
        How far off each output is.

    Raises:
        ParityError: an output has another shape than the reference's.
    """
    name, backend = reference.spec.name, runtime.backend
    excess = TOLERANCES[precision].excess
    given = list(feeds)
    answers = [(reference.run(feed), runtime.run(feed)) for feed in given]
    for ordering in orderings(reference):
        answers = [_aligned(ordering, feed, *pair, precision) for feed, pair in zip(given, answers, strict=True)]
    return tuple(
        max(
            (_compare_output(name, t.name, backend, a, b, boxes) for a, b in answers),
            key=excess,
        )
        for t in reference.spec.outputs
    )


def _aligned(
    ordering: Ordering, feed: Arrays, want: Arrays, have: Arrays, precision: Precision
) -> tuple[Arrays, Arrays]:
    """Both answers, of equal scores in one order. Where they are near enough as they are, nothing is done."""
    tolerance = TOLERANCES[precision]
    shapes = all(want[name].shape == have[name].shape for name in ordering.outputs)
    if not shapes or all(tolerance.accepts(compare("", n, "", want[n], have[n])) for n in ordering.outputs):
        return want, have
    return {**want, **ordering.align(feed, want, have, tolerance.absolute)}, have


def _compare_output(network: str, output: str, runtime: str, want: Arrays, have: Arrays, boxes: BoxOutputs) -> Parity:
    if output == boxes.scores:
        return compare(network, output, runtime, *boxes.scored(want, have))
    row = compare(network, output, runtime, want[output], have[output])
    if output == boxes.boxes and boxes.scores in want:
        return replace(row, overlap=boxes.overlap(want, have))
    return row


# How many times as far off as it was an output may be when it is compared again.
_TIMES = 1.5


def as_before(row: Parity, then: Parity) -> bool:
    """Whether an output is about as far off as it was when the artifact was made."""
    return within(row, _TIMES * then.relative_l2 + TOLERANCES["fp16"].relative)


def within(row: Parity, relative: float) -> bool:
    """Whether an output is no further off than that, or by nothing that shows."""
    return row.relative_l2 <= relative or row.max_abs <= TOLERANCES["fp16"].absolute


_WRONG = "the conversion is wrong: try the fp32 target of this backend"
INT8_ADVICE = (
    "int8 costs this network too much: keep layers in float with --max-drop or --float-layer, calibrate with "
    "other pictures, or --force"
)
_ADVICE: dict[Precision, str] = {
    "fp32": "the conversion is wrong: try another target",
    "bf16": "bf16 is too coarse for this network: use fp32",
    "int8": INT8_ADVICE,
}


def check(rows: Sequence[Parity], precision: Precision) -> None:
    """Refuse rows that are out of the precision's tolerance.

    Raises:
        ParityError: names each network and output, how far off it is, and what to try.
    """
    tolerance = TOLERANCES[precision]
    off = [row for row in rows if not tolerance.accepts(row)]
    if off:
        where = "; ".join(map(describe, off))
        msg = f"{where}; {precision} allows {tolerance.relative:g}, so {_ADVICE.get(precision, _WRONG)}"
        raise ParityError(msg)


def describe(row: Parity) -> str:
    """One row as a phrase."""
    boxes = "" if row.overlap is None else f"; smallest overlap of a box {row.overlap:.3f}"
    return (
        f"{row.network}.{row.output} in {row.runtime} is off by {row.relative_l2:.2g} relative L2 "
        f"(largest difference {row.max_abs:.2g}{boxes})"
    )


def compare(network: str, output: str, runtime: str, want: Array, have: Array) -> Parity:
    """How far one answer is from another.

    Args:
        network: Whose output it is.
        output: The output's name.
        runtime: What gave the answer.
        want: As it should be.
        have: The answer.

    Raises:
        ParityError: the two differ in shape.
    """
    if want.shape != have.shape:
        msg = f"{network}.{output} has shape {have.shape} in {runtime} and {want.shape} in the reference"
        raise ParityError(msg)
    a, b = want.ravel().astype(np.float64), have.ravel().astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        return Parity(
            network=network,
            output=output,
            runtime=runtime,
            max_abs=_finite(np.abs(a - b).max(initial=0.0)),
            relative_l2=_finite(np.linalg.norm(a - b) / max(norm_a, 1e-30)),
            cosine=_finite(a @ b / (norm_a * norm_b)) if norm_a and norm_b else float(norm_a == norm_b),
        )


def _finite(value: Any) -> float:
    """JSON has no NaN, and an output that is not a number is as far off as can be."""
    return float(value) if np.isfinite(value) else float(np.finfo(np.float32).max)
