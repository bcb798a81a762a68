"""Files on a device, named by what is in them: only what is missing is sent, and nothing is there that is not whole.

They lie in objects/ of the device's folder, each under its SHA-256. docs/explanation/devices.md shows it.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from facedeploy.core.errors import DeviceError, InputError
from facedeploy.core.hashing import sha256
from facedeploy.core.progress import Progress, silent
from facedeploy.devices.connection import Device
from facedeploy.devices.shell import readable, talk

# A power cut may leave an empty file where a whole one was.
_MISSING = 'echo; while read -r f; do [ -s "objects/$f" ] || echo "$f"; done'
# What a lost connection or a full disk leaves is removed at once; what a power cut leaves, a day later.
_RECEIVE = """find . -maxdepth 1 -name 'incoming.*' -mtime +0 -exec rm -rf {} + 2>/dev/null || :
t="$d/incoming.$$"; trap 'rm -rf "$t"' EXIT; trap 'exit 1' HUP INT TERM PIPE
mkdir "$t"; cd "$t"; tar -xmf - || { echo "is its disk full?" >&2; exit 1; }
for f in *; do
  if command -v sha256sum >/dev/null 2>&1; then s=$(sha256sum "$f"); else s=$(shasum -a 256 "$f"); fi
  [ "${s%% *}" = "$f" ] || { echo "a file arrived damaged" >&2; exit 1; }
  mv -f "$f" "$d/objects/"
done"""
_BLOCK = 1 << 18
_LARGEST = 4 << 30  # Bytes of a file to fetch: an engine.
_TOLD = 2.0  # Seconds between two words of progress.
_LINE = 65  # Of a digest and the end of its line.


@dataclass(frozen=True)
class Content:
    """Something to be on a device.

    Attributes:
        sha256: Hexadecimal digest.
        size: Bytes.
        source: A file, or bytes.
    """

    sha256: str
    size: int
    source: Path | bytes

    @staticmethod
    def of(source: Path | bytes) -> Content:
        if isinstance(source, bytes):
            return Content(hashlib.sha256(source).hexdigest(), len(source), source)
        return Content(sha256(source), source.stat().st_size, source)

    def blocks(self) -> Iterator[bytes]:
        """As many bytes as there were when it was described.

        Raises:
            InputError: a file became shorter.
        """
        if isinstance(self.source, bytes):
            yield self.source
            return
        left = self.size
        with self.source.open("rb") as file:
            while left:
                block = file.read(min(left, _BLOCK))
                if not block:
                    msg = f"{self.source} became shorter while it was sent: run the command again when it is complete"
                    raise InputError(msg)
                left -= len(block)
                yield block


def enter(device: Device) -> str:
    """What every script begins with: go to the device's folder, $d, which only its user can read: pictures of faces lie
    there.
    """
    return f'set -e; umask 077; d={device.folder}; mkdir -p "$d/objects"; cd "$d"; '


def push(device: Device, contents: Iterable[Content], progress: Progress = silent) -> int:
    """Send those that the device has not; how many those were.

    Raises:
        DeviceError: the connection failed, or the device cannot keep them; then none of it is left there.
    """
    wanted = {c.sha256: c for c in contents}
    asked = "".join(f"{digest}\n" for digest in wanted).encode()
    said = b"".join(
        talk(device, enter(device) + _MISSING, "asking for files", send=[asked], most=_LINE * len(wanted) + _BLOCK)
    )
    missing = [wanted[digest] for digest in dict.fromkeys(readable(said, len(said)).split()) if digest in wanted]
    if missing:
        sent = _archive(missing, _tell(device, missing, progress))
        for _ in talk(device, enter(device) + _RECEIVE, "sending files", send=sent, most=_BLOCK):
            pass
    return len(missing)


def pull(device: Device, digest: str, size: int) -> bytes:
    """The content of `digest`, of so many bytes, both of which a device may have named.

    Raises:
        DeviceError: the connection failed, or it is not what it should be.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest, re.ASCII) or not 0 < size <= _LARGEST:
        msg = f"{device.name} names a file that cannot be ({readable(digest, 80)!r}, {size} bytes)"
        raise DeviceError(msg)
    data = b"".join(talk(device, f"{enter(device)}cat objects/{digest}", "fetching a file", most=size))
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        msg = f"{device.name} sent a file that is not what it said: does a login script there print something?"
        raise DeviceError(msg)
    return data


def _archive(contents: Iterable[Content], sent: Callable[[int], None]) -> Iterator[bytes]:
    """A tar archive, in blocks."""
    for content in contents:
        info = tarfile.TarInfo(content.sha256)
        info.size, info.mode = content.size, 0o600
        yield info.tobuf(tarfile.USTAR_FORMAT)
        for block in content.blocks():
            yield block
            sent(len(block))
        yield bytes(-content.size % tarfile.BLOCKSIZE)
    yield bytes(tarfile.RECORDSIZE)


def _tell(device: Device, contents: Iterable[Content], progress: Progress) -> Callable[[int], None]:
    sizes = [c.size for c in contents]
    state = {"sent": 0, "told": 0.0}

    def sent(count: int) -> None:
        state["sent"] += count
        if time.monotonic() - state["told"] >= _TOLD or state["sent"] == sum(sizes):
            state["told"] = time.monotonic()
            progress(f"{device.name}: {len(sizes)} files, {state['sent'] / 1e6:.1f} of {sum(sizes) / 1e6:.1f} MB sent")

    return sent
