"""DeformConv as a chain of ordinary operators, for backends that do not have it or are slow at it.

               ┌► offset (dy, dx) ─┐
    x ─► Conv ─┤                   ├► DeformConv(x) ─► y
               └► Sigmoid, mask ───┘
becomes
               ┌► offset, x and y planes ─► + base ─► GridSample(x) ─┐
    x ─► Conv ─┤                                                     ├► Mul ─► Conv 1x1 ─► y
               └► Sigmoid, mask ─────────────────────────────────────┘

One GridSample reads all taps, stacked on the height axis. The 1x1 convolution has the same weights. What reorders the
offsets' channels and scales pixels to GridSample's -1..1 is a 1x1 convolution too, so that it folds into the
convolution that predicts them; a Gather or Transpose there is what converters get wrong without a word.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, infer_shapes, tensor_of
from facedeploy.graph.rewrite import replace_nodes, replace_weights

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DeformConv:
    """The attributes of a node.

    Attributes:
        kernel: (vertical, horizontal).
        stride: (vertical, horizontal).
        pads: (top, left, bottom, right).
        dilation: (vertical, horizontal).
        groups: Groups of the convolution.
        offset_groups: Groups of channels that share offsets.
        outputs: Number of output channels.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int
    outputs: int

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)


def geometry_of(model: onnx.ModelProto, node: onnx.NodeProto) -> DeformConv:
    """The attributes of a DeformConv node, with the ONNX specification's defaults.

    Raises:
        ConversionError: its weight is computed, not a constant.
    """
    values = attributes(node)
    weight = next((w for w in model.graph.initializer if w.name == node.input[1]), None)
    if weight is None:
        msg = f"the weight of {node.name} is computed, not a constant"
        raise ConversionError(msg)
    return DeformConv(
        kernel=_two(weight.dims[2:]),
        stride=_two(values.get("strides", (1, 1))),
        pads=tuple(values.get("pads", (0, 0, 0, 0))),
        dilation=_two(values.get("dilations", (1, 1))),
        groups=values.get("group", 1),
        offset_groups=values.get("offset_group", 1),
        outputs=weight.dims[0],
    )


