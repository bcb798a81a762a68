"""How long work says what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

# Told the name of each step of long work.
Progress = Callable[[str], None]
# Shows the progress over some files, under a title.
Watch = Callable[[Sequence[Path], str], Iterable[Path]]


def silent(step: str) -> None:
    """Tells nobody."""


def unwatched(files: Sequence[Path], _: str) -> Iterable[Path]:
    """No progress bar."""
    return files
