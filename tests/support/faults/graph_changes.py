"""What converters get wrong, as changes of a graph: each kind is a function that says whether it changed something."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from facedeploy.graph.index import attributes, tensor_of
from facedeploy.graph.rewrite import rename_reads

Floats = NDArray[np.float32]
Change = Callable[[onnx.ModelProto], bool]
# Where in a network: the share of the operators of a kind that come before.
PLACES = {"first": 0.0, "middle": 0.5, "last": 1.0}


def graph_faults() -> dict[str, Change]:
    """Name -> change."""
    faults: dict[str, Change] = {}
    for place in PLACES:
        for name, edit in _WEIGHTS.items():
            faults[f"{name}, {place} convolution"] = functools.partial(_change_weight, edit, place)
        for name, factor in (("bias lost", 0.0), ("bias doubled", 2.0)):
            faults[f"{name}, {place} convolution"] = functools.partial(_change_bias, factor, place)
        faults[f"padding shifted by one, {place} convolution"] = functools.partial(_shift_pads, place)
        for mode in ("edge", "reflect"):
            faults[f"border of {mode}, {place} convolution"] = functools.partial(_border, mode, place)
        faults[f"activation lost, {place}"] = functools.partial(_bypass, ("Relu", "PRelu"), place)
        faults[f"sum lost, {place}"] = functools.partial(_bypass, ("Add",), place)
    for bits in (4, 6):
        faults[f"weights of {bits} bits, all"] = functools.partial(_change_all, functools.partial(_round, bits))
    for highest in (1.0, 6.0):
        faults[f"activations clipped at {highest:g}"] = functools.partial(_clip, highest)
    faults |= {
        "activations leak": functools.partial(_swap, "Relu", "LeakyRelu", alpha=0.05),
        "slopes halved": _halve_slopes,
        "sigmoid hard": functools.partial(_swap, "Sigmoid", "HardSigmoid"),
        "sigmoid lost": functools.partial(_bypass, ("Sigmoid",), "last"),
        "softmax over another axis": _softmax_axis,
        "softmax lost": functools.partial(_bypass, ("Softmax",), "last"),
        "largest pooled as mean": functools.partial(_swap, "MaxPool", "AveragePool", drop=("storage_order",)),
        "resize linear": functools.partial(_resize, mode="linear", coordinate_transformation_mode="half_pixel"),
        "resize from the other corner": functools.partial(_resize, nearest_mode="ceil"),
        "sum is a maximum": functools.partial(_swap, "Add", "Max"),
        "levels in another order": _concat_order,
        "offsets x0.9": functools.partial(_offsets, np.float32(0.9)),
        "offsets lost": functools.partial(_offsets, np.float32(0)),
        "mask lost": _mask,
    }
    for name, values in _INPUTS.items():
        faults[f"input {name}"] = functools.partial(_change_input, values)
    for output, edits in _OUTPUTS.items():
        for name, steps in edits.items():
            faults[f"{output} {name}"] = functools.partial(_change_output, output, steps)
    return faults


# --- weights ---


def _exchange(w: Floats, axis: int) -> Floats:
    """Neighbours exchanged."""
    order = np.arange(w.shape[axis])
    even = len(order) // 2 * 2
    order[:even] = order[:even].reshape(-1, 2)[:, ::-1].ravel()
    return np.take(w, order, axis)


def _round(bits: int, w: Floats) -> Floats:
    step = np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True) / np.float32(2 ** (bits - 1) - 1)
    rounded: Floats = np.round(w / np.maximum(step, np.finfo(np.float32).tiny)) * step
    return rounded


def _without_first(w: Floats) -> Floats:
    lost = w.copy()
    lost[0] = 0
    return lost


_WEIGHTS: dict[str, Callable[[Floats], Floats]] = {
    "kernel mirrored": lambda w: w[..., ::-1],
    "kernel transposed": lambda w: w.swapaxes(-1, -2),
    "output channels exchanged": lambda w: _exchange(w, 0),
    "input channels exchanged": lambda w: _exchange(w, 1),
    "weights x0.9": lambda w: w * np.float32(0.9),
    "weights of 4 bits": functools.partial(_round, 4),
    "one channel lost": _without_first,
}


def _nodes(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in kinds]


def _at(nodes: list[onnx.NodeProto], place: str) -> onnx.NodeProto | None:
    return nodes[round(PLACES[place] * (len(nodes) - 1))] if nodes else None


def _weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {w.name: w for w in model.graph.initializer}


def _edit(tensor: onnx.TensorProto, change: Callable[[Floats], Floats]) -> bool:
    old = numpy_helper.to_array(tensor)
    new = np.ascontiguousarray(change(old), np.float32)
    if np.array_equal(old, new):
        return False
    tensor.CopyFrom(tensor_of(new, tensor.name))
    return True


def _change_weight(change: Callable[[Floats], Floats], place: str, model: onnx.ModelProto) -> bool:
    stored = _weights(model)
    node = _at([n for n in _nodes(model, "Conv") if n.input[1] in stored], place)
    return node is not None and _edit(stored[node.input[1]], change)


def _change_all(change: Callable[[Floats], Floats], model: onnx.ModelProto) -> bool:
    stored = _weights(model)
    names = {n.input[1] for n in _nodes(model, "Conv") if n.input[1] in stored}
    changed = [_edit(stored[name], change) for name in sorted(names)]
    return any(changed)


def _change_bias(factor: float, place: str, model: onnx.ModelProto) -> bool:
    stored = _weights(model)
    node = _at([n for n in _nodes(model, "Conv", "Gemm") if len(n.input) > 2 and n.input[2] in stored], place)
    return node is not None and _edit(stored[node.input[2]], lambda b: b * np.float32(factor))


# --- operators ---


def _set(node: onnx.NodeProto, **values: Any) -> None:
    kept = [a for a in node.attribute if a.name not in values]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())


def _padded(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [n for n in _nodes(model, "Conv") if any(attributes(n).get("pads", []))]


def _shift_pads(place: str, model: onnx.ModelProto) -> bool:
    node = _at(_padded(model), place)
    if node is None:
        return False
    top, left, bottom, right = attributes(node)["pads"]
    _set(node, pads=[top + 1, left + 1, bottom - 1, right - 1] if bottom and right else [0, 0, bottom + top, right])
    return True


def _border(mode: str, place: str, model: onnx.ModelProto) -> bool:
    node = _at(_padded(model), place)
    if node is None:
        return False
    top, left, bottom, right = attributes(node)["pads"]
    _set(node, pads=[0, 0, 0, 0])
    pads = np.array([0, 0, top, left, 0, 0, bottom, right])
    model.graph.initializer.append(numpy_helper.from_array(pads, "fault_pads"))
    _before(model, node, helper.make_node("Pad", [node.input[0], "fault_pads"], ["fault_padded"], mode=mode))
    node.input[0] = "fault_padded"
    return True


def _before(model: onnx.ModelProto, node: onnx.NodeProto, *new: onnx.NodeProto) -> None:
    index = next(i for i, n in enumerate(model.graph.node) if n.output[0] == node.output[0])
    for each in reversed(new):
        model.graph.node.insert(index, each)


def _bypass(kinds: tuple[str, ...], place: str, model: onnx.ModelProto) -> bool:
    stored = _weights(model)
    node = _at([n for n in _nodes(model, *kinds) if n.input[0] not in stored], place)
    if node is None or (node.op_type == "Add" and node.input[1] in stored):
        return False
    node.CopyFrom(helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name))
    return True


def _swap(kind: str, other: str, model: onnx.ModelProto, *, drop: tuple[str, ...] = (), **attributes: Any) -> bool:
    for node in _nodes(model, kind):
        kept = [a for a in node.attribute if a.name not in drop]
        new = helper.make_node(other, list(node.input), list(node.output), name=node.name, **attributes)
        new.attribute.extend(kept)
        node.CopyFrom(new)
    return any(_nodes(model, other))


def _clip(highest: float, model: onnx.ModelProto) -> bool:
    nodes = _nodes(model, "Relu", "PRelu")
    model.graph.initializer.append(tensor_of(np.float32(highest), "fault_high"))
    for i, node in enumerate(nodes):
        free = f"fault_free_{i}"
        clip = helper.make_node("Min", [free, "fault_high"], [node.output[0]], name=f"fault_clip_{i}")
        index = next(k for k, n in enumerate(model.graph.node) if n.output[0] == node.output[0])
        node.output[0] = free
        model.graph.node.insert(index + 1, clip)
    return bool(nodes)


def _halve_slopes(model: onnx.ModelProto) -> bool:
    stored = _weights(model)
    slopes = [stored[n.input[1]] for n in _nodes(model, "PRelu") if n.input[1] in stored]
    changed = [_edit(slope, lambda s: s * np.float32(0.5)) for slope in slopes]
    return any(changed)


def _softmax_axis(model: onnx.ModelProto) -> bool:
    nodes = _nodes(model, "Softmax")
    for node in nodes:
        _set(node, axis=1 if attributes(node).get("axis", -1) != 1 else -1)
    return bool(nodes)


def _resize(model: onnx.ModelProto, **attributes: str) -> bool:
    nodes = _nodes(model, "Resize")
    for node in nodes:
        kept = {"coordinate_transformation_mode": "asymmetric"} if "nearest_mode" in attributes else {}
        _set(node, **kept, **attributes)
        if "nearest_mode" in attributes:
            _set(node, mode="nearest")
    return bool(nodes)


def _concat_order(model: onnx.ModelProto) -> bool:
    node = _at(_nodes(model, "Concat"), "last")
    if node is None:
        return False
    names = list(node.input)[::-1]
    node.input[:] = names
    return len(names) > 1


def _offsets(factor: np.float32, model: onnx.ModelProto) -> bool:
    node = _at(_nodes(model, "DeformConv"), "last")
    if node is None:
        return False
    model.graph.initializer.append(tensor_of(factor, "fault_factor"))
    _before(model, node, helper.make_node("Mul", [node.input[2], "fault_factor"], ["fault_offsets"]))
    node.input[2] = "fault_offsets"
    return True


def _mask(model: onnx.ModelProto) -> bool:
    node = _at(_nodes(model, "DeformConv"), "last")
    if node is None or len(node.input) < 5:
        return False
    model.graph.initializer.extend([tensor_of(np.float32(0), "fault_zero"), tensor_of(np.float32(1), "fault_one")])
    nothing = helper.make_node("Mul", [node.input[4], "fault_zero"], ["fault_nothing"])
    _before(model, node, nothing, helper.make_node("Add", ["fault_nothing", "fault_one"], ["fault_mask"]))
    node.input[4] = "fault_mask"
    return True


# --- ends: each a few steps, an operator and its constants ---

Step = tuple[str, tuple[Any, ...]]
_REVERSED = np.array([2, 1, 0])


def _per_coordinate(*values: float) -> Floats:
    return np.array(values, np.float32)


_INPUTS: dict[str, list[Step]] = {
    "with colours exchanged": [("Gather1", (_REVERSED,))],
    "of a scale of 1/255": [("Mul", (np.float32(1 / 255),))],
    "brighter by 16": [("Add", (np.float32(16),))],
    "a hundredth too large": [("Mul", (np.float32(1.01),))],
}
_PAIRS = np.array([2, 3, 0, 1])


def _about_the_centre(factor: float) -> Floats:
    """What (x1, y1, x2, y2) is multiplied by for boxes of another size: a wrong variance."""
    same, other = (1 + factor) / 2, (1 - factor) / 2
    return np.array([[same, 0, other, 0], [0, same, 0, other], [other, 0, same, 0], [0, other, 0, same]], np.float32)


_OUTPUTS: dict[str, dict[str, list[Step]]] = {
    "boxes": {
        "moved by 3 pixels": [("Add", (np.float32(3),))],
        "moved by 1 pixel": [("Add", (np.float32(1),))],
        "x0.98": [("Mul", (np.float32(0.98),))],
        "with x and y exchanged": [("Gather-1", (np.array([1, 0, 3, 2]),))],
        "with corners exchanged": [("Gather-1", (_PAIRS,))],
        "a pixel larger each way": [("Add", (_per_coordinate(-1, -1, 1, 1),))],
        "a tenth smaller about the centre": [("MatMul", (_about_the_centre(0.9),))],
        "a tenth larger about the centre": [("MatMul", (_about_the_centre(1.1),))],
        "of the last tenth moved by 8 pixels": [("AddLast", (8.0,))],
        "of the first half moved by 3 pixels": [("AddFirst", (3.0,))],
    },
    "scores": {
        "raised by 0.05": [("Add", (np.float32(0.05),))],
        "x0.9": [("Mul", (np.float32(0.9),))],
        "rooted": [("Sqrt", ())],
        "of the first half lost": [("MulFirst", (0.0,))],
        "of the last tenth lost": [("MulLast", (0.0,))],
        "of zero": [("Mul", (np.float32(0),))],
        "of no number": [("Mul", (np.float32(np.nan),))],
    },
    "landmarks": {
        "moved by 3 pixels": [("Add", (_per_coordinate(*[3, 0] * 5),))],
        "moved by 1 pixel": [("Add", (_per_coordinate(*[1, 0] * 5),))],
        "with eyes exchanged": [("Gather-1", (np.array([2, 3, 0, 1, 4, 5, 6, 7, 8, 9]),))],
        "with x and y exchanged": [("Gather-1", (np.arange(10).reshape(5, 2)[:, ::-1].ravel(),))],
    },
    "angles": {
        "with another sign": [("Mul", (np.float32(-1),))],
        "off by 3 degrees": [("Add", (np.float32(3),))],
        "in another order": [("Gather1", (_REVERSED,))],
        "x0.9": [("Mul", (np.float32(0.9),))],
    },
    "output": {
        "moved by a hundredth": [("Add", (np.float32(0.01),))],
        "moved by a twentieth": [("Add", (np.float32(0.05),))],
        "x0.95": [("Mul", (np.float32(0.95),))],
        "with x and y exchanged": [("Gather-1", (np.arange(212).reshape(106, 2)[:, ::-1].ravel(),))],
    },
    "box": {
        "of regression x0.8": [("Mul", (np.float32(0.8),))],
        "of regression lost": [("Mul", (np.float32(0),))],
        "with x and y exchanged": [("Gather1", (np.array([1, 0, 3, 2]),))],
    },
    "score": {
        "raised by 0.05": [("Add", (np.float32(0.05),))],
        "x0.8": [("Mul", (np.float32(0.8),))],
        "of zero": [("Mul", (np.float32(0),))],
    },
}


def _steps(
    model: onnx.ModelProto, start: str, end: str, steps: list[Step], rows: int | None
) -> Iterator[onnx.NodeProto]:
    """Nodes from one tensor to another; their constants are added."""
    for i, (kind, values) in enumerate(steps):
        target = end if i == len(steps) - 1 else f"{end}_fault_{i}"
        constants = [f"{end}_constant_{i}"] if values else []
        if kind.startswith("Gather"):
            model.graph.initializer.append(numpy_helper.from_array(values[0], constants[0]))
            yield helper.make_node("Gather", [start, *constants], [target], axis=int(kind[6:]))
        else:
            value = values[0] if values else None
            if kind.endswith(("First", "Last")):
                assert rows is not None
                neutral = 0.0 if kind.startswith("Add") else 1.0
                chosen = np.arange(rows) < rows // 2 if kind.endswith("First") else np.arange(rows) >= 0.9 * rows
                value = np.where(chosen, values[0], neutral).astype(np.float32)[None]
                value = value[..., None] if end == "boxes" else value
            if value is not None:
                model.graph.initializer.append(tensor_of(np.asarray(value, np.float32), constants[0]))
            yield helper.make_node(kind.removesuffix("First").removesuffix("Last"), [start, *constants], [target])
        start = target


def _change_input(steps: list[Step], model: onnx.ModelProto) -> bool:
    (name,) = [v.name for v in model.graph.input]
    shape = next(v for v in model.graph.input).type.tensor_type.shape.dim
    if len(shape) != 4 or shape[1].dim_value != 3:
        return False
    rename_reads(model.graph.node, {name: "fault_input"})
    for i, node in enumerate(_steps(model, name, "fault_input", steps, None)):
        model.graph.node.insert(i, node)
    return True


def _change_output(output: str, steps: list[Step], model: onnx.ModelProto) -> bool:
    value = next((v for v in model.graph.output if v.name == output), None)
    if value is None:
        return False
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    rows = dims[1] if output in ("boxes", "scores") else None
    model.graph.node.extend(_steps(model, move_output(model, output), output, steps, rows))
    return True


def move_output(model: onnx.ModelProto, output: str) -> str:
    """Free the name of an output for a node to come. Returns what the tensor is called now."""
    moved = f"{output}_right"
    rename_reads(model.graph.node, {output: moved})
    for node in model.graph.node:
        node.output[:] = [moved if name == output else name for name in node.output]
    return moved
