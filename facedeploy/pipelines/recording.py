"""What the networks of a pipeline are really given on pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.preprocess import Image
from facedeploy.runtimes.base import Runtime
from facedeploy.runtimes.wrapped import Feeds, Recorded


def record_feeds(entry: PipelineEntry, runtimes: Mapping[str, Runtime], images: Sequence[Image]) -> dict[str, Feeds]:
    """Run the pipeline over runtimes on pictures; the inputs of each of its networks, by name. Nothing is closed."""
    feeds = {name: Feeds() for name in runtimes}
    pipeline = pipelines.make(entry, {name: Recorded(inner, feeds[name]) for name, inner in runtimes.items()})
    for image in images:
        pipeline.detect(image)
    return feeds
