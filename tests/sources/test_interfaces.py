"""One tiny network behind every kind of input and output that files have: always the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facedeploy.core.errors import InputError
from facedeploy.core.images import read_picture
from facedeploy.export.exporter import export
from facedeploy.pipelines.custom import NETWORK
from facedeploy.pipelines.load import load
from facedeploy.verification.verify import verify
from tests.support.exported import require
from tests.support.own_networks import SIZE, convolution, node, weights

HEIGHT, WIDTH = SIZE
GREY = np.array([0.114, 0.587, 0.299], np.float32)  # Of blue, green and red, as OpenCV weighs them.
# One channel's weights, and those of a network of three channels that sees grey by itself.
ONE = weights(4, 1, 3, 3)
THREE = ONE * GREY[:, None, None]
Nodes = list[onnx.NodeProto]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of each test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(
    path: Path,
    before: Nodes = [],  # noqa: B006  # nobody changes it
    after: Nodes = [],  # noqa: B006
    *,
    shape: tuple[Any, ...] = (1, 3, *SIZE),
    kind: int = TensorProto.FLOAT,
    weight: Any = THREE,
    outputs: Mapping[str, int] | None = None,
    constants: dict[str, Any] | None = None,
    inputs: Mapping[str, tuple[int, tuple[Any, ...]]] | None = None,
    name: str = "c",
    layer: str = "w",
) -> Path:
    """The nodes `before` lead from x to c; a convolution and its activation lead to m, and `after` to the outputs."""
    tensors = {"w": weight, **(constants or {})}
    values = [helper.make_tensor_value_info("x", kind, shape)]
    values += [helper.make_tensor_value_info(k, *v) for k, v in (inputs or {}).items()]
    nodes = [*before, convolution(name, "r", layer), node("Relu", ["r"], ["m" if after else "y"]), *after]
    graph = helper.make_graph(
        nodes,
        "graph",
        values,
        [helper.make_tensor_value_info(k, v, None) for k, v in (outputs or {"y": TensorProto.FLOAT}).items()],
        [
            v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(np.asarray(v), k)
            for k, v in tensors.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def plain(path: Path) -> Path:
    return build(path, name="x")


def cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return node("Cast", [source], [target], to=kind)


def half(kind: int) -> onnx.TensorProto:
    """The weights in a type of 16 bits; in it, they are other numbers."""
    return helper.make_tensor("w", kind, THREE.shape, THREE.ravel())


NHWC = (1, HEIGHT, WIDTH, 3)
FIRST = node("Transpose", ["x"], ["c"], perm=[0, 3, 1, 2])
KINDS: dict[str, Callable[[Path], Path]] = {
    "several pictures": lambda p: build(p, name="x", shape=(7, 3, *SIZE)),
    "several pictures in a shape": lambda p: build(
        p,
        after=[node("Reshape", ["m", "flat"], ["f"]), node("Reshape", ["f", "back"], ["y"])],
        constants={"flat": np.array([7, 4 * HEIGHT, WIDTH]), "back": np.array([7, 4, HEIGHT, WIDTH])},
        name="x",
        shape=(7, 3, *SIZE),
    ),
    "one channel": lambda p: build(p, name="x", shape=(1, 1, *SIZE), weight=ONE),
    "one channel, last": lambda p: build(p, [FIRST], shape=(1, *SIZE, 1), weight=ONE),
    "channels last": lambda p: build(p, [FIRST], shape=NHWC),
    "channels last, open": lambda p: build(p, [FIRST], shape=("n", "h", "w", 3)),
    "no batch": lambda p: build(
        p, [node("Unsqueeze", ["x", "zero"], ["c"])], constants={"zero": np.array([0])}, shape=(3, *SIZE)
    ),
    "no batch, channels last": lambda p: build(
        p,
        [node("Unsqueeze", ["x", "zero"], ["u"]), node("Transpose", ["u"], ["c"], perm=[0, 3, 1, 2])],
        constants={"zero": np.array([0])},
        shape=(*SIZE, 3),
    ),
    "bytes": lambda p: build(p, [cast("x", "c", TensorProto.FLOAT)], kind=TensorProto.UINT8),
    "bytes, channels last": lambda p: build(
        p,
        [node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), cast("t", "c", TensorProto.FLOAT)],
        kind=TensorProto.UINT8,
        shape=NHWC,
    ),
    "doubles": lambda p: build(
        p,
        name="x",
        kind=TensorProto.DOUBLE,
        weight=THREE.astype(np.float64),
        outputs={"y": TensorProto.DOUBLE},
    ),
    "doubles come out": lambda p: build(
        p, after=[cast("m", "y", TensorProto.DOUBLE)], name="x", outputs={"y": TensorProto.DOUBLE}
    ),
    "an unused input": lambda p: build(p, name="x", inputs={"im_info": (TensorProto.FLOAT, (1, 2))}),
    "an input with a default": lambda p: build(
        p,
        after=[node("Mul", ["m", "factor"], ["y"])],
        name="x",
        inputs={"factor": (TensorProto.FLOAT, (1,))},
        constants={"factor": np.ones(1, np.float32)},
    ),
}
HALVES: dict[str, Callable[[Path], Path]] = {
    "halves": lambda p: build(
        p,
        name="x",
        kind=TensorProto.FLOAT16,
        weight=half(TensorProto.FLOAT16),
        outputs={"y": TensorProto.FLOAT16},
    ),
    "weights in halves": lambda p: build(
        p,
        [cast("x", "c", TensorProto.FLOAT16)],
        [cast("m", "y", TensorProto.FLOAT)],
        weight=half(TensorProto.FLOAT16),
    ),
    "weights in bfloat16": lambda p: build(
        p, [cast("w", "v", TensorProto.FLOAT)], name="x", weight=half(TensorProto.BFLOAT16), layer="v"
    ),
}


def picture() -> Any:
    """A BGR picture of the network's size, (1, height, width, 3)."""
    return np.random.default_rng(3).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)


