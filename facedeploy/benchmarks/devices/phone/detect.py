"""Faces that an artifact finds on a phone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from facedeploy.artifact import Artifact
from facedeploy.benchmarks.devices.channel import SILENCE
from facedeploy.benchmarks.devices.content import Progress
from facedeploy.benchmarks.devices.phone.adb import AdbDevice
from facedeploy.benchmarks.devices.phone.stage import set_up
from facedeploy.benchmarks.devices.remote import LIMIT
from facedeploy.benchmarks.devices.request import Settings
from facedeploy.faces import Face


def detect_on_phone(
    device: AdbDevice,
    artifact: str | os.PathLike[str] | Artifact,
    images: Sequence[str | os.PathLike[str]],
    settings: Settings,
    *,
    limit: float = LIMIT,
    silence: float = SILENCE,
    progress: Progress = lambda step: None,
) -> list[list[Face]]:
    """What `facedeploy.benchmarks.devices.remote.detect_on` finds, on a phone, in pictures that are decoded here.

    Raises:
        InputError, DeviceError: as `benchmark_on_phone`.
    """
    stage = set_up(device, [artifact], images, settings, limit=limit, silence=silence, progress=progress)
    with stage.laid_out() as pictures:
        opening = stage.runner(stage.folders, pictures, 0, 0)
    return [list(faces) for faces in opening.artifacts[0].faces]
