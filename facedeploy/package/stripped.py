"""Networks without the names of their layers and blobs, which tell an app's reader how the model is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from facedeploy.artifact.manifest import Manifest, NetworkEntry, PipelineEntry
from facedeploy.core.errors import ArtifactError, ConversionError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.formats.ncnn import param as graph
from facedeploy.package.networks import ROLES


def strip(manifest: Manifest, params: Mapping[str, str]) -> tuple[Manifest, dict[str, str]]:
    """Call layers and blobs a, b, c..., none by a name that was there: the manifest, and the .param of each network.

    ncnn looks blobs up by their names and layers by nothing, so the numbers that come out stay the same, bit for bit.

    Raises:
        ArtifactError: a .param is not one, or has not the inputs and outputs of the manifest.
    """
    texts: dict[str, str] = {}
    networks: list[NetworkEntry] = []
    config: Mapping[str, Any] = manifest.pipeline.config
    for network in manifest.networks:
        text, names = _renamed(network, params[network.spec.name])
        texts[network.spec.name] = text
        networks.append(replace(network, spec=_spec(network.spec, names)))
        if "outputs" in config:
            config = {**config, "outputs": _outputs(config["outputs"], names)}
        if "meaning" in config:
            config = {**config, "meaning": _meaning(config["meaning"], names)}
    pipeline = PipelineEntry(manifest.pipeline.family, dict(config))
    return replace(manifest, networks=tuple(networks), pipeline=pipeline), texts


def _renamed(network: NetworkEntry, text: str) -> tuple[str, dict[str, str]]:
    """The new text, and the new name of each blob."""
    name = network.spec.name
    try:
        layers = graph.parse(text)
    except ConversionError as error:
        msg = f"the .param of {name} cannot be read: {error}; export the artifact again"
        raise ArtifactError(msg) from error
    blobs = [b for layer in layers for b in layer.outputs]
    if missing := sorted({t.name for t in (*network.spec.inputs, *network.spec.outputs)} - set(blobs)):
        msg = f"the .param of {name} has no {missing[0]}, which the manifest names; export the artifact again"
        raise ArtifactError(msg)
    fresh = _names({*blobs, *(layer.name for layer in layers)})
    new = {blob: next(fresh) for blob in blobs}
    anonymous = tuple(replace(layer, name=next(fresh)) for layer in graph.rename_blobs(layers, new))
    return graph.render(anonymous), new


def _names(taken: set[str]) -> Iterator[str]:
    """a, b, ... z, ba, bb, ..., but for those that are taken."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in count():
        name = letters[number % 26]
        rest = number // 26
        while rest:
            name = letters[rest % 26] + name
            rest //= 26
        if name not in taken:
            yield name


def _spec(spec: NetworkSpec, names: Mapping[str, str]) -> NetworkSpec:
    def new(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(t, name=names[t.name]) for t in tensors)

    return replace(spec, inputs=new(spec.inputs), outputs=new(spec.outputs))


def _outputs(outputs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Of the family `boxes`: what each output is."""
    return {k: names.get(v, v) if k in ROLES else v for k, v in outputs.items()}


def _meaning(meaning: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Of the family `crop`: what each output says of a face."""

    def renamed(part: Mapping[str, Any]) -> dict[str, Any]:
        new = {k: names.get(v, v) if k == "output" else v for k, v in part.items()}
        return new | ({"outputs": [names[n] for n in part["outputs"]]} if "outputs" in part else {})

    return {kind: part and renamed(part) for kind, part in meaning.items()}
