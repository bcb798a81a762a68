"""Inputs for a parity check: drawn faces, or what an architecture makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import Axis, NetworkSpec, Shape
from facedeploy.core.preprocess import Preprocess
from facedeploy.core.synthetic_faces import portrait
from facedeploy.pipelines.resize import picture
from facedeploy.runtimes.base import Array, Arrays

if TYPE_CHECKING:
    from facedeploy.models.architecture import Probe


def probe_inputs(spec: NetworkSpec, preprocess: Preprocess, probe: Probe | None = None, seed: int = 0) -> list[Arrays]:
    """Inputs for a parity check: batches of 1, 2, 4 and 8, and sides that are small, odd and near the optimum, unequal;
    of one shape, one input.

    They are drawn faces; a network that takes something else gets what its architecture's `probe` makes.
    """
    rng = np.random.default_rng(seed)
    feeds = []
    batches = {t.shape[0] for t in spec.inputs}
    cases = 4 if batches & {a.name for a in spec.axes} else 3 if spec.axes else 1
    for case in range(cases):
        sizes = {
            a.name: min(a.maximum, a.minimum << case if a.name in batches else _side(a, case + i))
            for i, a in enumerate(spec.axes)
        }
        shapes = {t.name: tuple(d if isinstance(d, int) else sizes[d] for d in t.shape) for t in spec.inputs}
        if len(shapes) == 1 and _is_picture(*shapes.values()):
            feeds.append({name: _faces(rng, shape, preprocess) for name, shape in shapes.items()})
        elif probe is not None:
            feeds.append(probe(spec.name, shapes, rng))
        else:
            msg = f"{spec.name} takes {', '.join(shapes)} and not a picture: its architecture must define `probe`"
            raise InputError(msg)
    return feeds


def _side(axis: Axis, case: int) -> int:
    return (axis.minimum, 2 * axis.minimum + 1, axis.optimum | 1)[case % 3]


def _is_picture(shape: Shape) -> bool:
    return len(shape) == 4 and shape[1] == 3


def _faces(rng: np.random.Generator, shape: Shape, preprocess: Preprocess) -> Array:
    batch, _, height, width = shape
    return preprocess.tensor(np.concatenate([picture(portrait(rng, 96), height, width) for _ in range(batch)]))
