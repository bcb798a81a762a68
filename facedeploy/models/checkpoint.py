"""Read a checkpoint without running code from it, and load it strictly."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedeploy.core.errors import CheckpointError

StateDict = dict[str, Tensor]

_AROUND = ("state_dict", "fpn_model")


def read_state_dict(path: Path) -> StateDict:
    """Read a state dict from a PyTorch (.pt, .pth) or safetensors file.

    What is around it (`state_dict`; `fpn_model` of img2pose) and a `module.` prefix on every key (left by DataParallel)
    are removed.

    Raises:
        CheckpointError: the file is missing, damaged, needs code to load, or holds no state dict.
    """
    if not path.is_file():
        msg = f"there is no checkpoint {path}"
        raise CheckpointError(msg)
    data = _read(path)
    for name in _AROUND:
        if isinstance(data, Mapping) and isinstance(data.get(name), Mapping):
            data = data[name]
    if (
        not isinstance(data, Mapping)
        or not data
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in data.items())
    ):
        msg = f"{path} holds no state dict (tensors by name): save `model.state_dict()`"
        raise CheckpointError(msg)
    prefix = "module." if all(k.startswith("module.") for k in data) else ""
    return {k.removeprefix(prefix): v for k, v in data.items()}


def load(module: nn.Module, state: StateDict, where: str) -> None:
    """Load a state dict into a module. Every key and shape must match.

    Two kinds of keys may be missing, as nothing is computed with them: BatchNorm's counters, which PyTorch did not save
    before 0.4.1, and those that begin as the module's `dead_keys`. Those that begin as its `spare_keys`, which it does
    not have, may be there. A module whose keys were once called otherwise has `renamed`, from a key to its own.

    Args:
        module: The module, which is changed.
        state: Name -> tensor.
        where: Where the state is from, for messages.

    Raises:
        CheckpointError: names what is missing, unknown or of another shape.
    """
    own = module.state_dict()
    renamed = getattr(module, "renamed", lambda key: key)
    spare = tuple(getattr(module, "spare_keys", ()))
    state = {renamed(k): v for k, v in state.items() if not k.startswith(spare)}
    dead = tuple(getattr(module, "dead_keys", ()))
    optional = {k for k in own if k.endswith(".num_batches_tracked") or k.startswith(dead)}
    state = {**{k: own[k] for k in optional}, **state}
    problems = [f"missing {k}" for k in own if k not in state]
    problems += [f"unknown {k}" for k in state if k not in own]
    problems += [
        f"{k} is {tuple(state[k].shape)} and must be {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    problems += [f"{k} is not finite" for k, v in state.items() if not torch.isfinite(v).all()]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        msg = f"{where} is not a checkpoint of this network: {shown}"
        raise CheckpointError(msg)
    module.load_state_dict(state)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        msg = f"{path} is not a plain state dict (loading it would run code), or is damaged"
        raise CheckpointError(msg) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        msg = f"{path} is damaged or truncated: copy it again"
        raise CheckpointError(msg) from error
    except Exception as error:
        # safetensors' own error class is not public.
        if type(error).__module__.startswith("safetensors"):
            msg = f"{path} is damaged or truncated: copy it again"
            raise CheckpointError(msg) from error
        raise
