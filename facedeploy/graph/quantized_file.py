"""In which of its forms a file is quantised already: ONNX has four, and exporters mix them."""

from __future__ import annotations

from typing import Literal

from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import weight_names

# "qdq": pairs around float operators. "qoperator": operators on integers, with their scales as inputs. "dynamic": the
# scales of activations are found anew at each run. "weights": these alone are stored in fewer bits.
Kind = Literal["qdq", "qoperator", "dynamic", "weights"]

NAMES: dict[Kind, str] = {
    "qdq": "Q/DQ",
    "qoperator": "QOperator",
    "dynamic": "dynamic",
    "weights": "weights only",
}
_DYNAMIC = frozenset(
    {
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "ConvInteger",
    }
)
_INTEGERS = frozenset({"QGemm", "QAttention", "QEmbedLayerNormalization", "QMoE"})
_PACKED = frozenset({"MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"})


def kinds_of(model: onnx.ModelProto) -> tuple[Kind, ...]:
    """The forms of quantisation that a graph is in; empty for a float one.

    Args:
        model: Of any age; its local functions are looked into, its subgraphs are not.
    """
    nodes = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    ops = {n.op_type for n in nodes}
    constants = weight_names(model) | {n.output[0] for n in nodes if n.op_type == "Constant"}
    rounded = {n.output[0] for n in nodes if n.op_type == "QuantizeLinear" and n.input[0] not in constants}
    found: list[Kind] = []
    if any(op.startswith("QLinear") for op in ops) or ops & _INTEGERS:
        found.append("qoperator")
    if ops & _DYNAMIC:
        found.append("dynamic")
    read = {n.input[0] for n in nodes if n.op_type == "DequantizeLinear"}
    if rounded & read and "qoperator" not in found:
        found.append("qdq")
    if not found and (read or ops & _PACKED):
        found.append("weights")
    return tuple(found)
