"""What an export starts from: a published model with its weights, or a user's own network.

Whoever exports, calibrates or verifies asks a `Source`, and need not know which of them it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy.artifact.chain import DETECTOR
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import Origin
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import InputSize
from facedeploy.core.paths import StrPath
from facedeploy.models import registry
from facedeploy.sources.published import configured, from_model
from facedeploy.sources.source import Source, check_files

if TYPE_CHECKING:
    pass


def open_source(
    model: StrPath,
    weights: Path | None = None,
    *,
    input_size: InputSize | None = None,
    config: Path | None = None,
    options: Mapping[str, Any] | None = None,
    family: str | None = None,
) -> Source:
    """Find what the user means by `model`: the id of a published model, an ONNX file, or `package.module:callable`.

    Args:
        model: What the user wrote.
        weights: The checkpoint, or the folder of a model with several networks; None for the embedded one.
        input_size: (height, width) in pixels, or "any"; None for the model's own.
        config: The TOML file of your own network; None for the one beside an ONNX file, if it is there.
        options: Changes to the pipeline's configuration.
        family: What the outputs of your own network are, such as "scrfd"; None for what its settings say, or what it
            looks like.

    Raises:
        InputError, CheckpointError, BackendUnavailableError: there is no such model, or its files are wrong.
    """
    model = os.fspath(model)
    if model not in registry.MODELS and (kind := _own_kind(model)):
        from facedeploy.sources import onnx_file
        from facedeploy.sources import torch_callable as factory

        if kind == "onnx":
            if weights is not None:
                msg = f"{model} holds its own weights: leave --weights out"
                raise InputError(msg)
            return onnx_file.open_source(Path(model), input_size, config, options, family)
        return factory.open_source(model, weights, input_size, config, options, family)
    known = registry.get(model)
    if config is not None:
        msg = f"{model} needs no --config: that is for an ONNX file or a network of your own"
        raise InputError(msg)
    if family is not None:
        msg = f"{model} needs no --family: that is for an ONNX file or a network of your own"
        raise InputError(msg)
    known = known.of(weights)
    pipeline = configured(known, weights, options)
    return from_model(known, weights, known.network_specs(input_size), pipeline)


def reopen(artifact: Artifact, weights: Path | None = None, factory: str | None = None) -> Source:
    """Open what an artifact was made from, at its sizes, in the files that the user names.

    Its pipeline is the one that the source itself says, with what was set on purpose at export: not what the manifest
    says of it.

    Args:
        artifact: The artifact.
        weights: The checkpoint or the ONNX file; None for the embedded one.
        factory: `package.module:callable`, for a network that one made. It is never read from the artifact: that would
            run code because a data file says so.

    Raises:
        InputError, CheckpointError: the files are missing, or not those that the artifact was made from.
    """
    manifest = artifact.manifest
    if artifact.parts:
        msg = f"{artifact.path} is a chain: name one of its parts, such as {artifact.path / DETECTOR}"
        raise InputError(msg)
    specs = [n.spec for n in manifest.networks]
    if (manifest.origin == "factory") != (factory is not None):
        msg = f"{artifact.path} comes from {_ORIGINS[manifest.origin]}"
        raise InputError(msg)
    if manifest.origin != "registry":
        from facedeploy.sources import onnx_file
        from facedeploy.sources import torch_callable as factories

        if weights is None:
            msg = f"give --weights the file that {artifact.path} was made from: {manifest.source[0].name}"
            raise InputError(msg)
        files = onnx_file.files(weights) if factory is None else {factories.PART: weights}
        check_files(artifact, files)
        size = specs[0].picture_size
        assert size is not None  # `check_manifest` saw to it.
        if factory is None:
            return onnx_file.reopen(weights, size, manifest.settings, manifest.options)
        return factories.reopen(factory, weights, size, manifest.settings, manifest.options)
    known = registry.get(manifest.model)
    check_files(artifact, known.find_files(weights))
    known = known.of(weights)
    return from_model(known, weights, specs, configured(known, weights, manifest.options))


_ORIGINS: dict[Origin, str] = {
    "registry": "a model of `facedeploy models`: leave --factory out",
    "onnx": "an ONNX file: give that to --weights, and leave --factory out",
    "factory": "a callable of a Python module: give --factory package.module:callable, and --weights its checkpoint",
}


def _own_kind(model: str) -> str:
    """What the user's own `model` is: "onnx" for a file, "factory", or "" for neither."""
    if model.lower().endswith(".onnx") or os.path.sep in model or Path(model).is_file():
        return "onnx"
    return "factory" if ":" in model else ""
