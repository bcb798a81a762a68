"""What an ONNX file says of itself, and how much there is to compute in a graph."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from facedeploy.core.network_spec import TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.graph.index import infer_shapes, weight_names
from facedeploy.graph.operators import LAYERS
from facedeploy.graph.quantized_file import NAMES, kinds_of

_OPEN = "?"  # An axis without a size and without a name.
_STANDARD = ("", "ai.onnx")
_Shape = tuple[int, ...]
# Operators whose inputs after the first are learned.
_LEARNED = LAYERS | {
    *("DeformConv", "PRelu", "LSTM", "GRU", "RNN", "QLinearConv", "ConvInteger"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"),
}


@dataclass(frozen=True)
class FileFacts:
    """What an ONNX file says of itself.

    Attributes:
        producer: The program that wrote it, with its version; empty where it does not say.
        opset: The version of its operators.
        inputs: That a caller gives; an axis that is open has a name, or "?".
        outputs: As the file declares them.
        operators: Operator -> how often; those that are no standard ones with their domain, as in "com.microsoft:Gelu".
        quantised: In which forms it is quantised already; empty for a float file.
    """

    producer: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    quantised: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """How large a network is.

    Attributes:
        parameters: Numbers that its layers hold: weights and biases, after normalisation is merged into them.
        macs: Multiply-accumulates of Conv, ConvTranspose, DeformConv, Gemm and MatMul, for the sizes of the graph.
    """

    parameters: int
    macs: int


def facts_of(model: onnx.ModelProto) -> FileFacts:
    """What a file says of itself. model: of any age, as it came."""
    weights = weight_names(model)
    producer = f"{model.producer_name} {model.producer_version}".strip()
    nodes = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    counted = Counter(n.op_type if n.domain in _STANDARD else f"{n.domain}:{n.op_type}" for n in nodes)
    return FileFacts(
        producer,
        next((o.version for o in model.opset_import if o.domain in _STANDARD), 1),
        tuple(declared(v) for v in model.graph.input if v.name not in weights),
        tuple(declared(v) for v in model.graph.output),
        dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))),
        tuple(NAMES[kind] for kind in kinds_of(model)),
    )


def work_of(model: onnx.ModelProto) -> Work:
    """Count a graph of fixed shapes, such as `from_torch.convert_onnx` writes."""
    shapes = infer_shapes(model) | {w.name: tuple(w.dims) for w in model.graph.initializer}
    weights = {w.name: math.prod(w.dims) for w in model.graph.initializer}
    learned = {
        name
        for node in model.graph.node
        if node.op_type in _LEARNED
        for name in (node.input if node.op_type == "MatMul" else node.input[1:])
        if name in weights
    }
    macs = sum(
        _MACS[node.op_type](shapes, node) for node in model.graph.node if node.op_type in _MACS and _known(shapes, node)
    )
    return Work(sum(weights[name] for name in learned), macs)


def declared(value: onnx.ValueInfoProto) -> TensorSpec:
    """What a graph says of a tensor, with the names of its open axes."""
    tensor = value.type.tensor_type
    dims = tuple(d.dim_value if d.dim_value > 0 else d.dim_param or _OPEN for d in tensor.shape.dim)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else _OPEN
    return TensorSpec(value.name, dims, kind)


def _known(shapes: Mapping[str, _Shape], node: onnx.NodeProto) -> bool:
    """Whether both factors and the product have shapes."""
    return all(shapes.get(name) for name in (*node.input[:2], node.output[0]))


def _convolution(shapes: Mapping[str, _Shape], node: onnx.NodeProto) -> int:
    # The weight is (out, in / groups, *kernel), and each number of the output is a sum over all but its first axis.
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _transposed(shapes: Mapping[str, _Shape], node: onnx.NodeProto) -> int:
    # The weight is (in, out / groups, *kernel), and each number of the input goes into all but its first axis.
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _gemm(shapes: Mapping[str, _Shape], node: onnx.NodeProto) -> int:
    a = shapes[node.input[0]]
    swapped = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(shapes[node.output[0]]) * a[0 if swapped else 1]


def _matmul(shapes: Mapping[str, _Shape], node: onnx.NodeProto) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


_MACS: dict[str, Callable[[Mapping[str, _Shape], onnx.NodeProto], int]] = {
    "Conv": _convolution,
    "DeformConv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
