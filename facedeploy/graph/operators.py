"""ONNX operators that are layers: sums of products of what they read with a weight, which is their second input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facedeploy.graph.index import attributes

if TYPE_CHECKING:
    import onnx

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Those that have a form in int8, with a scale for each output channel of the weight.
INT8_LAYERS = LAYERS - {"ConvTranspose"}


def takes_bias(node: onnx.NodeProto) -> bool:
    """Whether a node is x W + b, with a b for each channel: a convolution, or a Gemm that scales and turns nothing."""
    if node.op_type != "Gemm":
        return node.op_type == "Conv"
    values = attributes(node)
    return values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0 and not values.get("transA")
