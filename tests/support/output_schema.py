"""The JSON Schema of what --json prints: made of the dataclasses that are printed, and of the few dictionaries.

It stands in docs/reference/output.schema.json. After a change that is meant: `python -m tests.support.output_schema`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facedeploy.artifact.manifest import Parity
from facedeploy.benchmarks import record
from facedeploy.benchmarks.compare import Comparison
from facedeploy.calibration.report import CalibrationReport
from facedeploy.cli.output import JSON_VERSION
from facedeploy.core.terms import Terms
from facedeploy.models.model_size import NetworkStatistics
from facedeploy.runtimes.doctor import BackendStatus
from facedeploy.verification.verify import Verification

# The package's `inspect` is the verb.
Inspection = importlib.import_module("facedeploy.export.inspection").Inspection

FILE = Path(__file__).parents[2] / "docs" / "reference" / "output.schema.json"
Schema = dict[str, Any]

_KINDS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}
_TEXT, _INTEGER, _NUMBER = ({"type": t} for t in ("string", "integer", "number"))


def schema() -> Schema:
    """The whole: a definition for each command, by its name, and for each dataclass, by its."""
    shared: dict[str, Schema] = {}
    commands = {
        "models": {"anyOf": [_model(shared), _fetched(shared)]},
        "inspect": {
            "anyOf": [
                _of_class(Inspection, shared),
                _printed(
                    {
                        "artifact": (_TEXT, "The folder."),
                        "model": (_TEXT, "That it was made from."),
                        "target": (_TEXT, "Backend and precision."),
                        "pipeline": (_TEXT, "What makes faces of the networks' outputs."),
                        "family": (_TEXT, "Of a network of your own; else empty."),
                        "recognised": (_TEXT, "Why it was taken as that family; else empty."),
                        "inputs": (_TEXT, "Names and shapes."),
                        "size": (_TEXT, "Of the compiled files, for a person."),
                    }
                ),
            ]
        },
        "export": _printed(
            {
                "artifact": (_TEXT, "The folder."),
                "size": (_INTEGER, "Bytes of the compiled files."),
                "parity": (_list(_of(Parity, shared)), "How far each output is from the original's."),
            }
        ),
        "verify": _of_class(Verification, shared),
        "detect": _printed(
            {
                "image": (_TEXT, "The file."),
                "width": (_INTEGER, "Pixels."),
                "height": (_INTEGER, "Pixels."),
                "faces": (_list(_face()), "By falling score."),
            },
            {"frame": (_INTEGER, "Of a video, from 0.")},
        ),
        "chain": _printed(
            {
                "artifact": (_TEXT, "The folder."),
                "parts": (_list(_TEXT), "Their names; the detector is the first."),
                "size": (_INTEGER, "Bytes of the compiled files."),
            }
        ),
        "calibrate": {
            "anyOf": [
                _of_class(CalibrationReport, shared, {"path": (_TEXT, "The table that was written.")}),
                _printed(
                    {
                        "path": (_TEXT, "The folder of tables that was written."),
                        "parts": (_map(_of(CalibrationReport, shared)), "Of a chain: part, and what was found."),
                    }
                ),
            ]
        },
        "benchmark": _of(record.Record, shared),
        "compare": _of_class(Comparison, shared),
        "matrix": _printed(
            {
                "cells": (_list(_cell()), "In the order of the file."),
                "report": (_TEXT, "Its folder."),
                "gate": (_list(_TEXT), "A sentence for each limit that is broken."),
            }
        ),
        "build": _printed(
            {
                "artifact": (_TEXT, "The folder."),
                "networks": (_list(_TEXT), "Names of those whose engines were built."),
            }
        ),
        "package": _printed(
            {
                "artifact": (_TEXT, "The folder."),
                "written": (_list(_TEXT), "The folders that were written."),
            }
        ),
        "doctor": _of_class(BackendStatus, shared),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What facedeploy COMMAND --json prints",
        "$defs": {**commands, **shared},
    }


def as_text(whole: Schema) -> str:
    """A line for each property, and not for each brace."""
    head = json.dumps({key: value for key, value in whole.items() if key != "$defs"})
    definitions = ",\n".join(f"  {json.dumps(name)}: {_lines(kind)}" for name, kind in whole["$defs"].items())
    return head[:-1] + ', "$defs": {\n' + definitions + "\n}}\n"


def _lines(kind: Schema) -> str:
    if "anyOf" in kind:
        return '{"anyOf": [' + ", ".join(_lines(one) for one in kind["anyOf"]) + "]}"
    if "properties" not in kind:
        return json.dumps(kind)
    rest = json.dumps({key: value for key, value in kind.items() if key != "properties"})
    inner = ",\n".join(f"    {json.dumps(n)}: {json.dumps(k)}" for n, k in kind.get("properties", {}).items())
    return rest[:-1] + ', "properties": {\n' + inner + "}}"


def _model(shared: dict[str, Schema]) -> Schema:
    return _printed(
        {
            "id": (_TEXT, "What `export` takes."),
            "title": (_TEXT, "What it finds, in a sentence."),
            **_fields(Terms, shared),
            "networks": (_list(_of(NetworkStatistics, shared)), "Empty where PyTorch is not installed."),
        }
    )


def _fetched(shared: dict[str, Schema]) -> Schema:
    file = _object(
        {
            "name": (_TEXT, "Of the file."),
            "sha256": (_TEXT, "Of what it holds."),
            "known": ({"type": "boolean"}, "Whether that was known before, and is compared."),
        }
    )
    return _printed(
        {
            "model": (_TEXT, "What `export` takes."),
            "folder": (_TEXT, "Where the files are."),
            "new": ({"type": "boolean"}, "Whether they were fetched now."),
            "authors": (_TEXT, "Whose weights they are."),
            "terms": (_of(Terms, shared), "Of the weights."),
            "files": (_list(file), "What was fetched."),
        }
    )


def _face() -> Schema:
    angle = (_NUMBER, "Degrees.")
    return _object(
        {
            "box": (_list(_NUMBER, 4), "x1, y1, x2, y2 in pixels of the picture."),
            "score": (_NUMBER, "0 to 1."),
        },
        {
            "landmarks": (_list(_list(_NUMBER, 2)), "x, y of each, in pixels of the picture."),
            **dict.fromkeys(("yaw", "pitch", "roll"), angle),
            "embedding": (_list(_NUMBER), "Of a network that gives one."),
            "classes": (_map(_NUMBER), "Name and probability, of a network that gives them."),
        },
    )


def _cell() -> Schema:
    maybe = {"anyOf": [_TEXT, {"type": "null"}]}
    return _object(
        {
            "cell": (_TEXT, "Its name."),
            "artifact": (maybe, "The folder; null where there is none."),
            "refused": (maybe, "Why there is none; null where there is one."),
            "problems": (_list(_TEXT), "What `verify` objects to."),
        }
    )


_Fields = Mapping[str, tuple[Schema, str]]


def _object(required: _Fields, optional: _Fields | None = None) -> Schema:
    fields = {**required, **(optional or {})}
    return {
        "type": "object",
        "properties": {name: {**kind, "description": text} for name, (kind, text) in fields.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def _printed(required: _Fields, optional: _Fields | None = None) -> Schema:
    """What `print_json` makes of a dictionary."""
    return _object({"version": ({"const": JSON_VERSION}, "Of this form."), **required}, optional)


def _list(kind: Schema, length: int | None = None) -> Schema:
    bounds = {} if length is None else {"minItems": length, "maxItems": length}
    return {"type": "array", "items": kind, **bounds}


def _map(kind: Schema) -> Schema:
    return {"type": "object", "additionalProperties": kind}


def _of(hint: Any, shared: dict[str, Schema]) -> Schema:
    """What `to_plain` makes of a value of that type."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in shared:
            shared[hint.__name__] = {}  # It may hold itself.
            shared[hint.__name__] = _object(_fields(hint, shared))
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(a, shared) for a in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return _list(_of(arguments[0], shared))
        kinds = [_of(a, shared) for a in arguments]
        return _list(kinds[0] if all(k == kinds[0] for k in kinds) else {"anyOf": kinds}, len(arguments))
    if origin in (list, dict) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _list(_of(arguments[0], shared)) if origin is list else _map(_of(arguments[1], shared))
    return dict(_KINDS[hint])


