"""Is the configuration of an artifact that of what it was made from, but for what was set on purpose?"""

from __future__ import annotations

import json

from facedeploy import pipelines
from facedeploy.artifact.manifest import Manifest, PipelineEntry
from facedeploy.core.plain_differences import differences
from facedeploy.sources.source import Source


def same_families(want: PipelineEntry, have: PipelineEntry) -> bool:
    """Whether two pipelines, or all parts of two chains, are of the same kind."""
    return {name: p.family for name, p in pipelines.parts(want).items()} == {
        name: p.family for name, p in pipelines.parts(have).items()
    }


def other_values(want: PipelineEntry, have: PipelineEntry) -> tuple[str, ...]:
    """What of an artifact's configuration is not as its source says, a sentence each.

    Args:
        want: The pipeline of the source, with what was set on purpose.
        have: That of the artifact.
    """
    parts = pipelines.parts(have)
    return tuple(s for name, own in pipelines.parts(want).items() for s in _other_values(name, own, parts[name]))


def _other_values(part: str, want: PipelineEntry, have: PipelineEntry) -> list[str]:
    if want.family != have.family:
        return [f"{_of(part)}the pipeline is {have.family} in the artifact, and {want.family} by what it was made from"]
    return [
        f"{_of(part)}{d.where} is {d.have} in the artifact, and {d.want} by what it was made from: "
        "export it again, or give it with -O where it is meant"
        for d in differences(want.config, have.config)
    ]


def set_on_purpose(part: str, manifest: Manifest, source: Source) -> tuple[str, ...]:
    """What a person should know of a manifest that is right, a line each.

    Args:
        part: Its name in a chain, or nothing.
        manifest: Of the artifact.
        source: What it was made from, opened again.
    """
    unsigned = f"{_of(part)}the manifest has no digest: an earlier release wrote it, or somebody took it out"
    set_at_export = [f"{_of(part)}{k} was set to {json.dumps(v)} at export" for k, v in manifest.options.items()]
    said = [f"{_of(part)}{note}" for note in source.notes]
    return (*set_at_export, *said, *([] if manifest.digest else [unsigned]))


def _of(part: str) -> str:
    return f"{part}: " if part else ""
