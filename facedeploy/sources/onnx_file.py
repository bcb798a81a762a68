"""A user's ONNX file, of any age. The file as it came, in ONNX Runtime, is what everything is held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import ConversionError, FacedeployError, InputError, brief
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size, TensorSpec
from facedeploy.core.optional_imports import onnx, require
from facedeploy.graph.from_torch import convert_onnx
from facedeploy.graph.index import weight_names
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Opener, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.custom_network import fallback_candidates, measured_spec, model_id, picture_input
from facedeploy.sources.decoded import Described, check_meaning, describe, from_kept
from facedeploy.sources.settings import WrittenSettings, read_settings
from facedeploy.sources.source import Source, SourceNetwork

PART = "onnx"
_STANDARD = ("", "ai.onnx")


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
    raw = raw_spec(path, written.size(input_size))
    run: Opener = lambda given: _reference(path, raw, given)  # noqa: E731
    found = describe(str(path), raw, run, written, family)
    check_meaning(str(path), found, run)
    return _source(path, raw, found, found.settings.configure(found.spec, options))


def raw_spec(path: Path, size: Size | None) -> NetworkSpec:
    """The network as it came, with the shapes of the outputs that it gives.

    Raises:
        InputError: the file is wrong, or does not run.
    """
    model = read(path)
    image = _image(model, path, size)
    outputs = tuple(TensorSpec(v.name, ()) for v in model.graph.output)
    with _reference(path, NetworkSpec(NETWORK, (image,), outputs), RuntimeOptions()) as runtime:
        try:
            return measured_spec(str(path), image, runtime.run)
        except InputError:
            raise
        except FacedeployError as error:
            msg = f"{path} does not run on a picture of {image.shape[2]}x{image.shape[3]}: {error}"
            raise InputError(msg) from error


def reopen(path: Path, size: Size, pipeline: PipelineEntry, settings: Mapping[str, Any]) -> Source:
    """An ONNX file whose settings and pipeline are known.

    Raises:
        InputError: it is not an ONNX file that can be read whole, or not one of these settings.
    """
    raw = raw_spec(path, size)
    return _source(path, raw, from_kept(raw, settings), pipeline)


def _source(path: Path, raw: NetworkSpec, found: Described, pipeline: PipelineEntry) -> Source:
    def write(target: Path) -> None:
        try:
            convert_onnx(read(path), raw, target, found.head)
        except ConversionError as error:
            msg = f"{path} cannot be converted: {error}"
            raise ConversionError(msg) from error

    reference = found.reference(lambda options: _reference(path, raw, options))
    network = SourceNetwork(found.spec, reference, write, fallback_candidates)
    return Source(
        model_id(path.stem), "onnx", files(path), pipeline, (network,), settings=found.kept(), recognised=found.reason
    )


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
    half = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    if found := [t.name for t in _tensors(model) if t.data_type in half]:
        msg = f"{path} holds weights of 16 bits ({found[0]}): give the float32 file that it was made from"
        raise InputError(msg)
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


def _image(model: onnx.ModelProto, path: Path, asked: Size | None) -> TensorSpec:
    """The only input, a picture, for a batch of one.

    Raises:
        InputError: the network takes something else, or no size is known, or another one.
    """
    weights = weight_names(model)
    inputs = [v for v in model.graph.input if v.name not in weights]
    shown = ", ".join(f"{v.name} ({', '.join(str(d or '?') for d in _dimensions(v))})" for v in inputs) or "nothing"
    takes = f"{path} takes {shown}; what can be deployed takes one picture (1, 3, height, width), float32"
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise InputError(takes)
    batch, channels, *size = _dimensions(inputs[0]) or (None, None, None, None)
    if len(size) != 2 or channels not in (3, None) or batch not in (1, None):
        raise InputError(takes)
    if None in size and asked is None:
        msg = f"{path} leaves its input size open: give --input-size HEIGHTxWIDTH, or input.size in {path.stem}.toml"
        raise InputError(msg)
    height, width = (have if have is not None else want for have, want in zip(size, asked or (0, 0), strict=True))
    if asked not in (None, (height, width)):
        msg = f"{path} takes pictures of {height}x{width} and no other size, not {asked[0]}x{asked[1]}"
        raise InputError(msg)
    return picture_input(inputs[0].name, (height, width))


def _dimensions(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes, with None for what the file leaves open."""
    return tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)


def _reference(path: Path, spec: NetworkSpec, options: RuntimeOptions) -> OnnxRuntimeRuntime:
    try:
        return OnnxRuntimeRuntime(path, spec, options)
    except ConversionError as error:
        foreign = sorted({f"{n.domain}:{n.op_type}" for n in _parse(path).graph.node if n.domain not in _STANDARD})
        if named := [name for name in foreign if name in str(error)]:
            msg = f"{path} uses the operator {named[0]}, which is no standard one, and ONNX Runtime does not have it"
            raise InputError(msg) from error
        msg = f"{path} cannot be used: {error}"
        raise InputError(msg) from error
