"""Which layers INT8 hurts, measured in faces, and which to keep in float so that the loss stays inside a budget."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from facedeploy.artifact.loss import Loss
from facedeploy.calibration.layer_replay import Capture, Variant, open_variant
from facedeploy.calibration.observed_graph import Graph
from facedeploy.calibration.session import Plan, Session
from facedeploy.core.images import read_picture
from facedeploy.core.progress import Watch, unwatched
from facedeploy.graph.ranges import Range
from facedeploy.metrics.face_loss import Judge, Prediction, answers, asking, judge_by
from facedeploy.runtimes.base import Opener


@dataclass(frozen=True)
class LayerLoss:
    """What is lost when one layer alone is int8.

    Attributes:
        network: The network that it is in.
        layer: Name of its weight.
        loss: On the held-back pictures.
    """

    network: str
    layer: str
    loss: Loss


@dataclass(frozen=True)
class Sensitivity:
    """Which layers INT8 hurts.

    Attributes:
        judge: The float pipeline's answers on the held-back pictures.
        layers: In the order of computation.
    """

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
    graphs, entry, threads = session.graphs, session.source.pipeline, session.threads
    variants = {
        (name, layer): Variant(graphs[name], {layer: values})
        for name, layers in plan.items()
        for layer, values in layers.items()
    }
    captures = {
        name: Capture(graph, [t for key, v in variants.items() if key[0] == name for t in v.boundary])
        for name, graph in graphs.items()
    }
    floats: dict[str, Opener] = {name: capture.open_replayed for name, capture in captures.items()}
    truth: list[Prediction] = []
    found: dict[tuple[str, str], list[Prediction]] = {key: [] for key in variants}
    with contextlib.ExitStack() as stack:
        ask = stack.enter_context(asking(entry, {name: c.open for name, c in captures.items()}, threads))
        asked = {}
        for (name, layer), variant in variants.items():
            networks: dict[str, Opener] = {**floats, name: functools.partial(open_variant, variant, captures[name])}
            asked[name, layer] = stack.enter_context(asking(entry, networks, threads))
        for path in watch(session.held_back, "layer by layer"):
            image = read_picture(path)
            for capture in captures.values():
                capture.forget()
            truth.append(ask(image))
            for key, ask_changed in asked.items():
                found[key].append(ask_changed(image))
    judge = judge_by(entry, truth)
    return Sensitivity(judge, tuple(LayerLoss(*key, judge.loss(given)) for key, given in found.items()))


def judge_on(session: Session) -> Judge:
    """The float pipeline's answers on the held-back pictures.

    Raises:
        InputError: a picture cannot be read, or there is no face on any.
    """
    return judge_by(session.source.pipeline, _answers(session, session.graphs))


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


def _answers(session: Session, graphs: Mapping[str, Graph]) -> tuple[Prediction, ...]:
    opened = {name: graph.open for name, graph in graphs.items()}
    return answers(session.source.pipeline, opened, session.held_back, session.threads)
