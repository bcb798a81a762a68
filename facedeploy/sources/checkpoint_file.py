"""What a file is that holds weights and no network, for a user who gives it where a network is wanted."""

from __future__ import annotations

import zipfile
from pathlib import Path

from facedeploy.core.errors import CheckpointError, InputError
from facedeploy.core.optional_imports import find

_ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors", ".tar")


def refuse_checkpoint(path: Path) -> None:
    """Refuse a file of PyTorch's, whatever is in it.

    Raises:
        InputError: says what it is, and what to give instead.
    """
    if path.is_file() and path.suffix.lower() in _ENDINGS:
        msg = f"{path} {_kind(path)}"
        raise InputError(msg)


def _kind(path: Path) -> str:
    if _is_script(path):
        return "is a TorchScript file: export its module as ONNX, or name a callable that makes it"
    give = "give package.module:callable, which makes the network, and this file to --weights"
    if find("torch") is None:
        return f"is a checkpoint, which has weights and no network: {give}"
    from facedeploy.models.checkpoint import read_state_dict

    try:
        state = read_state_dict(path)
    except CheckpointError as error:
        return f"holds no network, and no weights that can be read ({error}): {give}"
    numbers = sum(t.numel() for t in state.values())
    return f"is a checkpoint of {len(state)} tensors with {numbers:,} numbers, and has no network in it: {give}"


def _is_script(path: Path) -> bool:
    """Whether it is what `torch.jit.save` writes: a zip file with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
