"""Which steps of a graph decide where a picture is sampled.

    x ─► [Conv] ─┬► [Split] ─► [+ base] ─► [GridSample] ─► [Mul] ─► Conv ─► y
                 └► [Sigmoid] ──────────────────────────────┘

In half precision a position near 80 is off by 0.03 of a pixel, and a deformable network is off by whole units. So the
steps in brackets stay in float32: those between the last contraction and the sampler, that contraction included, and
whatever then reads nothing but their results.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One operation of any graph; `inputs` without constants' names is enough."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def exact_steps(
    steps: Sequence[Step],
    samplers: Mapping[str, tuple[int, ...]],
    contractions: Collection[str],
    modulators: Mapping[str, str] | None = None,
) -> set[int]:
    """Find the steps that must stay in float32.

    Args:
        steps: In the order of computation.
        samplers: Operator -> which of its inputs are positions or weights of samples.
        contractions: Operators whose sums over many values hide one value's rounding; the search stops there.
        modulators: Sampler -> the operator that multiplies its samples by the mask, where the sampler does not do that
            itself.

    Returns:
        Indices of the steps.
    """
    producer = _producers(steps)
    exact: set[int] = set()
    todo = []
    for i, step in enumerate(steps):
        if step.op in samplers:
            exact.add(i)
            todo += [step.inputs[k] for k in samplers[step.op] if k < len(step.inputs)]
    for step in steps:
        sources = [steps[producer[name]].op for name in step.inputs if name in producer]
        if any((modulators or {}).get(source) == step.op for source in sources):
            todo += step.inputs
    while todo:
        i = producer.get(todo.pop(), -1)
        if i >= 0 and i not in exact:
            exact.add(i)
            if steps[i].op not in contractions:
                todo += steps[i].inputs
    return spread(steps, exact, {i for i, step in enumerate(steps) if step.op in contractions})


def feeding(steps: Sequence[Step], kept: Collection[int], stops: Collection[int], moves: Collection[str]) -> set[int]:
    """The kept steps and those that they read, one through another, `stops` and what is before them excepted.

    Operators that only move numbers, `moves`, are left out where nothing is computed before them: a number in half
    precision loses nothing by being moved.
    """
    producer = _producers(steps)
    result = set(kept)
    todo = [name for i in kept for name in steps[i].inputs]
    while todo:
        i = producer.get(todo.pop(), -1)
        if i >= 0 and i not in result and i not in stops:
            result.add(i)
            todo += steps[i].inputs
    for i in sorted(result - set(kept)):
        read = {producer[name] for name in steps[i].inputs if name in producer}
        if steps[i].op in moves and result.isdisjoint(read):
            result.discard(i)
    return result


def averages(steps: Sequence[Step], layers: Collection[int], moves: Collection[str]) -> set[int]:
    """Those of the layers that weigh what a Softmax gives, as for the mean of a distribution: they learned nothing."""
    producer = _producers(steps)

    def made_by(i: int) -> str:
        before = producer.get(steps[i].inputs[0], -1) if steps[i].inputs else -1
        if before < 0:
            return ""
        return made_by(before) if steps[before].op in moves else steps[before].op

    return {i for i in layers if made_by(i) == "Softmax"}


def spread(steps: Sequence[Step], kept: Collection[int], stops: Collection[int]) -> set[int]:
    """The kept steps and those that read nothing but their results, `stops` excepted.

    Between two steps in float32, a step in half precision would only round.
    """
    producer = _producers(steps)
    result = set(kept)
    for i, step in enumerate(steps):
        made = {producer[name] for name in step.inputs if name in producer}
        if made and i not in stops and made <= result:
            result.add(i)
    return result


def _producers(steps: Sequence[Step]) -> dict[str, int]:
    """Tensor -> the index of the step that makes it."""
    return {name: i for i, step in enumerate(steps) for name in step.outputs}
