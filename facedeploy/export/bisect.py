"""Which operator a backend gets wrong: looked for where a compiled network of the user's own is off.

Nodes 0..k of the graph are a network too, whose outputs are what the rest reads. The smallest k that is off is found
by halves, and node k is what to name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facedeploy.core.errors import ConversionError, FacedeployError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.optional_imports import onnx
from facedeploy.export.compiler import Compile, Job
from facedeploy.graph.index import shape_of
from facedeploy.graph.rewrite import part_of
from facedeploy.metrics.box_overlap import BoxOutputs
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.verification import tensors as parity

# Opens what a compiler wrote for a job.
Open = Callable[[Job, Any], Runtime]


def first_wrong(onnx_path: Path, spec: NetworkSpec, feed: Arrays, compile_network: Compile, opened: Open) -> str:
    """Name the first operator of a float32 graph that is wrong in float32, such as "Resize (node up_1)".

    Empty where none is: what is off then is the precision.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(onnx_path), data_prop=True)
    nodes = model.graph.node

    def wrong(count: int) -> bool:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            part = beginning(model, count)
            job = Job(spec_of(part, spec), folder / f"{spec.name}.onnx", "fp32", folder)
            if not job.spec.outputs:
                return False
            onnx.save(part, job.onnx_path)
            try:
                with (
                    OnnxRuntimeRuntime(job.onnx_path, job.spec, RuntimeOptions()) as reference,
                    opened(job, compile_network(job)) as runtime,
                ):
                    rows = parity.measure(reference, runtime, [feed], "fp32", BoxOutputs("", ""))
            except ConversionError:
                # A piece may be more than a converter can do with, where the whole was not; it proves nothing.
                return False
            except FacedeployError:
                return True
            return not all(map(parity.TOLERANCES["fp32"].accepts, rows))

    low, high = 0, len(nodes)
    if not wrong(high):
        return ""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(middle) else (middle, high)
    node = nodes[high - 1]
    return f"{node.op_type} (node {node.name or node.output[0]})"


def beginning(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """The first nodes of a graph as a network; its outputs are the float tensors that the rest, or the user, reads."""
    graph = model.graph
    made = {name for node in graph.node[:count] for name in node.output}
    wanted = {name for node in graph.node[count:] for name in node.input} | {v.name for v in graph.output}
    typed = {v.name: v for v in (*graph.value_info, *graph.output)}
    outputs = [
        typed[name]
        for name in dict.fromkeys(n for node in graph.node[:count] for n in node.output)
        if name in made & wanted & set(typed) and typed[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    return part_of(model, graph.node[:count], graph.input, outputs)


def spec_of(model: onnx.ModelProto, spec: NetworkSpec) -> NetworkSpec:
    """The spec of such a beginning of a network."""
    outputs = tuple(TensorSpec(v.name, shape_of(v)) for v in model.graph.output)
    return NetworkSpec(spec.name, spec.inputs, outputs, spec.axes)
