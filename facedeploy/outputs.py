"""Files that a command is asked to write: checked before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from facedeploy.errors import InputError


def check_output(path: Path, suffix: str = "") -> None:
    """Check that a file can be written where the user wants it.

    Raises:
        InputError: its folder is missing or may not be written to, it is a folder itself, or of another kind.
    """
    if suffix and path.suffix.lower() != suffix:
        msg = f"{path} must end in {suffix}"
        raise InputError(msg)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        msg = f"cannot write {path}: it is a folder" if path.is_dir() else f"cannot write in the folder {path.parent}"
        raise InputError(msg)
