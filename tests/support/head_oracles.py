"""Decoders of published heads in NumPy, box by box, each from the definition that its authors published.

They know nothing of `facedeploy.graph.decode`. Each takes the outputs in the order of the file and the (height, width)
of the input, and gives boxes (P, 4) as corners and points (P, 2k), both in pixels, with scores (P,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, exp, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Outputs = Sequence[NDArray[Any]]
Size = tuple[int, int]
SLIM = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
YOLOV5 = (((4, 5), (8, 10), (13, 16)), ((23, 29), (43, 55), (73, 105)), ((146, 217), (231, 300), (335, 433)))
YOLOV7 = (((4, 5), (6, 8), (10, 12)), ((15, 19), (23, 30), (39, 52)), ((72, 97), (123, 164), (209, 297)))


@dataclass
class Found:
    """What a decoder finds. `points` stays empty for a head without them."""

    boxes: Floats
    scores: Floats
    points: Floats


Oracle = Callable[[Outputs, Size], Found]
Box = tuple[float, float, float, float]


class _Lists:
    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.scores: list[float] = []
        self.points: list[list[float]] = []

    def add(self, box: Box, score: float, points: Sequence[float] = ()) -> None:
        self.boxes.append(box)
        self.scores.append(score)
        self.points.append(list(points))

    def found(self) -> Found:
        return Found(np.array(self.boxes), np.array(self.scores), np.array(self.points))


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def _centred(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _cells(size: Size, stride: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of a level, row by row."""
    height, width = size
    for row in range(ceil(height / stride)):
        for column in range(ceil(width / stride)):
            yield row, column


def scrfd(strides: Sequence[int] = (8, 16, 32), anchors: int = 2, points: bool = True) -> Oracle:
    """insightface, scrfd.py: scores of all levels, then distances, then points."""

    def decode(outputs: Outputs, size: Size) -> Found:
        lists = _Lists()
        for level, stride in enumerate(strides):
            scores, distances = (np.reshape(outputs[level + k * len(strides)], (-1, n)) for k, n in ((0, 1), (1, 4)))
            offsets = np.reshape(outputs[level + 2 * len(strides)], (-1, 10)) if points else np.zeros((len(scores), 0))
            row_of_output = 0
            for row, column in _cells(size, stride):
                for _ in range(anchors):
                    x, y = column * stride, row * stride
                    left, top, right, bottom = distances[row_of_output] * stride
                    moved = offsets[row_of_output] * stride
                    where = [v + (y if i % 2 else x) for i, v in enumerate(moved)]
                    lists.add((x - left, y - top, x + right, y + bottom), scores[row_of_output, 0], where)
                    row_of_output += 1
        return lists.found()

    return decode


def yunet(outputs: Outputs, size: Size) -> Found:
    """OpenCV, face_detect.cpp: cls of three levels, obj, bbox, kps."""
    lists = _Lists()
    for level, stride in enumerate((8, 16, 32)):
        cls, obj, box, kps = (np.reshape(outputs[level + 3 * k], (-1, n)) for k, n in enumerate((1, 1, 4, 10)))
        for i, (row, column) in enumerate(_cells(size, stride)):
            x, y = (column + box[i, 0]) * stride, (row + box[i, 1]) * stride
            points = [(v + (row if k % 2 else column)) * stride for k, v in enumerate(kps[i])]
            corners = _centred(x, y, exp(box[i, 2]) * stride, exp(box[i, 3]) * stride)
            lists.add(corners, sqrt(cls[i, 0] * obj[i, 0]), points)
    return lists.found()


def _priors(size: Size, strides: Sequence[int], sides: Sequence[Sequence[float]]) -> Iterator[tuple[float, ...]]:
    """biubug6, prior_box.py, without its clip: x, y, width, height as fractions of the input."""
    for stride, level in zip(strides, sides, strict=True):
        for row, column in _cells(size, stride):
            for side in level:
                yield (column + 0.5) * stride / size[1], (row + 0.5) * stride / size[0], side / size[1], side / size[0]


def _ulfd_priors(size: Size) -> Iterator[tuple[float, ...]]:
    """Linzaer, box_utils.py: cells share the picture, and everything is cut to 0..1."""
    for stride, level in zip((8, 16, 32, 64), SLIM, strict=True):
        rows, columns = ceil(size[0] / stride), ceil(size[1] / stride)
        for row in range(rows):
            for column in range(columns):
                for side in level:
                    prior = (column + 0.5) / columns, (row + 0.5) / rows, side / size[1], side / size[0]
                    yield tuple(min(max(v, 0.0), 1.0) for v in prior)


