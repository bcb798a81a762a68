"""What both kinds of a user's own network have in common: one input, the picture, and outputs of fixed shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, Size, TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex
from facedeploy.graph.interface import PictureInput
from facedeploy.graph.operators import LAYERS
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Arrays, Opener
from facedeploy.sources.source import FallbackCandidates


@dataclass(frozen=True)
class OwnNetwork:
    """A user's network, before anything is known of its outputs.

    Attributes:
        raw: Its input and the outputs that it gives.
        run: Opens it.
        write: Writes the checked float32 graph of it, with a head behind it or without.
        picture: What a file itself takes; None for a callable.
        notes: What was changed of a file.
    """

    raw: NetworkSpec
    run: Opener
    write: Callable[[Path, onnx.ModelProto | None], None]
    picture: PictureInput | None = None
    notes: tuple[str, ...] = ()


def model_id(name: str) -> str:
    """A name that is safe in a file name, from that of a file or a callable."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def picture_input(name: str, size: Size) -> TensorSpec:
    return TensorSpec(name, (1, 3, *size))


def odd_size(size: Size) -> str:
    """What to try where a network does not run on a picture, to stand behind the reason; empty for a usual size."""
    return "; try sides that are multiples of 32" if any(side % 32 for side in size) else ""


def measured_spec(model: str, image: TensorSpec, run: Callable[[Arrays], Arrays]) -> NetworkSpec:
    """The spec of a network, with the shapes and types of the outputs that it really gives.

    Raises:
        InputError: they depend on what is in the picture, so that no backend could compile them.
    """
    draft = NetworkSpec(NETWORK, (image,), ())
    shape = draft.input_shapes("optimum")[image.name]
    noise = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    blank, noisy = (
        {name: TensorSpec(name, value.shape, value.dtype.name) for name, value in run({image.name: feed}).items()}
        for feed in (np.zeros(shape, np.float32), noise)
    )
    for name, tensor in blank.items():
        if tensor != noisy[name] or 0 in tensor.shape:
            msg = (
                f"the shape of the output {name!r} of {model} depends on what is in the picture: export the network "
                "without its suppression, which the pipeline does"
            )
            raise InputError(msg)
    return NetworkSpec(NETWORK, (image,), tuple(blank.values()))


def fallback_candidates(onnx_path: Path) -> FallbackCandidates:
    """What fp16 may leave in float32: nothing, the last layer before each output, everything."""
    index = GraphIndex.of(onnx.load(onnx_path))
    todo = list(index.outputs)
    seen: set[str] = set()
    heads: set[str] = set()
    while todo:
        name = todo.pop()
        node = index.producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        own = index.weights.keys() & set(node.input) if node.op_type in LAYERS else set()
        heads |= own
        todo += [] if own else node.input
    return ((), tuple(sorted(heads)), ("",)) if heads else ((), ("",))
