"""The inputs and outputs of somebody's network, brought to the one form that all else knows.

A picture (1, 3, height, width) in float32 goes in, under the name that the network gives it; float32 tensors come out.
What the network had instead stands in front of it and behind it as nodes; in between nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import GraphIndex, attributes, infer_shapes, tensor_of, weight_names
from facedeploy.graph.rewrite import FreeNames, rename_reads, replace_nodes

Layout = Literal["NCHW", "NHWC", "CHW", "HWC"]
GREY = (0.299, 0.587, 0.114)  # Red, green, blue: ITU-R BT.601, as OpenCV's COLOR_RGB2GRAY.

_FIRST_IR_WITH_FREE_WEIGHTS = 4
_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Slice", "Concat", "Flatten", "Split"})


@dataclass(frozen=True)
class PictureInput:
    """An input that takes a picture.

    Attributes:
        name: Of the tensor.
        kind: Its type, as ONNX numbers them.
        layout: The order of its axes.
        batch: Pictures at once; 1 where the file leaves it open.
        channels: 1 or 3; 3 where the file leaves it open.
        size: (height, width); None for what the file leaves open.
    """

    name: str
    kind: int
    layout: Layout
    batch: int
    channels: int
    size: tuple[int | None, int | None]

    @property
    def unsigned(self) -> bool:
        """Whether it takes pixels as they are, 0..255."""
        return self.kind == onnx.TensorProto.UINT8

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of one picture, as the network takes it."""
        axes = {"N": 1, "C": self.channels, "H": height, "W": width}
        return tuple(axes[a] for a in self.layout)

    def as_it_came(self, picture: NDArray[np.float32], grey: Sequence[float]) -> NDArray[Any]:
        """What the network itself takes of (1, 3, height, width): as many copies as it wants at once."""
        if self.channels == 1:
            picture = np.tensordot(np.array(grey, np.float32), picture[0], 1)[None, None]
        if self.layout in ("NHWC", "HWC"):
            picture = picture.transpose(0, 2, 3, 1)
        picture = np.repeat(picture, self.batch, axis=0) if self.layout[0] == "N" else picture[0]
        return np.ascontiguousarray(picture).astype(onnx.helper.tensor_dtype_to_np_dtype(self.kind))


def free_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must give."""
    weights = weight_names(model)
    return [v for v in model.graph.input if v.name not in weights]


def dimensions(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes, with None for what the file leaves open."""
    return tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)


def read_picture(value: onnx.ValueInfoProto, channels: int = 3) -> PictureInput | None:
    """What kind of a picture an input takes; None where it can be none. channels: where the file leaves them open."""
    kind = value.type.tensor_type.elem_type
    numbers = onnx.TensorProto
    shape = dimensions(value)
    if kind not in (numbers.FLOAT, numbers.UINT8, numbers.INT8, numbers.INT32, numbers.INT64) or not shape:
        return None
    layouts: tuple[Layout, ...] = {4: ("NCHW", "NHWC"), 3: ("CHW", "HWC")}.get(len(shape), ())  # type: ignore[assignment]
    where = {layout: shape[layout.index("C")] for layout in layouts}
    layout = next((k for k in layouts if where[k] in (1, 3)), None)
    if layout is None:
        layout = next((k for k in layouts[:1] if len(shape) == 4 and where[k] is None), None)
    if layout is None:
        return None
    axes = dict(zip(layout, shape, strict=True))
    return PictureInput(value.name, kind, layout, axes.get("N") or 1, axes["C"] or channels, (axes["H"], axes["W"]))


def unused_inputs(model: onnx.ModelProto) -> list[str]:
    """Names of the inputs that nothing reads."""
    index = GraphIndex.of(model)
    return [v.name for v in free_inputs(model) if index.uses(v.name) == 0]


def set_inputs(model: onnx.ModelProto, values: dict[str, NDArray[Any]], unused: Iterable[str] = ()) -> None:
    """Give some inputs a fixed value and drop others, in place; with them go the weights listed among the inputs."""
    gone = {*values, *unused, *weight_names(model)}
    kept = [v for v in model.graph.input if v.name not in gone]
    model.graph.ClearField("input")
    model.graph.input.extend(kept)
    model.graph.initializer.extend(tensor_of(array, name) for name, array in values.items())
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FREE_WEIGHTS)


def take_picture(model: onnx.ModelProto, picture: PictureInput, height: int, width: int, grey: Sequence[float]) -> None:
    """Make a picture the only input of a network, in place.

    Args:
        model: The network; its only free input is the picture.
        picture: That input.
        height: In pixels.
        width: In pixels.
        grey: Weights of the three channels, where the network takes one.
    """
    helper, graph = onnx.helper, model.graph
    plain = picture.channels == 3 and picture.layout == "NCHW"
    floats = picture.kind == onnx.TensorProto.FLOAT or _cast_before_use(model, picture.name)
    if picture.batch > 1:
        _reshape_one(model, picture.batch)
    for field in ("input", "value_info"):
        graph.ClearField(field)
    # The sizes that a file says of its outputs are those of its own input.
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    shape = (1, 3, height, width)
    graph.input.append(helper.make_tensor_value_info(picture.name, onnx.TensorProto.FLOAT, shape))
    if plain and floats:
        return
    names = FreeNames(model)
    tensor, inner = picture.name, names.free(f"{picture.name}_as_it_came")
    nodes: list[onnx.NodeProto] = []

    def add(op: str, *constants: NDArray[Any], **options: Any) -> None:
        nonlocal tensor
        inputs = [tensor, *(names.free(f"{picture.name}_{op.lower()}") for _ in constants)]
        graph.initializer.extend(tensor_of(c, name) for c, name in zip(constants, inputs[1:], strict=True))
        tensor = names.free(f"{picture.name}_{len(nodes)}")
        nodes.append(helper.make_node(op, inputs, [tensor], name=f"{inner}_{op.lower()}", **options))

    if picture.channels == 1:
        add("Conv", np.array(grey, np.float32).reshape(1, 3, 1, 1))
    if picture.layout in ("NHWC", "HWC"):
        add("Transpose", perm=[0, 2, 3, 1])
    if picture.layout[0] != "N":
        add("Reshape", np.array(picture.shape(height, width), np.int64))
    if not floats:
        add("Cast", to=picture.kind)
    rename_reads(graph.node, {picture.name: inner})
    nodes[-1].output[0] = inner
    replace_nodes(model, [*nodes, *graph.node])


