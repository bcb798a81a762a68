"""How long work says what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

# Shows the progress over some files, under a title.
Watch = Callable[[Sequence[Path], str], Iterable[Path]]


def unwatched(files: Sequence[Path], _: str) -> Iterable[Path]:
    """No progress bar."""
    return files


Progress = Callable[[str], None]
