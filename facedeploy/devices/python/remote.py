"""Benchmark, detect and build on a device: ask what it is, send what it lacks, let it work, read what it answers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facedeploy import pipelines
from facedeploy.artifact.digest import signed
from facedeploy.artifact.folder import MANIFEST, Artifact
from facedeploy.artifact.manifest import Manifest
from facedeploy.benchmarks.record import Record, numbered
from facedeploy.benchmarks.record_file import check_record
from facedeploy.core.errors import DeviceError, InputError
from facedeploy.core.face import Face
from facedeploy.core.images import expand
from facedeploy.core.progress import Progress, silent
from facedeploy.core.serialization import to_plain
from facedeploy.core.target import Backend
from facedeploy.devices.connection import Device
from facedeploy.devices.file_store import Content, enter, pull, push
from facedeploy.devices.python.messages import possible, read_answer
from facedeploy.devices.python.request import File, Folder, MeasurementSettings, Request, What, WorkerMessage
from facedeploy.devices.python.requirements import ALWAYS, NEEDED, check, probe
from facedeploy.devices.python.zipapp import make_bundle
from facedeploy.devices.shell import SILENCE, beat_of, talk
from facedeploy.export.build import Engines, check_buildable
from facedeploy.pipelines.load import check_manifest

LIMIT = 6 * 3600.0
_MOST = 512 << 20  # Bytes of an answer; a record is some hundred for each picture, round and artifact.
_MOST_FACES = 64 << 20  # A face is some hundred.


def benchmark_on(
    device: Device,
    artifacts: Sequence[str | os.PathLike[str]],
    images: Sequence[str | os.PathLike[str]],
    settings: MeasurementSettings,
    *,
    limit: float = LIMIT,
    silence: float = SILENCE,
    progress: Progress = silent,
) -> Record:
    """Measure on a device what `facedeploy.benchmark` measures here.

    Args:
        device: The device.
        artifacts: Folders that `export` wrote.
        images: Picture files and folders of them.
        settings: What to measure and how, as `benchmark` takes it.
        limit: Seconds of work there.
        silence: Seconds without a sign of life after which either side gives the other up.
        progress: Called with the name of each step.

    Returns:
        What was measured.

    Raises:
        InputError: no artifact, no picture, or the device lacks something.
        DeviceError: it cannot be reached, was lost, or answers nonsense; nothing is left running there.
        Others: what `benchmark` raises there.
    """
    work = _Work(device, progress, limit, silence)
    asked = _prepare(work, "benchmark", [Artifact.open(path) for path in artifacts], images, settings)
    return _read_record(device, asked, work.ask(asked, "measuring").record)


def detect_on(
    device: Device,
    artifact: str | os.PathLike[str] | Artifact,
    images: Sequence[str | os.PathLike[str]],
    settings: MeasurementSettings,
    *,
    limit: float = LIMIT,
    silence: float = SILENCE,
    progress: Progress = silent,
) -> list[list[Face]]:
    """Find faces on a device.

    Args:
        device: The device.
        artifact: The folder that `export` wrote, or an artifact that is open already.
        images: Picture files and folders of them.
        settings: Of these, threads, runtime and options count.
        limit: Seconds of work there.
        silence: Seconds without a sign of life after which either side gives the other up.
        progress: Called with the name of each step.

    Returns:
        The faces of each picture, in the order of the files.

    Raises:
        InputError, DeviceError: as `benchmark_on`, or the artifact gives no faces.
        Others: what `load` raises there.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    work = _Work(device, progress, limit, silence)
    asked = _prepare(work, "detect", [opened], images, settings)
    return _read_faces(device, asked, work.ask(asked, "detecting", _MOST_FACES).faces)


def build_on(
    device: Device,
    artifact: Artifact,
    *,
    limit: float = LIMIT,
    silence: float = SILENCE,
    progress: Progress = silent,
) -> Engines:
    """Build the engines of a `trt` artifact on a device.

    The device keeps them, and builds the same ones for the same GPU with the same TensorRT only once.

    Args:
        device: The device.
        artifact: The folder that `export` wrote.
        limit: Seconds of work there.
        silence: Seconds without a sign of life after which either side gives the other up.
        progress: Called with the name of each step.

    Returns:
        The artifact with its engines.

    Raises:
        InputError: the artifact is for another backend, or the device lacks something.
        DeviceError: as `benchmark_on`.
        Others: what `facedeploy.export.build.build` raises there.
    """
    check_buildable(artifact)
    networks = [n.spec.name for n in artifact.manifest.networks]
    work = _Work(device, progress, limit, silence)
    work.check(ALWAYS[:1])
    asked = work.request("build", [work.add_artifact(artifact, _unbuilt(artifact.manifest))], (), MeasurementSettings())
    built = work.ask(asked, "building").built
    if built is None or [e.network for e in built.engines] != networks or built.tool not in NEEDED["trt"]:
        msg = f"{device.name} built something else than {', '.join(networks)}: the artifact stays as it is"
        raise DeviceError(msg)
    progress(f"{device.name}: {'kept from an earlier build' if built.kept else 'built'} for {built.gpu or 'any GPU'}")
    return Engines({e.network: pull(device, e.sha256, e.size) for e in built.engines}, built.tool, built.version)


