"""Slice, Gather, Pad and their like. pnnx knows a Slice by steps of one and a Gather of one index; nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facedeploy.core.optional_imports import onnx
from facedeploy.export.ncnn.forms.writer import Form, Writer
from facedeploy.graph.index import attributes

_MOST_PIECES = 64
_SPATIAL = (2, 3)


def _slice(w: Writer, node: onnx.NodeProto) -> bool:
    shape = w.shape(node.input[0])
    starts, ends, axes, steps = (w.constant(node, i) for i in (1, 2, 3, 4))
    if not shape or starts is None or ends is None:
        return False
    places = range(len(starts)) if axes is None else (int(a) % len(shape) for a in axes)
    moves = np.ones(len(starts), np.int64) if steps is None else steps
    picked = {
        axis: list(range(shape[axis]))[slice(_limit(first), _limit(last), int(step))]
        for axis, first, last, step in zip(places, starts, ends, moves, strict=True)
    }
    whole = [axis for axis, found in picked.items() if found == list(range(shape[axis]))]
    plain = axes is not None and not whole and all(step == 1 for step in moves)
    if plain or not all(picked.values()):
        return False
    return _pick(w, node, {axis: found for axis, found in picked.items() if axis not in whole})


def _limit(value: int) -> int | None:
    """As Python has it: numbers beyond what an axis can have mean its end, in either direction."""
    return int(value) if abs(int(value)) < 1 << 31 else None if value < 0 else int(value)


def _gather(w: Writer, node: onnx.NodeProto) -> bool:
    shape, indices = w.shape(node.input[0]), w.constant(node, 1)
    axis = attributes(node).get("axis", 0)
    if not shape or indices is None or indices.ndim > 1:
        return False
    axis %= len(shape)
    if indices.ndim:
        return _pick(w, node, {axis: [int(i) % shape[axis] for i in indices]})
    if axis == 0 and shape[0] == 1:
        w.reshape(node.input[0], shape[1:], node.output[0])
        return True
    return False


def _pick(w: Writer, node: onnx.NodeProto, picked: dict[int, list[int]]) -> bool:
    """Take places of axes: one axis after the other, in runs that a Slice can take."""
    pieces = {axis: _runs(found) for axis, found in picked.items()}
    strided = {axis: step for axis, runs in pieces.items() if (step := _stride(w, node, axis, picked[axis], runs))}
    if any(len(runs) > _MOST_PIECES for axis, runs in pieces.items() if axis not in strided):
        return False
    name, output = node.input[0], node.output[0]
    for axis, runs in pieces.items():
        if axis in strided:
            found, step = picked[axis], strided[axis]
            name = _cut(w, name, axis, found[0], found[-1] + 1)
            # A pooling of one pixel that moves by more takes every so many.
            moves = [step if axis == a else 1 for a in _SPATIAL]
            name = w.emit("MaxPool", [name], kernel_shape=[1, 1], strides=moves)
        else:
            parts = [_cut(w, name, axis, *run) for run in runs]
            name = parts[0] if len(parts) == 1 else w.emit("Concat", parts, axis=axis)
    w.emit("Identity", [name], output)
    return True


def _stride(w: Writer, node: onnx.NodeProto, axis: int, found: Sequence[int], runs: Sequence[object]) -> int:
    """The step between places of a map, if it is one and more than 1."""
    steps = set(np.diff(found).tolist())
    regular = len(steps) == 1 and len(runs) > 1 and axis in _SPATIAL and len(w.shape(node.input[0])) == 4
    return max(steps.pop(), 0) if regular else 0


def _runs(found: Sequence[int]) -> list[tuple[int, int]]:
    """[4, 5, 6, 0] as (4, 7) and (0, 1)."""
    runs: list[tuple[int, int]] = []
    for i in found:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _cut(w: Writer, name: str, axis: int, first: int, end: int) -> str:
    ends = [w.hold(np.array([v], np.int64), "place") for v in (first, end, axis)]
    return w.emit("Slice", [name, *ends])


def _pad(w: Writer, node: onnx.NodeProto) -> bool:
    shape, pads, value, axes = (w.shape(node.input[0]), w.constant(node, 1), w.constant(node, 2), w.constant(node, 3))
    if not shape or pads is None or attributes(node).get("mode", b"constant") != b"constant":
        return False
    places = range(len(shape)) if axes is None else [int(a) % len(shape) for a in axes]
    around = {a: (int(pads[i]), int(pads[i + len(places)])) for i, a in enumerate(places)}
    fill = float(0 if value is None else value.item())
    simple = fill == 0 and all(min(both) >= 0 and (a in _SPATIAL or not any(both)) for a, both in around.items())
    if simple and len(node.input) == 2 and "mode" in attributes(node):
        return False
    name = node.input[0]
    if simple:
        both = [around.get(a, (0, 0)) for a in range(len(shape))]
        sides = np.array([b for b, _ in both] + [a for _, a in both], np.int64)
        w.emit("Pad", [name, w.hold(sides, "pads")], node.output[0], mode="constant")
        return True
    size = list(shape)
    for axis, (before, after) in around.items():
        if min(before, after) < 0:
            name = _cut(w, name, axis, max(-before, 0), size[axis] + min(after, 0))
            size[axis] += min(before, 0) + min(after, 0)
        edges = [
            [w.hold(np.full([*size[:axis], count, *size[axis + 1 :]], fill, np.float32), "edge")] if count > 0 else []
            for count in (before, after)
        ]
        if any(edges):
            name = w.emit("Concat", [*edges[0], name, *edges[1]], axis=axis)
            size[axis] += max(before, 0) + max(after, 0)
    w.emit("Identity", [name], node.output[0])
    return True


def _tile(w: Writer, node: onnx.NodeProto) -> bool:
    repeats = w.constant(node, 1)
    if repeats is None or repeats.max(initial=1) > _MOST_PIECES:
        return False
    name = node.input[0]
    for axis, count in enumerate(repeats.tolist()):
        name = name if count == 1 else w.emit("Concat", [name] * count, axis=axis)
    w.emit("Identity", [name], node.output[0])
    return True


def _space_to_depth(w: Writer, node: onnx.NodeProto) -> bool:
    """A convolution of ones and zeros: pnnx orders the channels as PyTorch does."""
    shape, block = w.shape(node.input[0]), attributes(node)["blocksize"]
    if not shape:
        return False
    channels = shape[1]
    kernel = np.zeros((block, block, channels, channels, block, block), np.float32)
    for y in range(block):
        for x in range(block):
            kernel[y, x, :, :, y, x] = np.eye(channels)
    weight = w.hold(kernel.reshape(-1, channels, block, block), "places")
    w.emit("Conv", [node.input[0], weight], node.output[0], kernel_shape=[block] * 2, strides=[block] * 2)
    return True


def _depth_to_space(w: Writer, node: onnx.NodeProto) -> bool:
    """PyTorch's order of channels, which pnnx knows, from the other one."""
    shape, given = w.shape(node.input[0]), attributes(node)
    if given.get("mode", b"DCR") != b"DCR" or not shape:
        return False
    block = given["blocksize"]
    _, channels, height, width = shape
    parts = w.reshape(node.input[0], (1, block * block, channels // block**2, height * width))
    turned = w.reshape(w.emit("Transpose", [parts], perm=[0, 2, 1, 3]), shape)
    w.emit("DepthToSpace", [turned], node.output[0], blocksize=block, mode="CRD")
    return True


FORMS: dict[str, Form] = {
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Tile": _tile,
    "SpaceToDepth": _space_to_depth,
    "DepthToSpace": _depth_to_space,
}