def _from_prior(prior: Sequence[float], delta: Sequence[float], size: Size) -> Box:
    height, width = size
    x, y, w, h = prior
    centre = x + delta[0] * 0.1 * w, y + delta[1] * 0.1 * h
    box = _centred(*centre, w * exp(delta[2] * 0.2), h * exp(delta[3] * 0.2))
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def retinaface(
    strides: Sequence[int] = (8, 16, 32),
    sides: Sequence[Sequence[float]] = ((16, 32), (64, 128), (256, 512)),
    softmax: bool = False,
) -> Oracle:
    """biubug6: loc, conf, landm; `softmax` where the network has left it out."""

    def decode(outputs: Outputs, size: Size) -> Found:
        height, width = size
        lists = _Lists()
        if len(outputs) == 1:
            outputs = outputs[0][:, :, :4], outputs[0][:, :, 4:6], outputs[0][:, :, 6:]
        loc, conf, landm = (np.reshape(v, (-1, n)) for v, n in zip(outputs, (4, 2, 10), strict=True))
        for i, prior in enumerate(_priors(size, strides, sides)):
            x, y, w, h = prior
            points = []
            for k in range(5):
                points += [(x + landm[i, 2 * k] * 0.1 * w) * width, (y + landm[i, 2 * k + 1] * 0.1 * h) * height]
            shares = [exp(v) for v in conf[i]]
            score = shares[1] / sum(shares) if softmax else conf[i, 1]
            lists.add(_from_prior(prior, loc[i], size), score, points)
        return lists.found()

    return decode


def ulfd(decoded: bool) -> Oracle:
    """Linzaer: scores, boxes, the latter as corners of 0..1, or as the network has them."""

    def decode(outputs: Outputs, size: Size) -> Found:
        height, width = size
        scores, boxes = outputs[0][0], outputs[1][0]
        lists = _Lists()
        for i, prior in enumerate(_ulfd_priors(size)):
            x1, y1, x2, y2 = boxes[i]
            corners = (x1 * width, y1 * height, x2 * width, y2 * height)
            lists.add(corners if decoded else _from_prior(prior, boxes[i], size), scores[i, 1])
        return lists.found()

    return decode


def retinaface_mxnet(outputs: Outputs, size: Size) -> Found:
    """insightface, retinaface.py with generate_anchor.py: scores, deltas, landmarks of stride 32, then 16, then 8."""
    lists = _Lists()
    for level, (stride, scales) in enumerate(((32, (32, 16)), (16, (8, 4)), (8, (2, 1)))):
        scores, deltas, landmarks = (v[0] for v in outputs[3 * level : 3 * level + 3])
        for row, column in _cells(size, stride):
            for a, scale in enumerate(scales):
                # The base anchor is (0, 0, 15, 15), with its last pixels in it.
                x1 = 7.5 - (16 * scale - 1) / 2 + column * stride
                y1 = 7.5 - (16 * scale - 1) / 2 + row * stride
                width = height = 16.0 * scale
                x, y = x1 + (width - 1) / 2, y1 + (height - 1) / 2
                dx, dy, dw, dh = (float(deltas[4 * a + k, row, column]) for k in range(4))
                w, h = exp(dw) * width, exp(dh) * height
                cx, cy = dx * width + x, dy * height + y
                box = cx - (w - 1) / 2, cy - (h - 1) / 2, cx + (w - 1) / 2, cy + (h - 1) / 2
                points = []
                for k in range(5):
                    points += [landmarks[10 * a + 2 * k, row, column] * width + x]
                    points += [landmarks[10 * a + 2 * k + 1, row, column] * height + y]
                lists.add(box, scores[len(scales) + a, row, column], points)
    return lists.found()


def yolov5(outputs: Outputs, size: Size) -> Found:
    """deepcam, yolo.py: three raw grids (1, 3, rows, columns, 16)."""
    lists = _Lists()
    for grid, stride, anchors in zip(outputs, (8, 16, 32), YOLOV5, strict=True):
        for row, column in _cells(size, stride):
            for a, (width, height) in enumerate(anchors):
                v = grid[0, a, row, column].astype(float)
                x, y = ((sigmoid(v[k]) * 2 - 0.5 + (row if k else column)) * stride for k in (0, 1))
                w, h = (sigmoid(v[2]) * 2) ** 2 * width, (sigmoid(v[3]) * 2) ** 2 * height
                points = []
                for k in range(5):
                    points += [v[5 + 2 * k] * width + column * stride, v[6 + 2 * k] * height + row * stride]
                lists.add(_centred(x, y, w, h), sigmoid(v[4]) * sigmoid(v[15]), points)
    return lists.found()


