"""Artifacts as callers give them: a folder or an open one, one or several."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

from facedeploy.artifact.folder import Artifact
from facedeploy.core.paths import StrPath

AnyArtifact: TypeAlias = StrPath | Artifact


def open_artifact(artifact: AnyArtifact) -> Artifact:
    """The artifact itself, or that of a folder. Raises as `Artifact.open` does."""
    return artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)


def open_artifacts(artifacts: AnyArtifact | Iterable[AnyArtifact]) -> list[Artifact]:
    """Several artifacts; a single one is a list of one. Raises as `Artifact.open` does."""
    if isinstance(artifacts, (str, os.PathLike, Artifact)):
        return [open_artifact(artifacts)]
    return [open_artifact(artifact) for artifact in artifacts]
