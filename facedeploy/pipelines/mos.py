"""MOS: detector, suppression, then the pose heads on the faces that are left.

The protocols are those of the published scripts (detect_picture.py, test_widerface.py and the AFLW2000 script of
lyp-deeplearning/MOS-Multi-Task-Face-Detect), with their constants as defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.preprocess import Image, Pixels, Preprocess
from facedeploy.pipelines.base import Pipeline, check_fractions
from facedeploy.pipelines.nms import suppress
from facedeploy.pipelines.resize import fit, picture
from facedeploy.pipelines.voting import vote
from facedeploy.runtimes.base import Array, Arrays, Runtime

Floats = NDArray[np.floating]
Protocol = Literal["fit", "stretch", "original", "longest", "multiscale"]

_FEATURES = ("features8", "features16", "features32")
_STEPS = (8, 16, 32)
_MIN_SIZES = ((16, 32), (64, 128), (256, 512))
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2


@dataclass(frozen=True)
class MosConfig:
    """Settings of MOS. The defaults are those of the published detect_picture.py.

    The protocols "original", "longest" and "multiscale" need a network of any size, or a picture of its size.

    Attributes:
        protocol: What the detector sees of a picture. "fit": the picture as large as the network's fixed size allows,
            aspect kept, the rest filled with the mean; as it is where the network takes any size. "stretch": exactly
            the fixed size, aspect ignored. "original": as it is. "longest": its longer side resized to `longest`.
            "multiscale": the WIDER FACE protocol, five scales and their mirror images, merged by box voting, without
            landmarks and pose.
        longest: What the longer side becomes, pixels.
        score_threshold: Scores must exceed it, 0..1.
        nms: A face is dropped when its overlap (IoU) with a better one exceeds this, 0..1.
        top: How many of the best boxes go into suppression.
        keep: How many boxes come out of suppression at most.
        multiscale_threshold: Like `score_threshold`, for each look of "multiscale".
        multiscale_nms: Overlap (IoU) from which boxes of several looks are merged, 0..1.
        multiscale_scales: The scales, as parts of the one at which the picture has `multiscale_side`.
        multiscale_side: What the shorter side becomes, and the longer at most, pixels.
        preprocess: How pixels become the network's input.
    """

    protocol: Protocol = "fit"
    longest: int = 840
    score_threshold: float = 0.55
    nms: float = 0.4
    top: int = 5000
    keep: int = 750
    multiscale_threshold: float = 0.02
    multiscale_nms: float = 0.3
    multiscale_scales: tuple[float, ...] = (500 / 800, 1.0, 1100 / 800, 1400 / 800, 1700 / 800)
    multiscale_side: tuple[int, int] = (800, 1200)
    preprocess: Preprocess = Preprocess(colours="bgr", mean=(104.0, 117.0, 123.0))

    def __post_init__(self) -> None:
        check_fractions(self, "score_threshold", "nms", "multiscale_threshold", "multiscale_nms")
        if min(self.longest, self.top, self.keep, *self.multiscale_side) < 1:
            msg = "longest, top, keep and multiscale_side must be positive"
            raise InputError(msg)


@dataclass(frozen=True)
class Candidates:
    """What is above the threshold, of one look at a picture.

    Attributes:
        boxes: (N, 4) in pixels of the resized picture.
        scores: (N,).
        landmarks: (N, 10) in pixels of the resized picture.
        priors: (N,), which priors they are.
        outputs: Of the network, for the angles.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats
    priors: NDArray[np.intp]
    outputs: Arrays


