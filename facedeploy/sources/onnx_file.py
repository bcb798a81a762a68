"""A user's ONNX file, of any age. Everything is held against that file in ONNX Runtime, behind its one interface."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import ConversionError, FacedeployError, InputError, brief
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size, TensorSpec
from facedeploy.core.optional_imports import onnx, require
from facedeploy.core.serialization import from_plain
from facedeploy.graph.from_torch import convert_onnx
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.sources.adapt import Adapted, adapt
from facedeploy.sources.as_it_came import distance
from facedeploy.sources.batch import for_faces
from facedeploy.sources.custom_network import OwnNetwork, fallback_candidates, measured_spec, model_id, odd_size
from facedeploy.sources.decoded import Described, check_meaning, describe, from_kept
from facedeploy.sources.probes import probe_inputs
from facedeploy.sources.settings import InputSettings, NetworkSettings, WrittenSettings, read_settings
from facedeploy.sources.source import Source, SourceNetwork
from facedeploy.sources.unexplained import unexplained

PART = "onnx"


def open_source(
    path: Path,
    input_size: InputSize | None,
    config: Path | None,
    options: Mapping[str, Any] | None,
    family: str | None = None,
) -> Source:
    """An ONNX file with its settings: `config`, or the file of the same name that ends in .toml, or none.

    Raises:
        InputError: the file, or its settings, are wrong; or it does not run.
    """
    beside = path.with_suffix(".toml")
    config = config or (beside if beside.is_file() else None)
    written = read_settings(config) if config else WrittenSettings()
    adapted = _adapted(path, written.size(input_size), written.input)
    raw = raw_spec(adapted)
    run = functools.partial(adapted.open, raw)
    found = describe(str(path), raw, run, written, family)
    found.settings.input.check(adapted.picture)
    if adapted.picture.channels == 1:  # The order of the colours that make its grey may be that of a family.
        adapted = _adapted(path, adapted.size, found.settings.input)
    check_meaning(str(path), found, run)
    pipeline = found.settings.configure(found.spec, options)
    return _source(adapted, raw, found, pipeline, _compared(adapted, raw, pipeline))


def own_network(path: Path, size: Size | None, settings: InputSettings) -> OwnNetwork:
    """The network as it is deployed, before anything is known of its outputs. Raises as `open_source` does."""
    adapted = _adapted(path, size, settings)
    raw = raw_spec(adapted)
    return OwnNetwork(
        raw,
        functools.partial(adapted.open, raw),
        functools.partial(_write, adapted, raw),
        adapted.picture,
        adapted.notes,
    )


def reopen(path: Path, size: Size, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Source:
    """An ONNX file whose settings are known, and what was set besides. Its notes: what neither its family nor the TOML
    file beside it says.

    Raises:
        InputError: it is not an ONNX file that can be read whole, or not one of these settings.
    """
    adapted = _adapted(path, size, from_plain(NetworkSettings, dict(settings)).input)
    raw = raw_spec(adapted)
    found = from_kept(raw, settings)
    beside = path.with_suffix(".toml")
    notes = unexplained(raw, found.settings, beside if beside.is_file() else None)
    return _source(adapted, raw, found, found.settings.configure(found.spec, options), notes)


def raw_spec(adapted: Adapted) -> NetworkSpec:
    """The network without its head decoded, with the shapes of the outputs that it gives.

    Raises:
        InputError: it does not run, or not as one that can be compiled.
    """
    image = adapted.image
    outputs = tuple(TensorSpec(v.name, ()) for v in adapted.model.graph.output)
    with adapted.open(NetworkSpec(NETWORK, (image,), outputs), RuntimeOptions()) as runtime:
        try:
            return measured_spec(str(adapted.path), image, runtime.run)
        except InputError:
            raise
        except FacedeployError as error:
            size = f"{image.shape[2]}x{image.shape[3]}"
            suspect = adapted.suspect or odd_size(adapted.size)
            msg = f"{adapted.path} does not run on a picture of {size}: {error}{suspect}"
            raise InputError(msg) from error


def _adapted(path: Path, size: Size | None, settings: InputSettings) -> Adapted:
    return adapt(path, read(path), size, settings.preprocess().colours, settings.constants)


def _source(
    adapted: Adapted, raw: NetworkSpec, found: Described, pipeline: PipelineEntry, notes: tuple[str, ...] = ()
) -> Source:
    reference = found.reference(functools.partial(adapted.open, raw))
    write = functools.partial(_write, adapted, raw, head=found.head)
    network = SourceNetwork(found.spec, reference, write, fallback_candidates)
    if found.settings.meaning is not None:
        network = for_faces(network)
    return Source(
        model_id(adapted.path.stem),
        "onnx",
        files(adapted.path),
        pipeline,
        (network,),
        settings=found.kept(),
        recognised=found.reason,
        known_ranges={raw.name: adapted.ranges} if adapted.ranges else {},
        notes=notes,
    )


def _write(adapted: Adapted, raw: NetworkSpec, target: Path, head: onnx.ModelProto | None) -> None:
    try:
        convert_onnx(adapted.model, raw, target, head)
    except ConversionError as error:
        msg = f"{adapted.path} cannot be converted: {error}"
        raise ConversionError(msg) from error


def _compared(adapted: Adapted, spec: NetworkSpec, pipeline: PipelineEntry) -> tuple[str, ...]:
    """The notes, with how far off the deployed network is where its numbers are not those of the file."""
    if not adapted.rounded and adapted.picture.batch == 1:
        return adapted.notes
    height, width = (own or asked for own, asked in zip(adapted.picture.size, adapted.size, strict=True))
    if (height, width) != adapted.size:
        adapted = adapted.resized((height, width))
        spec = raw_spec(adapted)
    off = distance(adapted, spec, probe_inputs(spec, pipelines.preprocess(pipeline)))
    if not adapted.rounded:
        return adapted.notes
    said = "ONNX Runtime does not run the file as it came, so the two are not compared"
    return (*adapted.notes, said if off is None else f"that changes its outputs by {off} at most, of {off.output}")


def files(path: Path) -> dict[str, Path]:
    """The file and those that it keeps weights in, by part.

    Raises:
        InputError: as `read`.
    """
    names = {_location(t) for t in _external(_parse(path))}
    return {PART: path, **{name: _inside(path, name) for name in sorted(names)}}


def read(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with all of its weights.

    Raises:
        InputError: it is missing or no ONNX file; weights are missing, or lie outside of its folder.
    """
    model = _parse(path)
    try:
        for tensor in _external(model):
            _inside(path, _location(tensor))
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.resolve().parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        msg = f"the weights beside {path} cannot be read: {brief(error)}"
        raise InputError(msg) from error
    return model