def find_deform_convs(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The DeformConv nodes of a graph."""
    return [node for node in model.graph.node if node.op_type == "DeformConv"]


def to_gridsample(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without DeformConv nodes.

    Raises:
        ConversionError: a node's shapes are dynamic, or its weight is computed.
    """
    return _Rewrite(model).run() if find_deform_convs(model) else model


class _Rewrite:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = copy.deepcopy(model)
        self.index = GraphIndex.of(self.model)
        self.shapes = infer_shapes(model, strict=True)
        self.weights = dict(self.index.weights)  # With those that are made here.
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> onnx.ModelProto:
        for node in self.model.graph.node:
            if node.op_type == "DeformConv":
                self._lower(node)
            else:
                self.nodes.append(node)
        replace_nodes(self.model, self.nodes)
        replace_weights(self.model, self.weights.values())
        self.model.graph.ClearField("value_info")
        onnx.checker.check_model(self.model, full_check=True)
        return self.model

    def _lower(self, node: onnx.NodeProto) -> None:
        image, weight_name, offset = node.input[:3]
        bias = node.input[3] if len(node.input) > 3 else ""
        mask = node.input[4] if len(node.input) > 4 else ""
        op = geometry_of(self.model, node)
        weight = self.index.array(weight_name)
        batch, channels, height, width = self._static(image, node)
        rows, columns = self._static(offset, node)[2:]

        planar = self._planar_offsets(node, offset, op, (height, width))
        base = self._constant(f"{node.name}/base", _base(op, (height, width), (rows, columns)))
        groups = op.offset_groups
        images = self._split(f"{node.name}/image", image, channels // groups, groups)
        planes = self._split(f"{node.name}/offset", planar, 2 * op.taps, groups)
        masks = self._split(f"{node.name}/mask", mask, op.taps, groups) if mask else []
        sampled = []
        for g in range(groups):
            name = f"{node.name}/{g}" if groups > 1 else node.name
            stacked = self._reshape(f"{name}/stack", planes[g], (batch, 2, op.taps * rows, columns))
            moved = self._add("Add", f"{name}/position", [stacked, base])
            grid = self._add("Transpose", f"{name}/grid", [moved], perm=[0, 2, 3, 1])
            taps = self._add(
                "GridSample", f"{name}/sample", [images[g], grid], mode="linear", padding_mode="zeros", align_corners=0
            )
            if mask:
                weights = self._reshape(f"{name}/weights", masks[g], (batch, 1, op.taps * rows, columns))
                taps = self._add("Mul", f"{name}/modulate", [taps, weights])
            sampled.append(taps)
        joined = self._add("Concat", f"{node.name}/join", sampled, axis=1) if groups > 1 else sampled[0]
        column = self._reshape(f"{node.name}/columns", joined, (batch, channels * op.taps, rows, columns))
        # Under the published name, so that whatever goes by the names of weights still finds it.
        flat = self._constant(f"{weight_name}.columns", weight.reshape(len(weight), -1, 1, 1))
        inputs = [column, flat, bias] if bias else [column, flat]
        self._add("Conv", f"{node.name}/contract", inputs, node.output[0], group=op.groups, kernel_shape=[1, 1])

    def _planar_offsets(self, node: onnx.NodeProto, offset: str, op: DeformConv, size: tuple[int, int]) -> str:
        """Offsets as planes, x of all taps and then y, in GridSample's units."""
        matrix = _to_planar(op, size)
        found = self._predicting_convolution(offset)
        if found is None:
            weight = self._constant(f"{node.name}/to_planar", matrix[:, :, None, None])
            return self._add("Conv", f"{node.name}/planar", [offset, weight], kernel_shape=[1, 1])
        convolution, first = found
        rows = slice(first, first + len(matrix))
        for i in range(1, len(convolution.input)):
            name = convolution.input[i]
            array = onnx.numpy_helper.to_array(self.weights[name]).astype(np.float64)
            array[rows] = np.tensordot(matrix.astype(np.float64), array[rows], axes=1)
            convolution.input[i] = self._constant(f"{name}.planar", array.astype(np.float32))
        return offset

    def _predicting_convolution(self, offset: str) -> tuple[onnx.NodeProto, int] | None:
        """The convolution that computes the offset and nothing that another node reads, and the offset's first
        channel in it; None where there is no such convolution.
        """
        index, first, name = self.index, 0, offset
        if index.uses(name) != 1:
            return None
        node = index.producers.get(name)
        if node is not None and node.op_type == "Split" and attributes(node).get("axis", 0) == 1:
            before = list(node.output)[: list(node.output).index(name)]
            first = sum(self.shapes[other][1] for other in before)
            name = node.input[0]
            node = index.producers.get(name)
        if node is None or node.op_type != "Conv" or index.uses(name) != 1 or attributes(node).get("group", 1) != 1:
            return None
        return (node, first) if all(n in self.weights for n in node.input[1:]) else None

    def _split(self, name: str, value: str, size: int, parts: int) -> list[str]:
        if parts == 1:
            return [value]
        outputs = [f"{name}_{i}" for i in range(parts)]
        sizes = self._constant(f"{name}_sizes", np.full(parts, size, np.int64))
        self.nodes.append(onnx.helper.make_node("Split", [value, sizes], outputs, name=name, axis=1))
        return outputs

    def _reshape(self, name: str, value: str, shape: tuple[int, ...]) -> str:
        return self._add("Reshape", name, [value, self._constant(f"{name}_shape", np.array(shape, np.int64))])

    def _add(self, op: str, name: str, inputs: list[str], output: str | None = None, **more: Any) -> str:
        output = output or f"{name}_output"
        self.nodes.append(onnx.helper.make_node(op, inputs, [output], name=name, **more))
        return output

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        # A convolution on several levels has one weight, and its offsets another scale on each.
        while name in self.weights:
            if np.array_equal(onnx.numpy_helper.to_array(self.weights[name]), array):
                return name
            name += "_"
        self.weights[name] = tensor_of(array, name)
        return name

    def _static(self, name: str, node: onnx.NodeProto) -> tuple[int, ...]:
        shape = self.shapes.get(name, ())
        if len(shape) != 4 or not all(shape):
            msg = f"the shape of {name}, which {node.name} reads, is dynamic: give a fixed --input-size"
            raise ConversionError(msg)
        return shape


def _to_planar(op: DeformConv, size: tuple[int, int]) -> Floats:
    """Matrix from interleaved (dy, dx) in pixels to planes of x and y in GridSample's units, group by group."""
    height, width = size
    taps = op.taps
    matrix = np.zeros((2 * taps, 2 * taps), np.float32)
    k = np.arange(taps)
    matrix[k, 2 * k + 1] = 2 / width
    matrix[taps + k, 2 * k] = 2 / height
    planar: Floats = np.kron(np.eye(op.offset_groups, dtype=np.float32), matrix)
    return planar


def _base(op: DeformConv, size: tuple[int, int], output: tuple[int, int]) -> Floats:
    """Where each tap reads without offsets, as planes (1, 2, taps * rows, columns) in GridSample's units."""

    def axis(i: int) -> NDArray[np.float64]:
        tap = np.arange(op.kernel[i]) * op.dilation[i] - op.pads[i]
        pixel = tap[:, None] + np.arange(output[i]) * op.stride[i]
        # Pixel p of n is at (2 p + 1) / n - 1 where corners are not aligned, also for n = 1.
        return (2 * pixel + 1) / size[i] - 1

    shape = (*op.kernel, *output)
    y = np.broadcast_to(axis(0)[:, None, :, None], shape)
    x = np.broadcast_to(axis(1)[None, :, None, :], shape)
    return np.stack((x, y)).reshape(1, 2, op.taps * output[0], output[1]).astype(np.float32)


def _two(values: Any) -> tuple[int, int]:
    vertical, horizontal = values
    return int(vertical), int(horizontal)
