"""Pipelines of a user's own network: one picture in, tensors out, and faces where the user says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.preprocess import Image, Pixels, Preprocess
from facedeploy.pipelines.base import Pipeline, check_fractions
from facedeploy.pipelines.nms import nms
from facedeploy.pipelines.resize import fit, picture
from facedeploy.runtimes.base import Array, Arrays, Runtime

Protocol = Literal["stretch", "fit"]
NETWORK = "network"  # The name of the only network of a user's own model.
BATCH = "batch"  # The name of its only axis that may be dynamic.

_ANGLES = ("yaw", "pitch", "roll")


@dataclass(frozen=True)
class Outputs:
    """Which outputs mean what, of a network that decodes its boxes itself.

    Attributes:
        boxes: Name of the output (1, P, 4), corners x1, y1, x2, y2.
        scores: Name of the output (1, P), or (1, P, C) with `face_class` the column of a face; probabilities.
        boxes_in: Unit of boxes and landmarks: "unit", where 1 is the whole width or height of the network's input, or
            "pixels" of that input.
        face_class: Column of the scores that is a face's; None where there is one score a box.
        landmarks: Name of the output (1, P, 2k), x and y in turn.
        yaw: Name of the output (1, P), degrees.
        pitch: Name of the output (1, P), degrees.
        roll: Name of the output (1, P), degrees.
    """

    boxes: str
    scores: str
    boxes_in: Literal["unit", "pixels"]
    face_class: int | None = None
    landmarks: str | None = None
    yaw: str | None = None
    pitch: str | None = None
    roll: str | None = None

    def check(self, spec: NetworkSpec) -> None:
        """Check that a network has these outputs, in shapes that mean this.

        Raises:
            InputError: names the output that is missing or has another shape.
        """
        shapes = {t.name: t.shape for t in spec.outputs}
        roles = ("boxes", "scores", "landmarks", *_ANGLES)
        named = {role: name for role in roles if (name := getattr(self, role)) is not None}
        for role, name in named.items():
            if name not in shapes:
                msg = f"outputs.{role} names {name!r}, and the network's outputs are {', '.join(shapes)}"
                raise InputError(msg)
        count = shapes[self.boxes][1] if len(shapes[self.boxes]) > 1 else 0
        wanted = {"boxes": f"(1, {count}, 4)", "landmarks": f"(1, {count}, 2k)"}
        for role, name in named.items():
            shape = shapes[name]
            tail = shape[2] if len(shape) == 3 else 1
            assert isinstance(tail, int)
            fits = {"boxes": tail == 4, "landmarks": tail % 2 == 0, "scores": True}.get(role, tail == 1)
            if shape[:2] != (1, count) or len(shape) > 3 or not fits:
                msg = f"outputs.{role} must be {wanted.get(role, f'(1, {count})')}, and {name!r} has the shape {shape}"
                raise InputError(msg)
            if role == "scores" and not (
                0 <= (self.face_class or 0) < tail and (self.face_class is not None or tail == 1)
            ):
                msg = f"{name!r} has {tail} scores a box: outputs.face_class must be that of a face, 0 to {tail - 1}"
                raise InputError(msg)


@dataclass(frozen=True)
class TensorsConfig:
    """How a network sees a picture.

    Attributes:
        protocol: "stretch": all of the picture in exactly the network's size, aspect ignored. "fit": as large as that
            allows, aspect kept, the rest filled with the mean.
        preprocess: How pixels become the network's input.
    """

    protocol: Protocol = "stretch"
    preprocess: Preprocess = Preprocess()


@dataclass(frozen=True)
class BoxesConfig:
    """How a network sees a picture, and how faces come out.

    Attributes:
        outputs: What the network's outputs mean.
        protocol: As in `TensorsConfig`.
        score_threshold: Scores must exceed it, 0..1.
        nms: A face is dropped when its overlap (IoU) with a better one exceeds this, 0..1.
        top: How many of the best boxes go into suppression.
        keep: How many boxes come out of suppression at most.
        preprocess: How pixels become the network's input.
    """

    outputs: Outputs
    protocol: Protocol = "stretch"
    score_threshold: float = 0.5
    nms: float = 0.4
    top: int = 5000
    keep: int = 750
    preprocess: Preprocess = Preprocess()

    def __post_init__(self) -> None:
        check_fractions(self, "score_threshold", "nms")
        if min(self.top, self.keep) < 1:
            msg = "top and keep must be positive"
            raise InputError(msg)


class TensorsPipeline(Pipeline):
    """Runs the network on a picture. What its outputs mean is not known, so there are never faces."""

    pictures = frozenset({NETWORK})
    decodes: ClassVar[bool] = False

    def __init__(self, runtimes: Mapping[str, Runtime], config: TensorsConfig) -> None:
        super().__init__(runtimes)
        self.protocol, self.preprocess = config.protocol, config.preprocess
        size = runtimes[NETWORK].spec.picture_size
        assert size is not None
        self.size = size

    def _detect(self, image: Image) -> list[Face]:
        self.look(image)
        return []

    def look(self, image: Image) -> tuple[Arrays, NDArray[np.float64]]:
        """The network's outputs, and how many pixels of its input a pixel of the picture is, across and down."""
        pixels, scale = self.resized(image)
        return self.runtimes[NETWORK].run_pictures([pixels])[0], scale

    def feed(self, image: Image) -> Arrays:
        """The network's input for a picture."""
        return {self.runtimes[NETWORK].spec.inputs[0].name: self.preprocess.tensor(self.resized(image)[0])}

    def resized(self, image: Image) -> tuple[Pixels, NDArray[np.float64]]:
        """What the network sees of a picture: (1, height, width, 3), and the scale, as of `look`."""
        if self.protocol == "fit":
            return fit(image, *self.size, self.preprocess.blank)
        height, width = self.size
        return picture(image, height, width), np.array([width / image.shape[1], height / image.shape[0]])


