"""An ONNX file as it came, and the network that is deployed: one picture in, float32 in and out, no integers inside."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import ConversionError, InputError, brief
from facedeploy.core.network_spec import NetworkSpec, Size, TensorSpec
from facedeploy.core.optional_imports import onnx, onnx_inliner
from facedeploy.graph.interface import (
    GREY,
    PictureInput,
    batch_inside,
    dimensions,
    free_inputs,
    give_floats,
    read_picture,
    set_inputs,
    size_inside,
    take_picture,
    unused_inputs,
)
from facedeploy.graph.passes.remove_qdq import dequantize
from facedeploy.graph.passes.widen import widen
from facedeploy.graph.quantized_file import NAMES, kinds_of
from facedeploy.graph.ranges import Range
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.custom_network import odd_size, picture_input


@dataclass(frozen=True)
class Adapted:
    """A file, brought to the one form.

    Attributes:
        path: Of the file.
        came: The graph as it came, but for inputs that have a fixed value or are not read.
        picture: The input of `came` that takes the picture.
        grey: Weights of the three channels, where the network takes one.
        model: The graph that is deployed, and the reference of all that is made of it.
        image: Its only input.
        ranges: Name of a tensor -> the range that the file itself gives it.
        rounded: Whether numbers inside are others than in the file: it is quantised, or of floats of another width.
        notes: What was changed, for a person.
    """

    path: Path
    came: onnx.ModelProto
    picture: PictureInput
    grey: tuple[float, ...]
    model: onnx.ModelProto
    image: TensorSpec
    ranges: Mapping[str, Range] = field(default_factory=dict)
    rounded: bool = False
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """Of the picture, (height, width)."""
        _, _, height, width = self.image.shape
        assert isinstance(height, int)
        assert isinstance(width, int)
        return height, width

    @property
    def suspect(self) -> str:
        """What may be to blame where it does not run, to stand behind the reason; or nothing."""
        if self.picture.batch > 1 and (found := batch_inside(self.came, self.picture.batch)):
            return f"; {found}, so export it for one picture"
        if self.size != tuple(own or size for own, size in zip(self.picture.size, self.size, strict=True)):
            return "; the file says {}x{}, so take that".format(*self.picture.size)
        return ""

    def resized(self, size: Size) -> Adapted:
        """The same for a picture of another size."""
        model = copy.deepcopy(self.model)
        for dim, value in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], size, strict=True):
            dim.dim_value = value
        made = {"model": model, "image": picture_input(self.image.name, size)}
        return Adapted(**{**self.__dict__, **made})

    def open(self, spec: NetworkSpec, options: RuntimeOptions) -> OnnxRuntimeRuntime:
        """Open it in ONNX Runtime.

        Raises:
            InputError: ONNX Runtime does not take it.
        """
        try:
            return OnnxRuntimeRuntime(self.model.SerializeToString(), spec, options)
        except ConversionError as error:
            standard = ("", "ai.onnx")
            foreign = sorted({f"{n.domain}:{n.op_type}" for n in self.model.graph.node if n.domain not in standard})
            if named := [name for name in foreign if name in str(error)]:
                msg = (
                    f"{self.path} uses the operator {named[0]}, which is no standard one, and ONNX Runtime does not "
                    "have it"
                )
                raise InputError(msg) from error
            size = "x".join(map(str, self.size))
            msg = f"{self.path} cannot be used for a picture of {size}: {error}{self.suspect or odd_size(self.size)}"
            raise InputError(msg) from error


def adapt(
    path: Path,
    came: onnx.ModelProto,
    asked: Size | None,
    colours: str = "bgr",
    constants: Mapping[str, Any] | None = None,
) -> Adapted:
    """Bring a file to the one form.

    Args:
        path: Of the file.
        came: Its graph; it is changed.
        asked: The size that the user wants, (height, width); None for the file's own.
        colours: The order of the channels of the picture, "bgr" or "rgb".
        constants: Values of inputs that are no pictures, by name.

    Raises:
        InputError: the network takes something else, or no size is known, or another one; or it has no float form.
    """
    notes: list[str] = []
    _settle_inputs(path, came, constants or {}, notes)
    model = onnx.ModelProto()
    model.CopyFrom(came)
    if model.functions:
        model = onnx_inliner.inline_local_functions(model)
    if strange := [v.name for v in model.graph.output if not v.type.HasField("tensor_type")]:
        msg = f"{path} gives {strange[0]}, which is no tensor: export it without what comes behind the network"
        raise InputError(msg)
    bits = widen(model)
    kinds = kinds_of(model)
    ranges: Mapping[str, Range] = {}
    if kinds:
        try:
            made = dequantize(model)
        except ConversionError as error:
            names = " and ".join(NAMES[k] for k in kinds)
            msg = f"{path} is quantised already ({names}) and cannot be read as float: {error}; give the float file"
            raise InputError(msg) from error
        model, ranges = made.model, made.ranges
        notes.append(_quantised_note(path.name, [NAMES[k] for k in kinds], len(ranges)))
    if bits:
        notes.append(f"{path.name} holds floats of {bits} bits: they are read as 32 bits")
    picture = _picture(path, model)
    size = _size(path, model, picture, asked, notes)
    if picture.batch > 1:
        notes.append(f"{path.name} says that it takes {picture.batch} pictures at once: it is taken for one")
    if picture.channels == 1:
        notes.append(f"{path.name} takes one channel: grey is computed from the picture in front of it")
    grey = GREY if colours == "rgb" else GREY[::-1]
    take_picture(model, picture, *size, grey)
    give_floats(model)
    kind = next(v for v in came.graph.input if v.name == picture.name).type.tensor_type.elem_type
    own = PictureInput(**{**picture.__dict__, "kind": kind})
    image = picture_input(picture.name, size)
    return Adapted(path, came, own, grey, model, image, ranges, bool(kinds or bits), tuple(notes))


def _quantised_note(name: str, kinds: Sequence[str], ranges: int) -> str:
    have = (
        f"its {ranges} ranges are what int8 targets take" if ranges else "it has no ranges that int8 targets could take"
    )
    return f"{name} is quantised already ({' and '.join(kinds)}): it is read as float, and {have}"


def _settle_inputs(path: Path, model: onnx.ModelProto, constants: Mapping[str, Any], notes: list[str]) -> None:
    """Leave the pictures among the inputs: the rest has a value, or nothing reads it."""
    values: dict[str, NDArray[Any]] = {}
    inputs = {v.name: v for v in free_inputs(model)}
    if wrong := sorted(set(constants) - set(inputs)):
        msg = f"input.constants names {wrong[0]!r}, and the inputs of {path} are {', '.join(inputs)}"
        raise InputError(msg)
    for name, given in constants.items():
        values[name] = _value(name, given, inputs[name])
    unused = [name for name in unused_inputs(model) if name not in values]
    if unused and len(unused) < len(inputs):
        notes.append(f"nothing in {path.name} reads {', '.join(unused)}: left out")
    else:
        unused = []
    set_inputs(model, values, unused)


def _value(name: str, given: Any, value: onnx.ValueInfoProto) -> NDArray[Any]:
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = dimensions(value)
    try:
        array = np.array(given, dtype=np.float64).astype(kind)
        if None not in shape:
            sizes = tuple(d or 0 for d in shape)
            array = np.broadcast_to(array, sizes) if array.ndim == 0 else array.reshape(sizes)
    except (ValueError, TypeError) as error:
        msg = f"input.constants.{name} must be numbers of the shape ({_shown(shape)}): {brief(error)}"
        raise InputError(msg) from error
    return np.ascontiguousarray(array)


def _picture(path: Path, model: onnx.ModelProto) -> PictureInput:
    inputs = free_inputs(model)
    pictures = {v.name: p for v in inputs if (p := read_picture(v)) is not None}
    # Of one with a batch and one without, the first is the picture and the second may be anything.
    pictures = {k: p for k, p in pictures.items() if len(p.layout) == 4} or pictures
    others = [v for v in inputs if v.name not in pictures]
    if len(pictures) == 1 and others:
        first = others[0]
        msg = (
            f"{path} takes {first.name} ({_shown(dimensions(first))}) as well as a picture: give its value under "
            f"[input.constants] in {path.stem}.toml"
        )
        raise InputError(msg)
    if len(pictures) != 1:
        shown = ", ".join(f"{v.name} ({_shown(dimensions(v))})" for v in inputs) or "nothing"
        msg = f"{path} takes {shown}; what can be deployed takes one picture of one or three channels"
        raise InputError(msg)
    return next(iter(pictures.values()))


def _shown(shape: tuple[int | None, ...]) -> str:
    return ", ".join(str(d or "?") for d in shape)


def _size(path: Path, model: onnx.ModelProto, picture: PictureInput, asked: Size | None, notes: list[str]) -> Size:
    if None in picture.size and asked is None:
        msg = f"{path} leaves its input size open: give --input-size HEIGHTxWIDTH, or input.size in {path.stem}.toml"
        raise InputError(msg)
    height, width = (h if h is not None else w for h, w in zip(picture.size, asked or (0, 0), strict=True))
    if asked in (None, (height, width)):
        return height, width
    assert asked is not None
    if found := size_inside(model):
        msg = f"{path} takes pictures of {height}x{width} and no other size, not {asked[0]}x{asked[1]}: {found}"
        raise InputError(msg)
    notes.append(
        f"{path.name} says {height}x{width}, and nothing in it is seen to depend on that: taken "
        f"at {asked[0]}x{asked[1]}"
    )
    return asked
