"""What a deployable model is: facts about it, its modules, its checkpoint. Needs no PyTorch to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from facedeploy.errors import InputError
from facedeploy.extras import require
from facedeploy.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

Size = tuple[int, int]
_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Model:
    """A published face system.

    module: the Python module that defines `networks()`, the PyTorch modules. specs: the networks' shapes for an
    input size. input_size: (height, width) of the largest picture that TensorRT's engines are built for, unless
    the user says otherwise. family: the pipeline that runs it. weights, licence: of the official checkpoint.
    float32: network -> beginnings of the names of weights that fp16 targets leave in float32 ("" is all).
    """

    id: str
    title: str
    module: str
    specs: Callable[[Size], tuple[NetworkSpec, ...]]
    family: str
    input_size: Size
    weights: str
    licence: str
    float32: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def network_specs(self, input_size: Size | None = None) -> tuple[NetworkSpec, ...]:
        """Names, shapes and ranges of the model's networks."""
        return self.specs(input_size or self.input_size)

    def build(self) -> dict[str, nn.Module]:
        """Fresh modules in eval mode, by network name.

        Raises:
            BackendUnavailableError: PyTorch is not installed.
        """
        require("torch", "export")
        networks = importlib.import_module(f"facedeploy.models.{self.module}").networks
        modules: Mapping[str, nn.Module] = networks()
        return {name: module.eval() for name, module in modules.items()}

    def find_weights(self, path: Path) -> dict[str, Path]:
        """The checkpoint file of each network, by network name.

        A model of one network takes a file; a model of several takes the folder that holds their files, each
        named after its network (`pnet_epoch_20.pt`, `pnet.safetensors`).

        Raises:
            InputError: a file is missing, or two could be meant.
        """
        names = [n.name for n in self.network_specs()]
        if not path.is_dir():
            msg = f"{self.id} has the networks {', '.join(names)}: give --weights the folder with their files"
            if len(names) == 1 and path.is_file():
                return {names[0]: path}
            raise InputError(msg if len(names) > 1 else f"there is no file {path}")
        found = {}
        for name in names:
            files = sorted(f for f in path.iterdir() if f.suffix in _SUFFIXES and f.name.startswith(name))
            if len(files) != 1:
                what = "two could be meant: " + ", ".join(f.name for f in files) if files else "none is there"
                msg = f"{path} must hold one file {name}*{'|'.join(_SUFFIXES)}; {what}"
                raise InputError(msg)
            found[name] = files[0]
        return found

    def load(self, path: Path) -> dict[str, nn.Module]:
        """Modules with the weights of the checkpoint at `path`.

        Raises:
            InputError, CheckpointError: no such checkpoint, or it is not of this model.
        """
        from facedeploy.models import checkpoint

        modules = self.build()
        for name, file in self.find_weights(path).items():
            checkpoint.load(modules[name], checkpoint.read_state_dict(file), str(file))
        return modules
