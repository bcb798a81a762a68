"""Drawn scenes, what a pipeline finds in them, and what its networks see of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import ParityError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import CLOSE_UP, CROWD, scene
from facedeploy.pipelines.base import Looker, Pipeline
from facedeploy.runtimes.base import Array, Arrays, Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.wrapped import Watched
from facedeploy.sources.source import Source, SourceNetwork

# Sizes for a network of any size, with unequal sides.
_ANY = ((240, 320), (352, 224))
# Of each scene its brightness, and the heads in it: a face that fills the picture is what the last level is for.
_SCENES = ((1.0, CROWD), (0.5, CROWD), (1.0, CROWD), (0.8, CROWD), (1.0, CLOSE_UP))
# Faces with lower scores are asked for than the user will see, so that there are more of them.
THRESHOLD = 0.3
_BATCH = 8
_PIXELS = 1e-3  # Two runs of one runtime on one picture are nearly the same.

Found = list[list[Face]]


@dataclass(frozen=True)
class Scene:
    """A drawn picture and the faces in it."""

    image: Image
    faces: list[Face]


@functools.lru_cache(maxsize=1)
def draw(size: tuple[int, int] | None, seed: int = 0) -> tuple[Scene, ...]:
    """Draw the scenes.

    Args:
        size: (height, width) of the network's input; None for a network of any size.
        seed: What they are drawn from.
    """
    rng = np.random.default_rng(seed)
    return tuple(Scene(*scene(rng, *(size or _ANY[i % 2]), *how)) for i, how in enumerate(_SCENES))


def faces_of(
    entry: PipelineEntry,
    networks: Mapping[str, Opener],
    scenes: Sequence[Scene],
    *,
    twice: bool = False,
) -> Found | None:
    """What a pipeline says of the scenes; None for one that finds no faces.

    Args:
        entry: The pipeline.
        networks: Name -> what opens its runtime.
        scenes: What it looks at.
        twice: Whether it looks at the first one again.

    Raises:
        ParityError: the second answer is another one.
    """
    with pipelines.open_pipeline(entry, networks) as pipeline:
        if not isinstance(pipeline, Looker) and not pipeline.decodes:
            return None
        found = [_look(pipeline, each) for each in scenes]
        again = _look(pipeline, scenes[0]) if twice else found[0]
    if not (furthest := _furthest(found[0], again)) <= _PIXELS:
        msg = f"the same picture gives other faces the second time, off by {furthest:.2g} pixels: try another target"
        raise ParityError(msg)
    return found


def feeds_on_scenes(source: Source) -> dict[str, list[Arrays]]:
    """What each network is given when the original looks at a crowd, and at one face: network -> inputs.

    It is what a network further on is made for, and no noise is like it. Of a batch at most 8 are kept.
    """
    drawn = draw(source.networks[0].spec.picture_size)
    feeds: dict[str, list[Arrays]] = {n.spec.name: [] for n in source.networks}
    for each in (drawn[0], drawn[-1]):
        seen: dict[str, Arrays] = {}
        networks = {n.spec.name: functools.partial(_watched, n, seen) for n in source.networks}
        faces_of(asking(source.pipeline), networks, [each])
        for name, inputs in seen.items():
            feeds[name].append(inputs)
    return feeds


def _watched(network: SourceNetwork, seen: dict[str, Arrays], options: RuntimeOptions) -> Runtime:
    """The original, and the first inputs that it is given."""

    def see(inputs: Mapping[str, Array], _: Arrays) -> None:
        if network.spec.name not in seen:
            kept = _BATCH if isinstance(network.spec.inputs[0].shape[0], str) else None
            seen[network.spec.name] = {name: values[:kept].copy() for name, values in inputs.items()}

    return Watched(network.reference(options), see)


def asking(entry: PipelineEntry) -> PipelineEntry:
    """The pipeline, with a threshold that more faces pass."""
    options: dict[str, Any] = {"score_threshold": THRESHOLD} if "score_threshold" in entry.config else {}
    return pipelines.reconfigure(entry, options)


def _look(pipeline: Pipeline, each: Scene) -> list[Face]:
    return pipeline.locate(each.image, each.faces) if isinstance(pipeline, Looker) else pipeline.detect(each.image)


def _furthest(first: list[Face], second: list[Face]) -> float:
    if len(first) != len(second):
        return np.inf
    return max(
        (abs(p - q) for a, b in zip(first, second, strict=True) for p, q in zip(a.box, b.box, strict=True)), default=0.0
    )
