"""model.txt: what model.hpp says, for a program that is not compiled for one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePosixPath
from typing import Any

from facedeploy.artifact.manifest import Manifest
from facedeploy.core.errors import InputError
from facedeploy.package.constants import BoxesConstants, Constants
from facedeploy.package.networks import Network, networks

NAME = "model.txt"
_FIRST, _LAST = "facedeploy-model 1", "end"
_INPUTS, _OUTPUTS = 2, 6
_NONE = "-"


def model_text(manifest: Manifest, constants: Constants) -> str:
    """The text of model.txt, which mobile/runner/model_file.hpp reads.

    Lines of a key and its words, in this order: the version; model, target and family; the fields of `Constants` by
    their names; for each network its name, files (names beside model.txt), two inputs, six outputs and options of
    ncnn, as in network.hpp; and `end`. A flag is 0 or 1. In a name, what is no printable character of ASCII is %XX;
    what is not there is `-`.

    Raises:
        InputError: the manifest sets other options of ncnn than the C++ library knows, or a file is in a folder.
    """
    lines = [
        _FIRST,
        f"model {_name(manifest.model)}",
        f"target {manifest.target}",
        f"family {'boxes' if isinstance(constants, BoxesConstants) else 'mos'}",
        *_fields(constants),
    ]
    for network in networks(manifest):
        lines += _network(network)
    return "\n".join([*lines, _LAST, ""])


def _fields(value: Any) -> Iterator[str]:
    for field in fields(value):
        inner = getattr(value, field.name)
        if is_dataclass(inner):
            yield from _fields(inner)
        else:
            yield f"{field.name} {' '.join(map(_word, inner if isinstance(inner, tuple) else (inner,)))}"


def _word(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _network(network: Network) -> Iterator[str]:
    yield f"network {_name(network.name)}"
    yield f"param {_name(_plain(network.param))}"
    yield f"bin {_name(_plain(network.bin))}"
    yield f"inputs {_names(network.inputs, _INPUTS)}"
    yield f"outputs {_names(network.outputs, _OUTPUTS)}"
    for name, value in network.options.items():
        yield f"{name} {_word(value)}"


def _plain(path: str) -> str:
    if PurePosixPath(path).name != path:
        msg = f"the runner takes files that lie beside each other, not {path}: export the artifact again"
        raise InputError(msg)
    return path


def _names(names: Sequence[str | None], count: int) -> str:
    return " ".join(_NONE if n is None else _name(n) for n in (*names, *[None] * (count - len(names))))


def _name(value: str) -> str:
    if value == _NONE:
        return f"%{ord(_NONE):02X}"
    return "".join(chr(b) if 33 <= b < 127 and b != ord("%") else f"%{b:02X}" for b in value.encode(errors="replace"))
