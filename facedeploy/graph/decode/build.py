"""The graph of a described head: its raw outputs in, boxes, scores and landmarks out, in pixels of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, Shape, TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.decode import rows
from facedeploy.graph.decode.description import Decode
from facedeploy.graph.decode.priors import Level, Priors, levels, priors
from facedeploy.graph.decode.writer import Writer
from facedeploy.graph.index import shape_of

BOXES, SCORES, LANDMARKS = "boxes", "scores", "landmarks"
# What raw outputs of these names are called in the decoded graph.
RAW = "raw/"
_OPSET, _IR = 18, 8
_Floats = NDArray[np.float64]
_OUTWARDS = np.array([-1, -1, 1, 1])


def raw_name(output: str) -> str:
    """The name of a raw output in the decoded graph, where `boxes`, `scores` and `landmarks` are something else."""
    return f"{RAW}{output}" if output in (BOXES, SCORES, LANDMARKS) else output


def decoded_spec(spec: NetworkSpec, head: onnx.ModelProto) -> NetworkSpec:
    """The spec of a network with its head behind it."""
    outputs = tuple(TensorSpec(v.name, shape_of(v)) for v in head.graph.output)
    return NetworkSpec(spec.name, spec.inputs, outputs)


def build(spec: NetworkSpec, decode: Decode) -> onnx.ModelProto:
    """Write the head's graph.

    Args:
        spec: The network, with the shapes of its raw outputs.
        decode: What they mean.

    Returns:
        Inputs: the raw outputs that are used, by `raw_name`. Outputs, float32: `boxes` (1, P, 4), corners;
        `scores` (1, P), 0..1; `landmarks` (1, P, 2k), where there are some.

    Raises:
        InputError: an output is missing or has another shape than the description says.
    """
    return _Head(spec, decode).model()


class _Head:
    def __init__(self, spec: NetworkSpec, decode: Decode) -> None:
        self.decode = decode
        size = spec.picture_size
        assert size is not None
        self.size = size
        self.shapes: dict[str, Shape] = {t.name: tuple(d for d in t.shape if isinstance(d, int)) for t in spec.outputs}
        self.levels: tuple[Level, ...] = levels(decode, size)
        self.priors: Priors | None = priors(decode, size) if decode.strides else None
        self.writer = Writer()
        self.found: dict[tuple[str, ...], rows.Rows] = {}
        self.used: dict[str, None] = {}

    def model(self) -> onnx.ModelProto:
        decode, writer = self.decode, self.writer
        self._boxes()
        scores = self._scores()
        outputs = [BOXES, SCORES]
        count = self.boxes
        widths: dict[str, list[int]] = {BOXES: [1, count, 4], SCORES: [1, count]}
        writer.add("Reshape", scores, writer.constant([1, count], np.int64), to=SCORES)
        if decode.landmarks is not None:
            widths[LANDMARKS] = [1, count, self._landmarks()]
            outputs.append(LANDMARKS)
        kind = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            writer.nodes,
            "head",
            [onnx.helper.make_tensor_value_info(raw_name(n), kind, self.shapes[n]) for n in self.used],
            [onnx.helper.make_tensor_value_info(n, kind, widths[n]) for n in outputs],
            writer.constants,
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _role(self, role: str, width: int | None = None) -> tuple[str, int]:
        """The numbers of a role, (1, P, n), and n.

        Raises:
            InputError: they are not `width`, or the outputs do not hold them.
        """
        parts, total = [], 0
        for outputs, columns in self.decode.parts(role):
            source, have = self._rows(role, outputs)
            wanted = tuple(range(have)) if columns is None else columns
            if max(wanted) >= have:
                msg = (
                    f"decode.{role} takes number {max(wanted)} of a box, and {outputs[0]!r} has {have}, 0 to {have - 1}"
                )
                raise InputError(msg)
            parts.append(self.writer.columns(source, wanted, have))
            total += len(wanted)
        if width is not None and total != width:
            msg = f"decode.{role} must be {width} numbers a box, and holds {total}"
            raise InputError(msg)
        return self.writer.join(parts), total

    def _rows(self, role: str, outputs: tuple[str, ...]) -> rows.Rows:
        if outputs not in self.found:
            self._check_outputs(role, outputs)
            names = {name: raw_name(name) for name in outputs}
            shapes = {names[name]: self.shapes[name] for name in outputs}
            made = rows.concatenated(self.writer, [names[n] for n in outputs], shapes, self.levels, self.boxes)
            self.found[outputs] = made
        return self.found[outputs]

    def _check_outputs(self, role: str, outputs: Sequence[str]) -> None:
        for name in outputs:
            if name not in self.shapes:
                msg = f"decode.{role} names {name!r}, and the network's outputs are {', '.join(self.shapes)}"
                raise InputError(msg)
            self.used[name] = None

    @property
    def boxes(self) -> int:
        """How many boxes there are."""
        if self.priors is not None:
            return len(self.priors.cells)
        outputs, _ = self.decode.parts("boxes")[0]
        shape = self.shapes[outputs[0]]
        if len(shape) > 3:
            msg = f"decode.strides is missing: the output {outputs[0]!r} {shape} is a map of cells: say how far apart"
            raise InputError(msg)
        return max(shape[1:] if len(shape) > 1 and shape[0] == 1 else shape)

    def _boxes(self) -> None:
        """Write `boxes`."""
        decode, writer = self.decode, self.writer
        raw, _ = self._role("boxes", 4 * (decode.bins or 1))
        if decode.box == "corners":
            self._deliver(self._times(raw, np.tile(self._unit(), 2)), BOXES)
        elif decode.box == "distances":
            priors = self._need_priors()
            distances = self._expected(raw) if decode.bins else raw
            moved = self._times(distances, np.tile(priors.strides, (1, 2)) * _OUTWARDS)
            centres = np.tile(priors.centres(decode.offset, decode.offset_pixels), (1, 2))
            self._deliver(self._plus(moved, centres), BOXES)
        else:
            centre, half = self._centre_and_half(raw)
            low, high = writer.add("Sub", centre, half), writer.add("Add", centre, half)
            writer.add("Concat", low, high, to=BOXES, axis=2)

    def _centre_and_half(self, raw: str) -> tuple[str, str]:
        """Centres and half sizes, (1, P, 2), pixels."""
        decode, writer = self.decode, self.writer
        if decode.box == "squares":
            raw = writer.add("Sigmoid", raw)
        first, last = writer.slice(raw, 0, 2, 2), writer.slice(raw, 2, 4, 2)
        if decode.box == "centre-size":
            return self._times(first, self._unit()), self._times(last, self._unit() / 2)
        priors = self._need_priors()
        centres = priors.centres(decode.offset, decode.offset_pixels)
        if decode.box == "offsets":
            return self._plus(first, centres), self._times(last, np.full(2, 0.5))
        if decode.box == "squares":
            moved = self._times(first, 2 * priors.strides)
            square = writer.add("Mul", last, last)
            return self._plus(moved, centres - 0.5 * priors.strides), self._times(square, 2 * priors.sizes)
        moved = self._times(first, decode.variances[0] * priors.sizes)
        # The size goes into the exponent, so that whoever keeps what reads these constants in float32 keeps that too.
        grown = self._plus(self._times(last, np.full(2, decode.variances[1])), np.log(priors.sizes / 2))
        half = writer.add("Exp", grown)
        if decode.inclusive:
            half = writer.add("Sub", half, writer.constant(np.full((1, 1, 2), 0.5)))
        return self._plus(moved, centres), half

    def _expected(self, raw: str) -> str:
        """Distances (1, P, 4): the mean of each distribution over `bins`."""
        writer, bins = self.writer, self.decode.bins
        shares = writer.add("Softmax", writer.reshape(raw, 1, self.boxes, 4, bins), axis=3)
        weighted = writer.add("Mul", shares, writer.constant(np.arange(bins).reshape(1, 1, 1, bins)))
        total = writer.add("ReduceSum", weighted, writer.constant([3], np.int64), keepdims=1)
        return writer.reshape(total, 1, self.boxes, 4)

    def _scores(self) -> str:
        """(1, P, 1)."""
        decode, writer = self.decode, self.writer
        face = self._class_scores()
        if decode.objectness is None:
            return face
        second, _ = self._role("objectness", 1)
        second = writer.add("Sigmoid", second) if decode.activation == "sigmoid" else second
        both = writer.add("Mul", self._power(face, decode.powers[0]), self._power(second, decode.powers[1]))
        return writer.add("Sqrt", both) if decode.product == "root" else both

    def _power(self, source: str, exponent: float) -> str:
        return source if exponent == 1 else self.writer.add("Pow", source, self.writer.constant(exponent))

    def _class_scores(self) -> str:
        decode, writer = self.decode, self.writer
        if decode.score_channels == "class":
            parts = [
                rows.by_class(writer, raw_name(name), self.shapes[name], level, decode.face_class or 0)
                for name, level in zip(self._maps(), self.levels, strict=True)
            ]
            scores, count = writer.join(parts, 1), 1
        else:
            scores, count = self._role("scores")
        if decode.activation == "softmax":
            scores = writer.add("Softmax", scores, axis=2)
        elif decode.activation == "sigmoid":
            scores = writer.add("Sigmoid", scores)
        if decode.score_channels == "class" or (count == 1 and not decode.face_class):
            return scores
        if decode.face_class is None or decode.face_class >= count:
            msg = (
                f"decode.scores holds {count} scores a box: decode.face_class must be that of a face, 0 to {count - 1}"
            )
            raise InputError(msg)
        return writer.columns(scores, [decode.face_class], count)

    def _maps(self) -> tuple[str, ...]:
        ((outputs, columns),) = self.decode.parts("scores")
        self._check_outputs("scores", outputs)
        if columns is not None or self.decode.activation == "softmax" or len(outputs) != len(self.levels):
            msg = (
                'decode.score_channels = "class" is for one map a level, after its softmax, chosen by decode.face_class'
            )
            raise InputError(msg)
        return outputs

    def _landmarks(self) -> int:
        """Write `landmarks` (1, P, 2k). Returns 2k."""
        decode, writer = self.decode, self.writer
        raw, total = self._role("landmarks")
        each = decode.point_values
        if total % each:
            msg = f"decode.landmarks must be {each} numbers a point, and holds {total} in all"
            raise InputError(msg)
        count = total // each
        if each > 2:
            raw = writer.slice(writer.reshape(raw, 1, self.boxes, count, each), 0, 2, 3)
            raw = writer.reshape(raw, 1, self.boxes, 2 * count)
        if decode.point_form == "box":
            low, high = (writer.slice(BOXES, i, i + 2, 2) for i in (0, 2))
            size = writer.join([writer.add("Sub", high, low)] * count)
            writer.add("Add", writer.add("Mul", raw, size), writer.join([low] * count), to=LANDMARKS)
        elif decode.point_form == "absolute":
            self._deliver(self._times(raw, np.tile(self._unit(), count)), LANDMARKS)
        else:
            priors = self._need_priors()
            offset = decode.offset if decode.points_offset is None else decode.points_offset
            scale = decode.variances[0] if decode.points_scale is None else decode.points_scale
            sizes = priors.strides if decode.point_form == "cell" else priors.sizes
            sizes = np.ones_like(sizes) if decode.box == "offsets" else sizes
            moved = self._times(raw, np.tile(scale * sizes, (1, count)))
            centres = np.tile(priors.centres(offset, decode.offset_pixels), (1, count))
            self._deliver(self._plus(moved, centres), LANDMARKS)
        return 2 * count

    def _unit(self) -> _Floats:
        """Pixels of one unit, across and down."""
        height, width = self.size
        return np.array([width, height], np.float64) if self.decode.unit == "unit" else np.ones(2)

    def _need_priors(self) -> Priors:
        assert self.priors is not None  # The description has strides wherever one is needed.
        return self.priors

    def _deliver(self, source: str, to: str) -> None:
        """Call a tensor `to`; one that others read, or that is the network's own, is copied."""
        shared = [name for name, _ in self.found.values()]
        if source in shared:
            self.writer.add("Identity", source, to=to)
        else:
            self.writer.rename(source, to)

    def _times(self, source: str, factor: _Floats) -> str:
        """A product with what every box has, (n,), or with what each has, (P, n)."""
        return source if (factor == 1).all() else self.writer.add("Mul", source, self._constant(factor))

    def _plus(self, source: str, term: _Floats) -> str:
        return source if (term == 0).all() else self.writer.add("Add", source, self._constant(term))

    def _constant(self, values: _Floats) -> str:
        return self.writer.constant(values.reshape(1, -1, values.shape[-1]))


def raw_feed(head: onnx.ModelProto, outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """What the head takes of a network's raw outputs."""
    wanted = {v.name for v in head.graph.input}
    return {raw_name(name): value for name, value in outputs.items() if raw_name(name) in wanted}
