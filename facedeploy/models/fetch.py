"""The published weights of a model: downloaded from where their authors put them, checked, and loaded strictly."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facedeploy.core.download import Download, Received, unseen
from facedeploy.core.errors import CheckpointError, DeviceError, InputError, brief
from facedeploy.core.hashing import sha256
from facedeploy.core.optional_imports import require
from facedeploy.core.progress import Progress, silent
from facedeploy.core.terms import TERMS_FILE, terms_text
from facedeploy.models.model import Model
from facedeploy.models.published_files import Publication, PublishedFile

# What was got, in the form that `sha256sum --check` reads.
SUMS = "SHA256SUMS"
_PARTIAL = ".partial"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """Weights that are here.

    Attributes:
        folder: Where; what `--weights` takes.
        digests: SHA-256 of each file, by its name.
        new: Whether they were downloaded now, and not before.
    """

    folder: Path
    digests: Mapping[str, str]
    new: bool


def publication_of(model: Model) -> Publication:
    """Where the weights of a model are.

    Raises:
        InputError: they are in this package.
    """
    if model.published is None:
        msg = f"{model.id} needs no download: its weights are in this package"
        raise InputError(msg)
    return model.published


def fetch(
    model: Model, folder: Path | None = None, *, received: Received = unseen, progress: Progress = silent
) -> Fetched:
    """Get the published weights of a model, or find that they are here.

    Each digest that is known is compared, and then the files are loaded as an export loads them. Only then do they go
    into the folder, with `SHA256SUMS`, which holds what was got, and the terms of the weights.

    Args:
        model: The model, in one layout: `registry.published` gives it.
        folder: Where to put them; None for the user's cache, where exports find them by themselves.
        received: Told how much of each file is here.
        progress: Called with the name of each step.

    Raises:
        InputError: the weights are in this package, or the folder cannot be written, or holds other files of that name.
        DeviceError: the server cannot be reached, or does not have them. What came stays, and is gone on with.
        CheckpointError: what came is not these weights; nothing of it stays.
        BackendUnavailableError: PyTorch is not installed.
    """
    publication = publication_of(model)
    require("torch", "export")
    target = Path(folder or publication.home).absolute()
    if here := _here(publication, target):
        return Fetched(target, here, new=False)
    own = folder is None  # The cache is ours to put in order.
    taken = [f.name for f in publication.files if (target / f.name).exists()]
    if taken and not own:
        msg = f"{target / taken[0]} is there, and not as it was fetched: choose another folder, or remove it"
        raise InputError(msg)
    # Of these weights alone: what an earlier call left there is gone on with.
    staging = (target if target.is_dir() else target.parent) / f".{publication.name}{_PARTIAL}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        try:
            _download(publication, staging, received)
        except DeviceError as error:
            msg = f"{error}. By hand: take the files from {publication.page}, and give --weights their folder"
            raise DeviceError(msg) from error
        finally:
            if not any(staging.iterdir()):
                staging.rmdir()
        progress("load the weights strictly")
        _load(model, publication, staging)
        digests = {file.name: sha256(staging / file.name) for file in publication.files}
        sums = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
        (staging / SUMS).write_text(sums, encoding="utf-8")
        (staging / TERMS_FILE).write_text(terms_text([(publication.name, model.terms)]), encoding="utf-8")
        _publish(staging, target)
    except OSError as error:
        msg = f"cannot write {target}: {error.strerror or error}"
        raise InputError(msg) from error
    return Fetched(target, digests, new=True)


def _here(publication: Publication, folder: Path) -> dict[str, str]:
    """The digests of all files, if they are in the folder as they were fetched."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        told = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        found = {file.name: sha256(folder / file.name) for file in publication.files}
    except (OSError, UnicodeDecodeError):
        return {}
    return found if all(told.get(name) == digest for name, digest in found.items()) else {}


def _download(publication: Publication, staging: Path, received: Received) -> None:
    """Get what is not in the staging folder, each thing checked as far as a digest is known."""
    archives: dict[str, Path] = {}
    for file in publication.files:
        path = staging / file.name
        if path.is_file() and _is(path, file.digest):
            continue
        if not file.member:
            Download(file.url, path, file.limit, bool(file.digest)).get(received)
        else:
            if file.url not in archives:
                archives[file.url] = archive = staging / f"{file.name}.zip"
                Download(file.url, archive, file.limit).get(received)
            _extract(archives[file.url], file, path)
        if not _is(path, file.digest):
            path.unlink()
            msg = (
                f"{file.url} gives another {file.name} than is known ({file.digest[:19]}…): it was changed there, "
                f"or on the way; look at {publication.page}"
            )
            raise CheckpointError(msg)
    for archive in archives.values():
        archive.unlink()


def _is(path: Path, digest: str) -> bool:
    """Whether a file is the one of a digest; any is of none."""
    kind, _, value = digest.partition(":")
    if kind == "sha256":
        return sha256(path) == value
    return not digest or _git_name(path) == value


def _git_name(path: Path) -> str:
    """What git calls the content of a file: SHA-1 of its kind, its length and itself."""
    total = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def _extract(archive: Path, file: PublishedFile, path: Path) -> None:
    """Write one file of a zip, of no more than its limit."""
    left = file.limit
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(file.member) as content, path.open("wb") as out:
            while block := content.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    msg = f"it is over {file.limit:,} bytes"
                    raise ValueError(msg)
                out.write(block)
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        path.unlink(missing_ok=True)
        archive.unlink()
        msg = f"{file.url} gives no zip with {file.member} in it: {brief(error)}"
        raise CheckpointError(msg) from error


def _load(model: Model, publication: Publication, staging: Path) -> None:
    """Load the files as an export does; what does not fit is removed.

    Raises:
        CheckpointError: they are not the model's.
    """
    try:
        model.load(staging)
        model.read_constants(staging)
    except (CheckpointError, InputError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        msg = f"what {publication.page} leads to does not fit {model.id}, and is removed: {error}"
        raise CheckpointError(msg) from error


def _publish(staging: Path, target: Path) -> None:
    """Move what is checked to its place: in one step, or into a folder that is there, the list of sums last."""
    if not target.exists():
        staging.rename(target)
        return
    for item in sorted(staging.iterdir(), key=lambda path: path.name == SUMS):
        item.replace(target / item.name)
    staging.rmdir()
