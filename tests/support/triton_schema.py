"""The part of Triton's model_config.proto that a repository of ours may use, and Triton's rules for it.

Names, numbers and types are those of triton-inference-server/common, protobuf/model_config.proto. A field, a value or a
type that is not there is refused, as the server does.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

# Message -> field -> (number, type, whether it is repeated).
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "ModelConfig": {
        "name": (1, "string", False),
        "platform": (2, "string", False),
        "max_batch_size": (4, "int32", False),
        "input": (5, ".inference.ModelInput", True),
        "output": (6, ".inference.ModelOutput", True),
        "instance_group": (7, ".inference.ModelInstanceGroup", True),
        "default_model_filename": (8, "string", False),
        "parameters": (14, ".inference.ModelConfig.ParametersEntry", True),
        "backend": (17, "string", False),
        "runtime": (25, "string", False),
    },
    "ModelInput": {
        "name": (1, "string", False),
        "data_type": (2, ".inference.DataType", False),
        "dims": (4, "int64", True),
        "optional": (8, "bool", False),
    },
    "ModelOutput": {
        "name": (1, "string", False),
        "data_type": (2, ".inference.DataType", False),
        "dims": (3, "int64", True),
        "label_filename": (4, "string", False),
    },
    "ModelInstanceGroup": {
        "name": (1, "string", False),
        "count": (2, "int32", False),
        "gpus": (3, "int32", True),
        "kind": (4, ".inference.Kind", False),
    },
    "ModelParameter": {"string_value": (1, "string", False)},
}
_ENUMS = {
    "DataType": {
        "TYPE_INVALID": 0,
        "TYPE_BOOL": 1,
        "TYPE_UINT8": 2,
        "TYPE_UINT16": 3,
        "TYPE_UINT32": 4,
        "TYPE_UINT64": 5,
        "TYPE_INT8": 6,
        "TYPE_INT16": 7,
        "TYPE_INT32": 8,
        "TYPE_INT64": 9,
        "TYPE_FP16": 10,
        "TYPE_FP32": 11,
        "TYPE_FP64": 12,
        "TYPE_STRING": 13,
        "TYPE_BF16": 14,
    },
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}


def parse(text: str) -> Any:
    """A `config.pbtxt`, as a message.

    Raises:
        google.protobuf.text_format.ParseError: it is not one.
    """
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(text, _config()())


@functools.cache
def _config() -> Any:
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    descriptor_pool = pytest.importorskip("google.protobuf.descriptor_pool")
    message_factory = pytest.importorskip("google.protobuf.message_factory")
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        _fields(message, fields)
        if name == "ModelConfig":
            entry = message.nested_type.add(name="ParametersEntry")
            entry.options.map_entry = True
            _fields(entry, {"key": (1, "string", False), "value": (2, ".inference.ModelParameter", False)})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def _fields(message: Any, fields: dict[str, tuple[int, str, bool]]) -> None:
    for name, (number, kind, repeated) in fields.items():
        made = message.field.add(name=name, number=number, label=3 if repeated else 1)
        if not kind.startswith("."):
            made.type = type(made).Type.Value(f"TYPE_{kind.upper()}")
            continue
        made.type = 14 if kind.rpartition(".")[2] in _ENUMS else 11
        made.type_name = kind
