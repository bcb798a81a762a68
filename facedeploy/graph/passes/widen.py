"""Floats of 16 and 64 bits as float32: weights, constants, casts, inputs and outputs, whatever is typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from facedeploy.core.optional_imports import onnx

# Attributes that name a type.
_TYPES = frozenset({"to", "dtype", "stash_type", "output_dtype", "output_datatype"})


def widen(model: onnx.ModelProto) -> int:
    """Give every float of another width 32 bits, in place.

    Returns:
        How many bits the narrowest of them had, 16 or 64; 0 where there is none.
    """
    kinds = onnx.TensorProto
    others: dict[int, int] = {kinds.FLOAT16: 16, kinds.BFLOAT16: 16, kinds.DOUBLE: 64}
    found = set()
    for part in _parts(model):
        if isinstance(part, onnx.TensorProto) and part.data_type in others:
            found.add(others[part.data_type])
            array = onnx.numpy_helper.to_array(part).astype(np.float32)
            part.CopyFrom(onnx.numpy_helper.from_array(array, part.name))
        elif isinstance(part, onnx.TypeProto.Tensor) and part.elem_type in others:
            found.add(others[part.elem_type])
            part.elem_type = kinds.FLOAT
        elif isinstance(part, onnx.AttributeProto) and part.name in _TYPES and part.i in others:
            found.add(others[part.i])
            part.i = kinds.FLOAT
    return min(found, default=0)


def _parts(message: Any) -> Iterator[Any]:
    """Every message inside a protobuf message, and itself."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in (value,) if hasattr(value, "ListFields") else value:
                yield from _parts(item)
