"""A network that looks at faces which a detector has found: points, pose, embedding, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import cv2
import numpy as np

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.picture_check import check_picture
from facedeploy.core.preprocess import Image, Preprocess
from facedeploy.pipelines.base import Looker
from facedeploy.pipelines.crop_decode import read
from facedeploy.pipelines.crop_geometry import Places, around_boxes, on_template, whole
from facedeploy.pipelines.crop_settings import Crop, Meaning
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Arrays, Runtime

_FIVE = 5


@dataclass(frozen=True)
class CropConfig:
    """How a network sees a face, and what it says of it.

    Attributes:
        meaning: What its outputs mean.
        crop: Which part of the picture it sees.
        preprocess: How pixels become its input.
    """

    meaning: Meaning
    crop: Crop = field(default_factory=Crop)
    preprocess: Preprocess = Preprocess()


class CropPipeline(Looker):
    """Looks at all faces of a picture at once, where the network takes a batch. It finds none itself.

    A picture alone is taken as the crop of one face.
    """

    pictures = frozenset({NETWORK})
    finds: ClassVar[bool] = False

    def __init__(self, runtimes: Mapping[str, Runtime], config: CropConfig) -> None:
        super().__init__(runtimes)
        spec = runtimes[NETWORK].spec
        size = spec.picture_size
        assert size is not None
        self.size = size
        self.config = config
        self.meaning = config.meaning.resolved(spec)
        self.gives = self.meaning.gives
        self.aligned = config.crop.align is not None

    def _detect(self, image: Image) -> list[Face]:
        """The face that fills the picture, with a score of 1."""
        height, width = image.shape[:2]
        face = Face((0.0, 0.0, float(width), float(height)), 1.0)
        return self._look(image, [face], whole((height, width), self.size))

    def _locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        return self._look(image, faces, self.places(image, faces)) if faces else []

    def crops(self, image: Image, faces: Sequence[Face]) -> list[Image]:
        """What the network would see of each face: (height, width, 3) uint8, BGR."""
        checked = check_picture(image)
        return list(self._cut(checked, self.places(checked, faces))) if faces else []

    def places(self, image: Image, faces: Sequence[Face]) -> Places:
        """Where the crops of faces are.

        Raises:
            InputError: a face has not the five points of an aligned crop.
        """
        crop = self.config.crop
        if crop.align is None:
            return around_boxes(np.array([f.box for f in faces], np.float64), crop, self.size, image.shape[:2])
        check_five([f for f in faces if f.landmarks is None or len(f.landmarks) != _FIVE])
        return on_template(np.array([f.landmarks for f in faces], np.float64), crop.align, self.size)

    def _look(self, image: Image, faces: Sequence[Face], places: Places) -> list[Face]:
        runtime = self.runtimes[NETWORK]
        pixels = self._cut(image, places)
        batches = np.array_split(pixels, -(-len(pixels) // runtime.spec.max_batch))
        answers = runtime.run_pictures(batches)
        outputs: Arrays = {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}
        return [replace(f, **given) for f, given in zip(faces, read(self.meaning, outputs, places), strict=True)]

    def _cut(self, image: Image, places: Places) -> Image:
        crop, preprocess = self.config.crop, self.config.preprocess
        inside = crop.edge in ("replicate", "cut")
        border = cv2.BORDER_REPLICATE if inside else cv2.BORDER_CONSTANT
        return places.cut(image, border, preprocess.blank if crop.edge == "mean" else (0, 0, 0))


def check_five(without: Sequence[Face]) -> None:
    """Refuse an aligned crop of faces without five points.

    Raises:
        InputError: there are such faces.
    """
    if without:
        have = f"{len(without[0].landmarks)} points" if without[0].landmarks else "no points"
        msg = (
            f"an aligned crop needs the five points of a face, and the detector gives {have}: take one that gives "
            "five, or crop around the box (leave crop.align out)"
        )
        raise InputError(msg)
