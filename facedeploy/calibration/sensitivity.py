"""Which layers INT8 hurts, measured in faces, and which to keep in float so that the loss stays inside a budget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from facedeploy import pipelines
from facedeploy.artifact.loss import Loss
from facedeploy.calibration.layer_replay import Capture, Variant, replay
from facedeploy.calibration.observed_graph import Graph
from facedeploy.calibration.session import Plan, Session
from facedeploy.core.images import read_picture
from facedeploy.core.progress import Watch, unwatched
from facedeploy.graph.ranges import Range
from facedeploy.metrics.face_loss import Answer, Judge, answering
from facedeploy.pipelines.thresholds import judging, threshold_of


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


def measure_sensitivity(session: Session, plan: Plan, watch: Watch = unwatched) -> Sensitivity:
    """The loss of each layer of a plan, alone in int8, on the held-back pictures.

    Raises:
        InputError: a picture cannot be read, or the float pipeline finds no face on any.
    """
    graphs, entry = session.graphs, judging(session.source.pipeline)
    options = {name: pipelines.runtime_options(entry, name, session.threads) for name in graphs}
    variants = {
        (name, layer): Variant(graphs[name], {layer: values})
        for name, layers in plan.items()
        for layer, values in layers.items()
    }
    truth: list[Answer] = []
    answers: dict[tuple[str, str], list[Answer]] = {key: [] for key in variants}
    with contextlib.ExitStack() as stack:
        captures = {
            name: Capture(graph, [t for k, v in variants.items() if k[0] == name for t in v.boundary], options[name])
            for name, graph in graphs.items()
        }
        floats = {name: stack.enter_context(capture.runtime) for name, capture in captures.items()}
        asked = {}
        for (name, layer), variant in variants.items():
            changed = stack.enter_context(replay(variant, captures[name], options[name]))
            runtimes = {**{k: c.replayed for k, c in captures.items()}, name: changed}
            asked[name, layer] = answering(entry, runtimes)
        ask_float = answering(entry, floats)
        for path in watch(session.held_back, "layer by layer"):
            image = read_picture(path)
            for capture in captures.values():
                capture.forget()
            truth.append(ask_float(image))
            for key, ask in asked.items():
                answers[key].append(ask(image))
    judge = _judge(session, truth)
    return Sensitivity(judge, tuple(LayerLoss(*key, judge.loss(found)) for key, found in answers.items()))


def judge_on(session: Session) -> Judge:
    """The float pipeline's answers on the held-back pictures.

    Raises:
        InputError: a picture cannot be read, or there is no face on any.
    """
    return _judge(session, _answers(session, session.graphs))


def measure_loss(session: Session, plan: Plan, judge: Judge) -> Loss:
    """The loss of a whole plan on the held-back pictures, in ONNX Runtime."""
    return judge.loss(_answers(session, {name: g.quantised(plan.get(name, {})) for name, g in session.graphs.items()}))


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


def _judge(session: Session, truth: list[Answer]) -> Judge:
    judge = Judge(tuple(truth), threshold_of(session.source.pipeline))
    judge.check()
    return judge


def _answers(session: Session, graphs: Mapping[str, Graph]) -> list[Answer]:
    """What the pipeline to judge with says over some graphs to each held-back picture."""
    entry = judging(session.source.pipeline)
    with pipelines.open_pipeline(entry, {name: g.open for name, g in graphs.items()}, session.threads) as pipeline:
        ask = answering(entry, pipeline.runtimes)
        return [ask(read_picture(path)) for path in session.held_back]
