"""What a deployable model is: facts about it, its modules, its checkpoint. Needs no PyTorch to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy.core.errors import CheckpointError, InputError
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size
from facedeploy.core.optional_imports import require
from facedeploy.core.terms import Terms
from facedeploy.models.published_files import Publication

if TYPE_CHECKING:
    from facedeploy.models.architecture import Architecture, Modules

_SUFFIXES = (".pt", ".pth", ".safetensors")
_EMBEDDED = Path(__file__).with_name("weights")
_LARGEST_CONSTANT = 1 << 20


@dataclass(frozen=True)
class Model:
    """A published face system.

    Attributes:
        id: What the user calls it, such as "mos-m".
        title: One line that says what it is.
        architecture: "module:NAME" of its `Architecture`.
        specs: Gives the networks' shapes for an input size.
        family: The pipeline that runs it.
        input_size: (height, width) in pixels unless the user gives another: of every picture, or of the largest one
            where a model takes any size.
        terms: Of the official checkpoint: its licence, and where it is.
        parts: Names of the files of a checkpoint; empty for one file a network.
        any_size: Whether networks without a fixed size can be exported too.
        published: Where its authors put the checkpoint; None for one that is in this package.
        embedded: Name of the checkpoint in this package, for a model that needs no --weights.
        options: Of the pipeline, where they differ from the family's.
        constants: Option of the pipeline -> NumPy file of numbers that come with the weights, in the same folder, and
            go into the artifact.
        float32: Network -> what fp16 targets leave in float32, as beginnings of names of weights; "" is all. Of several
            candidates the first is taken that gives the same boxes.
        layouts: The same model once for each layout that checkpoints of it have; none where there is only this one.
    """

    id: str
    title: str
    architecture: str
    specs: Callable[[InputSize], tuple[NetworkSpec, ...]]
    family: str
    input_size: Size
    terms: Terms
    parts: tuple[str, ...] = ()
    any_size: bool = False
    published: Publication | None = None
    embedded: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    float32: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    layouts: tuple[Model, ...] = ()

    def network_specs(self, input_size: InputSize | None = None) -> tuple[NetworkSpec, ...]:
        """Names, shapes and ranges of the model's networks.

        Raises:
            InputError: the model does not take such a size.
        """
        return self.specs(input_size or self.input_size)

    @property
    def checkpoint_parts(self) -> tuple[str, ...]:
        """Names of the files that a checkpoint of the model consists of."""
        return self.parts or tuple(n.name for n in self.network_specs())

    @property
    def source_parts(self) -> tuple[str, ...]:
        """What an artifact of the model is made from: the parts of its checkpoint, and its constants."""
        return (*self.checkpoint_parts, *self.constants)

    @property
    def embedded_ranges(self) -> Path | None:
        """The table of ranges of the embedded checkpoint."""
        return (_EMBEDDED / self.embedded).with_suffix(".ranges.json") if self.embedded else None

    @property
    def fetched(self) -> Path | None:
        """The folder of the user's cache with its checkpoint, in any layout; None if none was fetched."""
        known = [m.published for m in (self, *self.layouts) if m.published]
        return next((p.fetched for p in known if p.fetched), None)

    def define(self) -> Architecture:
        """The model's PyTorch side.

        Raises:
            BackendUnavailableError: PyTorch is not installed.
        """
        require("torch", "export")
        module, name = self.architecture.split(":")
        found: Architecture = getattr(importlib.import_module(f"facedeploy.models.{module}"), name)
        return found

    def build(self) -> Modules:
        """Fresh modules in eval mode, by part of the checkpoint."""
        return {name: module.eval() for name, module in self.define().build().items()}

    def networks(self, modules: Modules) -> Modules:
        """The networks over these modules, computing as published: the reference."""
        return {name: module.eval() for name, module in self.define().networks(modules).items()}

    def fold(self, networks: Modules) -> Modules:
        """The same networks, as they are exported."""
        return {name: module.eval() for name, module in self.define().fold(networks).items()}

    def of(self, path: Path | None) -> Model:
        """The model in the layout of the checkpoint at `path`.

        Raises:
            InputError, CheckpointError: no such checkpoint, it cannot be read, or its files are of different layouts.
        """
        return self.of_files(self.find_weights(path)) if self.layouts else self

    def of_files(self, files: Mapping[str, Path]) -> Model:
        """The model in the layout that shares the most keys with each of the checkpoint's files.

        Args:
            files: By part.

        Raises:
            CheckpointError: a file cannot be read, or two are of different layouts.
        """
        if not self.layouts:
            return self
        from facedeploy.models import checkpoint

        layouts = [(m, m.build()) for m in self.layouts]
        found = {}
        for part, file in files.items():
            keys = checkpoint.read_state_dict(file).keys()
            found[part], _ = max(layouts, key=lambda layout: len(keys & layout[1][part].state_dict().keys()))
        first, *others = found
        for part in others:
            if found[part] != found[first]:
                names = ", ".join(f"{files[p]} is of {found[p].terms.weights}" for p in (first, part))
                msg = f"these networks do not belong together: {names}; give --weights the files of one of them"
                raise CheckpointError(msg)
        return found[first]

    def find_weights(self, path: Path | None) -> dict[str, Path]:
        """The checkpoint file of each part, by name; without a path, the embedded one or the one that was fetched.

        A model of one part takes a file; a model of several takes the folder that holds their files, each
        named after its part (`pnet_epoch_20.pt`, `pnet.safetensors`).

        Raises:
            InputError: a file is missing, or two could be meant; or no path, and nothing is embedded.
        """
        names = self.checkpoint_parts
        path = path or (_EMBEDDED / self.embedded if self.embedded else self.fetched)
        if path is None:
            msg = (
                f"give --weights: those of {self.id} are not in this package, but at {self.terms.weights}; "
                f"`facedeploy models {self.id} --fetch` gets them"
            )
            raise InputError(msg)
        if not path.is_dir():
            msg = f"{self.id} has the networks {', '.join(names)}: give --weights the folder with their files"
            if len(names) == 1 and path.is_file():
                return {names[0]: path}
            raise InputError(msg if len(names) > 1 else f"there is no file {path}")
        found = {}
        for name in names:
            files = sorted(
                f for f in path.iterdir() if f.suffix in _SUFFIXES and f.name.lower().startswith(name.lower())
            )
            if len(files) != 1:
                what = "two could be meant: " + ", ".join(f.name for f in files) if files else "none is there"
                msg = f"{path} must hold one file {name}*{'|'.join(_SUFFIXES)}; {what}"
                raise InputError(msg)
            found[name] = files[0]
        return found

    def find_files(self, path: Path | None) -> dict[str, Path]:
        """The files of `find_weights`, and those of the constants, by option.

        Raises:
            InputError: one is missing.
        """
        found = self.find_weights(path)
        for option, name in self.constants.items():
            file = next(iter(found.values())).parent / name
            if not file.is_file():
                msg = f"{self.id} needs the file {name} of the published code: put it beside the weights, as {file}"
                raise InputError(msg)
            found[option] = file
        return found

    def read_constants(self, path: Path | None) -> dict[str, Any]:
        """The constants of the checkpoint at `path`, as options of the pipeline.

        Raises:
            InputError: a file is missing or holds no plain numbers.
        """
        files = self.find_files(path) if self.constants else {}
        return {option: _read_numbers(files[option]) for option in self.constants}

    def load(self, path: Path | None) -> Modules:
        """Modules with the weights of the checkpoint at `path`, or of the embedded one, by part.

        Raises:
            InputError, CheckpointError: no such checkpoint, or it is not of this model.
        """
        from facedeploy.models import checkpoint

        modules = self.build()
        for name, file in self.find_weights(path).items():
            checkpoint.load(modules[name], checkpoint.read_state_dict(file), str(file))
        return modules


def _read_numbers(path: Path) -> Any:
    import numpy as np  # Here, as the command line lists models without it.

    try:
        if path.stat().st_size > _LARGEST_CONSTANT:
            msg = f"{path} is too large: it should hold a few numbers"
            raise InputError(msg)
        values = np.load(path, allow_pickle=False)
        if not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
            msg = f"{path} must hold finite floating-point numbers, not {values.dtype}"
            raise InputError(msg)
    except (OSError, ValueError, EOFError, AttributeError) as error:
        msg = f"{path} is not a NumPy file of numbers: copy it again"
        raise InputError(msg) from error
    return values.tolist()
