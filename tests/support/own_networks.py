"""Small ONNX files of any age, made by hand: what exporters of the last years wrote, and decoded detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facedeploy.runtimes.base import Array

SIZE = (32, 40)
Shape = Sequence[int | str]
Nodes = Sequence[onnx.NodeProto]

node = helper.make_node


def weights(*shape: int) -> Array:
    rng = np.random.default_rng(shape)
    values: Array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def convolution(source: str, target: str, weight: str) -> onnx.NodeProto:
    return node("Conv", [source, weight], [target], kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def write(
    path: Path,
    nodes: Nodes,
    constants: Mapping[str, Any],
    outputs: Mapping[str, Shape],
    *,
    opset: int = 13,
    ir: int = 8,
    image: str = "x",
    shape: Shape = (1, 3, *SIZE),
    kinds: Mapping[str, int] | None = None,
    weights_are_inputs: bool = False,
    domains: Sequence[str] = (),
    save: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model as it stands: nothing checks it."""
    kinds = kinds or {}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    inputs = [helper.make_tensor_value_info(image, kinds.get(image, TensorProto.FLOAT), shape)]
    if weights_are_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
    values = [helper.make_tensor_value_info(k, kinds.get(k, TensorProto.FLOAT), s) for k, s in outputs.items()]
    graph = helper.make_graph(nodes, "graph", inputs, values, tensors, doc_string="a page of notes")
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, **(save or {}))
    return path


def plain(path: Path, **options: Any) -> Path:
    """One convolution and its activation."""
    return write(
        path,
        [convolution("x", "c", "w"), node("Relu", ["c"], ["y"])],
        {"w": weights(4, 3, 3, 3)},
        {"y": [1, 4, *SIZE]},
        **options,
    )


def opset9(path: Path) -> Path:
    """PyTorch 1.0's kind of file: weights among the inputs, BatchNormalization, Upsample, Slice with attributes, a
    weight that nothing reads, an output that is read on, and names with slashes, colons and digits.
    """
    nodes = [
        convolution("input/image:0", "c", "stem.conv.weight"),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        node("Relu", ["n"], ["42"]),
        node("MaxPool", ["42"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Upsample", ["p", "scales"], ["u"], mode="nearest"),
        node("Add", ["u", "42"], ["a/b:0"]),
        node("Slice", ["a/b:0"], ["s"], axes=[1], starts=[0], ends=[2]),
        convolution("s", "head", "head.weight"),
    ]
    constants = {
        "stem.conv.weight": weights(4, 3, 3, 3),
        "head.weight": weights(5, 2, 3, 3),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "scale": np.full(4, 1.5, np.float32),
        "shift": np.full(4, 0.1, np.float32),
        "mean": np.full(4, 0.2, np.float32),
        "var": np.full(4, 2.0, np.float32),
        "unused": np.ones(3, np.float32),
    }
    outputs = {"head": [1, 5, *SIZE], "a/b:0": [1, 4, *SIZE]}
    return write(path, nodes, constants, outputs, opset=9, ir=3, image="input/image:0", weights_are_inputs=True)


def opset10(path: Path) -> Path:
    """Every axis open, and a Resize that samples as only opset 10 does."""
    nodes = [
        convolution("x", "c", "w"),
        node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["p", "scales"], ["u"], mode="linear"),
        node("Add", ["u", "c"], ["y"]),
    ]
    constants = {"w": weights(4, 3, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)}
    outputs: dict[str, Shape] = {"y": ["N", 4, "height", "width"]}
    return write(path, nodes, constants, outputs, opset=10, ir=5, shape=("N", 3, "height", "width"))


def opset11(path: Path) -> Path:
    """Numbers for names, which converters use as well; Clip with inputs, Softmax over the rest, reductions."""
    nodes = [
        convolution("0", "1", "w"),
        node("Clip", ["1", "lo", "hi"], ["2"]),
        node("Softmax", ["2"], ["3"], axis=1),
        node("Pad", ["2", "pads"], ["4"], mode="reflect"),
        node("ReduceSum", ["4"], ["5"], axes=[3], keepdims=0),
        node("ReduceMean", ["5"], ["6"], axes=[2], keepdims=0),
    ]
    constants = {
        "w": weights(4, 3, 3, 3),
        "lo": np.float32(0),
        "hi": np.float32(6),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    return write(
        path, nodes, constants, {"2": [1, 4, *SIZE], "6": [1, 4], "3": [1, 4, *SIZE]}, opset=11, ir=6, image="0"
    )


def opset24(path: Path) -> Path:
    """Today's, normalised in the graph, with an operator and a reduction of today."""
    nodes = [
        node("Mul", ["x", "scale"], ["m"]),
        convolution("m", "c", "w"),
        node("Gelu", ["c"], ["g"]),
        node("ReduceMean", ["g", "axes"], ["y"], keepdims=0),
    ]
    constants = {"w": weights(4, 3, 3, 3), "axes": np.array([2, 3]), "scale": np.float32(1 / 128)}
    return write(path, nodes, constants, {"y": [1, 4]}, opset=24, ir=10)


BOXES = ((0.1, 0.2, 0.5, 0.6), (0.12, 0.2, 0.5, 0.6), (0.7, 0.1, 0.9, 0.3), (0.0, 0.0, 1.0, 1.0))
SCORES = (0.9, 0.8, 0.7, 0.2)
POINTS = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in BOXES)
ANGLES = (10.0, 20.0, 30.0, 40.0)


def decoded(path: Path, *, classes: int = 0, unit: bool = True) -> Path:
    """A detector whose answers are known: on a black picture, `BOXES` with `SCORES`; on any other, nearly those.

    classes: scores (1, P, classes), a face being the last class; 0 for (1, P).
    """
    height, width = SIZE
    factor = np.ones(4) if unit else np.array([width, height, width, height])
    scores = np.array(SCORES, np.float32)[None]
    if classes:
        scores = np.stack([0 * scores] * (classes - 1) + [scores], axis=-1)
    boxes = np.array(BOXES)[None] * factor
    constants: dict[str, Any] = {
        "w": weights(4, 3, 3, 3) / 1e4,
        "axes": np.array([1, 2, 3]),
        "k_boxes": boxes.astype(np.float32),
        "k_scores": scores,
        "k_points": boxes.astype(np.float32),
        "k_yaw": np.array(ANGLES, np.float32)[None, :, None],
    }
    nodes = [convolution("x", "c", "w"), node("ReduceMean", ["c", "axes"], ["m"], keepdims=1)]
    nodes += [node("Squeeze", ["m", "first"], ["s"])]
    constants["first"] = np.array([0])
    for name in ("boxes", "scores", "points", "yaw"):
        rank = np.ndim(constants[f"k_{name}"])
        source = "s"
        if rank == 2:
            constants["second"] = np.array([1])
            nodes += [node("Squeeze", ["s", "second"], ["s2"])]
            source = "s2"
        nodes += [node("Add", [f"k_{name}", source], [name])]
    outputs: dict[str, Shape] = {
        name: np.shape(constants[f"k_{name}"]) for name in ("boxes", "scores", "points", "yaw")
    }
    return write(path, nodes, constants, outputs, opset=18)
