"""What every work on a phone begins with: check what is asked, ask the phone what it is, lay out what it needs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.latency.protocol import make_protocol
from facedeploy.core.errors import InputError
from facedeploy.core.images import expand
from facedeploy.core.progress import Progress
from facedeploy.devices.adb import AdbDevice
from facedeploy.devices.file_store import Content, push
from facedeploy.devices.phone.device_lock import hold
from facedeploy.devices.phone.requirements import (
    PhoneProbe,
    check_phone,
    check_runner,
    check_settings,
    pins,
    probe_phone,
)
from facedeploy.devices.phone.run import Runner
from facedeploy.devices.phone.run_folder import RUNNER, Files, artifact_files, lay_out, picture_files
from facedeploy.devices.phone.runner_protocol import Picture
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.shell import beat_of
from facedeploy.pipelines.load import check_manifest


@dataclass(frozen=True)
class Stage:
    """What a phone was given.

    Attributes:
        artifacts: The opened artifacts.
        folders: Their folders, as the runner names them, in their order.
        sources: Files of the pictures.
        found: What the phone is.
        runner: How the runner is called. It keeps to the big cores where the phone lets it.
        files: Names of all files there.
    """

    artifacts: tuple[Artifact, ...]
    folders: tuple[str, ...]
    sources: tuple[Path, ...]
    found: PhoneProbe
    runner: Runner
    files: Files

    @contextlib.contextmanager
    def laid_out(self) -> Iterator[tuple[Picture, ...]]:
        """All of it on the phone, which is ours meanwhile; gives the pictures as the runner names them.

        Raises:
            DeviceError: the phone cannot keep it, was lost, or somebody else is at work there.
        """
        runner = self.runner
        with tempfile.TemporaryDirectory() as work:
            pictures = dict(picture_files(self.sources, Path(work)))
            files = {**self.files, **{picture.path: content for picture, content in pictures.items()}}
            push(runner.device, files.values(), runner.progress)
        with hold(runner.device, beat=runner.beat, silence=runner.silence, limit=runner.limit):
            lay_out(runner.device, files)
            yield tuple(pictures)


def set_up(
    device: AdbDevice,
    artifacts: Sequence[str | os.PathLike[str] | Artifact],
    images: Sequence[str | os.PathLike[str]],
    settings: MeasurementSettings,
    *,
    limit: float,
    silence: float,
    progress: Progress,
) -> Stage:
    """Check all that can be checked before anything is sent. Without `threads`, as many as big cores.

    Raises:
        InputError: no artifact, picture or runner, or what a phone cannot do.
        DeviceError: it cannot be reached.
    """
    opened = tuple(a if isinstance(a, Artifact) else Artifact.open(a) for a in artifacts)
    sources = tuple(expand([Path(i) for i in images]))
    if not opened or not sources:
        msg = f"there is no {'picture' if opened else 'artifact'} to run on a phone: name at least one"
        raise InputError(msg)
    for artifact in opened:
        if artifact.parts:
            msg = f"{artifact.path} is a chain, which the C++ library does not run yet: give its detector"
            raise InputError(msg)
        check_manifest(artifact)
    check_settings(device, opened, settings)
    files: Files = {RUNNER: Content.of(check_runner(device))}
    folders = tuple(f"artifacts/{i}" for i in range(len(opened)))
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
    runner = Runner(device, pinned, protocol, beat_of(silence), silence, limit, progress)
    return Stage(opened, folders, sources, found, runner, files)