class BoxesPipeline(TensorsPipeline):
    """Finds faces with a network that decodes its boxes itself: threshold, suppression, no more."""

    decodes = True

    def __init__(self, runtimes: Mapping[str, Runtime], config: BoxesConfig) -> None:
        super().__init__(runtimes, TensorsConfig(config.protocol, config.preprocess))
        config.outputs.check(runtimes[NETWORK].spec)
        self.config = config

    def _detect(self, image: Image) -> list[Face]:
        config, named = self.config, self.config.outputs
        outputs, scale = self.look(image)
        scores = outputs[named.scores].reshape(outputs[named.boxes].shape[1], -1)[:, named.face_class or 0]
        priors = np.flatnonzero(scores > config.score_threshold)
        # In the order of priors, so that of equal scores position decides and not a backend's rounding.
        priors = np.sort(priors[np.argsort(-scores[priors], kind="stable")[: config.top]])
        boxes = self._points(outputs[named.boxes][0, priors], scale)
        kept = nms(boxes, scores[priors], config.nms)[: config.keep]
        landmarks = None
        if named.landmarks is not None:
            points = self._points(outputs[named.landmarks][0, priors[kept]], scale)
            landmarks = points.reshape(len(kept), points.shape[1] // 2, 2).tolist()
        angles: dict[str, Any] = {
            n: self._angle(outputs[output], priors[kept]) for n in _ANGLES if (output := getattr(named, n))
        }
        return [
            Face(
                tuple(box),
                score,
                None if landmarks is None else tuple((x, y) for x, y in landmarks[i]),
                **{name: values[i] for name, values in angles.items()},
            )
            for i, (box, score) in enumerate(zip(boxes[kept].tolist(), scores[priors[kept]].tolist(), strict=True))
        ]

    def _points(self, values: Array, scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 2k) of the network's input in pixels of the picture."""
        unit = np.array(self.size[::-1], np.float64) if self.config.outputs.boxes_in == "unit" else np.ones(2)
        return values.astype(np.float64) * np.tile(unit / scale, values.shape[1] // 2)

    @staticmethod
    def _angle(values: Array, priors: NDArray[np.intp]) -> list[float]:
        angles: list[float] = values.reshape(-1)[priors].astype(np.float64).tolist()
        return angles