def answer(artifact: Any) -> dict[str, Any]:
    """What the compiled network makes of a picture of 8 bits."""
    substitute: Any = "onnxruntime" if artifact.manifest.target.backend == "trt" else None
    with load(artifact, threads=1, runtime=substitute) as pipeline:
        (outputs,) = pipeline.runtimes[NETWORK].run_pictures([picture()])
    return outputs


def want() -> Any:
    """The same from NumPy: a convolution of three taps each way, padded by one, and what is positive of it."""
    grey = np.pad((picture()[0].astype(np.float64) @ GREY), 1)
    windows = np.lib.stride_tricks.sliding_window_view(grey, (3, 3))
    return np.maximum(np.einsum("hwij,oij->ohw", windows, ONE[:, 0].astype(np.float64)), 0)[None]


def check(path: Path, target: str, limit: float = 2e-5, **options: Any) -> Any:
    require(target)
    made = export(str(path), target, **options)
    (image,) = made.manifest.networks[0].spec.inputs
    assert (image.name, image.shape, image.dtype) == ("x", (1, 3, *SIZE), "float32")
    outputs = answer(made)
    assert all(v.dtype == np.float32 for v in outputs.values())
    found = outputs["y"].reshape(want().shape)
    assert np.linalg.norm(found - want()) < limit * np.linalg.norm(want())
    return made


# What is left to ncnn in `make test` puts an operator in front of the network that ncnn then has to have.
_FRONT = ("one channel", "channels last", "no batch", "bytes")
_EVERY = [
    pytest.param(kind, target, marks=[pytest.mark.slow] if target == "ncnn-fp32" and kind not in _FRONT else [])
    for kind in KINDS
    for target in ("onnx-fp32", "openvino-fp32", "ncnn-fp32")
]


@pytest.mark.parametrize(("kind", "target"), _EVERY)
def test_every_interface_gives_the_same_numbers(kind: str, target: str, here: Path) -> None:
    made = check(KINDS[kind](here / "net.onnx"), target, input_size=SIZE)
    changed = {"several": "at once", "one": "grey", "doubles": "64 bits", "an unused": "im_info"}
    expected = next((text for start, text in changed.items() if kind.startswith(start)), "")
    assert any(expected in line for line in made.manifest.notes) or not expected
    assert str(here) not in " ".join(made.manifest.notes)


@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32", pytest.param("ncnn-fp32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", HALVES)
def test_floats_of_16_bits_are_widened(kind: str, target: str, here: Path) -> None:
    made = check(HALVES[kind](here / "net.onnx"), target, limit=1e-2)
    said = " ".join(made.manifest.notes)
    assert "16 bits" in said
    # ONNX Runtime computes in halves, or says that it does not know this type there.
    assert "relative L2" in said


def test_outputs_of_other_types_and_ranks(here: Path) -> None:
    after = [
        node("ArgMax", ["m"], ["place"], axis=1, keepdims=0),
        node("ReduceMax", ["m"], ["peak"], keepdims=0),
        node("ReduceMean", ["m"], ["mean"], axes=[0, 2, 3], keepdims=0),
        node("Greater", ["m", "mean"], ["above"]),
    ]
    after[-1].input[1] = "peak"
    kinds = {
        "place": TensorProto.INT64,
        "peak": TensorProto.FLOAT,
        "mean": TensorProto.FLOAT,
        "above": TensorProto.BOOL,
    }
    path = build(here / "net.onnx", after=after, name="x", outputs=kinds)
    for target in ("onnx-fp32", "openvino-fp32"):
        require(target)
        outputs = answer(export(str(path), target))
        assert [v.dtype for v in outputs.values()] == [np.float32] * 4
        assert outputs["peak"].shape == ()
        assert outputs["mean"].shape == (4,)
        assert np.isclose(outputs["peak"], want().max())
        assert np.allclose(outputs["mean"], want().mean(axis=(0, 2, 3)), rtol=1e-4)
        # Of two channels that are equal either may be the largest.
        assert np.mean(outputs["place"] == want().argmax(axis=1)) > 0.98
        assert not outputs["above"].any()


