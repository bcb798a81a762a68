"""Which operator a backend gets wrong: looked for where what was compiled is off.

Nodes 0..k of the graph are a network too, whose outputs are what the rest reads. The smallest k that is off is found
by halves, and node k is what to name. In a lower precision a piece is held against the same piece in ONNX Runtime, in
that precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from facedeploy.artifact.manifest import NetworkEntry, Parity
from facedeploy.core.errors import ParityError
from facedeploy.core.optional_imports import onnx
from facedeploy.core.progress import Progress
from facedeploy.core.target import Precision
from facedeploy.export import compiler
from facedeploy.export.beginning import beginning, spec_of
from facedeploy.export.check_network import NetworkExport, candidates, describe_compiled
from facedeploy.export.compiler import Job
from facedeploy.export.expected import EXPECTED, as_expected, write_expected
from facedeploy.graph.index import reads
from facedeploy.graph.operators import LAYERS
from facedeploy.metrics.box_overlap import BoxOutputs
from facedeploy.runtimes import open_network
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.verification import tensors as parity

# How far two right compiles of a piece may be apart, beside what the precision costs: relative L2, strictest last. What
# shows in faces may be little in a tensor. Of bf16 nothing here says what it costs.
_SLACK: dict[Precision, tuple[float, ...]] = {"fp32": (1e-3, 1e-4), "fp16": (2e-2, 5e-3), "int8": (2e-2, 5e-3)}
_MANY = 1 << 10
_BY_ITSELF = (
    "each operator is right by itself on tensors, so look at the way of the pictures into the network, and at what "
    "several runs share"
)


def with_blame(
    error: ParityError, jobs: Sequence[NetworkExport], entries: Sequence[NetworkEntry], progress: Progress
) -> ParityError:
    """Say of an error where it begins.

    Args:
        error: What was found when compiled networks were compared.
        jobs: These networks.
        entries: What became of each.
        progress: Called before the search in each network.

    Returns:
        The error with the first operator that is off, or with the word that none is.
    """
    all_seen = True
    for job, entry in zip(jobs, entries, strict=True):
        progress(f"{job.network.spec.name}: look for the operator that is wrong")
        found = first_wrong(job, entry)
        if found:
            name = f"{job.network.spec.name}'s " if len(jobs) > 1 else ""
            return ParityError(f"{error}; the first operator that is off is {name}{found}")
        all_seen &= found is not None
    return ParityError(f"{error}; {_BY_ITSELF}") if all_seen else error


def first_wrong(job: NetworkExport, entry: NetworkEntry) -> str | None:
    """Name the first operator that is not what the precision makes of it, such as "Resize (node up_1)".

    Empty where none is; None where that could not be looked at.
    """
    if job.target.precision not in _SLACK:
        return None
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "whole.onnx"
        job.write_compiled(entry, path)
        model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    nodes = model.graph.node
    whole = _rows(job, entry, beginning(model, len(nodes)))
    if whole == []:
        return None
    slack = next((s for s in _SLACK[job.target.precision] if _off(whole, s)), None)
    if slack is None:
        return ""
    low, high = 0, len(nodes)
    while high - low > 1:
        middle = (low + high) // 2
        off = _off(_rows(job, entry, beginning(model, middle)), slack)
        low, high = (low, middle) if off else (middle, high)
    node = nodes[high - 1]
    weight = f", weight {node.input[1]}" if node.op_type in LAYERS else ""
    return f"{node.op_type} (node {node.name or node.output[0]}{weight})"


# Of each output how far it is off when compiled, and in a lower precision what that costs: how far the graph in that
# precision, which the first is held against then, is from float.
_Rows = list[tuple[Parity, Parity | None]]


def _rows(job: NetworkExport, entry: NetworkEntry, part: onnx.ModelProto) -> _Rows | None:
    """How far a piece is off: None where an output has another shape, nothing where the piece proves nothing.

    A piece may be more than a converter can do with, where the whole was not; what was found before must be said.
    """
    spec = spec_of(part, job.network.spec)
    if not spec.outputs:
        return []
    read = {name for node in part.graph.node for name in reads(node)}
    layers = {name: job.int8[name] for name in entry.int8 if name in read}
    feeds, precision, backend = job.feeds, job.target.precision, job.target.backend
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        path, simulated = folder / "float.onnx", folder / "simulated.onnx"
        onnx.save(part, path)
        try:
            compiled = compiler.find(backend)(
                Job(spec, path, precision, folder, entry.float32, job.deform_conv, layers)
            )
            made = describe_compiled(spec, folder, compiled)
            substitute = candidates(job.target, made)[0]
            options = RuntimeOptions()
            with (
                OnnxRuntimeRuntime(path, spec, options) as reference,
                open_network(job.source.model, job.target, made, folder, options, substitute) as runtime,
            ):
                if precision not in EXPECTED:
                    return [(row, None) for row in _measure(reference, runtime, feeds, precision)]
                write_expected(path, made, job.target, layers, simulated)
                with OnnxRuntimeRuntime(simulated, spec, options) as expected:
                    costs = _measure(reference, expected, feeds, precision)
                    return list(zip(_measure(expected, runtime, feeds, precision), costs, strict=True))
        except ParityError:
            return None
        except Exception:
            return []


def _measure(reference: Runtime, runtime: Runtime, feeds: Sequence[Arrays], precision: Precision) -> tuple[Parity, ...]:
    return parity.measure(reference, runtime, feeds, precision, BoxOutputs("", ""))


def _off(rows: _Rows | None, slack: float) -> bool:
    """Whether a piece is off."""
    return rows is None or any(_one_off(row, cost, slack) for row, cost in rows)


def _one_off(row: Parity, cost: Parity | None, slack: float) -> bool:
    if cost is None:
        return not replace(parity.TOLERANCES["fp32"], relative=slack).accepts(row)
    # What a piece ends in is a feature map, most often.
    return not as_expected(row, cost, _MANY, slack)
