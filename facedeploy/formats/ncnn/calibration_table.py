"""ncnn2table's text, which ncnn2int8 reads: scales by the names of ncnn's layers, weights first.

conv_0_param_0 181.5 97.25 ...    one scale for each output channel of the weight
conv_0 42.333                     one scale for what the layer reads

A scale is how many int8 steps one unit is: 127 / threshold. A layer that is not in the table stays float.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.core.errors import InputError
from facedeploy.formats.ncnn.bin import INT8_STEPS, Arrays
from facedeploy.formats.ncnn.layouts import INT8_TERM, INT8_TYPES, has_bias, number
from facedeploy.formats.ncnn.param import NcnnLayer

_MAX_BYTES = 64 << 20
_WEIGHT = "_param_"  # ncnn takes every line whose name has this in it for one of weights.
_FIRST_WEIGHT = "_param_0"
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Scales:
    """Scales of an int8 network, float32 numbers as in ncnn.

    Attributes:
        inputs: Layer -> scale of what it reads.
        weights: Layer -> scales of its weight, one for each output channel.
    """

    inputs: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def thresholds(self) -> dict[str, float]:
        """Layer -> magnitude at which what it reads is clipped. `int8.scale_of` makes the same scale of it again."""
        return {name: INT8_STEPS / scale for name, scale in self.inputs.items()}


def scales_of(layers: Sequence[NcnnLayer], arrays: Mapping[str, Arrays]) -> Scales:
    """The scales of the int8 layers of a graph."""
    found = {v.name: arrays[v.name][1 + has_bias(v) :] for v in layers if v.type in INT8_TYPES and number(v, INT8_TERM)}
    return Scales({n: float(a[1][0]) for n, a in found.items()}, {n: tuple(a[0].tolist()) for n, a in found.items()})


def read(path: Path) -> Scales:
    """Read a table.

    Raises:
        InputError: there is no such file, or a line of it is not what ncnn2table writes.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            msg = f"{path} is too large to be a table of ncnn2table"
            raise InputError(msg)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"cannot read the table {path}: {error.strerror}"
        raise InputError(msg) from error
    except ValueError as error:
        msg = f"{path} is not a table of ncnn2table: it is not text"
        raise InputError(msg) from error
    return parse(text, str(path))


def parse(text: str, source: str = "table") -> Scales:
    """Read the text of a table; `source` is what errors call it.

    Raises:
        InputError: a line is not what ncnn2table writes.
    """
    inputs: dict[str, float] = {}
    weights: dict[str, tuple[float, ...]] = {}
    lines = text.rstrip("\r\n").split("\n")
    for i, line in enumerate(lines, 1):
        try:
            _read_line(line, inputs, weights)
        except ValueError as error:
            msg = f"{source}, line {i}: {error}"
            raise InputError(msg) from error
    for name in inputs:
        if name not in weights:
            msg = f"{source} has a scale for what {name} reads and none for its weight ({name}{_FIRST_WEIGHT})"
            raise InputError(msg)
    return Scales(inputs, weights)


def render(scales: Scales) -> str:
    """The text of a table, with as many digits as it takes to read the same numbers back."""
    lines = [" ".join((f"{name}{_FIRST_WEIGHT}", *map(repr, values))) for name, values in scales.weights.items()]
    lines += [f"{name} {value!r}" for name, value in scales.inputs.items()]
    return "".join(f"{line}\n" for line in lines)


def _read_line(line: str, inputs: dict[str, float], weights: dict[str, tuple[float, ...]]) -> None:
    name, *words = line.split() or [""]
    if not name:
        msg = "it is empty, and ncnn reads no further than an empty line"
        raise ValueError(msg)
    values = tuple(map(_read_scale, words))
    if not values:
        msg = f"{name} has no scale"
        raise ValueError(msg)
    if _WEIGHT not in name:
        if len(values) > 1:
            msg = f"{name} reads one tensor and has {len(values)} scales"
            raise ValueError(msg)
        _add(inputs, name, values[0])
    elif name.endswith(_FIRST_WEIGHT) and name.count(_WEIGHT) == 1 and name != _FIRST_WEIGHT:
        _add(weights, name.removesuffix(_FIRST_WEIGHT), values)
    else:
        msg = f"{name} names no weight of a convolution or an inner product"
        raise ValueError(msg)


def _add(found: dict[str, Any], name: str, value: Any) -> None:
    if name in found:
        msg = f"{name} is there a second time"
        raise ValueError(msg)
    found[name] = value


def _read_scale(word: str) -> float:
    """As ncnn holds it, which is in float32. ncnn2table writes inf for nothing but zeros: 127 / 0."""
    if word == "inf":
        return math.inf
    value = float(word) if _NUMBER.fullmatch(word) else math.nan
    if not _SMALLEST <= value <= _LARGEST:
        msg = f"{word} is no scale: it must be a positive number that float32 can hold"
        raise ValueError(msg)
    return float(np.float32(value))
