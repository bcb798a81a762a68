"""Answers in an order that ties leave open.

    scores ─► TopK ─► values, indices ─► gather ─► rows (1, K, ...)

TopK may order equal scores as it likes, and where they are equal at its end it may take others. So the rows of two
backends are held against each other by the candidate that each row shows: of those whose score is that of the place,
in the reference, it must be one, whole, and none twice. Everything else stays as strict as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx, onnxruntime
from facedeploy.graph.index import attributes
from facedeploy.graph.rewrite import replace_nodes
from facedeploy.runtimes.base import Array, Arrays, Runtime
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.wrapped import Wrapped

_FIRST_OPSET = 11  # Of GatherElements.
_STANDARD = ("", "ai.onnx")
_INDICES, _SCORES, _ORDER = "facedeploy_indices", "facedeploy_scores", "facedeploy_order"


@dataclass(frozen=True)
class Ordering:
    """Outputs whose rows one TopK orders.

    Attributes:
        outputs: Their names.
        measured: A session that gives the scores, flat, and the reference's indices.
        chosen: A session that gives the outputs for any indices.
    """

    outputs: tuple[str, ...]
    measured: Any
    chosen: Any

    def align(self, feed: Mapping[str, Array], want: Arrays, have: Arrays, near: float) -> Arrays:
        """The reference's answer with its rows in an order, and a choice, that ties allow, as like `have` as can be.

        Args:
            feed: The network's input.
            want: The reference's answer.
            have: The answer of a compiled network, of the same shapes.
            near: Scores that differ by no more are equal.

        Returns:
            Outputs of this TopK; `want` as it is where its rows cannot be told apart.
        """
        measured = self.measured.run([_SCORES, _ORDER], dict(feed))
        if any(a.size != max(a.shape) for a in measured):
            return want
        (scores, order), form = (a.ravel() for a in measured), measured[1].shape
        axes = self._row_axes(feed, want, order, form)
        if axes is None:
            return want
        near *= max(1.0, float(np.abs(scores[order]).max(initial=0)))
        allowed = np.abs(scores[order][:, None].astype(np.float64) - scores[None]) <= near
        pool = np.flatnonzero(allowed.any(axis=0))
        rows = self._rows(feed, pool, axes, form)
        cost = np.where(allowed[:, pool], 0.0, np.inf)
        for name, axis in axes.items():
            shown = _flat(have[name], axis)
            unit = np.linalg.norm(_flat(want[name], axis)) / np.sqrt(len(order)) or 1.0
            cost += np.stack([np.linalg.norm(rows[name] - row, axis=1) for row in shown]) / unit
        found = _match(cost)
        if found is None:
            return want
        return {name: _restore(rows[name][found], want[name], axis) for name, axis in axes.items()}

    def _choose(self, feed: Mapping[str, Array], indices: NDArray[np.int64], form: tuple[int, ...]) -> Arrays:
        answer = self.chosen.run(list(self.outputs), {**feed, _INDICES: indices.reshape(form)})
        return dict(zip(self.outputs, answer, strict=True))

    def _row_axes(
        self, feed: Mapping[str, Array], want: Arrays, order: NDArray[np.int64], form: tuple[int, ...]
    ) -> dict[str, int] | None:
        """Output -> the axis along which it follows the indices; None where one of them does not."""
        turned = self._choose(feed, order[::-1], form)
        axes = {}
        for name in self.outputs:
            along = [
                axis
                for axis, size in enumerate(want[name].shape)
                if size == len(order) and np.allclose(np.flip(want[name], axis), turned[name], rtol=1e-4, atol=1e-6)
            ]
            if not along:
                return None
            axes[name] = along[0]
        return axes

    def _rows(
        self, feed: Mapping[str, Array], pool: NDArray[np.int64], axes: Mapping[str, int], form: tuple[int, ...]
    ) -> dict[str, NDArray[np.float64]]:
        """Output -> what it shows of each candidate: (len(pool), values)."""
        count = max(form)
        parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in axes}
        for first in range(0, len(pool), count):
            some = pool[first : first + count]
            answer = self._choose(feed, np.resize(some, count), form)
            for name, axis in axes.items():
                parts[name].append(_flat(answer[name], axis)[: len(some)])
        return {name: np.concatenate(found) for name, found in parts.items()}


def orderings(reference: Runtime) -> list[Ordering]:
    """The orderings in a network that is run from its ONNX file; none for another one, and where there is no TopK."""
    while isinstance(reference, Wrapped):
        reference = reference.inner
    if not isinstance(reference, OnnxRuntimeRuntime):
        return []
    source = reference.source
    model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    opset = next((o.version for o in model.opset_import if o.domain in _STANDARD), 1)
    if opset < _FIRST_OPSET or not any(n.op_type == "TopK" for n in model.graph.node):
        return []
    last = _last_orders([t.name for t in reference.spec.outputs], model)
    found = []
    for node in model.graph.node:
        if outputs := tuple(name for name, by in last.items() if by == node.output[0]):
            measured, chosen = _measured(model, node), _chosen(model, node, outputs)
            found.append(Ordering(outputs, _session(measured), _session(chosen)))
    return found


def _last_orders(outputs: Sequence[str], model: onnx.ModelProto) -> dict[str, str]:
    """Output -> the first output of the last TopK that it is computed from."""
    by: dict[str, str] = {}
    place = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    for node in model.graph.node:
        before = [by[name] for name in node.input if name in by]
        if node.op_type == "TopK":
            before = [node.output[0]]
        if before:
            by.update(dict.fromkeys(node.output, max(before, key=lambda name: place[name])))
    return {name: by[name] for name in outputs if name in by}


def _measured(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """The graph up to a TopK, whose scores and indices are the outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    make = onnx.helper.make_node
    ends = [make("Identity", [node.input[0]], [_SCORES]), make("Identity", [node.output[1]], [_ORDER])]
    copy.graph.node.extend(ends)
    copy.graph.ClearField("output")
    kinds = {_SCORES: onnx.TensorProto.FLOAT, _ORDER: onnx.TensorProto.INT64}
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items())
    return copy


