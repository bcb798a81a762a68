"""Benchmark on a phone: a C++ runner does there what `benchmarks.latency` does here; the record is made here.

docs/explanation/phones.md says how heat is kept out of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from facedeploy.benchmarks.latency.summarize import Candidate, make_record
from facedeploy.benchmarks.record import Record, numbered
from facedeploy.core.errors import InputError
from facedeploy.core.progress import Progress, silent
from facedeploy.devices.adb import AdbDevice
from facedeploy.devices.phone.cooldown import Cooling
from facedeploy.devices.phone.run import PhoneRun
from facedeploy.devices.phone.session import set_up
from facedeploy.devices.python.remote import LIMIT
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.shell import SILENCE

INTERVAL = 5.0


def benchmark_on_phone(
    device: AdbDevice,
    artifacts: Sequence[str | os.PathLike[str]],
    images: Sequence[str | os.PathLike[str]],
    settings: MeasurementSettings,
    *,
    limit: float = LIMIT,
    silence: float = SILENCE,
    cooling: Cooling | None = None,
    interval: float = INTERVAL,
    progress: Progress = silent,
) -> Record:
    """Measure on a phone what `facedeploy.benchmark` measures here. Without `threads`, it takes as many as there are
    big cores.

    Args:
        device: The phone.
        artifacts: Folders that `export` wrote.
        images: Picture files and folders of them.
        settings: What to measure and how, as `benchmark` takes it.
        limit: Seconds that all the work may take.
        silence: Seconds without a sign of life after which either side gives the other up.
        cooling: When the phone is cool enough.
        interval: Seconds between two looks at its sensors while it measures.
        progress: Called with the name of each step.

    Returns:
        What was measured.

    Raises:
        InputError: no artifact, picture or runner, or what a phone cannot do. DeviceError: it cannot be reached, was
        lost, or answers nonsense; nothing is left running there.
    """
    stage = set_up(device, artifacts, images, settings, limit=limit, silence=silence, progress=progress)
    if stage.found.phone.emulator:
        msg = f"{device.name} is Android's emulator, whose times are no phone's: measure on a phone; verify works there"
        raise InputError(msg)
    names = numbered(artifact.path.resolve().name for artifact in stage.artifacts)
    candidates = [Candidate(name, artifact) for name, artifact in zip(names, stage.artifacts, strict=True)]
    with stage.laid_out() as pictures:
        cooler = cooling or Cooling()
        run = PhoneRun(stage.runner, stage.found, candidates, stage.folders, pictures, cooler, interval, progress)
        run.measure()
        if settings.cold:
            run.measure_cold()
    return make_record(candidates, stage.runner.protocol, run.log, [s.name for s in stage.sources], settings.max_drop)
