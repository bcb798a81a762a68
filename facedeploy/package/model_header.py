"""model.hpp: the constants of one model, for C++."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from facedeploy.artifact.manifest import Manifest
from facedeploy.package.constants import BoxesConstants
from facedeploy.package.crop_constants import AnyConstants, ChainConstants, CropConstants
from facedeploy.package.networks import Network, networks


def model_header(manifest: Manifest, constants: AnyConstants) -> str:
    """The text of model.hpp.

    Raises:
        InputError: the manifest sets other options of ncnn than the C++ library knows.
    """
    detects = not isinstance(constants, CropConstants | ChainConstants)
    described = [[*_network(n)] for n in networks(manifest)]
    lines = [
        "// Written by `facedeploy package` from the artifact's manifest.",
        "#pragma once",
        "",
        "#include <array>",
        "",
        f"#include <facedeploy/{'config' if detects else 'crop_config'}.hpp>",
        "#include <facedeploy/network.hpp>",
        "",
        "namespace facedeploy::model {",
        "",
        f"inline constexpr const char* name = {quoted(manifest.model)};",
        f"inline constexpr const char* target = {quoted(str(manifest.target))};",
        "",
        f"inline {_type(constants)} config() {{",
        f"    {_type(constants)} value;",
        *(f"    value.{line};" for line in _assignments(constants)),
        "    return value;",
        "}",
        "",
        f"inline std::array<Network, {len(described)}> networks() {{",
        f"    std::array<Network, {len(described)}> all;",
        *(f"    all[{i}].{line};" for i, network in enumerate(described) for line in network),
        "    return all;",
        "}",
        "",
        "}  // namespace facedeploy::model",
        "",
    ]
    return "\n".join(lines)


def _type(constants: AnyConstants) -> str:
    if isinstance(constants, ChainConstants):
        return f"ChainConfig<{_type(constants.detector)}, {len(constants.lookers)}>"
    if isinstance(constants, CropConstants):
        return "CropConfig"
    return "BoxesConfig" if isinstance(constants, BoxesConstants) else "MosConfig"


def _assignments(value: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(value):
        inner = getattr(value, field.name)
        if is_dataclass(inner):
            yield from _assignments(inner, f"{prefix}{field.name}.")
        elif inner and isinstance(inner, tuple) and is_dataclass(inner[0]):
            for i, one in enumerate(inner):
                yield from _assignments(one, f"{prefix}{field.name}[{i}].")
        else:
            yield f"{prefix}{field.name} = {_literal(field.name, inner)}"


def _literal(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple) and all(isinstance(v, str) for v in value):
        return f"{{{', '.join(map(quoted, value))}}}"
    if isinstance(value, tuple):
        return f"{{{{{', '.join(f'{_number(np.float32(v))}F' for v in value)}}}}}"
    if isinstance(value, str):
        return f"{name.title().replace('_', '')}::{value}"
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


def _network(network: Network) -> Iterator[str]:
    yield f"param = {quoted(network.param)}"
    yield f"bin = {quoted(network.bin)}"
    yield f"inputs = {_names(network.inputs)}"
    yield f"outputs = {_names(network.outputs)}"
    for name, value in network.options.items():
        yield f"options.{name} = {'true' if value else 'false'}"


def _names(names: Sequence[str | None]) -> str:
    return f"{{{{{', '.join('nullptr' if n is None else quoted(n) for n in names)}}}}}"
