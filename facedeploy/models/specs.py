"""Names, shapes and ranges of the networks of each model. Needs no PyTorch to import."""

from __future__ import annotations

import re
from typing import Literal

from facedeploy.errors import InputError
from facedeploy.spec import Axis, NetworkSpec, TensorSpec

Size = tuple[int, int]
InputSize = Size | Literal["any"]

_STRIDES = (8, 16, 32)
_LARGEST = 16384


def read_size(text: str) -> Size | None:
    """Read HEIGHTxWIDTH; None where it is not two numbers between 1 and 16384."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    return size if all(1 <= v <= _LARGEST for v in size) else None


def mtcnn(size: InputSize) -> tuple[NetworkSpec, ...]:
    """Three small networks; the first takes every level of an image pyramid, so any size up to `size`."""
    if size == "any":
        msg = "MTCNN takes pictures of any size: --input-size is the largest one that TensorRT is built for"
        raise InputError(msg)
    height, width = size

    def level(name: str, maximum: int) -> Axis:
        # P-Net sees every level of the pyramid; the first of a 20-pixel face search is 12/20 of the picture.
        return Axis(name, 12, max(12, maximum * 12 // 20), max(12, maximum))

    def crops(name: str, side: int, batch: Axis, outputs: dict[str, int]) -> NetworkSpec:
        return NetworkSpec(
            name,
            inputs=(TensorSpec("image", ("batch", 3, side, side)),),
            outputs=tuple(TensorSpec(k, ("batch", n)) for k, n in outputs.items()),
            axes=(batch,),
        )

    pnet = NetworkSpec(
        "pnet",
        inputs=(TensorSpec("image", (1, 3, "height", "width")),),
        outputs=(
            TensorSpec("score", (1, 1, "rows", "columns")),
            TensorSpec("box", (1, 4, "rows", "columns")),
        ),
        axes=(level("height", height), level("width", width)),
    )
    # 256 crops a call: no slower per crop than thousands, and a backend that compiles for each new batch size
    # (OpenVINO: 10 ms at 180 crops, 240 ms at 1800) meets few of them.
    rnet = crops("rnet", 24, Axis("batch", 1, 64, 256), {"score": 1, "box": 4})
    onet = crops("onet", 48, Axis("batch", 1, 8, 64), {"score": 1, "box": 4, "landmarks": 10})
    return pnet, rnet, onet


def mos(size: InputSize) -> tuple[NetworkSpec, ...]:
    """A detector of pictures (1, 3, height, width), and the pose heads for patches of its features."""
    patches = (TensorSpec("patches", ("batch", 65, 3, 3)), TensorSpec("level", ("batch", len(_STRIDES))))
    return _mos_deployed(size, patches, width=64, anchors=2)


def mos_tiny(size: InputSize) -> tuple[NetworkSpec, ...]:
    """The same, with one prior a cell, and pose heads that are the same on every level."""
    return _mos_deployed(size, (TensorSpec("patches", ("batch", 48, 3, 3)),), width=48, anchors=1)


def _mos_deployed(
    size: InputSize, patches: tuple[TensorSpec, ...], width: int, anchors: int
) -> tuple[NetworkSpec, ...]:
    image, axes, maps, priors = _mos_maps(size, anchors)
    features = tuple(
        TensorSpec(f"features{stride}", (1, width, *shape)) for stride, shape in zip(_STRIDES, maps, strict=True)
    )
    detector = NetworkSpec(
        "detector",
        inputs=(image,),
        outputs=(
            TensorSpec("boxes", (1, priors, 4)),
            TensorSpec("scores", (1, priors)),
            TensorSpec("landmarks", (1, priors, 10)),
            *features,
        ),
        axes=axes,
    )
    pose = NetworkSpec(
        "pose",
        inputs=patches,
        outputs=(TensorSpec("angles", ("batch", 3, anchors)),),
        axes=(Axis("batch", 1, 8, 64),),
    )
    return detector, pose


def mos_published(size: InputSize) -> tuple[NetworkSpec, ...]:
    """One network, with the published outputs."""
    image, axes, _, priors = _mos_maps(size, anchors=2)
    widths = {"loc": 4, "conf": 2, "landm": 10, "yaw": 66, "pitch": 66, "roll": 66}
    outputs = tuple(TensorSpec(name, (1, priors, width)) for name, width in widths.items())
    return (NetworkSpec("mos", inputs=(image,), outputs=outputs, axes=axes),)


def _mos_maps(
    size: InputSize, anchors: int
) -> tuple[TensorSpec, tuple[Axis, ...], list[tuple[int | str, int | str]], int | str]:
    """The picture, its dynamic axes, the size of each feature map, and the number of priors."""
    if size == "any":
        axes = tuple(Axis(name, 32, 640, 4096) for name in ("height", "width"))
        names: list[tuple[int | str, int | str]] = [(f"rows{s}", f"columns{s}") for s in _STRIDES]
        return TensorSpec("image", (1, 3, "height", "width")), axes, names, "priors"
    if min(size) < 32:
        msg = f"MOS takes pictures of at least 32x32, not {size[0]}x{size[1]}"
        raise InputError(msg)
    maps = [(-(-size[0] // s), -(-size[1] // s)) for s in _STRIDES]
    return TensorSpec("image", (1, 3, *size)), (), [*maps], sum(anchors * h * w for h, w in maps)
