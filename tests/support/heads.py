"""Stand-ins for published detectors: small ONNX files with outputs of the published layout, and known faces in them.

A few convolutions look at the picture, as in the real network, and are then made so small that they change nothing; to
them come constants: what the published decoding turns into the known faces, and into boxes that are none elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.support import head_oracles as oracles
from tests.support.head_oracles import Oracle, Size

Numbers = NDArray[np.float64]
Layout = Literal["rows", "batch rows", "map", "class map", "grid", "joined", "columns"]
Role = dict[str, Sequence[float]]

_TINY = 1e-8
_POINTS = ((0.3, 0.4), (0.7, 0.38), (0.52, 0.6), (0.35, 0.8), (0.66, 0.79), (0.9, 0.45))
_FACES = ((0.083, 0.15, 0.301, 0.512, 0.95), (0.45, 0.107, 0.602, 0.351, 0.9), (0.503, 0.498, 0.931, 0.967, 0.8))
_LOW, _HIGH = 0.001, 0.05  # Scores of what is no face.


@dataclass(frozen=True)
class Known:
    """A face: x1, y1, x2, y2 in pixels of the input, its score, and points (k, 2)."""

    box: tuple[float, float, float, float]
    score: float
    points: tuple[tuple[float, float], ...]

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def size(self) -> tuple[float, float]:
        return self.box[2] - self.box[0], self.box[3] - self.box[1]


@dataclass(frozen=True)
class Place:
    """Where in a head a box is: the stride of its level, its cell, its anchor, and that one's width and height."""

    level: int
    stride: int
    row: int
    column: int
    anchor: int
    width: float
    height: float
    input: Size


Encode = Callable[[Known, Place], Role]


@dataclass(frozen=True)
class Output:
    """An output as the file has it: `level` None for one that holds all levels."""

    name: str
    role: str
    layout: Layout
    level: int | None = None


@dataclass(frozen=True)
class StandIn:
    """A head. sides: width and height of the anchors of each level, which decide only where a face goes."""

    name: str
    family: str
    outputs: tuple[Output, ...]
    encode: Encode
    oracle: Oracle
    points: int = 5
    size: Size = (160, 224)
    strides: tuple[int, ...] = (8, 16, 32)
    sides: tuple[tuple[tuple[float, float], ...], ...] = tuple(((4.0 * s, 4.0 * s),) for s in (8, 16, 32))

    def __str__(self) -> str:
        return self.name

    def at(self, size: Size) -> StandIn:
        return replace(self, size=size)

    def known(self) -> list[Known]:
        """The faces, the best first."""
        height, width = self.size
        found = []
        for x1, y1, x2, y2, score in _FACES:
            box = x1 * width, y1 * height, x2 * width, y2 * height
            points = [(box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1])) for x, y in _POINTS]
            found.append(Known(box, score, tuple(points[: self.points])))
        return found

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Outputs with the known faces, in the order of the file."""
        tables = self._tables()
        found = {}
        for out in self.outputs:
            levels = tables[out.role] if out.level is None else [tables[out.role][out.level]]
            parts = [_laid_out(table, out.layout) for table in levels]
            found[out.name] = np.concatenate(parts, 2 if out.layout == "columns" else 1 if len(parts) > 1 else 0)
        return {name: value.astype(np.float32) for name, value in found.items()}

    def _places(self) -> Iterator[Place]:
        height, width = self.size
        for i, (stride, sides) in enumerate(zip(self.strides, self.sides, strict=True)):
            for row in range(ceil(height / stride)):
                for column in range(ceil(width / stride)):
                    for a, side in enumerate(sides):
                        yield Place(i, stride, row, column, a, *side, self.size)

    def _tables(self) -> dict[str, list[Numbers]]:
        """Role -> for each level (rows, columns, anchors, numbers)."""
        rng = np.random.default_rng(1)
        filled = {self._place(face): self.encode(face, self._place(face)) for face in self.known()}
        lists: dict[str, list[list[Sequence[float]]]] = {}
        for place in self._places():
            numbers = filled.get(place) or self.encode(_nothing(rng, place, self.points), place)
            for role, values in numbers.items():
                lists.setdefault(role, [[] for _ in self.strides])[place.level].append(values)
        return {
            role: [np.array(values).reshape(*self._grid(i), -1) for i, values in enumerate(levels)]
            for role, levels in lists.items()
        }

    def _grid(self, level: int) -> tuple[int, int, int]:
        height, width = self.size
        stride = self.strides[level]
        return ceil(height / stride), ceil(width / stride), len(self.sides[level])

    def _place(self, face: Known) -> Place:
        """The cell that holds the centre, and the anchor that is most like the face."""
        best = min(
            ((i, a) for i, sides in enumerate(self.sides) for a in range(len(sides))),
            key=lambda at: abs(log(self.sides[at[0]][at[1]][0] * self.sides[at[0]][at[1]][1] / np.prod(face.size))),
        )
        stride = self.strides[best[0]]
        x, y = face.centre
        return Place(
            best[0], stride, int(y / stride), int(x / stride), best[1], *self.sides[best[0]][best[1]], self.size
        )

    def write(self, path: Path) -> Path:
        """Write the network."""
        writer = _Network(self)
        arrays = self.arrays()
        for out in self.outputs:
            writer.output(out, arrays[out.name])
        onnx.save(writer.model(arrays), path)
        return path


def _nothing(rng: np.random.Generator, place: Place, points: int) -> Known:
    """A box that no face is in, of about the anchor's size, with its centre in the cell."""
    x, y = (place.column + rng.uniform(0.1, 0.9)) * place.stride, (place.row + rng.uniform(0.1, 0.9)) * place.stride
    w, h = place.width * rng.uniform(0.5, 1.5) / 2, place.height * rng.uniform(0.5, 1.5) / 2
    where = tuple((x + rng.uniform(-w, w), y + rng.uniform(-h, h)) for _ in range(points))
    return Known((x - w, y - h, x + w, y + h), rng.uniform(_LOW, _HIGH), where)


