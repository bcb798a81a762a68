"""Whether what a network's outputs are said to mean can be true: of drawn faces and of a photograph of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.boxes import iou
from facedeploy.core.preprocess import Pixels
from facedeploy.core.serialization import from_plain
from facedeploy.core.synthetic_faces import portrait
from facedeploy.graph.decode.description import Decode
from facedeploy.pipelines.custom import BoxesConfig, BoxesPipeline, Outputs
from facedeploy.runtimes.base import Array, Runtime

# A portrait of Eileen Collins by NASA, in the public domain, as in the examples.
SAMPLE = Path(__file__).with_name("sample.jpg")
_OVER = 1e-3  # By which a probability may leave 0..1.
_MOST_FACES = 0.3  # Of all boxes, on a picture with one face.
_MOST_TURNED = 0.1
# The boxes of one face overlap the best of them by 0.94 and more, in the mean, with real networks; with anchors of half
# the size, or boxes read as something else, by 0.75 and less.
_AGREEMENT = 0.8
_FEWEST = 3
_SMALL_PICTURE = 96  # Pixels of a side, below which a face may be missed for that alone.
_SMALL = 3.0  # Boxes whose corners are all below so many pixels are in other units.
_FAR = 4.0  # Boxes whose corners go beyond so many widths are.


@dataclass(frozen=True)
class _Keys:
    """What the settings are called that may be wrong."""

    unit: str
    face_class: str


_OUTPUTS = _Keys("outputs.boxes_in", "outputs.face_class")
_DECODE = _Keys("decode.unit", "decode.scores or decode.face_class")


def implausible(runtime: Runtime, entry: PipelineEntry, *, counted: bool = True, decode: Decode | None = None) -> str:
    """What cannot be true of the faces of a network, as a phrase that names the setting; empty where all can.

    Args:
        runtime: The network with its head.
        entry: The pipeline over it.
        counted: Whether it must find something, and not everything.
        decode: What describes the outputs; None where that is [outputs].
    """
    if entry.family != "boxes":
        return ""
    config = from_plain(BoxesConfig, entry.config)
    pipeline = BoxesPipeline({runtime.spec.name: runtime}, config)
    answers = [pipeline.look(picture)[0] for picture in _pictures()]
    named, keys = config.outputs, _OUTPUTS if decode is None else _DECODE
    scores = [_scores(a[named.scores], a[named.boxes].shape[1], named) for a in answers]
    boxes = np.concatenate([a[named.boxes][0] for a in answers]).astype(np.float64)
    return (
        _wrong_numbers([*scores, boxes], decode)
        or _wrong_scores(np.concatenate(scores), named.scores)
        or _wrong_corners(boxes, named)
        or _wrong_unit(boxes, named, keys, _whole(decode, pipeline.size))
        or (_wrong_counts(scores, config, keys, pipeline.size) if counted else "")
        or _wrong_anchors(answers[0][named.boxes][0].astype(np.float64), scores[0], config)
    )


def _pictures() -> list[Pixels]:
    sample = cv2.imread(str(SAMPLE))
    assert sample is not None
    rng = np.random.default_rng(0)
    return [sample.astype(np.uint8), portrait(rng, 96), portrait(rng, 160)]


def _scores(values: Array, boxes: int, named: Outputs) -> NDArray[np.float64]:
    return values.reshape(boxes, -1)[:, named.face_class or 0].astype(np.float64)


def _wrong_numbers(values: list[NDArray[np.float64]], decode: Decode | None) -> str:
    if all(np.isfinite(v).all() for v in values):
        return ""
    rooted = decode is not None and (decode.product == "root" or decode.powers != (1, 1))
    if rooted and np.isfinite(values[-1]).all():
        return "a root or power of a score and its objectness is no number: decode.activation is missing"
    return "the network gives numbers that are not finite: are mean and scale under [input] right?"


def _wrong_scores(scores: NDArray[np.float64], name: str) -> str:
    low, high = scores.min(), scores.max()
    if low >= -_OVER and high <= 1 + _OVER:
        return ""
    return (
        f"{name} lie between {low:.3g} and {high:.3g} and are no probabilities: set activation under [decode] to "
        '"sigmoid" or "softmax", or name another output'
    )


def _wrong_corners(boxes: NDArray[np.float64], named: Outputs) -> str:
    turned = float((boxes[:, 2:] < boxes[:, :2]).any(axis=1).mean())
    if turned <= _MOST_TURNED:
        return ""
    return (
        f"{turned:.0%} of {named.boxes} have x2 < x1 or y2 < y1, so they are no corners: describe them under [decode], "
        'with another box, such as "centre-size"'
    )


def _whole(decode: Decode | None, size: tuple[int, int]) -> float:
    """What 1 became, where the head is said to give shares of the width: pixels."""
    return float(max(size)) if decode is not None and decode.unit == "unit" else 1.0


def _wrong_unit(boxes: NDArray[np.float64], named: Outputs, keys: _Keys, whole: float) -> str:
    largest = float(np.quantile(np.abs(boxes), 0.9))
    if named.boxes_in == "pixels" and largest < _SMALL:
        return f'{named.boxes} end at {largest:.2g} pixels: set {keys.unit} to "unit", where 1 is the whole width'
    if (named.boxes_in == "unit" or whole > 1) and largest > _FAR * whole:
        return f'{named.boxes} go to {largest / whole:.3g} times the width: set {keys.unit} to "pixels"'
    return ""


def _wrong_counts(scores: list[NDArray[np.float64]], config: BoxesConfig, keys: _Keys, size: tuple[int, int]) -> str:
    share = max(float((s > config.score_threshold).mean()) for s in scores)
    if share > _MOST_FACES:
        return (
            f"{share:.0%} of all boxes are faces on a picture with one: {keys.face_class} is that of the background, "
            "or decode.activation is missing"
        )
    best = max(float(s.max()) for s in scores)
    if best <= config.score_threshold and min(size) < _SMALL_PICTURE:
        return (
            f"no face is found on a photograph of one, which has {size[0]}x{size[1]} pixels here: give a larger "
            "--input-size, as the size in the file may be only an example"
        )
    if best <= config.score_threshold:
        return (
            f"no face is found on a photograph of one (the best score is {best:.2g}, the threshold "
            f"{config.score_threshold:g}): are colours, mean and scale under [input], {keys.face_class} and "
            "pipeline.score_threshold right? Of a network that is not for photographs, say check = false"
        )
    return ""


def _wrong_anchors(boxes: NDArray[np.float64], scores: NDArray[np.float64], config: BoxesConfig) -> str:
    likely = scores > config.score_threshold
    if not likely.any():
        return ""
    best = np.tile(boxes[scores.argmax()], (len(boxes), 1))
    overlaps = iou(boxes, best)[likely]
    overlaps = overlaps[overlaps > 0]
    if len(overlaps) < _FEWEST or np.median(overlaps) >= _AGREEMENT:
        return ""
    return (
        f"the {len(overlaps)} boxes of one face overlap by {np.median(overlaps):.2f} only: are box, sizes, strides, "
        "offset and variances under [decode] those of this network?"
    )
