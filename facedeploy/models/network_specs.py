"""Names, shapes and ranges of the networks of each model. Needs no PyTorch to import."""

from __future__ import annotations

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import Axis, InputSize, NetworkSpec, TensorSpec

_STRIDES = (8, 16, 32)
_ANY_LARGEST = 4096


def mtcnn(size: InputSize) -> tuple[NetworkSpec, ...]:
    """Three small networks; the first takes every level of an image pyramid, so any size up to `size`."""
    return _mtcnn(size, 0)


def mtcnn_facenet(size: InputSize) -> tuple[NetworkSpec, ...]:
    """The same; levels of that pyramid are a pixel longer, so P-Net never sees 12x12 (wrong in OpenVINO's int8)."""
    return _mtcnn(size, 1)


def _mtcnn(size: InputSize, extra: int) -> tuple[NetworkSpec, ...]:
    if size == "any":
        msg = "MTCNN takes pictures of any size: --input-size is the largest one that TensorRT is built for"
        raise InputError(msg)
    height, width = size

    def level(name: str, maximum: int) -> Axis:
        # P-Net sees every level of the pyramid; the first of a 20-pixel face search is 12/20 of the picture.
        return Axis(name, *(side + extra for side in (12, max(12, maximum * 12 // 20), max(12, maximum))))

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


def img2pose(size: InputSize) -> tuple[NetworkSpec, ...]:
    """A proposer of pictures of one size, and a head that looks at 100 proposals a call."""
    if size == "any" or size[0] % 32 or size[1] % 32 or min(size) < 64:
        shown = size if size == "any" else f"{size[0]}x{size[1]}"
        msg = f"img2pose takes pictures of a fixed size, 64 pixels or more and multiples of 32, not {shown}"
        raise InputError(msg)
    maps = [(size[0] // s, size[1] // s) for s in (4, 8, 16, 32)]
    cells = sum(h * w for h, w in maps) + -(-maps[-1][0] // 2) * -(-maps[-1][1] // 2)
    proposals = 100
    # All maps under each other, as wide as the first.
    features = TensorSpec("features", (1, 256, sum(h for h, _ in maps), maps[0][1]))
    proposer = NetworkSpec(
        "proposer",
        inputs=(TensorSpec("image", (1, 3, *size)),),
        outputs=(
            features,
            TensorSpec("objectness", (1, 3 * cells)),
            TensorSpec("proposals", (1, 3 * cells, 4)),
        ),
    )
    head = NetworkSpec(
        "head",
        inputs=(features, TensorSpec("grid", (1, 14, 14 * proposals, 2))),
        outputs=(TensorSpec("scores", (1, proposals)), TensorSpec("dofs", (1, 6, proposals))),
    )
    return proposer, head


def landmarks106(size: InputSize) -> tuple[NetworkSpec, ...]:
    """Crops of one size, any number of them."""
    if size != (96, 96):
        shown = size if size == "any" else f"{size[0]}x{size[1]}"
        msg = f"landmarks106 takes crops of 96x96 from pictures of any size, not {shown}: leave --input-size out"
        raise InputError(msg)
    crops = NetworkSpec(
        "landmarks",
        inputs=(TensorSpec("image", ("batch", 3, *size)),),
        outputs=(TensorSpec("points", ("batch", 212)), TensorSpec("pose", ("batch", 3))),
        axes=(Axis("batch", 1, 8, 64),),
    )
    return (crops,)


def mogface(size: InputSize) -> tuple[NetworkSpec, ...]:
    """Six maps of a picture, with strides 4 to 128, and a head that takes any of them."""
    strides = tuple(4 << level for level in range(6))
    if size == "any":
        # Compilers that tune for the optimum take no picture of any size; parity is measured there.
        axes = tuple(Axis(name, 32, 320, _ANY_LARGEST) for name in ("height", "width"))
        image = TensorSpec("image", (1, 3, "height", "width"))
        maps: list[tuple[int | str, int | str]] = [(f"rows{s}", f"columns{s}") for s in strides]
        largest, optimum = (_ANY_LARGEST // 4,) * 2, (40, 40)
    else:
        if min(size) < 32:
            msg = f"MogFace takes pictures of at least 32x32, not {size[0]}x{size[1]}"
            raise InputError(msg)
        axes, image = (), TensorSpec("image", (1, 3, *size))
        maps = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
        # The finest map is three quarters of the work.
        largest = optimum = (-(-size[0] // 4), -(-size[1] // 4))
    features = NetworkSpec(
        "features",
        inputs=(image,),
        outputs=tuple(TensorSpec(f"p{i}", (1, 256, *shape)) for i, shape in enumerate(maps, 2)),
        axes=axes,
    )
    sides = zip(("height", "width"), optimum, largest, strict=True)
    head = NetworkSpec(
        "head",
        inputs=(TensorSpec("features", (1, 256, "height", "width")),),
        outputs=(TensorSpec("score", (1, 1, "height", "width")), TensorSpec("box", (1, 4, "height", "width"))),
        axes=tuple(Axis(name, 1, best, most) for name, best, most in sides),
    )
    return features, head
