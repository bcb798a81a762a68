"""A model's `config.pbtxt`: `ModelConfig` of Triton's model_config.proto, in protobuf's text format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec

Kind = Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]  # Where a model runs: "AUTO" is on a GPU where there is one.
ANY = -1  # In `dims`: whatever a request has.
_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bytes": "TYPE_STRING",
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        name: As requests and answers have it.
        dtype: As NumPy calls it, or "bytes".
        dims: Its shape; `ANY` where that differs. Of a model that takes several at once, without the batch.
        optional: Whether a request may leave it out.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Config:
    """What Triton must know of a model.

    Attributes:
        name: Of the model and its folder.
        backend: Of Triton, such as "onnxruntime".
        inputs: What a request has.
        outputs: What an answer has.
        kind: Where it runs.
        file: The file in the folder of the version that the backend opens; None for its default.
        max_batch: How many a request may hold; 0 where the shapes are whole.
        parameters: What the backend reads, by name.
    """

    name: str
    backend: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kind: Kind
    file: str | None = None
    max_batch: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The file."""
        lines = [f"name: {_quoted(self.name)}", f"backend: {_quoted(self.backend)}"]
        if self.file is not None:
            lines.append(f"default_model_filename: {_quoted(self.file)}")
        lines.append(f"max_batch_size: {self.max_batch}")
        for key, tensors in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"{key} {{ {_tensor(tensor)} }}" for tensor in tensors]
        lines.append(f"instance_group {{ count: 1 kind: {self.kind} }}")
        for key, value in self.parameters.items():
            lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}")
        return "\n".join(lines) + "\n"


def shapes(spec: NetworkSpec, batched: bool) -> tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The batch, inputs and outputs of a network.

    Args:
        spec: The network.
        batched: Whether the backend takes batches. Without that, and for a network whose tensors do not all begin with
            one dynamic axis, shapes are whole.

    Returns:
        `max_batch_size`, inputs, outputs.

    Raises:
        InputError: a tensor is a single number without a shape, which Triton does not have, or of an unknown type.
    """
    tensors = (*spec.inputs, *spec.outputs)
    for tensor in tensors:
        if not tensor.shape or tensor.dtype not in _TYPES:
            what = "no shape" if not tensor.shape else f"the type {tensor.dtype}"
            msg = f"{spec.name}: {tensor.name} has {what}, which Triton does not serve: give it another in the network"
            raise InputError(msg)
    first = {tensor.shape[0] for tensor in tensors}
    many = batched and len(first) == 1 and isinstance(spec.inputs[0].shape[0], str)
    many = many and all(len(tensor.shape) > 1 for tensor in tensors)
    return spec.max_batch if many else 0, _tensors(spec.inputs, many), _tensors(spec.outputs, many)


def _tensors(specs: Sequence[TensorSpec], many: bool) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(t.name, t.dtype, tuple(d if isinstance(d, int) else ANY for d in t.shape[many:])) for t in specs
    )


def _tensor(tensor: Tensor) -> str:
    dims = ", ".join(map(str, tensor.dims))
    text = f"name: {_quoted(tensor.name)} data_type: {_TYPES[tensor.dtype]} dims: [ {dims} ]"
    return f"{text} optional: true" if tensor.optional else text


def _quoted(text: str) -> str:
    escaped = (f"\\{ord(c):03o}" if c < " " or c in '"\\' else c for c in text)
    return f'"{"".join(escaped)}"'