class _Work:
    """A request to one device, on its way."""

    def __init__(self, device: Device, progress: Progress, limit: float, silence: float) -> None:
        self._device, self._progress, self._limit, self._silence = device, progress, limit, silence
        self._bundle = Content.of(make_bundle())
        self._contents = [self._bundle]

    def check(self, needed: Iterable[tuple[str, ...]]) -> None:
        check(self._device, probe(self._device), needed)

    def add(self, source: Path | bytes) -> str:
        """Have a file sent; its digest."""
        self._contents.append(Content.of(source))
        return self._contents[-1].sha256

    def add_artifact(self, artifact: Artifact, changed: Manifest | None = None) -> Folder:
        """Have an artifact sent, or what a changed manifest leaves of it."""
        manifest = artifact.path / MANIFEST if changed is None else json.dumps(to_plain(signed(changed))).encode()
        names = dict.fromkeys(f.path for n in (changed or artifact.manifest).networks for f in n.files.values())
        names |= dict.fromkeys(f"{part}/{MANIFEST}" for part in artifact.parts)
        files = (File(MANIFEST, self.add(manifest)), *(File(name, self.add(artifact.path / name)) for name in names))
        return Folder(artifact.path.resolve().name, files)

    def request(
        self, what: What, artifacts: Sequence[Folder], pictures: Sequence[File], settings: MeasurementSettings
    ) -> Request:
        beat = beat_of(self._silence)
        code = self._bundle.sha256
        return Request(what, tuple(artifacts), tuple(pictures), settings, code, self._limit, beat, self._silence)

    def ask(self, request: Request, doing: str, most: int = _MOST) -> WorkerMessage:
        """Send what is missing and the request; the answer, of so many bytes at most.

        Raises:
            FacedeployError: what the device says is wrong, or a DeviceError.
        """
        push(self._device, self._contents, self._progress)
        said = talk(
            self._device,
            f"{enter(self._device)}exec {self._device.python_word} objects/{request.code}",
            doing,
            most=most,
            send=[json.dumps(to_plain(request)).encode() + b"\n"],
            beat=request.beat,
            silence=request.silence,
            limit=request.limit + request.silence,
        )
        return read_answer(self._device, said, self._progress)


def _prepare(
    work: _Work,
    what: What,
    artifacts: Sequence[Artifact],
    images: Sequence[str | os.PathLike[str]],
    settings: MeasurementSettings,
) -> Request:
    """The request, once the device is known to have what it takes."""
    files = expand([Path(i) for i in images])
    if not artifacts or not files:
        msg = f"there is no {'picture' if artifacts else 'artifact'} to {what} with: name at least one"
        raise InputError(msg)
    for artifact in artifacts:
        check_manifest(artifact)
        pipelines.reconfigure(artifact.manifest.pipeline, settings.options)
    parts = [part for artifact in artifacts for part in artifact.parts.values() or (artifact,)]
    backends: set[Backend] = {"onnx"} if settings.runtime else {part.manifest.target.backend for part in parts}
    work.check((*ALWAYS, *(NEEDED[b] for b in sorted(backends))))
    pictures = [File(f.name, work.add(f)) for f in files]
    return work.request(what, [work.add_artifact(a) for a in artifacts], pictures, settings)


def _unbuilt(manifest: Manifest) -> Manifest:
    """The same without engines: what they are built of."""
    networks = tuple(
        replace(n, engine="pending", files={role: file for role, file in n.files.items() if role != "engine"})
        for n in manifest.networks
    )
    return replace(manifest, networks=networks)


def _read_record(device: Device, asked: Request, data: Any) -> Record:
    """The record that a device answers, if it is one of what it was asked."""
    record = check_record(data, f"what {device.name} answers")
    digests = [a.files[0].sha256 for a in asked.artifacts]
    names = numbered(a.name for a in asked.artifacts)
    told = [(m.name, m.digest) for m in record.measurements]
    if told != list(zip(names, digests, strict=True)) or record.pictures != tuple(p.path for p in asked.pictures):
        msg = f"{device.name} measured something else than it was asked: run the command again"
        raise DeviceError(msg)
    return record


def _read_faces(device: Device, asked: Request, said: Sequence[Sequence[Face]] | None) -> list[list[Face]]:
    """The faces that a device answers, if they can be those of the pictures that it was given."""
    if said is None or len(said) != len(asked.pictures) or not all(possible(f) for faces in said for f in faces):
        msg = f"{device.name} does not answer with the faces of {len(asked.pictures)} pictures: run the command again"
        raise DeviceError(msg)
    return [list(faces) for faces in said]
