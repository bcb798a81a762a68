"""Which artifacts can be a chain: one that finds faces, and others that look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from facedeploy import pipelines
from facedeploy.artifact.chain import DETECTOR
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import Manifest
from facedeploy.core.errors import InputError
from facedeploy.core.serialization import from_plain
from facedeploy.pipelines.composed import check_gives
from facedeploy.pipelines.crop import CropConfig
from facedeploy.pipelines.landmarks106 import Landmarks106Pipeline

# Families whose faces have five points; of `boxes` the configuration says it.
_WITH_FIVE = ("mtcnn", "mos", "mos-published", "img2pose")
_FIVE_NUMBERS = 10


def together(detector: Artifact, lookers: Sequence[Artifact]) -> Artifact:
    """A detector, and artifacts that look at its faces, as one artifact that is not on disk.

    A detector that is a chain brings its own lookers.

    Raises:
        InputError: the detector finds no faces, another finds some, two give the same, or an aligned crop has no
            points.
    """
    own = dict(detector.parts) or {DETECTOR: detector}
    parts = {**own, **dict(zip(_names(lookers, own), lookers, strict=True))}
    check(parts)
    return Artifact.chained(detector.path, parts)


def check(parts: Mapping[str, Artifact]) -> None:
    """Check that artifacts can be a chain, the detector first. Raises as `together` does."""
    detector, *lookers = parts.values()
    first = detector.manifest
    if pipelines.looks(first.pipeline):
        msg = (
            f"{detector.path} finds no faces, but looks at those that a detector has found: name a detector first, "
            f"and give {detector.path} to --with"
        )
        raise InputError(msg)
    if not pipelines.decodes(first.pipeline):
        msg = f"{detector.path} gives tensors and no faces, so there is nothing to look at: say what its outputs mean"
        raise InputError(msg)
    for artifact in lookers:
        manifest = artifact.manifest
        if artifact.parts:
            msg = f"{artifact.path} is a chain, and finds its own faces: give its parts to --with"
            raise InputError(msg)
        if not pipelines.looks(manifest.pipeline):
            msg = (
                f"{artifact.path} is of {manifest.model}, which does not look at faces already found: --with takes a "
                "network with a [meaning], or landmarks106"
            )
            raise InputError(msg)
        if _aligned(manifest) and not _gives_five(first):
            msg = (
                f"{artifact.path} looks at aligned crops, which need five points of each face, and {detector.path} "
                "gives none: take a detector with five landmarks, or crop around the box (leave crop.align out)"
            )
            raise InputError(msg)
    check_gives((str(artifact.path), _gives(artifact.manifest)) for artifact in lookers)


def _names(lookers: Sequence[Artifact], taken: Mapping[str, object]) -> list[str]:
    """Names of parts, after their folders: of two that are the same the second gets `-2`."""
    made: list[str] = []
    for artifact in lookers:
        name = stem = Path(artifact.path).resolve().name
        count = 1
        while name in taken or name in made:
            count += 1
            name = f"{stem}-{count}"
        made.append(name)
    return made


def _gives(manifest: Manifest) -> frozenset[str]:
    if manifest.pipeline.family == "crop":
        return from_plain(CropConfig, manifest.pipeline.config).meaning.gives
    return Landmarks106Pipeline.gives


def _aligned(manifest: Manifest) -> bool:
    return manifest.pipeline.family == "crop" and manifest.pipeline.config["crop"]["align"] is not None


def _gives_five(manifest: Manifest) -> bool:
    entry = manifest.pipeline
    if entry.family != "boxes":
        return entry.family in _WITH_FIVE
    name = entry.config["outputs"]["landmarks"]
    shapes = [t.shape for n in manifest.networks for t in n.spec.outputs if t.name == name]
    return any(shape[-1] == _FIVE_NUMBERS for shape in shapes)