def _laid_out(table: Numbers, layout: Layout) -> Numbers:
    """A level's numbers (rows, columns, anchors, n) as an output has them."""
    rows, columns, anchors, n = table.shape
    made: dict[Layout, Callable[[], Numbers]] = {
        "rows": lambda: table.reshape(-1, n),
        "batch rows": lambda: table.reshape(1, -1, n),
        "joined": lambda: table.reshape(1, -1, n),
        "columns": lambda: table.reshape(1, -1, n).transpose(0, 2, 1),
        "map": lambda: table.transpose(2, 3, 0, 1).reshape(1, anchors * n, rows, columns),
        "class map": lambda: table.transpose(3, 2, 0, 1).reshape(1, n * anchors, rows, columns),
        "grid": lambda: table.transpose(2, 0, 1, 3)[None],
    }
    return made[layout]()


class _Network:
    """The graph of a stand-in: a trunk of convolutions, and one for each output and level."""

    def __init__(self, head: StandIn) -> None:
        self.head = head
        self.nodes: list[onnx.NodeProto] = []
        self.constants = [numpy_helper.from_array(np.array(_TINY, np.float32), "tiny")]
        self.features: dict[int, str] = {}
        self.widths: dict[str, int] = {}
        source, stride, width = "image", 1, 3
        while stride < max(head.strides):
            stride *= 2
            source = self._add("Relu", self._conv(source, width, 16, 3, 2))
            self.features[stride], width = source, 16

    def _add(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        name = to or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def _constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def _conv(self, source: str, given: int, made: int, kernel: int, stride: int) -> str:
        rng = np.random.default_rng(len(self.nodes))
        weight = rng.standard_normal((made, given, kernel, kernel)) / sqrt(given * kernel * kernel)
        name = self._constant(weight.astype(np.float32))
        pad = [kernel // 2] * 4
        shape = [kernel, kernel]
        return self._add("Conv", source, name, kernel_shape=shape, strides=[stride, stride], pads=pad)

    def output(self, out: Output, values: NDArray[np.float32]) -> None:
        levels = range(len(self.head.strides)) if out.level is None else [out.level]
        n = self._numbers(out, values)
        parts = [self._level(out.layout, i, n) for i in levels]
        axis = 2 if out.layout == "columns" else 1
        joined = parts[0] if len(parts) == 1 else self._add("Concat", *parts, axis=axis)
        self._add("Add", joined, self._constant(values), to=out.name)

    def _numbers(self, out: Output, values: NDArray[np.float32]) -> int:
        """How many numbers of a box an output holds."""
        axis = 1 if out.layout in ("map", "class map", "columns") else -1
        held = int(values.shape[axis])
        return held // len(self.head.sides[out.level or 0]) if out.layout in ("map", "class map") else held

    def _level(self, layout: Layout, level: int, n: int) -> str:
        rows, columns, anchors = self.head._grid(level)
        maps = self._conv(self.features[self.head.strides[level]], 16, anchors * n, 1, 1)
        maps = self._add("Mul", maps, "tiny")
        if layout in ("map", "class map"):
            return maps
        if layout == "columns":
            return self._reshape(maps, 1, anchors * n, rows * columns)
        if layout == "grid":
            return self._add("Transpose", self._reshape(maps, 1, anchors, n, rows, columns), perm=[0, 1, 3, 4, 2])
        last = self._add("Transpose", maps, perm=[0, 2, 3, 1])
        batch = () if layout == "rows" else (1,)
        return self._reshape(last, *batch, rows * columns * anchors, n)

    def _reshape(self, source: str, *shape: int) -> str:
        return self._add("Reshape", source, self._constant(np.array(shape, np.int64)))

    def model(self, arrays: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
        kind = TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "stand-in",
            [helper.make_tensor_value_info("image", kind, [1, 3, *self.head.size])],
            [helper.make_tensor_value_info(name, kind, value.shape) for name, value in arrays.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


# What the published decodings are the inverse of


def _logit(p: float) -> float:
    return log(p / (1 - p))


def _flat(face: Known, origin: tuple[float, float], scale: tuple[float, float]) -> list[float]:
    return [v for x, y in face.points for v in ((x - origin[0]) / scale[0], (y - origin[1]) / scale[1])]


def _scrfd(face: Known, at: Place) -> Role:
    s = at.stride
    x, y = at.column * s, at.row * s
    x1, y1, x2, y2 = face.box
    distances = [(x - x1) / s, (y - y1) / s, (x2 - x) / s, (y2 - y) / s]
    return {"scores": [face.score], "boxes": distances, "landmarks": _flat(face, (x, y), (s, s))}


def _yunet(face: Known, at: Place) -> Role:
    s = at.stride
    (x, y), (w, h) = face.centre, face.size
    box = [x / s - at.column, y / s - at.row, log(w / s), log(h / s)]
    points = _flat(face, (at.column * s, at.row * s), (s, s))
    return {"cls": [face.score * 1.04], "obj": [face.score / 1.04], "boxes": box, "landmarks": points}


def _deltas(face: Known, x: float, y: float, w: float, h: float) -> list[float]:
    """SSD's, with variances 0.1 and 0.2."""
    (cx, cy), (width, height) = face.centre, face.size
    return [(cx - x) / (0.1 * w), (cy - y) / (0.1 * h), log(width / w) / 0.2, log(height / h) / 0.2]


def _retinaface(face: Known, at: Place) -> Role:
    x, y = (at.column + 0.5) * at.stride, (at.row + 0.5) * at.stride
    box = _deltas(face, x, y, at.width, at.height)
    points = _flat(face, (x, y), (0.1 * at.width, 0.1 * at.height))
    scores = [1 - face.score, face.score]
    logits = [0.3, 0.3 + _logit(face.score)]
    return {
        "scores": scores,
        "logits": logits,
        "boxes": box,
        "landmarks": points,
        "all": [*box, *scores, *points],
    }


def _ulfd(face: Known, at: Place) -> Role:
    height, width = at.input
    across, down = ceil(width / at.stride), ceil(height / at.stride)
    x, y = (at.column + 0.5) * width / across, (at.row + 0.5) * height / down
    boxes = _deltas(face, x, y, min(at.width, width), min(at.height, height))
    corners = [v / (height if i % 2 else width) for i, v in enumerate(face.box)]
    return {"scores": [1 - face.score, face.score], "boxes": boxes, "corners": corners}


def _mxnet(face: Known, at: Place) -> Role:
    x, y = at.column * at.stride + 7.5, at.row * at.stride + 7.5
    (cx, cy), (w, h) = face.centre, face.size
    box = [(cx - x) / at.width, (cy - y) / at.height, log((w + 1) / at.width), log((h + 1) / at.height)]
    points = _flat(face, (x, y), (at.width, at.height))
    return {"scores": [1 - face.score, face.score], "boxes": box, "landmarks": points}


def _square(face: Known, at: Place) -> list[float]:
    """YOLOv5's logits of a box."""
    (x, y), (w, h) = face.centre, face.size
    centre = [_logit((x / at.stride - at.column + 0.5) / 2), _logit((y / at.stride - at.row + 0.5) / 2)]
    return [*centre, _logit(sqrt(w / at.width) / 2), _logit(sqrt(h / at.height) / 2)]


def _halves(score: float) -> tuple[float, float]:
    """Two scores whose product is `score`."""
    return score**0.25, score**0.75


def _yolov5(face: Known, at: Place) -> Role:
    points = _flat(face, (at.column * at.stride, at.row * at.stride), (at.width, at.height))
    obj, cls = _halves(face.score)
    decoded = [*face.centre, *face.size, obj, *(v for point in face.points for v in point), cls]
    return {"all": [*_square(face, at), _logit(obj), *points, _logit(cls)], "decoded": decoded}


def _visible(points: Sequence[float], value: float) -> list[float]:
    """x, y, and whether it is seen."""
    return [v for i in range(0, len(points), 2) for v in (*points[i : i + 2], value)]


def _yolov7(face: Known, at: Place) -> Role:
    obj, cls = _halves(face.score)
    s = at.stride
    raw = _flat(face, ((at.column - 0.5) * s, (at.row - 0.5) * s), (2 * s, 2 * s))
    seen = _visible([v for point in face.points for v in point], 0.7)
    return {
        "all": [*_square(face, at), _logit(obj), _logit(cls), *_visible(raw, 0.9)],
        "decoded": [*face.centre, *face.size, obj, cls, *seen],
    }


def _bins(distance: float) -> list[float]:
    """Logits of 16 bins whose mean is `distance`."""
    assert 0 <= distance < 15
    low = int(distance)
    logits = [-40.0] * 16
    logits[low], logits[low + 1] = log(max(low + 1 - distance, 1e-9)), log(max(distance - low, 1e-9))
    return logits


def _yolov8(face: Known, at: Place) -> Role:
    s = at.stride
    x, y = (at.column + 0.5) * s, (at.row + 0.5) * s
    x1, y1, x2, y2 = face.box
    distances = [b for d in (x - x1, y - y1, x2 - x, y2 - y) for b in _bins(max(d / s, 0))]
    points = _flat(face, (x - s / 2, y - s / 2), (2 * s, 2 * s))
    seen = _visible([v for point in face.points for v in point], 0.7)
    decoded = [*face.centre, *face.size, face.score, *seen]
    return {"all": [*distances, _logit(face.score), *_visible(points, 0.9)], "decoded": decoded}


def _centerface(face: Known, at: Place) -> Role:
    (x, y), (w, h) = face.centre, face.size
    points = _flat(face, face.box[:2], (w, h))
    return {
        "scores": [face.score],
        "scale": [log(h / 4), log(w / 4)],
        "offset": [y / 4 - at.row - 0.5, x / 4 - at.column - 0.5],
        "landmarks": [v for i in range(0, len(points), 2) for v in (points[i + 1], points[i])],
    }


def _blazeface(face: Known, at: Place) -> Role:
    x, y = (at.column + 0.5) * at.stride, (at.row + 0.5) * at.stride
    cx, cy = face.centre
    return {"scores": [_logit(face.score)], "boxes": [cx - x, cy - y, *face.size, *_flat(face, (x, y), (1, 1))]}


# The heads


def _levels(names: Sequence[str], roles: Sequence[str], layout: Layout, levels: int = 3) -> tuple[Output, ...]:
    """Outputs role by role, and in each level by level."""
    pairs = [(role, level) for role in roles for level in range(levels)]
    return tuple(Output(n, role, layout, level) for n, (role, level) in zip(names, pairs, strict=True))


def _squares(sides: Sequence[Sequence[float]]) -> tuple[tuple[tuple[float, float], ...], ...]:
    return tuple(tuple((float(v), float(v)) for v in level) for level in sides)


def _pairs(sides: Sequence[Sequence[tuple[float, float]]]) -> tuple[tuple[tuple[float, float], ...], ...]:
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in sides)


_SCRFD = _squares([[16, 32], [64, 128], [256, 512]])
_SCRFD_NAMES = ("448", "471", "494", "451", "474", "497", "454", "477", "500")
_FIVE = (8, 16, 32, 64, 128)
_YUNET = [f"{role}_{s}" for role in ("cls", "obj", "bbox", "kps") for s in (8, 16, 32)]
_MXNET = tuple(
    Output(f"face_rpn_{name}_stride{s}", role, "class map" if role == "scores" else "map", level)
    for level, s in enumerate((32, 16, 8))
    for role, name in (("scores", "cls_prob_reshape"), ("boxes", "bbox_pred"), ("landmarks", "landmark_pred"))
)
_SLIM = _squares(oracles.SLIM)
_V5, _V7 = _pairs(oracles.YOLOV5), _pairs(oracles.YOLOV7)
_HEAT = ("scores", "scale", "offset", "landmarks")
_POINTS_15 = [5 + 3 * k for k in range(5)]

_SSD = tuple(
    Output(name, role, "joined") for name, role in (("loc", "boxes"), ("conf", "scores"), ("landms", "landmarks"))
)


def _one(role: str, layout: Layout) -> tuple[Output, ...]:
    return (Output("output0", role, layout),)


def _three(role: str, layout: Layout) -> tuple[Output, ...]:
    return tuple(Output(f"output{i}", role, layout, i) for i in range(3))


HEADS: dict[str, StandIn] = {
    head.name: head
    for head in (
        StandIn(
            "scrfd-points",
            "scrfd",
            _levels(_SCRFD_NAMES, ["scores", "boxes", "landmarks"], "rows"),
            _scrfd,
            oracles.scrfd(),
            sides=_SCRFD,
        ),
        StandIn(
            "scrfd-points-batch",
            "scrfd",
            _levels(_SCRFD_NAMES, ["scores", "boxes", "landmarks"], "batch rows"),
            _scrfd,
            oracles.scrfd(),
            sides=_SCRFD,
        ),
        StandIn(
            "scrfd",
            "scrfd",
            _levels(_SCRFD_NAMES[:6], ["scores", "boxes"], "rows"),
            _scrfd,
            oracles.scrfd(points=False),
            points=0,
            sides=_SCRFD,
        ),
        StandIn(
            "scrfd-five-levels",
            "scrfd",
            _levels([str(i) for i in range(15)], ["scores", "boxes", "landmarks"], "batch rows", 5),
            _scrfd,
            oracles.scrfd(_FIVE, 1),
            size=(128, 256),
            strides=_FIVE,
            sides=_squares([[4 * s] for s in _FIVE]),
        ),
        StandIn(
            "yunet", "yunet", _levels(_YUNET, ["cls", "obj", "boxes", "landmarks"], "batch rows"), _yunet, oracles.yunet
        ),
        StandIn("retinaface", "retinaface", _SSD, _retinaface, oracles.retinaface(), sides=_SCRFD),
        StandIn(
            "retinaface-logits",
            "retinaface",
            (_SSD[0], Output("conf", "logits", "joined"), _SSD[2]),
            _retinaface,
            oracles.retinaface(softmax=True),
            sides=_SCRFD,
        ),
        StandIn(
            "retinaface-one-output",
            "retinaface",
            _one("all", "joined"),
            _retinaface,
            oracles.retinaface(),
            sides=_SCRFD,
        ),
        StandIn(
            "retinaface-slim",
            "retinaface",
            _SSD,
            _retinaface,
            oracles.retinaface((8, 16, 32, 64), oracles.SLIM),
            size=(120, 160),
            strides=(8, 16, 32, 64),
            sides=_SLIM,
        ),
        StandIn(
            "retinaface-mxnet",
            "retinaface-mxnet",
            _MXNET,
            _mxnet,
            oracles.retinaface_mxnet,
            strides=(32, 16, 8),
            sides=_squares([[512, 256], [128, 64], [32, 16]]),
        ),
        StandIn(
            "yolov5-face",
            "yolov5-face",
            _one("decoded", "joined"),
            _yolov5,
            oracles.yolo_decoded([4, 15], range(5, 15, 2)),
            sides=_V5,
        ),
        StandIn("yolov5-face-raw", "yolov5-face", _three("all", "grid"), _yolov5, oracles.yolov5, sides=_V5),
        StandIn(
            "yolov7-face",
            "yolov5-face",
            _one("decoded", "joined"),
            _yolov7,
            oracles.yolo_decoded([4, 5], [6 + 3 * k for k in range(5)]),
            sides=_V7,
        ),
        StandIn(
            "yolov7-face-with-grids",
            "yolov5-face",
            (*_one("decoded", "joined"), *(Output(f"grid{i}", "all", "grid", i) for i in range(3))),
            _yolov7,
            oracles.yolo_decoded([4, 5], [6 + 3 * k for k in range(5)]),
            sides=_V7,
        ),
        StandIn("yolov7-face-raw", "yolov5-face", _three("all", "map"), _yolov7, oracles.yolov7, sides=_V7),
        StandIn(
            "yolov8-face",
            "yolov8-face",
            _one("decoded", "columns"),
            _yolov8,
            oracles.yolo_decoded([4], _POINTS_15, True),
        ),
        StandIn(
            "yolov8-face-rows", "yolov8-face", _one("decoded", "joined"), _yolov8, oracles.yolo_decoded([4], _POINTS_15)
        ),
        StandIn("yolov8-face-raw", "yolov8-face", _three("all", "map"), _yolov8, oracles.yolov8()),
        StandIn(
            "yolov8-face-without-points",
            "yolov8-face",
            _one("decoded", "columns"),
            _yolov8,
            oracles.yolo_decoded([4], [], True),
            points=0,
        ),
        StandIn(
            "centerface",
            "centerface",
            tuple(Output(n, role, "map", 0) for n, role in zip(("537", "538", "539", "540"), _HEAT, strict=True)),
            _centerface,
            oracles.centerface,
            strides=(4,),
            sides=_squares([[32]]),
        ),
        *(
            StandIn(
                f"blazeface-{name}",
                "blazeface",
                (Output("regressors", "boxes", "joined"), Output("classificators", "scores", "joined")),
                _blazeface,
                oracles.blazeface(layers, each),
                points=6,
                size=(side, side),
                strides=strides,
                sides=_squares([[4.0 * s] * n for s, n in zip(strides, anchors, strict=True)]),
            )
            for name, side, layers, each, strides, anchors in (
                ("front", 128, (8, 16, 16, 16), 2, (8, 16), (2, 6)),
                ("back", 256, (16, 32, 32, 32), 2, (16, 32), (2, 6)),
                ("full-range", 192, (4,), 1, (4,), (1,)),
            )
        ),
        *(
            StandIn(
                f"ulfd{'' if decoded else '-raw'}",
                "ulfd",
                (Output("scores", "scores", "joined"), Output("boxes", "corners" if decoded else "boxes", "joined")),
                _ulfd,
                oracles.ulfd(decoded),
                points=0,
                size=(120, 160),
                strides=(8, 16, 32, 64),
                sides=_SLIM,
            )
            for decoded in (True, False)
        ),
    )
}
