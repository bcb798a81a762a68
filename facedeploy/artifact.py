"""The artifact: the folder that `export` writes and everything else reads.

It is written under a temporary name and renamed when complete. Reading one checks the manifest's version, that
every path stays inside the folder, and every file's size and SHA-256. `docs/artifact.md` shows the format.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from facedeploy.errors import ArtifactError, InputError
from facedeploy.plain import from_plain, write_json
from facedeploy.spec import NetworkSpec
from facedeploy.target import Target

MANIFEST = "manifest.json"
FORMAT = "facedeploy-artifact"
VERSION = 1
_PARTIAL = ".partial"
# Where the networks come from: a published model, a user's ONNX file, or a callable of a user's module.
Origin = Literal["registry", "onnx", "factory"]
_MAX_MANIFEST_BYTES = 4 << 20  # A manifest is a few kilobytes; anything like this is not one.


@dataclass(frozen=True)
class FileEntry:
    """A file of the artifact: path relative to the folder, and what it must contain."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class NetworkEntry:
    """One compiled network. `files` maps a role (onnx, engine, xml, bin, param) to a file; for PyTorch the roles are
    the parts of the checkpoint.

    engine: for TensorRT, whether the engine is here ("ready") or must be built on the device ("pending").
    lowerings: op -> the form that was chosen for this backend. float32: beginnings of the names of weights that
    stay in float32 in a reduced precision ("" is all). int8: names of the weights of the layers that are int8.
    options: of the backend, which an app that loads the files itself must set (ncnn's Option).
    """

    spec: NetworkSpec
    files: dict[str, FileEntry]
    engine: Literal["ready", "pending"] | None = None
    lowerings: dict[str, str] = field(default_factory=dict)
    float32: tuple[str, ...] = ()
    int8: tuple[str, ...] = ()
    options: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineEntry:
    """Pre- and post-processing as data: a family of pipelines and its configuration."""

    family: str
    config: dict[str, Any]


@dataclass(frozen=True)
class SourceFile:
    """A checkpoint file that the networks came from: which part of a checkpoint, and its file."""

    part: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Parity:
    """How far one output of a compiled network is from PyTorch's, the worst of several inputs.

    overlap: of an output of boxes, the smallest IoU of a box whose score is above 0.3 with PyTorch's box.
    """

    network: str
    output: str
    runtime: str
    max_abs: float
    relative_l2: float
    cosine: float
    overlap: float | None = None


@dataclass(frozen=True)
class Loss:
    """What int8 costs on pictures. ap: points of average precision lost (IoU 0.5, the float pipeline's faces being the
    truth). landmarks: mean distance between landmarks in percent of sqrt(w * h) of the box; degrees: mean difference of
    yaw, pitch and roll; both over faces that are found in both, None where a model has none. outputs: largest relative
    L2 of an output, for a network without faces.
    """

    ap: float | None = None
    landmarks: float | None = None
    degrees: float | None = None
    outputs: float | None = None

    @property
    def score(self) -> float:
        """What layers are ranked by: points of AP, and where they tie the rest; percent for a network without faces."""
        if self.ap is None:
            return 100 * (self.outputs or 0.0)
        return self.ap + 0.01 * (self.landmarks or 0.0) + 0.01 * (self.degrees or 0.0)

    @property
    def points(self) -> float:
        """What a budget is held against: points of AP, or percent of relative L2."""
        return 100 * (self.outputs or 0.0) if self.ap is None else self.ap


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of an int8 artifact come from. method: how clips were chosen. pictures: how many; digest: their
    SHA-256. loss: what the whole loses on held-back pictures, where that was measured. faster: how many times faster
    the networks ran than the same backend's fp32 on the machine that exported them, on all its cores.
    """

    method: str
    pictures: int
    digest: str
    loss: Loss | None = None
    faster: float | None = None


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`.

    origin: for anything but "registry", `model` is only a name, and nothing is looked up or imported by it.
    """

    model: str
    target: Target
    networks: tuple[NetworkEntry, ...]
    pipeline: PipelineEntry
    source: tuple[SourceFile, ...]
    tools: dict[str, str]
    parity: tuple[Parity, ...]
    calibration: Calibration | None = None
    origin: Origin = "registry"
    format: str = FORMAT
    version: int = VERSION

    def network(self, name: str) -> NetworkEntry:
        return next(n for n in self.networks if n.spec.name == name)


