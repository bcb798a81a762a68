"""A pipeline whose networks' outputs are kept, where no faces come out."""

from __future__ import annotations

from collections.abc import Mapping

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.base import Array, Arrays, Runtime


class Recorder(Runtime):
    """Another runtime, whose outputs are kept."""

    backend = "recorder"
    concurrent = False

    def __init__(self, inner: Runtime) -> None:
        super().__init__(inner.spec, inner.options)
        self.inner = inner
        self.kept: list[Arrays] = []

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        outputs = self.inner.run(inputs)
        self.kept.append(outputs)
        return outputs

    def _close(self) -> None:
        self.inner.close()


def make_pipeline(entry: PipelineEntry, runtimes: Mapping[str, Runtime]) -> Pipeline:
    """The pipeline over the runtimes, recorded where no faces come out."""
    pipeline = pipelines.make(entry, runtimes)
    return pipeline if pipeline.decodes else pipelines.make(entry, {k: Recorder(r) for k, r in runtimes.items()})