def _of_class(cls: Any, shared: dict[str, Schema], more: _Fields | None = None) -> Schema:
    """A dataclass that is printed itself, with the version."""
    return _printed({**(more or {}), **_fields(cls, shared)})


def _fields(cls: Any, shared: dict[str, Schema]) -> _Fields:
    hints, said = typing.get_type_hints(cls), _descriptions(cls)
    return {f.name: (_of(hints[f.name], shared), said.get(f.name, "")) for f in dataclasses.fields(cls)}


def _descriptions(cls: type) -> dict[str, str]:
    """What the docstring says of each attribute."""
    text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def objections(value: Any, kind: Schema, whole: Schema, where: str = "") -> Iterator[str]:
    """What of a value is not as the schema says, of the keywords that are used here."""
    if "$ref" in kind:
        kind = {**whole["$defs"][kind["$ref"].rpartition("/")[2]], **{k: v for k, v in kind.items() if k != "$ref"}}
    if unknown := kind.keys() - _KEYWORDS:
        yield f"{where}: the schema has {sorted(unknown)}, which nobody checks"
    if "anyOf" in kind and not any(not list(objections(value, one, whole, where)) for one in kind["anyOf"]):
        yield f"{where}: {value!r} is none of {kind['anyOf']}"
    if "enum" in kind and value not in kind["enum"]:
        yield f"{where}: {value!r} is none of {kind['enum']}"
    if "const" in kind and (value != kind["const"] or isinstance(value, bool)):
        yield f"{where}: {value!r} is not {kind['const']!r}"
    if "type" in kind and not _is(value, kind["type"]):
        yield f"{where}: {value!r} is no {kind['type']}"
    elif kind.get("type") == "array":
        if not kind.get("minItems", 0) <= len(value) <= kind.get("maxItems", len(value)):
            yield f"{where}: it has {len(value)} items"
        for i, item in enumerate(value):
            yield from objections(item, kind["items"], whole, f"{where}[{i}]")
    elif kind.get("type") == "object":
        properties, other = kind.get("properties", {}), kind.get("additionalProperties", {})
        yield from (f"{where}.{name} is missing" for name in kind.get("required", ()) if name not in value)
        for name, item in value.items():
            if name in properties:
                yield from objections(item, properties[name], whole, f"{where}.{name}")
            elif other is False:
                yield f"{where}.{name} is not known"
            else:
                yield from objections(item, other, whole, f"{where}.{name}")


_KEYWORDS = {
    *("type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
    *("anyOf", "enum", "const", "description"),
}


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    return isinstance(value, kinds[kind])


if __name__ == "__main__":
    FILE.write_text(as_text(schema()), encoding="utf-8")
