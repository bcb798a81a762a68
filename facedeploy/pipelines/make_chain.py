"""One artifact that holds a detector and networks that look at its faces."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from facedeploy.artifact.folder import Artifact, staged, write_chain
from facedeploy.artifact.given import AnyArtifact, open_artifact, open_artifacts
from facedeploy.core.errors import InputError
from facedeploy.core.paths import StrPath
from facedeploy.pipelines.load import check_manifest
from facedeploy.pipelines.together import together


def make_chain(detector: AnyArtifact, lookers: AnyArtifact | Sequence[AnyArtifact], output: StrPath) -> Artifact:
    """Copy artifacts into one folder that `load`, `detect`, `verify` and `benchmark` take as one.

    Args:
        detector: Artifact that finds faces.
        lookers: Artifacts that look at them: landmarks, pose, embedding, classes.
        output: Folder to write, which must not exist or be empty.

    Returns:
        The chain, read again and checked.

    Raises:
        InputError: they cannot be a chain, or the folder cannot be written. As with every error, nothing is written.
        ArtifactError: an artifact is damaged, or contradicts itself.
    """
    opened = open_artifact(detector)
    looking = open_artifacts(lookers)
    if not looking:
        msg = f"a chain is a detector and what looks at its faces: give --with an artifact besides {opened.path}"
        raise InputError(msg)
    if opened.parts:
        msg = f"{opened.path} is a chain already, and a chain of chains cannot be: make it of its parts"
        raise InputError(msg)
    whole = together(opened, looking)
    check_manifest(whole)
    with staged(output) as folder:
        for name, part in whole.parts.items():
            try:
                shutil.copytree(part.path, folder / name)
            except (OSError, shutil.Error) as error:
                msg = f"cannot copy {part.path}: {error}"
                raise InputError(msg) from error
        write_chain(folder, list(whole.parts))
    return Artifact.open(output)
