"""Which operator ncnn, or pnnx, cannot take: named as the network has it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.export.beginning import beginning, spec_of

# How pnnx calls layers that ncnn lacks, where that is no more than another spelling of ONNX's name.
_SPELLINGS = {
    "to": "Cast",
    "gt": "Greater",
    "lt": "Less",
    "ge": "GreaterOrEqual",
    "le": "LessOrEqual",
    "eq": "Equal",
    "logicaland": "And",
    "logicalor": "Or",
    "logicalnot": "Not",
    "linear": "Gemm",
    "maxpool2d": "MaxPool",
    "avgpool2d": "AveragePool",
}
_ARITHMETIC = "pnnx.Expression"  # What is left of sums and products of something else that it does not know.


def operators(layers: Sequence[str], model: onnx.ModelProto) -> list[str]:
    """The operators of a graph that layers of pnnx stand for; a layer's own name where none fits."""
    present = {node.op_type.lower(): node.op_type for node in model.graph.node}
    named = set()
    for layer in layers:
        bare = layer.rsplit(".", 1)[-1].replace("_", "").lower()
        named.add(present.get(_SPELLINGS.get(bare, bare).lower(), layer))
    return sorted(named - {_ARITHMETIC}) or sorted(named)


def stops_at(model: onnx.ModelProto, spec: NetworkSpec, runs: Callable[[NetworkSpec, Path, Path], bool]) -> str:
    """The first node with which pnnx writes nothing, such as "Sum (node y)"; empty where that is no node's fault."""
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    nodes = typed.graph.node

    def fails(count: int) -> bool:
        part = beginning(typed, count)
        if not part.graph.output:
            return False
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / f"{spec.name}.onnx"
            onnx.save(part, path)
            return not runs(spec_of(part, spec), path, Path(work))

    low, high = 0, len(nodes)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    if not high or (high == 1 and len(nodes) > 1):
        return ""
    node = nodes[high - 1]
    return f"{node.op_type} (node {node.name or node.output[0]})"
