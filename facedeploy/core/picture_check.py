"""Refuse what is no picture, and say how to make one of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.preprocess import Image

_GREY, _COLOUR, _ALPHA = 1, 3, 4  # Channels.
_UNIT, _BYTE, _SHORT = 1, 255, 65535  # What the largest value of a picture may be.


def check_picture(image: Any, *, empty: bool = False) -> Image:
    """Check that something is a picture. It costs under a microsecond, as no pixel is looked at.

    Args:
        image: What should be an array (H, W, 3) uint8, BGR.
        empty: Whether one without pixels will do, in which no face is found.

    Returns:
        The same array.

    Raises:
        InputError: it is something else; the message says what, and how to make a picture of it.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
        height, width, channels = image.shape
        if channels == _COLOUR and (empty or (height and width)):
            return image
    msg = f"a picture is an array (H, W, 3) uint8, BGR, and this is {_what(image)}"
    raise InputError(msg)


def check_pictures(images: Any) -> Iterable[Any]:
    """Check that something is several pictures, or at least not one of them.

    Args:
        images: What should be a sequence of pictures, or an array (N, H, W, 3).

    Returns:
        The same. Each of them is still to be checked.

    Raises:
        InputError: it is a path or one picture, or nothing that has several parts.
    """
    if isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable):
        msg = f"detect_batch takes a list of pictures, and this is {_what(images)}"
        raise InputError(msg)
    if 0 < getattr(images, "ndim", 4) < 4:
        msg = "detect_batch takes a list of pictures, and this is one of them: give [image], or take detect"
        raise InputError(msg)
    return images


class _Advice(NamedTuple):
    """what: is wrong with an array. make: the Python expression of a right one; "" where none is."""

    what: str
    make: str


def _what(thing: Any) -> str:
    if isinstance(thing, np.ndarray):
        return _array(thing)
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if thing is None:
        return "None, which cv2.imread gives for a file that it cannot read: check the path"
    if isinstance(thing, (str, os.PathLike)):
        path = str(thing)[:200]
        return f"a path: read it with cv2.imread({path!r}), or take facedeploy.detect, which reads files"
    if isinstance(thing, (bytes, bytearray, memoryview)):
        return "bytes: give cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)"
    if kind.startswith("PIL."):
        return 'a picture of Pillow: give np.asarray(image.convert("RGB"))[..., ::-1]'
    if kind.startswith("torch."):
        return "a tensor of PyTorch, so give image.permute(1, 2, 0).cpu().numpy() if its channels come first"
    if isinstance(thing, (list, tuple)):
        return _list(thing)
    return f"of the type {kind.removeprefix('builtins.')}"


def _list(thing: list[Any] | tuple[Any, ...]) -> str:
    name = type(thing).__name__
    if len(thing) == 2 and isinstance(thing[0], (bool, np.bool_)):
        return f"a {name} (bool, image), as a cv2.VideoCapture reads: give its second part"
    if any(isinstance(part, np.ndarray) and part.ndim > 1 for part in thing[:1]):
        return f"a {name} of pictures: give one of them, or all to detect_batch"
    return f"a {name}: give np.array(image, np.uint8) if it holds rows of pixels"


def _array(array: NDArray[Any]) -> str:
    """What is wrong with an array, and an expression that makes a picture of it."""
    said = f"{array.shape} {array.dtype}"
    if not array.size:
        return f"{said}, which has no pixels: check what cut or read it"
    values = _values(array)
    if not values.make:
        return f"{said}{values.what}"
    if array.ndim == 4:
        return f"{said}{values.what}, a batch of pictures: give image[0], or all of them to detect_batch"
    channels = _channels(array.shape, values.make)
    if not channels.make:
        return f"{said}, {channels.what}"
    return f"{said}{values.what}{', ' * bool(channels.what)}{channels.what}: give {channels.make}"


def _values(array: NDArray[Any]) -> _Advice:
    """How the values of an array become bytes. All are looked at, as a person now has to do something about them."""
    if array.dtype == np.uint8:
        return _Advice("", "image")
    if array.dtype == np.bool_:
        return _Advice("", "image.astype(np.uint8) * 255")
    if array.dtype.kind not in "iuf":
        return _Advice(", which holds no numbers of pixels: check what made it", "")
    low, high = float(array.min()), float(array.max())
    if not np.isfinite((low, high)).all():
        return _Advice(", with values that are not finite: check what made it", "")
    if low < 0:
        return _Advice(f", from {low:.4g} to {high:.4g}: undo its normalisation, as pixels are 0 to 255", "")
    if array.dtype.kind == "f" and high <= _UNIT:
        return _Advice(", from 0 to 1", "(image * 255).round().astype(np.uint8)")
    if high <= _BYTE:
        rounded = "image.round()" if array.dtype.kind == "f" else "image"
        return _Advice(", from 0 to 255", f"{rounded}.astype(np.uint8)")
    if high <= _SHORT:
        return _Advice(", of 16 bits", "(image / 257).round().astype(np.uint8)")
    return _Advice(f", from {low:.4g} to {high:.4g}: scale it, as pixels are 0 to 255", "")


def _channels(shape: tuple[int, ...], make: str) -> _Advice:
    """How channels become BGR, in an expression around the one that makes bytes."""
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == _GREY):
        return _Advice("grey", f"cv2.cvtColor({make}, cv2.COLOR_GRAY2BGR)")
    if len(shape) == 3 and shape[2] == _COLOUR:
        return _Advice("", make)
    if len(shape) == 3 and shape[2] == _ALPHA:
        return _Advice("with alpha", f"cv2.cvtColor({make}, cv2.COLOR_BGRA2BGR)")
    if len(shape) == 3 and shape[0] == _COLOUR:
        whole = make if make == "image" else f"({make})"
        return _Advice("with its channels first", f"np.ascontiguousarray({whole}.transpose(1, 2, 0))")
    axes = len(shape)
    return _Advice(f"which is no picture, with {axes} ax{'is' if axes == 1 else 'es'} of these lengths", "")