@dataclass(frozen=True)
class Artifact:
    """A checked artifact on disk."""

    path: Path
    manifest: Manifest

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Artifact:
        """Read and check the artifact in the folder `path`.

        Raises:
            ArtifactError: not an artifact, of a version that this release cannot read, or not as it was written.
        """
        folder = Path(path)
        manifest = _read_manifest(folder)
        artifact = Artifact(folder, manifest)
        for network in manifest.networks:
            for entry in network.files.values():
                _check_file(folder, entry)
        return artifact

    def file(self, network: str, role: str) -> Path:
        """Path of a network's file.

        Raises:
            ArtifactError: the artifact has no such file.
        """
        entry = self.manifest.network(network).files.get(role)
        if entry is None:
            msg = f"{self.path}: network {network} has no {role} file"
            raise ArtifactError(msg)
        return self.path / entry.path

    @property
    def size(self) -> int:
        """Bytes of the compiled files."""
        return sum({f.path: f.size for n in self.manifest.networks for f in n.files.values()}.values())


@contextlib.contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends, and is removed when it raises.

    Raises:
        InputError: `path` exists and is not an empty folder, or its parent cannot be written.
    """
    try:
        target = Path(path).resolve()
        _refuse_content(target)
        # Beside the target, or inside where that exists already: it may be the current folder, or a mount.
        home = target if target.is_dir() else target.parent
        home.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=home, prefix=f".{target.name}"[:200], suffix=_PARTIAL))
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise InputError(msg) from error
    try:
        yield temporary
        _refuse_content(target, but=temporary)
        _publish(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_content(target: Path, but: Path | None = None) -> None:
    if target.exists() and (not target.is_dir() or any(item != but for item in target.iterdir())):
        msg = f"{target} exists and is not an empty folder: choose another with -o, or remove it"
        raise InputError(msg)


def _publish(temporary: Path, target: Path) -> None:
    """Make the temporary folder the target, in one step or, into a folder that exists, with the manifest last."""
    if not target.exists():
        temporary.chmod(0o755)
        temporary.rename(target)
        return
    items = sorted(temporary.iterdir(), key=lambda p: p.name == MANIFEST)
    try:
        for item in items:
            item.rename(target / item.name)
    except BaseException:
        for item in items:
            (target / item.name).unlink(missing_ok=True)
        raise


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace `manifest.json` in one step. It is the last thing that goes into a folder."""
    write_json(manifest, folder / MANIFEST)


def describe_file(folder: Path, name: str) -> FileEntry:
    path = folder / name
    return FileEntry(path=name, sha256=sha256(path), size=path.stat().st_size)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir() or not path.is_file() or folder.name.endswith(_PARTIAL):
        msg = f"{folder} is not an artifact: give the folder that `facedeploy export` wrote"
        raise ArtifactError(msg)
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            msg = f"{path} is too large to be a manifest"
            raise ArtifactError(msg)
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not valid JSON: export the artifact again"
        raise ArtifactError(msg) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        msg = f"{path} is not the manifest of a facedeploy artifact"
        raise ArtifactError(msg)
    if data.get("version") != VERSION:
        msg = (
            f"{path} has version {data.get('version')!r} and this release reads version {VERSION}: "
            "update facedeploy, or export the artifact again"
        )
        raise ArtifactError(msg)
    try:
        manifest = from_plain(Manifest, data)
    except InputError as error:
        msg = f"{path}: {error}; export the artifact again"
        raise ArtifactError(msg) from error
    return manifest


def _check_file(folder: Path, entry: FileEntry) -> None:
    pure = PurePosixPath(entry.path)
    path = folder / pure
    inside = not pure.is_absolute() and ".." not in pure.parts and "\\" not in entry.path
    try:
        inside = inside and path.resolve().is_relative_to(folder.resolve())
        there = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # A NUL, a name too long, a loop of links.
        msg = f"{folder / MANIFEST}: {entry.path[:80]!r} is not a usable path; do not use this artifact"
        raise ArtifactError(msg) from error
    if not inside:
        msg = f"{folder / MANIFEST}: the path {entry.path!r} leaves the artifact; do not use this artifact"
        raise ArtifactError(msg)
    if not there:
        msg = f"{path} is missing: copy the whole artifact, or export it again"
        raise ArtifactError(msg)
    if path.stat().st_size != entry.size or sha256(path) != entry.sha256:
        msg = f"{path} is not the file that was exported (size or SHA-256 differs): copy or export it again"
        raise ArtifactError(msg)
