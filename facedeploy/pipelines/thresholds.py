"""The pipeline to judge with, and the score from which its faces count."""

from __future__ import annotations

from typing import Any

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry

_LOW = 0.02  # Precision at every recall needs the detections below the threshold too.
_THRESHOLD = "score_threshold"
# A cascade gets slow when its stages let everything pass.
_STAGES, _LOWER = "thresholds", 0.15


def judging(entry: PipelineEntry) -> PipelineEntry:
    """The pipeline to judge with: precision at every recall needs the detections below the threshold too."""
    low: dict[str, Any] = {}
    if _THRESHOLD in entry.config:
        low = {_THRESHOLD: min(_LOW, entry.config[_THRESHOLD])}
    elif _STAGES in entry.config:
        low = {_STAGES: [max(t - _LOWER, 0.0) for t in entry.config[_STAGES]]}
    return pipelines.reconfigure(entry, low)


def threshold_of(entry: PipelineEntry) -> float:
    """The score from which faces count; of a cascade, the last stage's."""
    return float(entry.config.get(_THRESHOLD, entry.config.get(_STAGES, (0.0,))[-1]))
