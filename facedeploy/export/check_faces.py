"""Does the compiled model find the faces of the original? Asked of the pipeline that will run, on drawn scenes.

A tensor that is off by little may move every small face, and a runtime that is right may be given the wrong pixels. So
pictures go in and faces come out: of what was compiled, of the original, and of the graph in the target's precision in
ONNX Runtime. What was compiled must find the faces of that graph; how near is measured by what the precision costs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.errors import ParityError
from facedeploy.core.target import Precision
from facedeploy.export import scenes
from facedeploy.export.check_levels import Lit
from facedeploy.export.check_network import NetworkExport, candidates
from facedeploy.export.check_pictures import SamePictures
from facedeploy.export.expected import EXPECTED
from facedeploy.export.scenes import THRESHOLD, Found, asking, faces_of
from facedeploy.metrics.face_matching import side
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Opener, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.verification import tensors as parity
from facedeploy.verification.faces import FACE_LIMITS, FaceErrors, FaceLimits, judge, measure_faces, problems_of

_FEW = 10  # Of fewer faces nothing is concluded.
# Nor of so many times the faces that were drawn: a network that sees one everywhere has weights that mean nothing, and
# which of a heap of boxes suppresses the others is decided by rounding.
_EVERYWHERE = 3
_GROUP = 8  # Faces of each of three sizes, from which the sizes are judged by themselves.
# How far a right compile may be off the graph in its precision: a little, and twice what that graph is off float, as
# one of a dozen faces can be off by much. Measured on right compiles: 0.03 % of a box in fp16, and in int8 up to 0.9
# times what it costs, of a dozen faces 1.8 times.
_FLOORS: dict[Precision, FaceLimits] = {
    **FACE_LIMITS,
    "fp16": FaceLimits(box=0.3, shift=0.15, points=0.3, score=5e-3, degrees=0.3, cosine=0.999, margin=2e-2, lost=0.0),
    "int8": FaceLimits(box=0.75, shift=0.4, points=0.75, score=1e-2, degrees=0.5, cosine=0.99, margin=0.1, lost=0.05),
}
_TIMES = 2.0

_TENSORS = "its outputs alone were compared with the original"


class TooCoarseError(ParityError):
    """The compile is right, and the precision costs too many faces."""


def check_faces(found: Found, reference: Found, expected: Found | None, precision: Precision) -> None:
    """Refuse faces that are not those that the precision makes.

    Args:
        found: Of what was compiled.
        reference: Of the original.
        expected: Of the same precision in ONNX Runtime, which they must be; None where that is float.
        precision: Of the target.

    Raises:
        ParityError: says of which faces what is how far off.
    """
    problems: dict[str, str] = {}
    for group in _groups(reference):
        limits = _limits(precision, None if expected is None else group.errors(reference, expected, precision))
        for problem in problems_of(group.errors(expected or reference, found, precision), limits, precision):
            problems.setdefault(problem.split(" off by ")[0], f"{group.name}{problem}")
    if problems:
        msg = f"on drawn scenes {'; '.join(problems.values())}: the conversion is wrong, so try another target"
        raise ParityError(msg)


@dataclass(frozen=True)
class Limits:
    """What drawn scenes do not say of a model, in words; empty where they do.

    faces: why nothing is said of its faces. levels: at which strides no box is likely a face.
    """

    faces: str = ""
    levels: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.faces, self.levels)))


def check_on_scenes(jobs: Sequence[NetworkExport], entries: Sequence[NetworkEntry], judged: bool) -> Limits:
    """Compare the faces of compiled networks with those of the original, on drawn scenes.

    Args:
        jobs: All networks of the model.
        entries: What became of each.
        judged: Whether what the precision costs was looked at already, or does not matter.

    Returns:
        What cannot be said from them.

    Raises:
        ParityError: they are not what the precision makes of them.
        TooCoarseError: they are, and the precision costs too much.
    """
    source, target = jobs[0].source, jobs[0].target
    precision = target.precision
    entry = asking(source.pipeline)
    drawn = scenes.draw(jobs[0].network.spec.picture_size)
    expected = None
    # The float graphs were held against the original output by output, and are faster than PyTorch.
    lit = Lit(source.boxes)
    floats = _opening([job.float_graph for job in jobs], jobs)
    reference = faces_of(entry, {name: lit.watching(opens) for name, opens in floats.items()}, drawn)
    if reference is None:
        return Limits(f"{_TENSORS}: it says nothing of faces")
    there, seen = (sum(map(len, each)) for each in ([each.faces for each in drawn], reference))
    if not _FEW <= seen <= _EVERYWHERE * there:
        return Limits(f"{_TENSORS}: it finds {seen} faces where {there} are drawn")
    if precision in EXPECTED:
        graphs = [job.expected_graph(made) for job, made in zip(jobs, entries, strict=True)]
        expected = faces_of(entry, _opening(graphs, jobs), drawn)
    for substitute in candidates(target, entries[0]):
        compiled = {
            job.network.spec.name: functools.partial(_open, job, network, substitute)
            for job, network in zip(jobs, entries, strict=True)
        }
        found = faces_of(entry, compiled, drawn, twice=True)
        assert found is not None  # As the reference.
        check_faces(found, reference, expected, precision)
        if not judged and (problems := judge(reference, found, precision, THRESHOLD)):
            msg = f"on drawn scenes {'; '.join(problems)}: {parity.INT8_ADVICE}"
            raise TooCoarseError(msg)
    return Limits(levels=lit.unlit())


def _opening(graphs: Sequence[Path], jobs: Sequence[NetworkExport]) -> dict[str, Opener]:
    """The networks in ONNX Runtime."""
    specs = [job.network.spec for job in jobs]
    return {
        spec.name: functools.partial(OnnxRuntimeRuntime, path, spec) for path, spec in zip(graphs, specs, strict=True)
    }


def _open(job: NetworkExport, entry: NetworkEntry, substitute: Substitute | None, options: RuntimeOptions) -> Runtime:
    runtime = open_network(job.source.model, job.target, entry, job.folder, options, substitute)
    if options.preprocess is None:
        return runtime
    return SamePictures(runtime, options.preprocess, job.target.precision)


def _limits(precision: Precision, expected: FaceErrors | None) -> FaceLimits:
    floor = _FLOORS[precision]
    if expected is None:
        return floor
    return replace(
        floor,
        box=floor.box + _TIMES * expected.box,
        shift=floor.shift + _TIMES * expected.shift,
        points=floor.points + _TIMES * expected.points,
        score=floor.score + _TIMES * max(expected.score, expected.classes),
        degrees=floor.degrees + _TIMES * expected.degrees,
        cosine=floor.cosine - _TIMES * expected.cosine,
        lost=min(1.0, floor.lost + _TIMES * max(expected.missing, expected.extra) / max(expected.total, 1)),
    )


@dataclass(frozen=True)
class _Group:
    """Faces of some size. name: for messages; empty for all of them. low, high: of sqrt(w * h), pixels."""

    name: str = ""
    low: float = 0.0
    high: float = np.inf

    def errors(self, reference: Found, found: Found, precision: Precision) -> FaceErrors:
        mine = [[f for f in each if self.low <= side(f) < self.high] for each in reference]
        errors = measure_faces(mine, found, THRESHOLD + FACE_LIMITS[precision].margin)
        # What is extra to the faces of one size are those of another.
        return replace(errors, extra=0) if self.name else errors


def _groups(reference: Found) -> list[_Group]:
    """All faces, and those of each third by size, where these are enough."""
    sides = sorted(side(face) for faces in reference for face in faces)
    if len(sides) < 3 * _GROUP:
        return [_Group()]
    small, large = sides[len(sides) // 3], sides[2 * len(sides) // 3]
    sizes = (("small", 0.0, small), ("middle", small, large), ("large", large, np.inf))
    return [_Group(), *(_Group(f"of the {name} faces ", low, high) for name, low, high in sizes)]
