"""Read and write ncnn's `.param` text.

7767517
layers blobs
Type  name  inputs outputs  input blobs...  output blobs...  id=value ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from facedeploy.core.errors import ConversionError

_MAGIC = "7767517"
_SHOWN = 20  # Blobs that a message lists.


@dataclass(frozen=True)
class NcnnLayer:
    """One line. `params` keeps the values as text: `{0: "32", -23310: "1,0.25"}`."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: tuple[tuple[int, str], ...] = ()


def parse(text: str) -> tuple[NcnnLayer, ...]:
    """Read a param file.

    Raises:
        ConversionError: the text is not a param file, or its counts do not agree with its lines.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    try:
        if lines[0] != [_MAGIC]:
            msg = "it does not begin with the magic number"
            raise ValueError(msg)
        layers = tuple(map(_parse_layer, lines[2:]))
        layer_count, blob_count = map(int, lines[1])
    except (ValueError, IndexError) as error:
        msg = f"this is not an ncnn param file: {error}"
        raise ConversionError(msg) from error
    blobs = {b for layer in layers for b in layer.outputs}
    if (layer_count, blob_count) != (len(layers), len(blobs)):
        msg = (
            f"the ncnn param file announces {layer_count} layers and {blob_count} blobs "
            f"and holds {len(layers)} and {len(blobs)}"
        )
        raise ConversionError(msg)
    return layers


def render(layers: tuple[NcnnLayer, ...]) -> str:
    """Write a param file."""
    blobs = {b for layer in layers for b in layer.outputs}
    body = [
        f"{v.type:<24} {v.name:<24} {len(v.inputs)} {len(v.outputs)} "
        + " ".join((*v.inputs, *v.outputs, *(f"{k}={value}" for k, value in v.params)))
        for v in layers
    ]
    return "\n".join([_MAGIC, f"{len(layers)} {len(blobs)}", *body]) + "\n"


def producers(layers: Sequence[NcnnLayer]) -> dict[str, NcnnLayer]:
    """Blob -> the layer that makes it."""
    return {blob: layer for layer in layers for blob in layer.outputs}


def rename_blobs(layers: tuple[NcnnLayer, ...], names: Mapping[str, str]) -> tuple[NcnnLayer, ...]:
    """Give blobs new names; those not in `names` keep theirs.

    Raises:
        ConversionError: a blob to rename does not exist, or two blobs would share a name.
    """
    blobs = [b for layer in layers for b in layer.outputs]
    renamed = [names.get(b, b) for b in blobs]
    if missing := sorted(set(names) - set(blobs)):
        msg = f"the ncnn graph has no blob {missing[0]}; it has {', '.join(blobs[:_SHOWN])}"
        raise ConversionError(msg)
    if len(set(renamed)) != len(renamed):
        msg = f"renaming {dict(names)} gives two blobs of the ncnn graph one name"
        raise ConversionError(msg)

    def new(group: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(b, b) for b in group)

    return tuple(replace(v, inputs=new(v.inputs), outputs=new(v.outputs)) for v in layers)


def make_room(layers: tuple[NcnnLayer, ...], names: Mapping[str, str]) -> tuple[NcnnLayer, ...]:
    """Rename other blobs that have one of the names that blobs are to get: pnnx calls its own 0, 1, 2..."""
    blobs = {b for layer in layers for b in layer.outputs}
    taken = blobs | set(names.values())
    new: dict[str, str] = {}
    for blob in sorted(blobs & set(names.values()) - set(names)):
        new[blob] = next(f"{blob}_{i}" for i in range(len(taken) + 1) if f"{blob}_{i}" not in taken)
        taken.add(new[blob])
    return rename_blobs(layers, new)


def _parse_layer(words: list[str]) -> NcnnLayer:
    kind, name = words[:2]
    inputs, outputs = int(words[2]), int(words[3])
    blobs, params = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
    if min(inputs, outputs) < 0 or len(blobs) != inputs + outputs:
        msg = f"layer {name} has fewer blobs than it announces"
        raise ValueError(msg)
    pairs = [p.split("=", 1) for p in params]
    if not all(value for _, value in pairs):
        msg = f"layer {name} has a parameter without a value"
        raise ValueError(msg)
    return NcnnLayer(
        kind,
        name,
        tuple(blobs[:inputs]),
        tuple(blobs[inputs:]),
        tuple((int(k), v) for k, v in pairs),
    )