def _chosen(model: onnx.ModelProto, node: onnx.NodeProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph with an input in the place of what a TopK chooses."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    make, scores, (values, indices) = onnx.helper.make_node, node.input[0], node.output
    choice = [make("Identity", [_INDICES], [indices])]
    if values:
        axis = attributes(node).get("axis", -1)
        choice.append(make("GatherElements", [scores, indices], [values], axis=axis))
    replace_nodes(copy, [new for old in model.graph.node for new in (choice if old == node else [old])])
    copy.graph.input.append(onnx.helper.make_tensor_value_info(_INDICES, onnx.TensorProto.INT64, None))
    kept = [v for v in model.graph.output if v.name in outputs]
    copy.graph.ClearField("output")
    copy.graph.output.extend(kept)
    return copy


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _flat(values: Array, axis: int) -> NDArray[np.float64]:
    moved = np.moveaxis(values, axis, 0)
    return moved.reshape(len(moved), -1).astype(np.float64)


def _restore(rows: NDArray[np.float64], like: Array, axis: int) -> Array:
    moved = np.moveaxis(like, axis, 0)
    return np.moveaxis(rows.reshape(moved.shape).astype(like.dtype), 0, axis)


def _match(cost: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """A column of its own for each row, the nearest first; None where what is left allows none."""
    found = np.full(len(cost), -1)
    taken = np.zeros(cost.shape[1], bool)
    for flat in np.argsort(cost, axis=None, kind="stable"):
        if (found >= 0).all():
            break
        row, column = divmod(int(flat), cost.shape[1])
        if not np.isfinite(cost[row, column]):
            break
        if found[row] < 0 and not taken[column]:
            found[row], taken[column] = column, True
    return None if (found < 0).any() else found
