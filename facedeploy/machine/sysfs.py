"""Files of a kernel, read so that nothing in them can do harm: bounded, and absent where they cannot be read."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

# What is read of a file and of a folder, and kept of a name, at most; /proc/cpuinfo says 1.5 kB of each core.
_BYTES, _FILES, _NAME = 1 << 22, 4096, 48
HOTTEST, COLDEST = 150.0, -40.0  # Celsius.


def paths(root: Path, pattern: str) -> list[Path]:
    """What fits the pattern under `root`, in order of the names."""
    try:
        return sorted(islice(root.glob(pattern), _FILES))
    except OSError:
        return []


def head(path: Path, size: int) -> bytes | None:
    """The first bytes of a file, `size` at most."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return None


def text(path: Path) -> str | None:
    """A file's text, without the white space and zero bytes that end it; a device tree ends its strings with one."""
    read = head(path, _BYTES)
    return None if read is None else read.decode(errors="replace").strip("\0 \r\n\t")


def number(path: Path, low: float, high: float) -> float | None:
    """The whole number that a file holds, if it is one from `low` to `high`."""
    found = text(path) or ""
    return float(found) if re.fullmatch(r"-?[0-9]{1,15}", found) and low <= float(found) <= high else None


def plain_name(said: str | None, limit: int = _NAME) -> str | None:
    """A name as it may be printed and kept; None where nothing is left of it."""
    kept = "".join(c for c in (said or "")[: 4 * limit] if c.isprintable()).strip()
    return kept[:limit].strip() or None


def temperature(celsius: float) -> float | None:
    """What a sensor says, if it may be believed: those that are off say -256, -99.9, 0 or 10000."""
    return celsius if COLDEST < celsius < HOTTEST and celsius != 0 else None
