"""Answers of a detector to many pictures, from a Ray cluster.

Nothing is asked of the cluster's file systems: artifact, weights and pictures are sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from facedeploy.benchmarks.accuracy.evaluated_pipeline import EvaluatedPipeline, look
from facedeploy.benchmarks.accuracy.tasks import Reference
from facedeploy.benchmarks.accuracy.workers import Answered, Asked
from facedeploy.core.errors import FacedeployError, InputError, brief
from facedeploy.core.optional_imports import require
from facedeploy.metrics.labelled_images import Detections

_AHEAD = 2  # Pictures per worker that are sent before their turn.
_PATIENCE = 10.0  # Seconds.
LOCAL = "local"


@dataclass(frozen=True, eq=False)
class Parcel:
    """A detector and the files that it opens, as they are sent.

    Attributes:
        detector: What finds the faces.
        artifact: Path in the folder -> content.
        weights: Name -> content; one name without a folder is a file.
        single: Whether the weights are one file and no folder.
    """

    detector: EvaluatedPipeline
    artifact: dict[str, bytes]
    weights: dict[str, bytes]
    single: bool


def pack(detector: EvaluatedPipeline) -> Parcel:
    """Read what a detector opens."""
    weights = detector.reference.weights if detector.reference else None
    single = weights is not None and weights.is_file()
    found = {weights.name: weights.read_bytes()} if weights is not None and single else _content(weights)
    return Parcel(detector, _content(detector.artifact), found, single)


def unpack(parcel: Parcel, folder: Path) -> EvaluatedPipeline:
    """Write the files of a parcel into a folder of this machine."""
    detector = parcel.detector
    for name, files in {"artifact": parcel.artifact, "weights": parcel.weights}.items():
        for path, content in files.items():
            pure = PurePosixPath(path)
            if pure.is_absolute() or ".." in pure.parts:
                msg = f"{path} leaves the folder"
                raise InputError(msg)
            target = folder / name / pure
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    reference = detector.reference
    if reference is not None and reference.weights is not None:
        home = folder / "weights"
        reference = Reference(home / next(iter(parcel.weights)) if parcel.single else home, reference.factory)
    return replace(detector, artifact=folder / "artifact", reference=reference)


def _content(folder: Path | None) -> dict[str, bytes]:
    if folder is None:
        return {}
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


class Worker:
    """An actor of the cluster: opens a detector once and is asked picture after picture."""

    def __init__(self, parcel: Parcel) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._folder = tempfile.TemporaryDirectory()
        self._detector = unpack(parcel, Path(self._folder.name))
        self._pipeline: Any = None

    def key(self) -> str:
        """What the answers depend on, as it is here."""
        return self._detector.key()

    def answer(self, key: str, name: str, content: bytes) -> tuple[str, Detections]:
        """The faces in the picture file `content`, which is called `name` in messages."""
        if self._pipeline is None:
            self._pipeline = self._detector.open()
        path = Path(self._folder.name) / f"picture{Path(name).suffix}"
        path.write_bytes(content)
        try:
            return key, look(self._pipeline, path, self._detector.details)
        except FacedeployError as error:
            raise type(error)(str(error).replace(str(path), name)) from error


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect Ray to a cluster.

    Args:
        address: Of the cluster; "local" starts one here, for the time being.

    Returns:
        Ray, as a context manager.

    Raises:
        BackendUnavailableError: Ray is not installed.
        InputError: no cluster answers.
    """
    ray = require("ray", "ray")
    if ray.is_initialized():
        yield ray
        return
    check_reachable(address)
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        why = brief(error)
        if "AuthToken" in f"{error.__cause__} {error}":
            why = "it asks for a token (RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH, in Ray's documentation)"
        msg = f"no Ray cluster answers at {address!r}: {why}"
        raise InputError(msg) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_reachable(address: str) -> None:
    """See before any work that Ray may connect. Ray itself waits for minutes, and then ends the process.

    Raises:
        BackendUnavailableError: Ray is not installed.
        InputError: nothing listens at HOST:PORT.
    """
    require("ray", "ray")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        return  # "local", "auto", or for Ray to refuse.
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        msg = f"no Ray cluster answers at {address}: {error.strerror or error}"
        raise InputError(msg) from error


def answers(
    ray: Any, detector: EvaluatedPipeline, pictures: Sequence[Asked], workers: int
) -> Generator[Answered, None, None]:
    """Find the faces in pictures on a cluster.

    Args:
        ray: Ray, connected.
        detector: What finds the faces.
        pictures: (key, file) of each.
        workers: How many detect at once; 0 for one on each core of the cluster.

    Returns:
        Key and faces of each picture, as they are found.

    Raises:
        FacedeployError: as of `workers.answers`; or the cluster's machines have other versions of something.
    """
    if not pictures:
        return
    count = min(len(pictures), workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
    parcel = ray.put(pack(detector))
    actors = [ray.remote(num_cpus=1)(Worker).remote(parcel) for _ in range(count)]
    try:
        _check_versions(ray, detector, actors)
        yield from _ask(ray, actors, pictures)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FacedeployError):
            raise cause from None
        msg = f"the cluster failed on a picture: {brief(error)}"
        raise FacedeployError(msg) from error
    except ray.exceptions.RayError as error:
        msg = f"the cluster failed ({brief(error)}): run it again, and it goes on where it stopped"
        raise FacedeployError(msg) from error
    finally:
        for actor in actors:
            ray.kill(actor)


def _check_versions(ray: Any, detector: EvaluatedPipeline, actors: list[Any]) -> None:
    if set(ray.get([a.key.remote() for a in actors])) != {detector.key()}:
        msg = (
            "a machine of the cluster has another version of facedeploy, or of a backend, than this one, so its "
            "answers could differ: install the same on all"
        )
        raise InputError(msg)


def _ask(ray: Any, actors: list[Any], pictures: Sequence[Asked]) -> Generator[Answered, None, None]:
    """Give each actor its next picture when it has answered one."""
    rest = iter(pictures)
    running: dict[Any, Any] = {}

    def send(actor: Any) -> None:
        for key, path in rest:
            running[actor.answer.remote(key, str(path), path.read_bytes())] = actor
            return

    for actor in actors * _AHEAD:
        send(actor)
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        send(running.pop(done))
        yield ray.get(done)