def test_other_inputs_take_their_value_from_the_settings(here: Path) -> None:
    nodes = [node("Mul", ["m", "scale_factor"], ["s"]), node("Mul", ["s", "double"], ["y"])]
    inputs = {"scale_factor": (TensorProto.FLOAT, (1, 2)), "double": (TensorProto.FLOAT, ())}
    path = build(here / "net.onnx", after=[*nodes], name="x", inputs=inputs, shape=(1, 3, HEIGHT, 2))
    with pytest.raises(InputError, match=r"takes scale_factor \(1, 2\) as well as a picture.*input.constants"):
        export(str(path), "onnx-fp32")
    settings = path.with_suffix(".toml")
    settings.write_text("[input.constants]\nscale_factor = [2, 3]\ndouble = 0.5\n")
    made = export(str(path), "onnx-fp32")
    picture = np.ones((1, 3, HEIGHT, 2), np.float32)
    with load(made, threads=1) as pipeline:
        found = pipeline.runtimes[NETWORK].run({"x": picture})["y"]
    settings.write_text("[input.constants]\nscale_factor = 1\ndouble = 1\n")
    with load(export(str(path), "onnx-fp32", output="ones"), threads=1) as pipeline:
        alone = pipeline.runtimes[NETWORK].run({"x": picture})["y"]
    assert np.allclose(found, alone * [1, 1.5])
    # The artifact remembers them: what it is held against later is the same network.
    settings.unlink()
    assert not verify(made, path).problems
    for text, says in [
        ("scale = 1", "input.constants names 'scale', and the inputs of"),
        (
            "scale_factor = [1, 2, 3]\ndouble = 1",
            r"input.constants.scale_factor must be numbers of the shape \(1, 2\)",
        ),
        ("scale_factor = 'a'\ndouble = 1", "input.constants.scale_factor must be numbers"),
    ]:
        settings.write_text(f"[input.constants]\n{text}\n")
        with pytest.raises(InputError, match=says):
            export(str(path), "onnx-fp32", output="wrong")


@pytest.mark.parametrize("colours", ["bgr", "rgb", "grey"])
def test_grey_is_of_the_picture_whatever_the_order_of_its_colours(colours: str, here: Path) -> None:
    path = build(here / "net.onnx", name="x", shape=(1, 1, *SIZE), weight=ONE)
    path.with_suffix(".toml").write_text(f'[input]\ncolours = "{colours}"\n')
    check(path, "onnx-fp32")


def test_grey_is_what_opencv_computes(here: Path) -> None:
    import cv2

    path = build(
        here / "net.onnx",
        [node("Identity", ["x"], ["c"])],
        [node("Identity", ["m"], ["y"])],
        shape=(1, 1, *SIZE),
        weight=np.pad(np.ones((1, 1, 1, 1), np.float32), ((0, 0), (0, 0), (1, 1), (1, 1))),
    )
    path.with_suffix(".toml").write_text('[input]\ncolours = "grey"\nmean = 10\nscale = 0.5\n')
    found = answer(export(str(path), "onnx-fp32"))["y"][0, 0]
    grey = cv2.cvtColor(picture()[0], cv2.COLOR_BGR2GRAY)
    assert np.abs(found - np.maximum((grey.astype(np.float32) - 10) * 0.5, 0)).max() <= 0.5 * 0.5 + 1e-4


@pytest.mark.parametrize(
    ("kind", "toml", "says"),
    [
        ("several pictures", 'colours = "grey"', "takes 3 channels: say bgr or rgb"),
        ("one channel", "mean = [1, 2, 3]", "takes one channel: give input.mean and input.scale one number"),
        ("one channel", "scale = [1, 2, 3]", "takes one channel"),
        ("bytes", "mean = 127.5", "normalises them itself"),
        ("bytes", "scale = 0.5", "normalises them itself"),
    ],
)
def test_settings_that_do_not_fit_the_input(kind: str, toml: str, says: str, here: Path) -> None:
    path = KINDS[kind](here / "net.onnx")
    path.with_suffix(".toml").write_text(f"[input]\n{toml}\n")
    with pytest.raises(InputError, match=says):
        export(str(path), "onnx-fp32")
    assert not (here / "net-onnx-fp32").exists()


