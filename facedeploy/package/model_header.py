"""model.hpp: the constants of one model, for C++."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from facedeploy.artifact import Manifest, NetworkEntry
from facedeploy.errors import InputError
from facedeploy.package.constants import BoxesConstants, Constants

# What an output of the family `boxes` can be, in the order of network.hpp.
ROLES = ("boxes", "scores", "landmarks", "yaw", "pitch", "roll")
# The fields of NcnnOptions in network.hpp, in its order.
OPTIONS = (
    "use_vulkan_compute",
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_int8_inference",
    "use_packing_layout",
    "use_winograd_convolution",
    "use_sgemm_convolution",
)


def model_header(manifest: Manifest, constants: Constants) -> str:
    """The text of model.hpp.

    Raises:
        InputError: the manifest sets an option of ncnn that the C++ library does not know.
    """
    boxes = isinstance(constants, BoxesConstants)
    networks = [_network(n, manifest.pipeline.config if boxes else None) for n in manifest.networks]
    lines = [
        "// Written by `facedeploy package` from the artifact's manifest.",
        "#pragma once",
        "",
        "#include <array>",
        "",
        "#include <facedeploy/config.hpp>",
        "#include <facedeploy/network.hpp>",
        "",
        "namespace facedeploy::model {",
        "",
        f"inline constexpr const char* name = {quoted(manifest.model)};",
        f"inline constexpr const char* target = {quoted(str(manifest.target))};",
        "",
        f"inline {'BoxesConfig' if boxes else 'MosConfig'} config() {{",
        f"    {'BoxesConfig' if boxes else 'MosConfig'} value;",
        *(f"    value.{line};" for line in _assignments(constants)),
        "    return value;",
        "}",
        "",
        f"inline std::array<Network, {len(networks)}> networks() {{",
        f"    std::array<Network, {len(networks)}> all;",
        *(f"    all[{i}].{line};" for i, network in enumerate(networks) for line in network),
        "    return all;",
        "}",
        "",
        "}  // namespace facedeploy::model",
        "",
    ]
    return "\n".join(lines)


def _assignments(value: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(value):
        inner = getattr(value, field.name)
        if is_dataclass(inner):
            yield from _assignments(inner, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name} = {_literal(field.name, inner)}"


def _literal(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"{{{{{', '.join(f'{_number(np.float32(v))}F' for v in value)}}}}}"
    if isinstance(value, str):
        return f"{name.capitalize()}::{value}"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float | np.float32) -> str:
    """The shortest decimal that is the same number."""
    assert math.isfinite(value)
    text = repr(float(value))
    return text if any(c in text for c in ".e") else f"{text}.0"


def quoted(value: str) -> str:
    """A C++ string literal, in UTF-8: names are of files and tensors, which may hold anything."""
    safe = (chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in value.encode(errors="replace"))
    return f'"{"".join(safe)}"'


def _network(entry: NetworkEntry, own: Mapping[str, Any] | None) -> Iterator[str]:
    """own: the pipeline's configuration, where that says what the outputs mean."""
    if unknown := sorted(set(entry.options) - set(OPTIONS)):
        msg = f"the C++ library does not know ncnn's option {unknown[0]}: update facedeploy, or export again with it"
        raise InputError(msg)
    names = own["outputs"] if own else {}
    outputs = [names.get(role) for role in ROLES] if own else [t.name for t in entry.spec.outputs]
    yield f"param = {quoted(entry.files['param'].path)}"
    yield f"bin = {quoted(entry.files['bin'].path)}"
    yield f"inputs = {_names([t.name for t in entry.spec.inputs])}"
    yield f"outputs = {_names(outputs)}"
    for name in OPTIONS:
        if name in entry.options:
            yield f"options.{name} = {'true' if entry.options[name] else 'false'}"


def _names(names: Sequence[str | None]) -> str:
    return f"{{{{{', '.join('nullptr' if n is None else quoted(n) for n in names)}}}}}"