def _parse(path: Path) -> onnx.ModelProto:
    decode_error = require("google.protobuf.message", "export").DecodeError
    if not path.is_file():
        msg = f"there is no file {path}"
        raise InputError(msg)
    try:
        model: onnx.ModelProto = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InputError(msg) from error
    except decode_error:
        model = onnx.ModelProto()
    if not model.graph.node or not model.graph.output:  # Some other files parse as an empty model.
        hint = ": a checkpoint has no network in it, so name the model and give this to --weights"
        msg = f"{path} is not an ONNX file{hint if path.suffix in ('.pt', '.pth', '.safetensors') else ''}"
        raise InputError(msg)
    return model


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor of a protobuf message: weights, constants, those of subgraphs."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(item)


def _external(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in _tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL]


def _location(tensor: onnx.TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _inside(path: Path, location: str) -> Path:
    """The file at `location` beside the ONNX file.

    Raises:
        InputError: it is not in the same folder or below it, or not there.
    """
    folder = path.resolve().parent
    try:
        found = (folder / location).resolve()
        inside = bool(location) and not Path(location).is_absolute() and found.is_relative_to(folder)
        there = found.is_file()
    except (OSError, ValueError, RuntimeError):  # A NUL, a name too long, a loop of links.
        inside = there = False
    if not inside:
        msg = f"{path} asks for weights outside of its folder ({location[:80]!r}): do not use this file"
        raise InputError(msg)
    if not there:
        msg = f"{path} keeps weights in {location}, which is not beside it: copy that file as well"
        raise InputError(msg)
    return found
