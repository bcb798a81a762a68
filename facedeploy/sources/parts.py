"""What each part of an artifact was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.hashing import sha256
from facedeploy.sources.open import reopen
from facedeploy.sources.source import Source


def reopen_parts(artifact: Artifact, weights: Sequence[Path], factory: str | None = None) -> Mapping[str, Source]:
    """Open what an artifact, or each part of a chain, was made from.

    Args:
        artifact: The artifact.
        weights: The checkpoint or the ONNX file; of a chain those of its parts, in any order.
        factory: `package.module:callable`, for a network that one made.

    Returns:
        Part of the chain -> source; one without a name where the artifact is no chain.

    Raises:
        InputError: as `reopen`, or more files than one are given for one artifact.
    """
    if not artifact.parts:
        if len(weights) > 1:
            msg = f"{artifact.path} is one artifact: give --weights once"
            raise InputError(msg)
        return {"": reopen(artifact, weights[0] if weights else None, factory)}
    if factory is not None:
        msg = f"{artifact.path} is a chain: verify the part that comes from {factory} by itself"
        raise InputError(msg)
    return {name: reopen(part, _own(part, weights)) for name, part in artifact.parts.items()}


def _own(part: Artifact, weights: Sequence[Path]) -> Path | None:
    """The file, or the folder, of some that a part was made from."""
    wanted = {source.sha256 for source in part.manifest.source}
    for path in weights:
        files = [f for f in path.iterdir() if f.is_file()] if path.is_dir() else [path] if path.is_file() else []
        if wanted & {sha256(file) for file in files}:
            return path
    return None
