"""Weights that several convolutions share, once in the file.

    x ─► Convolution a ─► ... ─► Convolution b ─► y        the same weight and bias in both, so twice in the bin
becomes
    MemoryData ─► Split ─┬► ...                            once in the bin, and an input of both convolutions
    x ─► Convolution a ─► ... ─► Convolution b ─► y        (ncnn's dynamic_weight)

ncnn loads and runs these files as they are, but transforms such weights anew at each call. `unshared` is the way back,
for who has the memory and wants the time.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph
from facedeploy.formats.ncnn.bin import FEATURE_MASK, Arrays
from facedeploy.formats.ncnn.layouts import DYNAMIC_WEIGHT, INT8_TERM, LOAD_TYPE, has_bias, is_dynamic, number
from facedeploy.formats.ncnn.param import NcnnLayer

_FEWEST_BYTES = 1 << 16  # A smaller weight is not worth it.
_OUTPUTS, _KERNEL_WIDTH, _KERNEL_HEIGHT = 0, 1, 11
_SHARED = "shared"


def share(layers: Sequence[NcnnLayer], arrays: Mapping[str, Arrays]) -> tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]:
    """Hold the weights of float convolutions that have the same ones once."""
    groups: dict[tuple[object, ...], list[NcnnLayer]] = {}
    for layer in layers:
        if layer.type == "Convolution" and not number(layer, INT8_TERM) and not is_dynamic(layer):
            groups.setdefault(_content(layer, arrays[layer.name]), []).append(layer)
    shared = [g for g in groups.values() if len(g) > 1 and arrays[g[0].name][0].nbytes >= _FEWEST_BYTES]
    made: dict[str, NcnnLayer] = {}
    before: dict[str, list[NcnnLayer]] = {}
    kept = dict(arrays)
    for i, group in enumerate(shared):
        held = arrays[group[0].name]
        for layer in group:
            del kept[layer.name]
        blobs = []
        for kind, array in zip(("weight", "bias"), held, strict=False):
            name = f"{_SHARED}_{kind}_{i}"
            parts = tuple(f"{name}_{k}" for k in range(len(group)))
            constant = NcnnLayer("MemoryData", name, (), (name,), _sides(group[0], kind, array.size))
            before.setdefault(group[0].name, []).extend([constant, NcnnLayer("Split", f"{name}_split", (name,), parts)])
            kept[name] = (array,)
            blobs.append(parts)
        for layer, *inputs in zip(group, *blobs, strict=True):
            params = (*layer.params, (DYNAMIC_WEIGHT, "1"))
            made[layer.name] = replace(layer, inputs=(*layer.inputs, *inputs), params=params)
    changed = [new for v in layers for new in (*before.get(v.name, ()), made.get(v.name, v))]
    return tuple(changed), kept


def unshare(
    layers: Sequence[NcnnLayer], arrays: Mapping[str, Arrays]
) -> tuple[tuple[NcnnLayer, ...], dict[str, Arrays]]:
    """The way back from `share`: every convolution with weights of its own."""
    made_by = graph.producers(layers)
    kept = dict(arrays)
    changed: list[NcnnLayer] = []
    dropped: set[str] = set()
    for layer in layers:
        if not is_dynamic(layer) or not layer.inputs[1].startswith(f"{_SHARED}_weight_"):
            changed.append(layer)
            continue
        splits = [made_by[blob] for blob in layer.inputs[1:]]
        constants = [made_by[split.inputs[0]] for split in splits]
        dropped |= {v.name for v in (*splits, *constants)}
        kept[layer.name] = tuple(arrays[v.name][0] for v in constants)
        params = tuple(p for p in layer.params if p[0] != DYNAMIC_WEIGHT)
        changed.append(replace(layer, inputs=layer.inputs[:1], params=params))
    for name in dropped:
        kept.pop(name, None)
    return tuple(v for v in changed if v.name not in dropped), kept


@contextlib.contextmanager
def unshared(param: Path, data: Path) -> Iterator[tuple[Path, Path]]:
    """The two files, or temporary ones in which nothing is shared.

    Raises:
        ConversionError: they share weights and cannot be read.
    """
    text = param.read_text(encoding="utf-8", errors="replace")
    if f"{_SHARED}_weight" not in text:
        yield param, data
        return
    layers = graph.parse(text)
    layers, arrays = unshare(layers, weights.read(layers, data.read_bytes()))
    with tempfile.TemporaryDirectory() as work:
        files = Path(work) / param.name, Path(work) / data.name
        files[0].write_text(graph.render(layers), encoding="utf-8")
        files[1].write_bytes(weights.write(layers, arrays))
        yield files


def _content(layer: NcnnLayer, arrays: Arrays) -> tuple[object, ...]:
    """Equal for layers that can share what they hold."""
    sides = (number(layer, key) for key in (_OUTPUTS, _KERNEL_WIDTH, _KERNEL_HEIGHT, FEATURE_MASK))
    return (*sides, has_bias(layer), *((a.dtype, hashlib.sha256(a.tobytes()).digest()) for a in arrays))


def _sides(layer: NcnnLayer, kind: str, size: int) -> tuple[tuple[int, str], ...]:
    """Parameters of the MemoryData of a convolution's weight, which may be of any type, or of its bias."""
    if kind == "bias":
        return ((0, str(size)),)
    outputs, width = number(layer, _OUTPUTS), number(layer, _KERNEL_WIDTH)
    height = number(layer, _KERNEL_HEIGHT, width)
    sides = {0: width, 1: height, 11: size // (outputs * width * height), 2: outputs, LOAD_TYPE: 0}
    return tuple((key, str(value)) for key, value in sides.items())