class MosPipeline(Pipeline):
    """Finds faces with five landmarks and yaw, pitch and roll."""

    pictures = frozenset({"detector"})
    detector = "detector"

    def __init__(self, runtimes: Mapping[str, Runtime], config: MosConfig) -> None:
        super().__init__(runtimes)
        self.config = config
        self._size = runtimes[self.detector].spec.picture_size
        if self._size is None and config.protocol == "stretch":
            msg = "the protocol stretch needs a network of a fixed size: export with --input-size HEIGHTxWIDTH"
            raise InputError(msg)

    def _detect(self, image: Image) -> list[Face]:
        if self.config.protocol == "multiscale":
            return self._detect_multiscale(image)
        pixels, scale = self._resized(image)
        found = self._look([pixels], self.config.score_threshold)[0]
        kept = self._suppress(found, scale)
        boxes = (found.boxes[kept] / np.tile(scale, 2)).tolist()
        landmarks = (found.landmarks[kept].reshape(-1, 5, 2) / scale).tolist()
        angles = self._angles(found.outputs, found.priors[kept]).tolist()
        scores = found.scores[kept].tolist()
        return [
            Face(tuple(box), score, tuple(map(tuple, points)), yaw, pitch, roll)
            for box, score, points, (yaw, pitch, roll) in zip(boxes, scores, landmarks, angles, strict=True)
        ]

    def _resized(self, image: Image) -> tuple[Pixels, NDArray[np.float64]]:
        """What the detector sees, and how many of its pixels a pixel of the picture is, across and down."""
        height, width = image.shape[:2]
        protocol = self.config.protocol
        if self._size is not None and protocol == "fit":
            return fit(image, *self._size, self.config.preprocess.blank)
        if self._size is not None and protocol == "stretch":
            return picture(image, *self._size), np.array([self._size[1] / width, self._size[0] / height])
        factor = self.config.longest / max(height, width) if protocol == "longest" else 1.0
        return self._scaled(image, factor), np.array([factor, factor])

    def _scaled(self, image: Image, factor: float) -> Pixels:
        size = max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor))
        if self._size not in (None, size):
            msg = (
                f"the protocol {self.config.protocol} needs a network of any size (export with --input-size any), "
                f"as the picture is {size[0]}x{size[1]} and the network takes {self._size}"
            )
            raise InputError(msg)
        return picture(image, *size)

    def _look(self, pictures: Iterable[Pixels], threshold: float) -> list[Candidates]:
        outputs = self.runtimes[self.detector].run_pictures(pictures)
        return [self._candidates(o, threshold) for o in outputs]

    def _candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        scores = outputs["scores"][0]
        priors = np.flatnonzero(scores > threshold)
        return Candidates(outputs["boxes"][0, priors], scores[priors], outputs["landmarks"][0, priors], priors, outputs)

    def _suppress(self, found: Candidates, scale: NDArray[np.float64]) -> NDArray[np.intp]:
        """Indices of the kept candidates, best first. Overlap is measured in the picture, where a pixel counts."""
        boxes = found.boxes / np.tile(scale, 2)
        return suppress(boxes, found.scores, self.config.nms, top=self.config.top, keep=self.config.keep)

    def _angles(self, outputs: Arrays, priors: NDArray[np.intp]) -> Floats:
        """Yaw, pitch and roll (N, 3) of the faces of some priors."""
        if len(priors) == 0:
            return np.zeros((0, 3), np.float32)
        runtime = self.runtimes["pose"]
        anchors = runtime.spec.outputs[0].shape[2]
        assert isinstance(anchors, int)
        found = gather([outputs[name] for name in _FEATURES], priors, anchors)
        # MOS-tiny's pose heads ask neither for the level nor for where the map ends.
        feeds = {t.name: found[t.name][:, : t.shape[1]] for t in runtime.spec.inputs}
        batches = range(0, len(priors), runtime.spec.max_batch)
        answers = [
            _run_padded(runtime, {k: v[i : i + runtime.spec.max_batch] for k, v in feeds.items()}) for i in batches
        ]
        angles: Floats = np.concatenate(answers)[np.arange(len(priors)), :, priors % anchors]
        return angles

    def _detect_multiscale(self, image: Image) -> list[Face]:
        side, limit = self.config.multiscale_side
        base = min(side / min(image.shape[:2]), limit / max(image.shape[:2]))
        factors = [base * scale for scale in self.config.multiscale_scales]
        looks = ((factor, mirrored) for factor in factors for mirrored in (False, True))
        pictures = (self._mirrored(self._scaled(image, factor), mirrored) for factor, mirrored in looks)
        found = self._look(pictures, self.config.multiscale_threshold)
        boxes = []
        for i, look in enumerate(found):
            factor = factors[i // 2]
            corners = look.boxes.astype(np.float64)
            if i % 2:
                corners[:, [0, 2]] = round(image.shape[1] * factor) - corners[:, [2, 0]] - 1
            boxes.append(corners / factor)
        scores = np.concatenate([look.scores for look in found])
        merged, best = vote(np.concatenate(boxes), scores, self.config.multiscale_nms)
        kept = slice(self.config.keep)
        return [Face(tuple(b), s) for b, s in zip(merged[kept].tolist(), best[kept].tolist(), strict=True)]

    def _mirrored(self, pixels: Pixels, mirrored: bool) -> Pixels:
        return np.ascontiguousarray(pixels[:, :, ::-1]) if mirrored else pixels


class MosPublishedPipeline(MosPipeline):
    """The same over the published graph: every head on every prior, decoded here."""

    pictures = frozenset({"mos"})
    detector = "mos"

    def _look(self, pictures: Iterable[Pixels], threshold: float) -> list[Candidates]:
        sizes: list[tuple[int, int]] = []

        def watched() -> Iterator[Pixels]:
            for pixels in pictures:
                sizes.append((pixels.shape[1], pixels.shape[2]))
                yield pixels

        outputs = self.runtimes[self.detector].run_pictures(watched())
        return [self._decoded(o, threshold, size) for o, size in zip(outputs, sizes, strict=True)]

    def _decoded(self, outputs: Arrays, threshold: float, size: tuple[int, int]) -> Candidates:
        scores = outputs["conf"][0, :, 1]
        priors = np.flatnonzero(scores > threshold)
        centre, side = prior_boxes(size)
        centre, side = centre[priors], side[priors]
        loc = outputs["loc"][0, priors].astype(np.float64)
        middle, half = centre + loc[:, :2] * (_CENTRE_VARIANCE * side), side * np.exp(loc[:, 2:] * _SIZE_VARIANCE) / 2
        landmarks = np.tile(centre, 5) + outputs["landm"][0, priors] * (_CENTRE_VARIANCE * side)
        return Candidates(np.hstack([middle - half, middle + half]), scores[priors], landmarks, priors, outputs)

    def _angles(self, outputs: Arrays, priors: NDArray[np.intp]) -> Floats:
        bins = np.stack([outputs[name][0, priors] for name in ("yaw", "pitch", "roll")], axis=1)
        angles: Floats = 3 * (bins.astype(np.float64) @ np.arange(bins.shape[2])) - 99
        return angles


def prior_boxes(size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (P, 2) x, y and sides (P, 1) of the priors of a picture of (height, width), in pixels."""
    centres, sides = [], []
    for step, anchors in zip(_STEPS, _MIN_SIZES, strict=True):
        rows, columns = -(-size[0] // step), -(-size[1] // step)
        y, x = np.mgrid[:rows, :columns]
        cells = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * step
        centres.append(np.repeat(cells, len(anchors), axis=0))
        sides.append(np.tile(np.array(anchors, np.float64), rows * columns))
    return np.concatenate(centres), np.concatenate(sides)[:, None]


def gather(features: Sequence[Array], priors: NDArray[np.intp], anchors: int) -> Arrays:
    """Make the inputs of the pose network for some priors.

    Args:
        features: Maps (1, C, h, w), finest first.
        priors: (N,). A prior is (cell, one of `anchors`), in rows of cells, map after map.
        anchors: Priors of a cell.

    Returns:
        patches (N, C + 1, 3, 3) float32: the features around each prior's cell, zero outside of the map, and a last
        channel that is 1 inside of it; level (N, maps) float32: 1 for the map that it is of.
    """
    channels = features[0].shape[1]
    patches = np.zeros((len(priors), channels + 1, 3, 3), np.float32)
    level = np.zeros((len(priors), len(features)), np.float32)
    around = np.arange(-1, 2)
    first = 0
    for i, values in enumerate(features):
        height, width = values.shape[2:]
        count = anchors * height * width
        mine = np.flatnonzero((priors >= first) & (priors < first + count))
        row, column = np.divmod((priors[mine] - first) // anchors, width)
        y, x = row[:, None] + around, column[:, None] + around
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        read = values[0][:, y.clip(0, height - 1)[:, :, None], x.clip(0, width - 1)[:, None]]
        patches[mine, :channels] = read.transpose(1, 0, 2, 3) * inside[:, None]
        patches[mine, channels] = inside
        level[mine, i] = 1
        first += count
    return {"patches": patches, "level": level}


def _run_padded(runtime: Runtime, feed: Arrays) -> Array:
    """Run with the batch filled up to a power of two: some backends compile for every batch size that they meet."""
    count = len(feed["patches"])
    size = min(1 << (count - 1).bit_length(), runtime.spec.max_batch)
    padded = {k: np.concatenate([v, np.zeros((size - count, *v.shape[1:]), v.dtype)]) for k, v in feed.items()}
    return runtime.run(padded)["angles"][:count]