def give_floats(model: onnx.ModelProto) -> None:
    """Cast what comes out to float32, in place."""
    graph, names = model.graph, FreeNames(model)
    for value in graph.output:
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type == onnx.TensorProto.FLOAT:
            continue
        inner = names.free(f"{value.name}_as_it_came")
        for node in graph.node:
            for i, name in enumerate(node.output):
                if name == value.name:
                    node.output[i] = inner
        for weight in graph.initializer:
            if weight.name == value.name:
                weight.name = inner
        rename_reads(graph.node, {value.name: inner})
        cast = onnx.helper.make_node("Cast", [inner], [value.name], name=inner, to=onnx.TensorProto.FLOAT)
        graph.node.append(cast)
        kind.elem_type = onnx.TensorProto.FLOAT


def size_inside(model: onnx.ModelProto) -> str:
    """What in a network belongs to the one size that its file says; empty where nothing is seen that does."""
    index = GraphIndex.of(model)
    constants = {*index.weights, *(n for n in index.producers if index.op_before(n) == "Constant")}
    try:
        shapes = infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        shapes = {}
    for node in model.graph.node:
        given = attributes(node)
        if node.op_type in ("Resize", "Upsample") and len(node.input) > 3 and node.input[3] in constants:
            return f"the Resize {node.output[0]} makes one size"
        if node.op_type == "ConvTranspose" and "output_shape" in given:
            return f"the ConvTranspose {node.output[0]} makes one size"
        window = given.get("kernel_shape", ())
        shape = shapes.get(node.input[0], ()) if node.op_type in ("AveragePool", "MaxPool") else ()
        if len(shape) == 4 and tuple(window) == shape[2:] and max(window) > 1:
            return f"the {node.op_type} {node.output[0]} takes a whole map of {shape[2]}x{shape[3]}"
        if node.op_type == "Slice" and len(shapes.get(node.input[0], ())) == 4 and (cut := _cut(index, node, given)):
            return f"the Slice {node.output[0]} ends at {cut}"
    return ""


def batch_inside(model: onnx.ModelProto, batch: int) -> str:
    """A constant that the number of pictures stands in, or nothing."""
    index = GraphIndex.of(model)
    for node in model.graph.node:
        for name in node.input[1:]:
            array = _constant(index, name)
            if array is not None and array.dtype == np.int64 and array.ndim == 1 and array.size and array[0] == batch:
                return f"the {node.op_type} {node.output[0]} makes a shape that begins with {batch}"
    return ""


def _constant(index: GraphIndex, name: str) -> NDArray[Any] | None:
    if name in index.weights:
        return index.array(name)
    if index.op_before(name) == "Constant":
        value = attributes(index.producers[name]).get("value")
        return None if value is None else onnx.numpy_helper.to_array(value)
    return None


def _cut(index: GraphIndex, node: onnx.NodeProto, given: dict[str, Any]) -> int:
    """Where a Slice of rows or columns ends, if that is a number of pixels."""
    ends, axes = given.get("ends"), given.get("axes")
    if len(node.input) > 2:
        ends = _constant(index, node.input[2])
        axes = _constant(index, node.input[3]) if len(node.input) > 3 else None
    if ends is None:
        return 0
    axes = range(len(ends)) if axes is None else axes
    far = 1 << 30
    return next((int(e) for a, e in zip(axes, ends, strict=True) if a in (2, 3, -1, -2) and 0 < e < far), 0)


def _reshape_one(model: onnx.ModelProto, batch: int) -> None:
    """Shapes that begin with the number of pictures begin with one."""
    index = GraphIndex.of(model)
    for node in model.graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2:
            continue
        shape = _constant(index, node.input[1])
        if shape is None or not shape.size or shape[0] != batch:
            continue
        name = FreeNames(model).free(f"{node.input[1]}_one")
        model.graph.initializer.append(tensor_of(np.array([1, *shape[1:]], np.int64), name))
        node.input[1] = name


def _cast_before_use(model: onnx.ModelProto, name: str) -> bool:
    """Whether every path from an integer input only moves values before it casts them to float."""
    index = GraphIndex.of(model)
    todo, seen = [name], set()
    while todo:
        tensor = todo.pop()
        if tensor in index.outputs:
            return False
        for node in index.readers.get(tensor, ()):
            if node.op_type == "Cast" and attributes(node)["to"] == onnx.TensorProto.FLOAT:
                continue
            others = node.op_type == "Concat" and len(set(node.input)) > 1
            if node.op_type not in _MOVES or node.input[0] != tensor or others:
                return False
            todo += [out for out in node.output if out not in seen]
            seen.update(node.output)
    return True
