"""The terms of the weights in an artifact."""

from __future__ import annotations

from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import Manifest
from facedeploy.core.terms import Terms, terms_text
from facedeploy.models import registry


def terms_of(manifest: Manifest) -> Terms | None:
    """What a manifest says; of a published model in one of 0.1.0, which says nothing, what is known of the model."""
    if manifest.terms is not None or manifest.origin != "registry" or manifest.model not in registry.MODELS:
        return manifest.terms
    return registry.MODELS[manifest.model].terms


def terms_by_part(artifact: Artifact) -> dict[str, Terms | None]:
    """Name of each part of an artifact -> the terms of its weights; an artifact that is no chain is one part."""
    named = {f"{name}: {part.manifest.model}": part for name, part in artifact.parts.items()}
    return {name: terms_of(part.manifest) for name, part in (named or {artifact.manifest.model: artifact}).items()}


def terms_file(artifact: Artifact) -> str:
    """The text of the file that stands beside weights that were taken out of an artifact."""
    return terms_text(terms_by_part(artifact).items())


def cautions(artifact: Artifact) -> tuple[str, ...]:
    """A sentence for each part whose weights are not known to be for products. Of a network of the user's own nothing
    is said, but for what its settings say.
    """
    known = [terms for terms in terms_by_part(artifact).values() if terms is not None]
    return tuple(dict.fromkeys(terms.caution for terms in known if terms.caution))