def yolov7(outputs: Outputs, size: Size) -> Found:
    """derronqi, yolo.py (IKeypoint): three raw maps (1, 3 * 21, rows, columns)."""
    lists = _Lists()
    for maps, stride, anchors in zip(outputs, (8, 16, 32), YOLOV7, strict=True):
        for row, column in _cells(size, stride):
            for a, (width, height) in enumerate(anchors):
                v = maps[0, 21 * a : 21 * a + 21, row, column].astype(float)
                x, y = ((sigmoid(v[k]) * 2 - 0.5 + (row if k else column)) * stride for k in (0, 1))
                w, h = (sigmoid(v[2]) * 2) ** 2 * width, (sigmoid(v[3]) * 2) ** 2 * height
                points = []
                for k in range(5):
                    points += [(v[6 + 3 * k] * 2 - 0.5 + column) * stride, (v[7 + 3 * k] * 2 - 0.5 + row) * stride]
                lists.add(_centred(x, y, w, h), sigmoid(v[4]) * sigmoid(v[5]), points)
    return lists.found()


def yolo_decoded(columns: Sequence[int], points: Sequence[int], transposed: bool = False) -> Oracle:
    """YOLO networks that decode themselves: x, y, width, height; scores in `columns`; where in a row `points` begin."""

    def decode(outputs: Outputs, size: Size) -> Found:
        lists = _Lists()
        for row in outputs[0][0].T if transposed else outputs[0][0]:
            score = float(np.prod([row[c] for c in columns]))
            lists.add(_centred(*row[:4]), score, [v for i in points for v in row[i : i + 2]])
        return lists.found()

    return decode


def yolov8(points: bool = True) -> Oracle:
    """The fork of ultralytics by derronqi, head.py: three raw maps (1, 64 + 1 + 15, rows, columns)."""

    def decode(outputs: Outputs, size: Size) -> Found:
        lists = _Lists()
        for maps, stride in zip(outputs, (8, 16, 32), strict=True):
            for row, column in _cells(size, stride):
                v = maps[0, :, row, column].astype(float)
                distances = []
                for side in range(4):
                    shares = [exp(b) for b in v[16 * side : 16 * side + 16]]
                    distances.append(sum(i * share for i, share in enumerate(shares)) / sum(shares))
                left, top, right, bottom = distances
                x, y = column + 0.5, row + 0.5
                box = ((x - left) * stride, (y - top) * stride, (x + right) * stride, (y + bottom) * stride)
                where = []
                for k in range(5 if points else 0):
                    where += [(v[65 + 3 * k] * 2 + x - 0.5) * stride, (v[66 + 3 * k] * 2 + y - 0.5) * stride]
                lists.add(box, sigmoid(v[64]), where)
        return lists.found()

    return decode


def centerface(outputs: Outputs, size: Size) -> Found:
    """Star-Clouds, centerface.py, without what it does to boxes that leave the picture."""
    heat, scale, offset, landmarks = (v[0].astype(float) for v in outputs)
    lists = _Lists()
    for row, column in _cells(size, 4):
        height, width = exp(scale[0, row, column]) * 4, exp(scale[1, row, column]) * 4
        x1 = (column + offset[1, row, column] + 0.5) * 4 - width / 2
        y1 = (row + offset[0, row, column] + 0.5) * 4 - height / 2
        points = []
        for k in range(5):
            points += [landmarks[2 * k + 1, row, column] * width + x1, landmarks[2 * k, row, column] * height + y1]
        lists.add((x1, y1, x1 + width, y1 + height), heat[0, row, column], points)
    return lists.found()


def blazeface(layers: Sequence[int], anchors_a_layer: int = 2) -> Oracle:
    """MediaPipe, ssd_anchors_calculator.cc (fixed_anchor_size) and tensors_to_detections_calculator.cc."""

    def decode(outputs: Outputs, size: Size) -> Found:
        raw, scores = outputs[0][0].astype(float), outputs[1][0].astype(float)
        centres: list[tuple[float, float]] = []
        layer = 0
        while layer < len(layers):  # Layers of one stride share their cells.
            same = [s for s in layers[layer:] if s == layers[layer]]
            for row, column in _cells(size, layers[layer]):
                across, down = ceil(size[1] / layers[layer]), ceil(size[0] / layers[layer])
                centres += [((column + 0.5) / across, (row + 0.5) / down)] * (anchors_a_layer * len(same))
            layer += len(same)
        lists = _Lists()
        for i, (x, y) in enumerate(centres):
            box = [raw[i, 0] / size[1] + x, raw[i, 1] / size[0] + y, raw[i, 2] / size[1], raw[i, 3] / size[0]]
            points = []
            for k in range(6):
                points += [raw[i, 4 + 2 * k] + x * size[1], raw[i, 5 + 2 * k] + y * size[0]]
            corners = _centred(box[0] * size[1], box[1] * size[0], box[2] * size[1], box[3] * size[0])
            lists.add(corners, sigmoid(min(max(scores[i, 0], -100.0), 100.0)), points)
        return lists.found()

    return decode
