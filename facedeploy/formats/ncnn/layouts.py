"""Which arrays each layer of ncnn has in the `.bin`, in order: `load_model` of src/layer/*.cpp, as data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from facedeploy.core.errors import ConversionError
from facedeploy.formats.ncnn.param import NcnnLayer


class Block(NamedTuple):
    """An array in the bin.

    Attributes:
        size: How many numbers it has.
        tagged: Whether a tag before it says its type; else it is float32.
    """

    size: int
    tagged: bool


# Parameter 8 of these, ncnn's int8_scale_term, says which scales follow the bias. A scale is how many int8 steps one
# unit is. In a depthwise layer 1 is a scale for each group (parameter 7) and 2 one scale for all.
INT8_TERM = 8
INT8_TYPES = ("Convolution", "ConvolutionDepthWise", "InnerProduct")
REQUANTIZE = 100  # Added to the term where the output is int8 as well.
DYNAMIC_WEIGHT = 19  # Of the convolutions: whether weight and bias are inputs, and not in the bin.
LOAD_TYPE = 21  # Of MemoryData: 0 where its array is tagged.
_GROUPS = 7
_DYNAMIC = {19: ("Convolution",), 28: ("Deconvolution",)}
_BIAS = {"InnerProduct": 1, "Embed": 2}  # The parameter that says whether there is a bias; 5 in other layers.
_INT8_TERMS = {"Embed": 18, "Gemm": 18, "MultiHeadAttention": 18}  # Instead of INT8_TERM.
_RECURRENT = {"RNN": (1, 1), "GRU": (3, 4), "LSTM": (4, 4)}  # How many gates, and how many of them have a bias.
_NOTHING = -233  # As a size: the array is an input.

Parameter = Callable[..., int]


def _tagged(size: int) -> Block:
    return Block(size, tagged=True)


def _bare(*sizes: int) -> list[Block]:
    """An array of no numbers is not there."""
    return [Block(size, tagged=False) for size in sizes if size]


def _convolution(p: Parameter) -> list[Block]:
    return [_tagged(p(6)), *_bare(p(5) and p(0))]


def _memory(p: Parameter) -> list[Block]:
    """A side of 0 is an axis that is not there."""
    size = (p(0) or 1) * (p(1) or 1) * (p(11) or 1) * (p(2) or 1)
    return _bare(size) if p(LOAD_TYPE, 1) else [_tagged(size)]


def _recurrent(kind: str, p: Parameter) -> list[Block]:
    gates, biases = _RECURRENT[kind]
    ways = 2 if p(2) == 2 else 1
    outputs = p(0)
    hidden = p(3, outputs) if kind == "LSTM" else outputs
    projection = [_tagged(hidden * outputs * ways)] * (hidden != outputs)
    scales = _bare(*[hidden * gates * ways] * 2) * bool(p(INT8_TERM))
    sizes = (p(1), hidden * biases * ways, outputs * hidden * gates * ways)
    return [*map(_tagged, sizes), *projection, *scales]


def _attention(p: Parameter) -> list[Block]:
    embedding = p(0)
    keys, values = embedding * p(3, embedding), embedding * p(4, embedding)
    outputs = p(2) // embedding if embedding else 0
    parts = [(p(2), embedding), (keys, embedding), (values, embedding), (p(2), outputs)]
    scales = _bare(embedding, embedding, embedding, 1) * bool(p(18))
    return [block for weight, bias in parts for block in (_tagged(weight), *_bare(bias))] + scales


def _gemm(p: Parameter) -> list[Block]:
    """Each factor may be a constant; the summand has one of five shapes, or -1 where there is none."""
    rows, columns, inner = p(7), p(8), p(9)
    summand = {0: [1], 1: [rows], 2: [rows], 3: [rows * columns], 4: [columns]}
    sizes = [rows * inner] * bool(p(4)) + [columns * inner] * bool(p(5)) + (summand.get(p(10), []) if p(6) else [])
    scales = _bare(rows * bool(p(4)), p(5)) * bool(p(18))
    return [*map(_tagged, sizes), *scales]


def _norm(count: int, size: int, affine: int, p: Parameter) -> list[Block]:
    return _bare(*[p(size)] * count) if p(affine, 1) else []


_LAYOUTS: dict[str, Callable[[Parameter], list[Block]]] = {
    **{
        f"{kind}{part}{sides}": _convolution
        for kind in ("Convolution", "Deconvolution")
        for part in ("", "DepthWise")
        for sides in ("", "1D", "3D")
    },
    "DeformableConv2D": _convolution,
    "InnerProduct": lambda p: [_tagged(p(2)), *_bare(p(1) and p(0))],
    "Embed": lambda p: [_tagged(p(3)), *_bare(p(2) and p(0), int(p(18) != 0))],
    "Gemm": _gemm,
    "MultiHeadAttention": _attention,
    **{kind: functools.partial(_recurrent, kind) for kind in _RECURRENT},
    "MemoryData": _memory,
    "BatchNorm": lambda p: _bare(*[p(0)] * 4),
    "InstanceNorm": lambda p: _norm(2, 0, 2, p),
    "GroupNorm": lambda p: _norm(2, 1, 3, p),
    "LayerNorm": lambda p: _norm(2, 0, 2, p),
    "RMSNorm": lambda p: _norm(1, 0, 2, p),
    "PReLU": lambda p: _bare(p(0)),
    "Bias": lambda p: _bare(p(0)),
    "Scale": lambda p: [] if p(0) == _NOTHING else _bare(p(0), p(1) and p(0)),
    "Normalize": lambda p: _bare(p(3)),
    "Padding": lambda p: _bare(p(6)),
    "Quantize": lambda p: _bare(p(0, 1)),
    "Dequantize": lambda p: _bare(p(0, 1), p(1)),
    "Requantize": lambda p: _bare(p(0, 1), p(1, 1), p(2)),
}
WITH_WEIGHTS = frozenset(_LAYOUTS)


def blocks(layer: NcnnLayer) -> list[Block]:
    """The arrays of a layer; none for one that has none, or gets them as inputs."""
    if layer.type not in _LAYOUTS or is_dynamic(layer):
        return []
    found = _LAYOUTS[layer.type](lambda key, default=0: number(layer, key, default))
    return [*found, *_bare(*_convolution_scales(layer))]


def _convolution_scales(layer: NcnnLayer) -> tuple[int, ...]:
    """How many scales of each kind an int8 convolution or inner product has: weight, input, output."""
    term = number(layer, INT8_TERM) if layer.type in INT8_TYPES else 0
    if not term:
        return ()
    rows = number(layer, 0)
    if layer.type == "ConvolutionDepthWise":
        rows = groups(layer) if term % REQUANTIZE == 1 else 1
    # An InnerProduct has no int8 output.
    return (rows, 1, 1) if term > REQUANTIZE and layer.type != "InnerProduct" else (rows, 1)


def may_be_int8(layer: NcnnLayer) -> bool:
    """Whether a layer says that its weights may be int8."""
    able = layer.type in (*INT8_TYPES, *_INT8_TERMS, *_RECURRENT)
    return able and number(layer, _INT8_TERMS.get(layer.type, INT8_TERM)) != 0


def groups(layer: NcnnLayer) -> int:
    """Groups of a ConvolutionDepthWise."""
    return number(layer, _GROUPS, 1)


def has_bias(layer: NcnnLayer) -> bool:
    """Whether a convolution or an inner product has a bias."""
    return number(layer, _BIAS.get(layer.type, 5)) != 0


def is_dynamic(layer: NcnnLayer) -> bool:
    """Whether a layer gets its weight as an input."""
    return any(layer.type.startswith(kinds) and number(layer, key) for key, kinds in _DYNAMIC.items())


def number(layer: NcnnLayer, key: int, default: int = 0) -> int:
    """A whole number among the parameters of a layer; `default` is ncnn's own for it.

    Raises:
        ConversionError: it is not a whole number.
    """
    text = dict(layer.params).get(key, str(default))
    if not text.lstrip("-").isdigit():
        msg = f"parameter {key} of ncnn layer {layer.name} is {text!r}, not a number"
        raise ConversionError(msg)
    return int(text)
