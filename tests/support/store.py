"""What is slow to make and the same each time: made once, for both workers and for the next run.

Each thing lies in a folder named by the content that it is made from: code, weights, flags, versions of tools. So what
changes is made anew, and nothing has to be thrown away by hand. Nobody writes into a folder that is there.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]
STORE = Path(os.environ.get("FACEDEPLOY_TEST_STORE", ROOT / "build" / "tests"))
_KEPT_DAYS = 14
# Nothing in these changes what an export writes.
_NOT_EXPORTING = ("benchmarks", "cli", "devices", "machine", "package")
_TOOLS = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxsim",
    "onnxruntime",
    "openvino",
    "ncnn",
    "pnnx",
    "tensorrt-rtx-cu13",
    "numpy",
    "opencv-python-headless",
)


def made_once(kind: str, key: Iterable[object], make: Callable[[Path], object]) -> Path:
    """The folder that `make` filled for this key, now or in an earlier run.

    Args:
        kind: beginning of the folder's name, for people.
        key: what decides the content; each part is told apart by its `repr`, bytes and files by what is in them.
        make: fills the empty folder that it is given. If it raises, nothing is kept.
    """
    place = STORE / f"{kind}-{digest(key)[:24]}"
    STORE.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not place.is_dir():
            work = place.with_suffix(".partial")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            make(work)
            work.rename(place)
    os.utime(place)
    return place


def digest(parts: Iterable[object]) -> str:
    """SHA-256 of the parts of a key, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        said = content(part) if isinstance(part, Path) else part if isinstance(part, bytes) else repr(part).encode()
        total.update(len(said).to_bytes(8, "big") + said)
    return total.hexdigest()


def content(path: Path) -> bytes:
    """What a file holds, or all files of a folder with their names there."""
    if path.is_file():
        return path.read_bytes()
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return b"".join(f"{p.relative_to(path)}\0".encode() + p.read_bytes() for p in files)


@functools.cache
def exporter() -> str:
    """All that decides what an export writes of the same weights: our code, and the tools."""
    package = ROOT / "facedeploy"
    rooms = sorted(p for p in package.iterdir() if p.is_dir() and p.name not in (*_NOT_EXPORTING, "__pycache__"))
    return digest([*rooms, [version(tool) for tool in _TOOLS]])


@functools.cache
def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def says(program: str) -> str:
    """What a compiler says of itself."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout


def prune() -> None:
    """Remove what nobody asked for in two weeks."""
    for place in STORE.glob("*-*") if STORE.is_dir() else ():
        if place.is_dir() and time.time() - place.stat().st_mtime > _KEPT_DAYS * 86400:
            shutil.rmtree(place, ignore_errors=True)
            Path(f"{place}.lock").unlink(missing_ok=True)
