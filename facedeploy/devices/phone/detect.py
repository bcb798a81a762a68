"""Faces that an artifact finds on a phone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from facedeploy.artifact.folder import Artifact
from facedeploy.core.face import Face
from facedeploy.core.progress import Progress, silent
from facedeploy.devices.adb import AdbDevice
from facedeploy.devices.phone.session import set_up
from facedeploy.devices.python.remote import LIMIT
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.shell import SILENCE


def detect_on_phone(
    device: AdbDevice,
    artifact: str | os.PathLike[str] | Artifact,
    images: Sequence[str | os.PathLike[str]],
    settings: MeasurementSettings,
    *,
    limit: float = LIMIT,
    silence: float = SILENCE,
    progress: Progress = silent,
) -> list[list[Face]]:
    """Find faces on a phone, in pictures that are decoded here.

    Args:
        device: The phone.
        artifact: The folder that `export` wrote, or an artifact that is open already.
        images: Picture files and folders of them.
        settings: Of these, threads and options count.
        limit: Seconds that all the work may take.
        silence: Seconds without a sign of life after which either side gives the other up.
        progress: Called with the name of each step.

    Returns:
        The faces of each picture, in the order of the files.

    Raises:
        InputError, DeviceError: as `benchmark_on_phone`.
    """
    stage = set_up(device, [artifact], images, settings, limit=limit, silence=silence, progress=progress)
    with stage.laid_out() as pictures:
        opening = stage.runner(stage.folders, pictures, 0, 0)
    return [list(faces) for faces in opening.artifacts[0].faces]
