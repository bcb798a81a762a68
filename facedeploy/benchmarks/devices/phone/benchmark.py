"""Benchmark on a phone: a C++ runner does there what `benchmarks.latency` does here; the record is made here.

docs/phones.md says how heat is kept out of it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from facedeploy.artifact import Artifact
from facedeploy.benchmarks.devices.channel import SILENCE
from facedeploy.benchmarks.devices.content import Content, Progress, push
from facedeploy.benchmarks.devices.phone.adb import AdbDevice
from facedeploy.benchmarks.devices.phone.cooling import Cooling
from facedeploy.benchmarks.devices.phone.hold import hold
from facedeploy.benchmarks.devices.phone.layout import RUNNER, Files, artifact_files, lay_out, picture_files
from facedeploy.benchmarks.devices.phone.probe import check_phone, check_runner, check_settings, pins, probe_phone
from facedeploy.benchmarks.devices.phone.run import PhoneRun, Runner
from facedeploy.benchmarks.devices.request import Settings
from facedeploy.benchmarks.measurement import Contestant, make_record
from facedeploy.benchmarks.protocol import make_protocol
from facedeploy.benchmarks.record import Record, numbered
from facedeploy.errors import InputError
from facedeploy.loading import check_manifest
from facedeploy.pictures import expand

LIMIT = 6 * 3600.0
INTERVAL = 5.0
_BEAT = 10.0


def benchmark_on_phone(
    device: AdbDevice,
    artifacts: Sequence[str | os.PathLike[str]],
    images: Sequence[str | os.PathLike[str]],
    settings: Settings,
    *,
    limit: float = LIMIT,
    silence: float = SILENCE,
    cooling: Cooling | None = None,
    interval: float = INTERVAL,
    progress: Progress = lambda step: None,
) -> Record:
    """What `facedeploy.benchmarks.latency.benchmark` measures, on a phone. Without `threads`, as many as big cores.

    limit: seconds of all the work. silence: seconds without a sign of life until either side gives the other up.
    cooling: when the phone is cool enough. interval: seconds between two looks at its sensors while it measures.

    Raises:
        InputError: no artifact, picture or runner, or what a phone cannot do. DeviceError: it cannot be reached, was
        lost, or answers nonsense; nothing is left running there.
    """
    opened = [Artifact.open(path) for path in artifacts]
    sources = expand([Path(i) for i in images])
    if not opened or not sources:
        msg = f"there is no {'picture' if opened else 'artifact'} to measure with: name at least one"
        raise InputError(msg)
    for artifact in opened:
        check_manifest(artifact)
    check_settings(device, opened, settings)
    files: Files = {RUNNER: Content.of(check_runner(device))}
    folders = [f"artifacts/{i}" for i in range(len(opened))]
    for artifact, folder in zip(opened, folders, strict=True):
        files |= artifact_files(artifact, settings.options, folder)
    found = probe_phone(device)
    check_phone(device, found)
    pinned = found.big if pins(device, found.big) else ()
    protocol = make_protocol(
        sources,
        threads=settings.threads or len(found.big) or 1,
        streams=1,
        seconds=settings.seconds,
        rounds=settings.rounds,
        seed=settings.seed,
        options=settings.options,
    )
    names = numbered(artifact.path.resolve().name for artifact in opened)
    contestants = [Contestant(name, artifact) for name, artifact in zip(names, opened, strict=True)]
    beat = min(_BEAT, silence / 4)
    with tempfile.TemporaryDirectory() as work:
        pictures = dict(picture_files(sources, Path(work)))
        files |= {picture.path: content for picture, content in pictures.items()}
        push(device, files.values(), progress)
    with hold(device, beat=beat, silence=silence, limit=limit):
        lay_out(device, files)
        runner = Runner(device, pinned, protocol, beat, silence, limit, progress)
        run = PhoneRun(runner, found, contestants, folders, [*pictures], cooling or Cooling(), interval, progress)
        run.measure()
        if settings.cold:
            run.measure_cold()
    return make_record(contestants, protocol, run.course, [s.name for s in sources], settings.max_drop)
