"""A network that a callable of the user's own Python module makes: `package.module:callable`, and its checkpoint.

The user names it on the command line, each time. Nothing imports a name that was read from a file.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import InputError, brief
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size
from facedeploy.core.optional_imports import require, torch
from facedeploy.graph.from_torch import export_onnx
from facedeploy.runtimes.base import Array, Arrays, Opener
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.sources.batch import for_faces
from facedeploy.sources.custom_network import OwnNetwork, fallback_candidates, measured_spec, model_id, picture_input
from facedeploy.sources.decoded import Described, check_meaning, describe, from_kept
from facedeploy.sources.settings import WrittenSettings, read_settings
from facedeploy.sources.source import Source, SourceNetwork
from facedeploy.sources.unexplained import unexplained

if TYPE_CHECKING:
    from torch import Tensor, nn

PART = "weights"
_INPUT = "image"


def open_source(
    name: str,
    weights: Path | None,
    input_size: InputSize | None,
    config: Path | None,
    options: Mapping[str, Any] | None,
    family: str | None = None,
) -> Source:
    """What `name`, a callable without arguments, makes, with the weights of a checkpoint.

    Outputs are named by the keys of a dict, and else `output`, or `output0`, `output1`...

    Raises:
        InputError: the callable cannot be had or makes no module, or no size is given.
        CheckpointError: the weights are not those of the module.
    """
    written = read_settings(config) if config else WrittenSettings()
    if written.input.colours == "grey" or written.input.constants:
        msg = f"grey and input.constants are for ONNX files: let what {name} makes take one picture of three channels"
        raise InputError(msg)
    size = written.size(input_size)
    if size is None:
        msg = f"give --input-size HEIGHTxWIDTH, or input.size in a --config file: {name} does not say its input size"
        raise InputError(msg)
    if weights is None:
        msg = f"give --weights the checkpoint of the network that {name} makes"
        raise InputError(msg)
    module = _load(name, weights)
    raw = _raw_spec(name, module, size)
    run: Opener = lambda given: TorchRuntime(_flat(module), raw, given)  # noqa: E731
    found = describe(name, raw, run, written, family)
    check_meaning(name, found, run)
    return _source(name, module, weights, raw, found, found.settings.configure(found.spec, options))


def own_network(name: str, weights: Path, size: Size) -> OwnNetwork:
    """The network as the callable makes it. Raises as `open_source` does."""
    module = _load(name, weights)
    raw = _raw_spec(name, module, size)
    return OwnNetwork(
        raw,
        lambda options: TorchRuntime(_flat(module), raw, options),
        lambda path, head: export_onnx(module, raw, path, head),
    )


def reopen(name: str, weights: Path, size: Size, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Source:
    """The same with settings that are known, and what was set besides. Its notes: what its family does not say.

    Raises as `open_source` does.
    """
    module = _load(name, weights)
    raw = _raw_spec(name, module, size)
    found = from_kept(raw, settings)
    pipeline = found.settings.configure(found.spec, options)
    return _source(name, module, weights, raw, found, pipeline, unexplained(raw, found.settings))


def _raw_spec(name: str, module: nn.Module, size: Size) -> NetworkSpec:
    return measured_spec(name, picture_input(_INPUT, size), lambda feed: _named_outputs(module, feed, name))


def _source(
    name: str,
    module: nn.Module,
    weights: Path,
    raw: NetworkSpec,
    found: Described,
    pipeline: PipelineEntry,
    notes: tuple[str, ...] = (),
) -> Source:
    reference = found.reference(lambda options: TorchRuntime(_flat(module), raw, options))
    network = SourceNetwork(
        found.spec, reference, lambda path: export_onnx(module, raw, path, found.head), fallback_candidates
    )
    if found.settings.meaning is not None:
        network = for_faces(network)
    return Source(
        model_id(name.rpartition(".")[2]),
        "factory",
        {PART: weights},
        pipeline,
        (network,),
        settings=found.kept(),
        recognised=found.reason,
        notes=notes,
    )


def _load(name: str, weights: Path) -> nn.Module:
    require("torch", "export")
    from facedeploy.models import checkpoint

    state = checkpoint.read_state_dict(weights)
    module = make(name)
    checkpoint.load(module, state, str(weights))
    return module.eval()


def make(name: str) -> nn.Module:
    """Import the module, with the current folder on the path, and call the callable.

    Raises:
        InputError: what of that fails, and why.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        msg = f"{name!r} is not package.module:callable"
        raise InputError(msg)
    with _current_folder_on_path():
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
        except AttributeError as error:
            msg = f"the module {module_name} has no {attribute}: {brief(error)}"
            raise InputError(msg) from error
        except Exception as error:  # Whatever the user's code raises.
            msg = f"cannot import {module_name}: {type(error).__name__}: {brief(error)}"
            raise InputError(msg) from error
        if not callable(factory):
            msg = f"{name} is not callable: name a function without arguments that returns the network"
            raise InputError(msg)
        try:
            made = factory()
        except Exception as error:
            msg = f"{name} fails: {type(error).__name__}: {brief(error)}"
            raise InputError(msg) from error
    if not isinstance(made, torch.nn.Module):
        msg = f"{name} must return a torch.nn.Module, not {type(made).__name__}"
        raise InputError(msg)
    result: nn.Module = made
    return result


@contextmanager
def _current_folder_on_path() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)


def _named_outputs(module: nn.Module, feed: Mapping[str, Array], name: str) -> Arrays:
    try:
        with torch.inference_mode():
            given = module(torch.from_numpy(feed[_INPUT]))
    except Exception as error:
        msg = f"the network of {name} does not run on a tensor {feed[_INPUT].shape}: {brief(error)}"
        raise InputError(msg) from error
    tensors = _tensors(given)
    if isinstance(given, Mapping) and len(tensors) == len(given):
        names: Sequence[str] = [str(key) for key in given]
    else:
        names = ["output"] if len(tensors) == 1 else [f"output{i}" for i in range(len(tensors))]
    if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors):
        msg = (
            f"the network of {name} must return tensors, alone or in a tuple, list or dict, not {type(given).__name__}"
        )
        raise InputError(msg)
    return {key: tensor.numpy() for key, tensor in zip(names, tensors, strict=True)}


def _tensors(value: Any) -> list[Tensor]:
    """The tensors of nested tuples, lists and dicts, in order, as PyTorch's exporter takes them apart."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in _tensors(item)]
    return [value]


def _flat(module: nn.Module) -> nn.Module:
    """The same network with a tuple of tensors as its answer."""
    base: Any = require("torch.nn", "export").Module

    class Flat(base):  # type: ignore[misc]  # its type is known when it runs
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            return tuple(_tensors(self.inner(image)))

    flat: nn.Module = Flat()
    return flat
