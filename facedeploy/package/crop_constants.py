"""What the C++ library must know of a network that looks at faces, and of a chain. Field by field the structs of
crop_config.hpp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from facedeploy.artifact.chain import FAMILY
from facedeploy.artifact.manifest import Manifest, PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.serialization import from_plain
from facedeploy.package.constants import Constants, PictureConstants, constants, picture_constants
from facedeploy.package.networks import parts
from facedeploy.pipelines.crop import CropConfig
from facedeploy.pipelines.crop_settings import Classes, Crop, Embedding, Points, Pose

# What has another name in C++, where a name cannot be a keyword or begin with a digit.
_NAMES = {"signed": "signed_unit", "6d": "columns"}


@dataclass(frozen=True)
class PlaceConstants:
    """Which part of the picture the network sees, as `Crop` has it.

    Attributes:
        grow_x: How many times as wide as the box.
        grow_y: How many times as high.
        shift_x: To the right, in widths of the box.
        shift_y: Down, in heights.
        square: Whether it has the proportions of the network's input.
        align: Name of the template, or "none".
        edge: What is outside of the picture.
    """

    grow_x: float
    grow_y: float
    shift_x: float
    shift_y: float
    square: bool
    align: str
    edge: str


@dataclass(frozen=True)
class PointsConstants:
    """Points of a face, as `Points` has them; a size of 0 where there are none.

    Attributes:
        size: Numbers of the output.
        count: How many points.
        first: Where they begin.
        values: Numbers of each.
        rows: Of a heat map.
        columns: Of a heat map.
        points_in: Unit of the numbers.
        order: Of the numbers.
    """

    size: int = 0
    count: int = 0
    first: int = 0
    values: int = 2
    rows: int = 0
    columns: int = 0
    points_in: str = "unit"
    order: str = "xy"


@dataclass(frozen=True)
class AngleConstants:
    """One of three angles.

    Attributes:
        at: Its place in the output, or which output it is.
        negate: Whether its sign is the other way round.
    """

    at: int = 0
    negate: bool = False


@dataclass(frozen=True)
class PoseConstants:
    """How the head is turned, as `Pose` has it.

    Attributes:
        outputs: 1 or 3; 0 where the network does not say.
        size: Numbers of each output.
        first: Where they begin in a single output.
        form: Of the angles.
        bin_size: Degrees.
        yaw: Where it is.
        pitch: Where it is.
        roll: Where it is.
    """

    outputs: int = 0
    size: int = 0
    first: int = 0
    form: str = "degrees"
    bin_size: float = 3.0
    yaw: AngleConstants = AngleConstants()
    pitch: AngleConstants = AngleConstants()
    roll: AngleConstants = AngleConstants()


@dataclass(frozen=True)
class EmbeddingConstants:
    """Who somebody is, as `Embedding` has it.

    Attributes:
        size: Numbers of the output; 0 where there is none.
        normalise: Whether it is brought to a length of 1.
    """

    size: int = 0
    normalise: bool = True


@dataclass(frozen=True)
class ClassesConstants:
    """Probabilities, as `Classes` has them.

    Attributes:
        size: Numbers of the output; 0 where there are none.
        first: Where the classes begin in it.
        activation: What makes probabilities of the numbers.
        names: In the order of the output.
    """

    size: int = 0
    first: int = 0
    activation: str = "none"
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CropConstants:
    """Constants of the family `crop`.

    Attributes:
        input: Size, and how pixels are prepared; its protocol does not count.
        place: Which part of the picture.
        points: Landmarks.
        pose: Angles.
        embedding: Who it is.
        classes: Probabilities with names.
    """

    input: PictureConstants
    place: PlaceConstants
    points: PointsConstants
    pose: PoseConstants
    embedding: EmbeddingConstants
    classes: ClassesConstants


@dataclass(frozen=True)
class ChainConstants:
    """Constants of a chain.

    Attributes:
        detector: Of what finds the faces.
        lookers: Of what looks at them.
    """

    detector: Constants
    lookers: tuple[CropConstants, ...]


AnyConstants = Constants | CropConstants | ChainConstants


def described(manifest: Manifest) -> AnyConstants:
    """The constants of a model.

    Raises:
        InputError: the C++ library has not one of its families or protocols, or a network takes pictures of any size.
    """
    detector, *lookers = [(entry, [n.spec for n in all_of_it]) for entry, all_of_it in parts(manifest)]
    if detector[0].family == "crop":
        return crop_constants(detector[1][0], detector[0])
    first = constants(detector[1], detector[0])
    if manifest.pipeline.family != FAMILY:
        return first
    return ChainConstants(first, tuple(crop_constants(specs[0], entry) for entry, specs in lookers))


def crop_constants(spec: NetworkSpec, entry: PipelineEntry) -> CropConstants:
    """The constants of a network that looks at faces.

    Raises:
        InputError: it is of another family than `crop`, takes pictures of any size, or gives bins of different counts.
    """
    if entry.family != "crop":
        msg = f"the C++ library has no network of the family {entry.family} to look at faces: take one with a [meaning]"
        raise InputError(msg)
    config = from_plain(CropConfig, entry.config)
    meaning = config.meaning.resolved(spec)
    return CropConstants(
        picture_constants(spec, "stretch", config.preprocess),
        _place(config.crop),
        PointsConstants() if meaning.points is None else _points(meaning.points, spec),
        PoseConstants() if meaning.pose is None else _pose(meaning.pose, spec),
        EmbeddingConstants() if meaning.embedding is None else _embedding(meaning.embedding, spec),
        ClassesConstants() if meaning.classes is None else _classes(meaning.classes, spec),
    )


def _place(crop: Crop) -> PlaceConstants:
    across, down = map(float, crop.grows)
    right, below = map(float, crop.shift)
    return PlaceConstants(across, down, right, below, crop.square, crop.align or "none", crop.edge)


def _points(points: Points, spec: NetworkSpec) -> PointsConstants:
    assert points.count is not None
    size = _size(spec, points.output)
    if points.points_in == "heatmaps":
        rows, columns = _shape(spec, points.output)[2:]
        return PointsConstants(size, points.count, rows=rows, columns=columns, points_in=points.points_in)
    unit = _NAMES.get(points.points_in, points.points_in)
    return PointsConstants(size, points.count, points.first, points.values, points_in=unit, order=points.order)


def _pose(pose: Pose, spec: NetworkSpec) -> PoseConstants:
    sizes = {_size(spec, name) for name in pose.outputs}
    if len(sizes) != 1:
        msg = f"the C++ library has as many bins for each angle, and {', '.join(pose.outputs)} have different counts"
        raise InputError(msg)
    yaw, pitch, roll = (
        AngleConstants(pose.order.index(name), name in pose.negate) for name in ("yaw", "pitch", "roll")
    )
    form = _NAMES.get(pose.form, pose.form)
    first = pose.first if len(pose.outputs) == 1 else 0
    return PoseConstants(len(pose.outputs), sizes.pop(), first, form, float(pose.bin_size), yaw, pitch, roll)


def _embedding(embedding: Embedding, spec: NetworkSpec) -> EmbeddingConstants:
    return EmbeddingConstants(_size(spec, embedding.output), embedding.normalise)


def _classes(classes: Classes, spec: NetworkSpec) -> ClassesConstants:
    return ClassesConstants(_size(spec, classes.output), classes.first, classes.activation, classes.names)


def _shape(spec: NetworkSpec, name: str | None) -> tuple[int, ...]:
    tensor = next(t for t in spec.outputs if t.name == name)
    return tuple(d if isinstance(d, int) else 1 for d in tensor.shape)


def _size(spec: NetworkSpec, name: str | None) -> int:
    """Numbers of a face; the first axis is the batch."""
    return math.prod(_shape(spec, name)[1:])
