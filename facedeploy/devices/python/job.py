"""The work itself, in a process that `worker` may kill: lays the files out, does what is asked, says one answer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import DeviceError, FacedeployError, brief
from facedeploy.core.hashing import sha256
from facedeploy.core.serialization import from_plain, to_plain, write_json
from facedeploy.devices.python.request import MARK, Built, Engine, File, Folder, Request, WorkerMessage

OBJECTS, ENGINES = Path("objects"), Path("engines")
_KEPT = 30 * 86400  # Seconds since a file was last used.

Say = Callable[[WorkerMessage], None]


def main(folder: Path) -> None:
    """Answer the request in `folder`, which is removed later; the current folder is that of all objects."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # What libraries print is no answer.

    print(file=out)  # Whatever a login script printed ends here.

    def say(answer: WorkerMessage) -> None:
        print(json.dumps({MARK: to_plain(answer)}, allow_nan=False), file=out, flush=True)

    try:
        request = from_plain(Request, json.loads((folder / "request.json").read_bytes()))
        signal.alarm(round(request.limit + request.silence))  # Also if the worker was killed.
        _forget()
        say({"build": _build, "detect": _detect, "benchmark": _benchmark}[request.what](request, folder, say))
    except FacedeployError as error:
        say(WorkerMessage(error=(type(error).__name__, str(error))))
    except (Exception, SystemExit) as error:
        say(WorkerMessage(error=(DeviceError.__name__, f"{type(error).__name__}: {brief(error)}")))


def _benchmark(request: Request, folder: Path, say: Say) -> WorkerMessage:
    from facedeploy.benchmarks.latency.benchmark import benchmark

    artifacts, pictures = _lay_out_folders(request.artifacts, folder), _lay_out_pictures(request, folder)
    record = benchmark(
        artifacts, pictures, **request.settings.named(), progress=lambda step: say(WorkerMessage(step=step))
    )
    return WorkerMessage(record=to_plain(record))


def _detect(request: Request, folder: Path, say: Say) -> WorkerMessage:
    from facedeploy.pipelines.detect_files import detect_files

    (artifact,), pictures = _lay_out_folders(request.artifacts, folder), _lay_out_pictures(request, folder)
    settings = request.settings
    found = detect_files(
        artifact, pictures, threads=settings.threads, runtime=settings.runtime, options=settings.options
    )
    faces = []
    for i, picture in enumerate(found, 1):
        faces.append(picture.faces)
        say(WorkerMessage(step=f"picture {i} of {len(pictures)}"))
    return WorkerMessage(faces=tuple(faces))


def _build(request: Request, folder: Path, say: Say) -> WorkerMessage:
    from facedeploy.export.build import build, find_builder

    (path,) = _lay_out_folders(request.artifacts, folder)
    artifact = Artifact.open(path)
    trt = find_builder(artifact)
    gpu = _gpu()
    networks = {n.spec.name: (n.files["onnx"].sha256, to_plain(n.spec)) for n in artifact.manifest.networks}
    of = json.dumps([request.code, trt.__name__, trt.__version__, gpu, networks], sort_keys=True)
    place = ENGINES / f"{hashlib.sha256(of.encode()).hexdigest()}.json"
    if (kept := _read_kept(place)) is not None:
        return WorkerMessage(built=kept)
    built = build(path, progress=lambda step: say(WorkerMessage(step=step)))
    engines = tuple(_keep(n.spec.name, built.file(n.spec.name, "engine")) for n in built.manifest.networks)
    answer = Built(engines, trt.__name__, str(trt.__version__), gpu, kept=True)
    ENGINES.mkdir(exist_ok=True)
    write_json(answer, place)
    return WorkerMessage(built=Built(engines, answer.tool, answer.version, gpu, kept=False))


def _lay_out_folders(folders: Sequence[Folder], place: Path) -> list[Path]:
    found = []
    for i, folder in enumerate(folders):
        found.append(place / "artifacts" / str(i) / _inside(folder.name))
        for file in folder.files:
            _lay_out(file, found[-1])
    return found


def _lay_out_pictures(request: Request, folder: Path) -> list[Path]:
    """In folders of their own: two may have one name."""
    return [_lay_out(file, folder / "pictures" / str(i)) for i, file in enumerate(request.pictures)]


def _lay_out(file: File, folder: Path) -> Path:
    """Make a file of its object: the same file under another name, where the system can."""
    path, kept = folder / _inside(file.path), OBJECTS / _inside(file.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_kept(kept, file.sha256)
    try:
        os.link(kept, path)
    except OSError:
        shutil.copyfile(kept, path)
    return path


def _check_kept(kept: Path, digest: str) -> None:
    if not kept.is_file() or sha256(kept) != digest:
        kept.unlink(missing_ok=True)
        msg = f"a file that was kept on the device ({digest[:12]}) is lost or damaged: run the command again"
        raise DeviceError(msg)
    os.utime(kept)


def _inside(path: str) -> PurePosixPath:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        msg = f"{path!r} is not a path in a folder"
        raise DeviceError(msg)
    return pure


def _read_kept(place: Path) -> Built | None:
    """What an earlier build of the same made, if all of it is still there."""
    try:
        built = from_plain(Built, json.loads(place.read_bytes()))
        for engine in built.engines:
            _check_kept(OBJECTS / engine.sha256, engine.sha256)
    except (OSError, ValueError, FacedeployError):
        return None
    return built


def _keep(network: str, path: Path) -> Engine:
    digest, size = sha256(path), path.stat().st_size
    path.rename(OBJECTS / digest)
    return Engine(network, digest, size)


def _gpu() -> str | None:
    """Name of the GPU that engines are for."""
    from facedeploy.core.errors import BackendUnavailableError
    from facedeploy.runtimes.cuda import open_cuda

    try:
        cuda = open_cuda()
    except BackendUnavailableError:
        return None
    try:
        return cuda.device
    finally:
        cuda.close()


def _forget() -> None:
    """Delete what nobody has used for a month."""
    for path in (*OBJECTS.glob("*"), *ENGINES.glob("*")):
        if time.time() - path.stat().st_mtime > _KEPT:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