def test_a_size_that_nothing_depends_on_may_be_another(here: Path) -> None:
    path = build(here / "net.onnx", name="x", shape=(10, 3, 16, 16))
    made = check(path, "onnx-fp32", input_size=SIZE)
    assert any("16x16" in line and "32x40" in line for line in made.manifest.notes)
    assert not verify(made, path).problems
    sizes = {"none": np.zeros(0, np.float32), "size": np.array([1, 4, 32, 32])}
    cases = {
        "the Resize y makes one size": ([node("Resize", ["m", "", "", "size"], ["y"])], sizes),
        "the AveragePool y takes a whole map of 16x16": (
            [node("AveragePool", ["m"], ["y"], kernel_shape=[16, 16])],
            {},
        ),
        "the Slice y ends at 12": (
            [node("Slice", ["m", "first", "last", "axis"], ["y"])],
            {"first": np.array([0]), "last": np.array([12]), "axis": np.array([2])},
        ),
        "does not run on a picture of 32x40": (
            [node("Reshape", ["m", "flat"], ["y"])],
            {"flat": np.array([1, 4 * 16 * 16])},
        ),
    }
    for says, (after, constants) in cases.items():
        fixed = build(here / "fixed.onnx", after=after, name="x", shape=(1, 3, 16, 16), constants=constants)
        with pytest.raises(InputError, match=says):
            export(str(fixed), "onnx-fp32", output="fixed", input_size=SIZE)
        export(str(fixed), "onnx-fp32", output=f"own {len(says)}")


def test_a_number_of_pictures_that_is_built_in(here: Path) -> None:
    nodes = [node("Expand", ["one", "seven"], ["e"]), node("Concat", ["m", "e"], ["y"], axis=1)]
    constants = {"one": np.ones((1, 1, *SIZE), np.float32), "seven": np.array([7, 1, *SIZE])}
    path = build(here / "net.onnx", after=nodes, name="x", shape=(7, 3, *SIZE), constants=constants)
    with pytest.raises(InputError, match=r"the Expand e makes a shape that begins with 7"):
        export(str(path), "onnx-fp32")
    # It runs for one, and says something else: what is shared by the pictures is shared no more.
    mean = build(
        here / "mean.onnx",
        after=[
            node("ReduceMax", ["m"], ["t"], axes=[0]),
            node("Sub", ["m", "t"], ["d"]),
            node("Softmax", ["d"], ["y"], axis=0),
        ],
        name="x",
        shape=(7, 3, *SIZE),
    )
    with pytest.raises(InputError, match="gives another y for one picture than as it came"):
        export(str(mean), "onnx-fp32")


def _reading(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same, which reads its points."""
    model.graph.node.insert(0, node("ReduceMean", ["points"], ["k"], keepdims=0))
    return model


def test_inputs_that_are_no_picture(here: Path) -> None:
    for shape in ((1, 4, *SIZE), (1, *SIZE, 4), (1, 9), (1, 3, 4, *SIZE)):
        path = build(here / "net.onnx", name="x", shape=shape)
        with pytest.raises(InputError, match="takes one picture of one or three channels"):
            export(str(path), "onnx-fp32")
    points = {"points": (TensorProto.FLOAT, (1, 68, 3))}
    both = build(here / "both.onnx", after=[node("Mul", ["m", "k"], ["y"])], name="x", inputs=points)
    onnx.save(_reading(onnx.load(both)), both)
    with pytest.raises(InputError, match=r"takes points \(1, 68, 3\) as well as a picture"):
        export(str(both), "onnx-fp32")
    two = build(here / "two.onnx", [node("Add", ["x", "z"], ["c"])], inputs={"z": (TensorProto.FLOAT, (1, 3, *SIZE))})
    with pytest.raises(InputError, match=r"takes x \(1, 3, 32, 40\), z \(1, 3, 32, 40\)"):
        export(str(two), "onnx-fp32")


@pytest.mark.slow
def test_centerface_as_published(assets: Path, here: Path) -> None:
    """It says [10, 3, 32, 32], and everybody gives it one picture of another size."""
    path = assets / "weights" / "centerface" / "centerface_bnmerged.onnx"
    for target in ("openvino-fp32", "ncnn-fp32"):
        require(target)
        made = export(str(path), target, input_size=(480, 640))
        with load(made, threads=1) as pipeline:
            image = read_picture(assets / "images" / "samples" / "mtcnn_mid.png")
            faces = pipeline.detect(image)
        assert len(faces) > 8
        assert any("10 pictures" in line for line in made.manifest.notes)
