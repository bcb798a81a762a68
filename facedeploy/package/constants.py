"""What the C++ library must know of a model, from the manifest. Field by field the structs of config.hpp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, Shape
from facedeploy.core.preprocess import Preprocess
from facedeploy.core.serialization import from_plain
from facedeploy.pipelines.custom import BoxesConfig, Outputs
from facedeploy.pipelines.mos import MosConfig

PROTOCOLS = ("fit", "stretch")
_COORDINATES = 2


@dataclass(frozen=True)
class PictureConstants:
    """What the network sees.

    Attributes:
        height: Pixels.
        width: Pixels.
        protocol: What becomes of a picture: "fit" or "stretch".
        colours: As in `Preprocess`.
        mean: As in `Preprocess`.
        scale: Of each channel, in the order of `colours`.
    """

    height: int
    width: int
    protocol: str
    colours: str
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]


@dataclass(frozen=True)
class Selection:
    """Which faces stay.

    Attributes:
        score_threshold: Scores must exceed it, 0..1.
        nms: A face is dropped when its overlap (IoU) with a better one exceeds this, 0..1.
        top: How many of the best boxes go into suppression.
        keep: How many boxes come out of suppression at most.
    """

    score_threshold: float
    nms: float
    top: int
    keep: int


@dataclass(frozen=True)
class MosConstants:
    """Constants of the family `mos`.

    Attributes:
        input: Size, and how pixels are prepared.
        selection: Thresholds and counts.
        anchors: Priors of a cell.
        channels: Channels of the feature maps.
        patch_channels: Channels of the pose network's patches.
        level: Whether the pose network also takes the map that a patch is of.
        pose_batch: Largest batch of the pose network.
    """

    input: PictureConstants
    selection: Selection
    anchors: int
    channels: int
    patch_channels: int
    level: bool
    pose_batch: int


@dataclass(frozen=True)
class BoxesConstants:
    """Constants of the family `boxes`.

    Attributes:
        input: Size, and how pixels are prepared.
        selection: Thresholds and counts.
        priors: How many boxes the network gives.
        unit: Whether coordinates are parts of the input's sides, and not pixels.
        classes: Scores of a box.
        face_class: Which of them is that of a face.
        landmarks: Points of a face.
        yaw: Whether there is an output for it.
        pitch: Whether there is an output for it.
        roll: Whether there is an output for it.
    """

    input: PictureConstants
    selection: Selection
    priors: int
    unit: bool
    classes: int
    face_class: int
    landmarks: int
    yaw: bool
    pitch: bool
    roll: bool


Constants = MosConstants | BoxesConstants


def constants(specs: Sequence[NetworkSpec], entry: PipelineEntry) -> Constants:
    """The constants of a model's networks and pipeline.

    Raises:
        InputError: the C++ library has not this family or protocol, or the network takes pictures of any size.
    """
    if entry.family == "mos":
        mos = from_plain(MosConfig, entry.config)
        selection = Selection(mos.score_threshold, mos.nms, mos.top, mos.keep)
        return _mos(specs, picture_constants(specs[0], mos.protocol, mos.preprocess), selection)
    if entry.family == "boxes":
        boxes = from_plain(BoxesConfig, entry.config)
        selection = Selection(boxes.score_threshold, boxes.nms, boxes.top, boxes.keep)
        return _boxes(specs[0], boxes.outputs, picture_constants(specs[0], boxes.protocol, boxes.preprocess), selection)
    msg = (
        f"the C++ library finds no faces with the family {entry.family}: package an artifact of mos-tiny, mos-m, mos-s "
        "or of a network of your own whose outputs are boxes"
    )
    raise InputError(msg)


def picture_constants(spec: NetworkSpec, protocol: str, preprocess: Preprocess) -> PictureConstants:
    """What a network sees.

    Raises:
        InputError: the C++ library has not this protocol, or the network takes pictures of any size.
    """
    if protocol not in PROTOCOLS:
        msg = f"the C++ library has no protocol {protocol}: export again with -O protocol=fit or -O protocol=stretch"
        raise InputError(msg)
    height, width = spec.inputs[0].shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        msg = "the C++ library needs a network of a fixed size: export with --input-size HEIGHTxWIDTH"
        raise InputError(msg)
    return PictureConstants(height, width, protocol, preprocess.colours, preprocess.mean, preprocess.scales)


def _mos(specs: Sequence[NetworkSpec], image: PictureConstants, selection: Selection) -> MosConstants:
    detector, pose = specs
    patches = _shape(pose, "patches")
    return MosConstants(
        image,
        selection,
        anchors=_shape(pose, "angles")[2],
        channels=_shape(detector, "features8")[1],
        patch_channels=patches[1],
        level=any(t.name == "level" for t in pose.inputs),
        pose_batch=pose.max_batch,
    )


def _boxes(spec: NetworkSpec, named: Outputs, image: PictureConstants, selection: Selection) -> BoxesConstants:
    priors = _shape(spec, named.boxes)[1]
    return BoxesConstants(
        image,
        selection,
        priors=priors,
        unit=named.boxes_in == "unit",
        classes=math.prod(_shape(spec, named.scores)) // priors,
        face_class=named.face_class or 0,
        landmarks=0 if named.landmarks is None else math.prod(_shape(spec, named.landmarks)) // priors // _COORDINATES,
        yaw=named.yaw is not None,
        pitch=named.pitch is not None,
        roll=named.roll is not None,
    )


def _shape(spec: NetworkSpec, name: str) -> Shape:
    """A tensor's shape; what is dynamic, which no constant is, as 1."""
    tensor = next(t for t in (*spec.inputs, *spec.outputs) if t.name == name)
    return tuple(d if isinstance(d, int) else 1 for d in tensor.shape)
