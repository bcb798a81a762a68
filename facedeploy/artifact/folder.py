"""The artifact: the folder that `export` writes and everything else reads.

It is written under a temporary name and renamed when complete. Reading one checks the manifest's version, that
every path stays inside the folder, every file's size and SHA-256, and the manifest's own digest.
`docs/reference/artifact.md` shows the format.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from facedeploy.artifact import chain
from facedeploy.artifact.chain import Chain
from facedeploy.artifact.digest import digest_of, signed
from facedeploy.artifact.manifest import FORMAT, VERSION, FileEntry, Manifest, NetworkEntry
from facedeploy.core.errors import ArtifactError, InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.serialization import Document, check_document, read_format, read_plain, write_json

MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_DOCUMENT = Document(
    Manifest,
    "manifest of a facedeploy artifact",
    VERSION,
    advice="export the artifact again",
    limit=4 << 20,  # A manifest is a few kilobytes.
    format=FORMAT,
    error=ArtifactError,
)
_CHAIN = Document(
    Chain,
    "manifest of a chain",
    chain.VERSION,
    advice="make the chain again",
    limit=1 << 20,
    format=chain.FORMAT,
    error=ArtifactError,
)


@dataclass(frozen=True)
class Artifact:
    """A checked artifact on disk.

    Attributes:
        path: The folder.
        manifest: What its `manifest.json` says; of a chain, what those of its parts say together.
        parts: The artifacts of a chain by name, the detector first; empty for any other.
    """

    path: Path
    manifest: Manifest
    parts: Mapping[str, Artifact] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say the model, the target, the folder, the networks and their size."""
        networks = ", ".join(n.spec.name for n in self.manifest.networks)
        size = f"{self.size / 1e6:.1f} MB"
        return f"<Artifact: {self.manifest.model} for {self.manifest.target} in {self.path} ({networks}; {size})>"

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Artifact:
        """Read and check an artifact.

        Args:
            path: The folder that `export` wrote.

        Returns:
            The artifact, whose files are as they were written.

        Raises:
            ArtifactError: not an artifact, of a version that this release cannot read, or not as it was written.
        """
        folder = Path(path)
        manifest, written = _read_manifest(folder)
        if isinstance(manifest, Chain):
            names = [chain.DETECTOR, *(name for name in manifest.parts if name != chain.DETECTOR)]
            return Artifact.chained(folder, {n: _open_part(folder, n, manifest.parts.get(n, "")) for n in names})
        artifact = Artifact(folder, manifest)
        for network in manifest.networks:
            for entry in network.files.values():
                _check_file(folder, entry)
        if manifest.digest and manifest.digest != digest_of(written):
            msg = (
                f"{folder / MANIFEST} was changed after it was written: export again, or copy the artifact again, and "
                "set options where you run it, with -O"
            )
            raise ArtifactError(msg)
        return artifact

    @staticmethod
    def chained(path: Path, parts: Mapping[str, Artifact]) -> Artifact:
        """A detector, and artifacts that look at its faces, as one artifact.

        Args:
            path: Folder of the chain, for messages.
            parts: By name, the detector first.
        """
        return Artifact(path, chain.joined({name: part.manifest for name, part in parts.items()}), dict(parts))

    def compiled(self) -> Iterator[tuple[str, Artifact, NetworkEntry]]:
        """Each network: its name in the whole, the artifact that it is a part of, and what that says of it."""
        for own, network in zip(self._own(), self.manifest.networks, strict=True):
            yield network.spec.name, *own

    def _own(self) -> Iterator[tuple[Artifact, NetworkEntry]]:
        for part in self.parts.values() or (self,):
            yield from ((part, network) for network in part.manifest.networks)

    def file(self, network: str, role: str) -> Path:
        """Path of a network's file.

        Args:
            network: Name of the network, such as "pnet".
            role: What the file is to the backend, such as "onnx", "engine", "xml", "bin" or "param".

        Returns:
            The file, in the artifact's folder.

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


def find_chain(path: str | os.PathLike[str]) -> Artifact | None:
    """The chain in a folder; None where there is none.

    Raises:
        ArtifactError: it is a damaged one.
    """
    if not (Path(path) / MANIFEST).is_file():
        return None
    opened = Artifact.open(path)
    return opened if opened.parts else None


@contextlib.contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends, and is removed when it raises.

    Args:
        path: The folder to write.

    Returns:
        The temporary folder, as a context manager.

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
    """Write or replace `manifest.json`, with its digest, in one step. It is the last thing that goes into a folder."""
    write_json(signed(manifest), folder / MANIFEST)


def describe_file(folder: Path, name: str) -> FileEntry:
    path = folder / name
    return FileEntry(path=name, sha256=sha256(path), size=path.stat().st_size)


def _read_manifest(folder: Path) -> tuple[Manifest | Chain, Mapping[str, Any]]:
    """What a manifest says, and its values as they stand there."""
    path = folder / MANIFEST
    if not folder.is_dir() or not path.is_file() or folder.name.endswith(_PARTIAL):
        msg = f"{folder} is not an artifact: give the folder that `facedeploy export` wrote"
        raise ArtifactError(msg)
    if read_format(path, _CHAIN.limit) == chain.FORMAT:
        plain = read_plain(_CHAIN, path)
        return check_document(_CHAIN, plain, path), plain
    plain = read_plain(_DOCUMENT, path)
    manifest = check_document(_DOCUMENT, plain, path)
    try:
        _ = manifest.terms
    except InputError as error:
        msg = f"{path}: {error}; export the artifact again"
        raise ArtifactError(msg) from error
    if manifest.pipeline.family == chain.FAMILY:
        msg = f"{path}: {chain.FAMILY!r} is no pipeline of one artifact; export the artifact again"
        raise ArtifactError(msg)
    return manifest, plain


def write_chain(folder: Path, names: Sequence[str]) -> None:
    """Write or replace the `manifest.json` of a chain in one step.

    Args:
        folder: Of the chain.
        names: Folders of its parts in it, the detector's first.
    """
    write_json(Chain({name: sha256(folder / name / MANIFEST) for name in names}), folder / MANIFEST)


def _open_part(folder: Path, name: str, digest: str) -> Artifact:
    """A part of a chain, which lies in its folder.

    Raises:
        ArtifactError: it lies elsewhere, is a chain itself, or what `Artifact.open` raises.
    """
    plain = len(PurePosixPath(name).parts) == 1 and name not in ("", ".", "..") and not set("/\\\0") & set(name)
    if not plain or (folder / name).is_symlink():
        msg = f"{folder / MANIFEST}: the part {name[:80]!r} is not a folder of the chain; do not use this artifact"
        raise ArtifactError(msg)
    if not (folder / name).is_dir():
        msg = f"{folder / name} is missing: copy the whole chain, or make it again"
        raise ArtifactError(msg)
    part = Artifact.open(folder / name)
    if sha256(folder / name / MANIFEST) != digest:
        msg = f"{folder / name} is not the artifact that the chain was made of: copy the chain, or make it again"
        raise ArtifactError(msg)
    if part.parts:
        msg = f"{folder / name} is a chain itself, and a chain of chains cannot be: make it of its parts"
        raise ArtifactError(msg)
    return part


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
