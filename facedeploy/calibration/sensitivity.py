"""Which layers INT8 hurts, measured in faces, and which to keep in float so that the loss stays inside a budget."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facedeploy import pipelines
from facedeploy.artifact.loss import Loss
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.calibration.layer_replay import Capture, Replay, Variant
from facedeploy.calibration.observed_graph import Graph
from facedeploy.calibration.quantizable_layers import check_patterns, choose
from facedeploy.calibration.table import Table, range_of
from facedeploy.core.images import read_picture
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import require
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Range, Ranges
from facedeploy.metrics.face_loss import Answer, Judge, answer
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.recorded_outputs import make_pipeline
from facedeploy.pipelines.thresholds import judging, threshold_of
from facedeploy.runtimes.base import Array, Arrays, Runtime
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime

if TYPE_CHECKING:
    import onnx

# network -> layers to quantise, with their ranges
Plan = Mapping[str, Ranges]


@dataclass(frozen=True)
class LayerLoss:
    """What is lost when this layer alone is int8. layer: name of its weight."""

    network: str
    layer: str
    loss: Loss


@dataclass(frozen=True)
class Sensitivity:
    """judge: the float pipeline's answers on the held-back pictures. layers: in the order of computation."""

    judge: Judge
    layers: tuple[LayerLoss, ...]

    @property
    def worst_first(self) -> list[LayerLoss]:
        return sorted(self.layers, key=lambda row: -row.loss.score)


def plan_of(
    graphs: Mapping[str, Graph], table: Table, keep_float: Sequence[str] = (), allow: Sequence[str] = ()
) -> dict[str, dict[str, Range]]:
    """The layers that the rules, the user and the table let be int8, network by network.

    keep_float, allow: shell patterns of layer names, over all networks.

    Raises:
        InputError: a pattern matches nothing, or the table lacks a layer.
    """
    check_patterns([v for g in graphs.values() for v in g.layers], (*keep_float, *allow))
    return {
        name: {layer: range_of(table, name, layer) for layer in choose(graph.layers, keep_float, allow)}
        for name, graph in graphs.items()
    }


def measure_sensitivity(
    entry: PipelineEntry, graphs: Mapping[str, Graph], plan: Plan, pictures: Iterable[Path], *, threads: int = 0
) -> Sensitivity:
    """The loss of each layer of a plan, alone in int8, on held-back pictures.

    pictures: files; an iterable, so that the caller can show its progress.

    Raises:
        InputError: a picture cannot be read, or the float pipeline finds no face on any.
    """
    entry_low = judging(entry)
    truth: list[Answer] = []
    answers: dict[tuple[str, str], list[Answer]] = {}
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options = {name: pipelines.runtime_options(entry, name, threads) for name in graphs}
        variants = {
            (name, layer): Variant(graphs[name], {layer: values})
            for name, layers in plan.items()
            for layer, values in layers.items()
        }
        captures = {
            name: stack.enter_context(
                Capture(
                    graph,
                    [t for key, v in variants.items() if key[0] == name for t in v.boundary],
                    options[name],
                    work / f"{name}.onnx",
                )
            )
            for name, graph in graphs.items()
        }
        pipelines_ = {}
        for i, ((name, layer), variant) in enumerate(variants.items()):
            replay = stack.enter_context(Replay(variant, captures[name], options[name], work / f"{i}.onnx"))
            others: dict[str, Runtime] = {k: _Recall(c) for k, c in captures.items() if k != name}
            pipelines_[name, layer] = make_pipeline(entry_low, {**others, name: replay})
            answers[name, layer] = []
        float_pipeline = make_pipeline(entry_low, captures)
        for path in pictures:
            image = read_picture(path)
            for capture in captures.values():
                capture.forget()
            truth.append(answer(float_pipeline, image))
            for key, pipeline in pipelines_.items():
                answers[key].append(answer(pipeline, image))
    judge = Judge(tuple(truth), threshold_of(entry))
    judge.check()
    return Sensitivity(judge, tuple(LayerLoss(*key, judge.loss(found)) for key, found in answers.items()))


def judge_on(entry: PipelineEntry, graphs: Mapping[str, Graph], pictures: Iterable[Path], *, threads: int = 0) -> Judge:
    """The float pipeline's answers on held-back pictures.

    Raises:
        InputError: a picture cannot be read, or there is no face on any.
    """
    with _pipeline(entry, {name: (graph.spec, graph.model) for name, graph in graphs.items()}, threads) as pipeline:
        judge = Judge(tuple(answer(pipeline, read_picture(path)) for path in pictures), threshold_of(entry))
    judge.check()
    return judge


def measure_loss(
    entry: PipelineEntry,
    graphs: Mapping[str, Graph],
    plan: Plan,
    pictures: Iterable[Path],
    judge: Judge,
    *,
    threads: int = 0,
) -> Loss:
    """The loss of a whole plan, in ONNX Runtime with the symmetric scheme: the accuracy of record."""
    models = {name: (g.spec, insert_qdq(g.model, plan.get(name, {}), "symmetric")) for name, g in graphs.items()}
    with _pipeline(entry, models, threads) as pipeline:
        return judge.loss([answer(pipeline, read_picture(path)) for path in pictures])


@contextlib.contextmanager
def _pipeline(
    entry: PipelineEntry, models: Mapping[str, tuple[NetworkSpec, onnx.ModelProto]], threads: int
) -> Iterator[Pipeline]:
    """The pipeline to judge with, over graphs in ONNX Runtime."""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runtimes = {}
        for name, (spec, model) in models.items():
            path = work / f"{name}.onnx"
            require("onnx", "export").save(model, path)
            options = pipelines.runtime_options(entry, name, threads)
            runtimes[name] = stack.enter_context(OnnxRuntimeRuntime(path, spec, options))
        yield make_pipeline(judging(entry), runtimes)


def fit(
    plan: Plan, sensitivity: Sensitivity, max_drop: float, measure: Callable[[Plan], Loss]
) -> tuple[dict[str, dict[str, Range]], Loss]:
    """Keep the worst layers in float, one after the other, until the loss of the whole is at most `max_drop` points.

    Returns:
        What is left of the plan, and its loss.
    """
    left = {name: dict(layers) for name, layers in plan.items()}
    loss = measure(left)
    for row in sensitivity.worst_first:
        if loss.points <= max_drop:
            break
        del left[row.network][row.layer]
        loss = measure(left)
    return left, loss


class _Recall(Runtime):
    """A float network: from its capture where that saw the same inputs, else anew."""

    backend = "recall"
    concurrent = False

    def __init__(self, capture: Capture) -> None:
        super().__init__(capture.spec, capture.options)
        self._capture = capture

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        tensors = self._capture.recall(inputs)
        if tensors is None:
            return self._capture.again(inputs)
        return {t.name: tensors[t.name] for t in self.spec.outputs}

    def _close(self) -> None:
        self._capture.close()
