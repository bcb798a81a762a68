"""How far the network that is deployed is from the file as it came: quantised, in halves, or for several pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.adapt import Adapted

Doubles = NDArray[np.float64]

# What is still the same network where its numbers are others than in the file, and where they are not: relative L2, or
# a largest difference, which is for outputs that are next to nothing on drawn faces.
_ROUNDED = (0.5, 0.05)
_EXACT = (1e-3, 1e-5)


@dataclass(frozen=True)
class Distance:
    """How far the output that is worst is from the same output of the file as it came.

    Attributes:
        output: Its name.
        relative_l2: Of the difference, over all inputs together.
        max_abs: The largest difference.
    """

    output: str
    relative_l2: float
    max_abs: float

    def __str__(self) -> str:
        return f"{self.relative_l2:.2g} relative L2, largest difference {self.max_abs:.2g}"


def distance(adapted: Adapted, spec: NetworkSpec, feeds: Sequence[Arrays]) -> Distance | None:
    """How far the deployed network is from the file as it came, in ONNX Runtime, over some pictures.

    Args:
        adapted: Both of them.
        spec: Of the deployed network, for the size of the feeds.
        feeds: Pictures, by the name of the input.

    Returns:
        The distance of the worst output; None where ONNX Runtime cannot run the file as it came.

    Raises:
        InputError: it is far off, or does not answer for one picture as for several.
    """
    pairs: dict[str, list[tuple[Doubles, Doubles]]] = {}
    with adapted.open(spec, RuntimeOptions()) as runtime:
        for feed in feeds:
            (picture,) = feed.values()
            theirs = _run(adapted.came, adapted.picture.name, adapted.picture.as_it_came(picture, adapted.grey))
            if theirs is None:
                return None
            for name, ours in runtime.run(feed).items():
                if (want := _first(adapted, name, theirs[name], ours)) is not None:
                    pairs.setdefault(name, []).append((ours.astype(np.float64).ravel(), want.ravel()))
    found = [_distance(name, *map(np.concatenate, zip(*values, strict=True))) for name, values in pairs.items()]
    if not found:
        return None
    relative, absolute = _ROUNDED if adapted.rounded else _EXACT
    worst = max(found, key=lambda d: min(d.relative_l2 / relative, d.max_abs / absolute))
    if worst.relative_l2 > relative and worst.max_abs > absolute:
        why = "read as float" if adapted.rounded else "for one picture"
        give = "the float file that it was made from" if adapted.rounded else "a file for one picture"
        msg = f"{adapted.path} gives another {worst.output} {why} than as it came ({worst}): give {give}"
        raise InputError(msg)
    return worst


def _distance(name: str, ours: Doubles, want: Doubles) -> Distance:
    error, size = float(np.linalg.norm(ours - want)), float(np.linalg.norm(want))
    return Distance(name, error / size if size else float(error > 0), float(np.abs(ours - want).max(initial=0)))


def _first(adapted: Adapted, name: str, theirs: NDArray[Any], ours: NDArray[Any]) -> Doubles | None:
    """What the file as it came says of the first of its pictures; None where that cannot be compared."""
    if theirs.dtype.kind != "f":
        return None
    if theirs.size == ours.size * adapted.picture.batch:
        theirs = theirs[: len(theirs) // adapted.picture.batch] if theirs.ndim else theirs
    if theirs.size != ours.size:
        msg = (
            f"{adapted.path} says that it takes {adapted.picture.batch} pictures at once, and its output {name} does "
            f"not follow: it has the shape {ours.shape} for one{adapted.suspect}"
        )
        raise InputError(msg)
    return theirs.reshape(ours.shape).astype(np.float64)


def _run(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> Arrays | None:
    """The outputs of a graph as it stands; None where ONNX Runtime does not run it."""
    spec = NetworkSpec(
        NETWORK,
        (TensorSpec(name, value.shape, value.dtype.name),),
        tuple(TensorSpec(v.name, ()) for v in model.graph.output),
    )
    try:
        with OnnxRuntimeRuntime(model.SerializeToString(), spec, RuntimeOptions()) as runtime:
            return runtime.run({name: value})
    except FacedeployError:
        return None
