"""What pnnx misreads, loses or does not know: operators beside others in one small graph, held against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from facedeploy.core.errors import ConversionError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.export.compiler import Job
from facedeploy.export.ncnn import convert as ncnn_convert
from facedeploy.export.ncnn.convert import compile_network
from facedeploy.graph.from_torch import convert_onnx
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from facedeploy.runtimes.ncnn import NcnnRuntime
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.custom_network import measured_spec
from tests.support.own_networks import node, weights, write

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")

HEIGHT, WIDTH = 10, 12
SHAPE = (1, 6, HEIGHT, WIDTH)
FLAT = 6 * HEIGHT * WIDTH
# A case: nodes from "c", which is (1, 6, 10, 12), to "y", and their constants.
Case = tuple[list[onnx.NodeProto], dict[str, Any]]


def case(*nodes: onnx.NodeProto, **constants: Any) -> Case:
    return list(nodes), constants


def one(op: str, *inputs: str, constants: Mapping[str, Any] | None = None, **attributes: Any) -> Case:
    return [node(op, ["c", *inputs], ["y"], **attributes)], dict(constants or {})


def flat(op: str, *inputs: str, constants: Mapping[str, Any] | None = None, **attributes: Any) -> Case:
    """An operator behind a Flatten."""
    return [node("Flatten", ["c"], ["f"]), node(op, ["f", *inputs], ["y"], **attributes)], dict(constants or {})


def conv(**attributes: Any) -> Case:
    return one("Conv", "w", constants={"w": weights(5, 6, 3, 3)}, **attributes)


def transposed(kernel: int = 3, **attributes: Any) -> Case:
    return one("ConvTranspose", "w", constants={"w": weights(6, 4, kernel, kernel)}, **attributes)


def gemm(bias: Sequence[int] | None = None, **attributes: Any) -> Case:
    constants = {"w": weights(7, FLAT) if attributes.get("transB") else weights(7, FLAT).T.copy()}
    if bias is not None:
        constants["b"] = weights(7, 1)[:, 0].reshape(bias) if np.prod(bias) == 7 else np.full(bias, 0.5, np.float32)
    return flat("Gemm", *constants, constants=constants, **attributes)


def sliced(starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int] = ()) -> Case:
    found = {"s": starts, "e": ends, "a": axes, "t": steps or [1] * len(axes)}
    return one("Slice", *found, constants={k: np.array(v) for k, v in found.items()})


def padded(pads: Sequence[int], value: float | None = None, **attributes: Any) -> Case:
    constants: dict[str, Any] = {"p": np.array(pads)}
    if value is not None:
        constants["v"] = np.float32(value)
    return one("Pad", *constants, constants=constants, **attributes)


def resized(scales: Sequence[float] = (1, 1, 2, 2), *, sizes: Sequence[int] = (), **attributes: Any) -> Case:
    if sizes:
        return one("Resize", "", "", "to", constants={"to": np.array(sizes)}, **attributes)
    return one("Resize", "", "to", constants={"to": np.array(scales, np.float32)}, **attributes)


def norms(*shape: int) -> dict[str, Any]:
    return {"g": weights(*shape), "b": weights(*shape) + 1}


FEW = {"k": np.float32(0.1), "h": np.float32(0.3)}
SAME = ("SAME_LOWER", "SAME_UPPER", "VALID")
POOLS = ("MaxPool", "AveragePool")


def resizes() -> dict[str, Case]:
    found = {}
    for mode in ("nearest", "linear", "cubic"):
        for place in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            for rounding in ("round_prefer_floor", "floor", "ceil") if mode == "nearest" else ("",):
                how: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": place}
                how |= {"nearest_mode": rounding} if rounding else {}
                for scale in (2, 0.5):
                    found[f"{mode} {place} {rounding} {scale}"] = resized((1, 1, scale, scale), **how)
                found[f"{mode} {place} {rounding} odd"] = resized(sizes=(1, 6, 13, 17), **how)
    return found


GROUPS: dict[str, dict[str, Case]] = {
    "automatic padding": {
        **{f"conv {r} {s}": conv(auto_pad=r, strides=[s, s]) for r in SAME for s in (1, 2, 3)},
        **{
            f"conv of groups {r}": one("Conv", "w", constants={"w": weights(6, 1, 2, 4)}, auto_pad=r, group=6)
            for r in SAME
        },
        **{
            f"transposed {r} {s} {k}": transposed(k, auto_pad=r, strides=[s, s])
            for r in SAME
            for s, k in ((1, 3), (2, 3), (2, 4), (2, 2))
        },
        "transposed to a size": transposed(strides=[2, 2], output_shape=[20, 24]),
        "transposed, uneven": transposed(strides=[2, 2], pads=[0, 0, 1, 1]),
        **{
            f"{op} {r} {s} {k}": one(op, auto_pad=r, strides=[s, s], kernel_shape=[k, k])
            for op in POOLS
            for r in SAME
            for s, k in ((1, 2), (2, 2), (2, 3))
        },
        **{f"counted {r}": one("AveragePool", auto_pad=r, kernel_shape=[3, 3], count_include_pad=1) for r in SAME},
    },
    "pooling": {
        **{f"{op} by one": one(op, kernel_shape=[3, 3]) for op in POOLS},
        **{
            f"{op} {ceil} {pads}": one(op, kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=ceil)
            for op in POOLS
            for ceil in (0, 1)
            for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1])
        },
        **{
            f"counted {ceil} {pads}": one(
                "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=ceil, count_include_pad=1
            )
            for ceil in (0, 1)
            for pads in ([1, 1, 1, 1], [0, 0, 1, 1])
        },
        **{f"{op} beyond": one(op, kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1) for op in POOLS},
    },
    "products": {
        "gemm": gemm(),
        "gemm, bias": gemm([7]),
        "gemm, turned": gemm([7], transB=1),
        "gemm, factors": gemm([7], transB=1, alpha=0.5, beta=3.0),
        "gemm, factors, not turned": gemm([7], alpha=2.0),
        "gemm, one bias": gemm([1], transB=1),
        "gemm, a row": gemm([1, 7], transB=1),
        "gemm of rows": case(
            node("Reshape", ["c", "s"], ["r"]),
            node("Gemm", ["r", "w", "b"], ["y"]),
            s=np.array([60, 12]),
            w=weights(12, 5),
            b=weights(60, 1),
        ),
        "gemm of two": case(
            node("Reshape", ["c", "s"], ["r"]),
            node("Reshape", ["c", "t"], ["q"]),
            node("Gemm", ["r", "q"], ["y"], alpha=0.1),
            s=np.array([60, 12]),
            t=np.array([12, 60]),
        ),
        "sum of three": one("Sum", "c", "c"),
        "sum of one": one("Sum"),
        **{f"{op} of three": one(op, "k", "h", constants=FEW) for op in ("Max", "Min", "Mean")},
        "prelu of places": one("PRelu", "s", constants={"s": weights(*SHAPE[1:])}),
        "selu": one("Selu", alpha=1.2, gamma=1.1),
        "softsign": one("Softsign"),
    },
    "norms": {
        **{f"lp {p} {axis}": one("LpNormalization", p=p, axis=axis) for p in (1, 2) for axis in (1, -1)},
        "lp, flat": flat("LpNormalization"),
        "layers, no shift": one("LayerNormalization", "g", constants={"g": weights(12, 1)[:, 0]}),
        "layers, axis 1": one("LayerNormalization", "g", "b", constants=norms(*SHAPE[1:]), axis=1),
        "instances": one("InstanceNormalization", "g", "b", constants={k: v[:, 0] for k, v in norms(6, 1).items()}),
        **{
            f"{op} {axes} {keep}": one(op, "a", constants={"a": np.array(axes)}, keepdims=keep)
            for op in ("ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceMean")
            for axes in ([1], [2, 3], [-1])
            for keep in (0, 1)
        },
        **{f"{op} of nothing": one(op, noop_with_empty_axes=1) for op in ("ReduceMax", "ReduceMean", "ReduceL2")},
        "max of all": one("ReduceMax", keepdims=0),
    },
    "picking": {
        "slice of all axes": sliced([0, 1, 2, 3], [1, 5, 8, 9], [0, 1, 2, 3]),
        "every second row": sliced([0], [10], [2], [2]),
        "every second place": sliced([0, 1], [10, 12], [2, 3], [2, 2]),
        "every second channel": sliced([0], [6], [1], [2]),
        "channels backwards": sliced([5], [-9999], [1], [-1]),
        "columns backwards": sliced([-1], [-9999], [3], [-1]),
        "some channels": one("Gather", "i", constants={"i": np.array([2, 0, 5])}, axis=1),
        "some columns": one("Gather", "i", constants={"i": np.array([1, 0])}, axis=-1),
        "one row": one("Gather", "i", constants={"i": np.array([3])}, axis=2),
        "one channel": one("Gather", "i", constants={"i": np.array(-1)}, axis=1),
        "the picture": one("Gather", "i", constants={"i": np.array(0)}),
        "tile": one("Tile", "r", constants={"r": np.array([1, 1, 2, 1])}),
        "space to depth": one("SpaceToDepth", blocksize=2),
        "turn round": one("Transpose"),
        "pad": padded([0, 0, 1, 2, 0, 0, 2, 1]),
        "pad with a value": padded([0, 0, 1, 2, 0, 0, 2, 1], 0.7),
        "pad with nothing": padded([0, 0, 1, 2, 0, 0, 2, 1], 0.0),
        "pad channels": padded([0, 1, 0, 0, 0, 2, 0, 0]),
        "pad less": padded([0, 0, -1, 1, 0, 0, -1, 0]),
        "pad by an edge": padded([0, 0, 1, 2, 0, 0, 2, 1], mode="edge"),
    },
    "sizes": resizes()
    | {
        "bare": resized(),
        "other cubic": resized(mode="cubic", cubic_coeff_a=-0.5),
        "smooth": resized((1, 1, 0.5, 0.5), mode="linear", antialias=1),
    },
}
DEPTHS = {mode: one("DepthToSpace", blocksize=2, mode=mode) for mode in ("DCR", "CRD")}


def merge(path: Path, cases: Mapping[str, Case], opset: int = 18) -> Path:
    """One graph with an output for each case: y0, y1, ..."""
    stem = node("Conv", ["x", "stem", "shift"], ["c"], kernel_shape=[3, 3], pads=[1] * 4)
    nodes, constants = [stem], {"stem": weights(6, 3, 3, 3), "shift": weights(6, 1)[:, 0]}
    for i, (made, held) in enumerate(cases.values()):
        names = {name: f"{name}{i}" for n in made for name in (*n.output, *held)}
        for old in made:
            new = onnx.NodeProto()
            new.CopyFrom(old)
            new.input[:] = [names.get(name, name) for name in old.input]
            new.output[:] = [names[name] for name in old.output]
            nodes.append(new)
        constants |= {names[name]: value for name, value in held.items()}
    outputs = {f"y{i}": None for i in range(len(cases))}
    write(path, nodes, constants, {}, opset=opset, shape=(1, 3, HEIGHT, WIDTH))
    model = onnx.load(path)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs)
    onnx.save(model, path)
    return path


def differences(path: Path) -> dict[str, float]:
    """Output -> how far ncnn is from the file in ONNX Runtime, relative L2; 9 where the shapes differ."""
    folder = path.parent / "out"
    folder.mkdir(exist_ok=True)
    model = onnx.load(path)
    image = TensorSpec("x", (1, 3, HEIGHT, WIDTH))
    outputs = tuple(TensorSpec(v.name, ()) for v in model.graph.output)
    with OnnxRuntimeRuntime(path, NetworkSpec("network", (image,), outputs), RuntimeOptions(1)) as reference:
        spec = measured_spec("network", image, reference.run)
        feed: Arrays = {"x": np.random.default_rng(5).standard_normal(image.shape).astype(np.float32)}  # type: ignore[arg-type]
        want = reference.run(feed)
    convert_onnx(model, spec, folder / "network.onnx")
    files = compile_network(Job(spec, folder / "network.onnx", "fp32", folder)).files
    with NcnnRuntime(folder / files["param"], folder / files["bin"], "fp32", spec, RuntimeOptions(1)) as runtime:
        have = runtime.run(feed)
    return {
        name: float(np.linalg.norm(have[name] - a) / np.linalg.norm(a)) if have[name].shape == a.shape else 9.0
        for name, a in want.items()
    }


def wrong(path: Path, cases: Mapping[str, Case], opset: int = 18) -> list[str]:
    found = differences(merge(path, cases, opset))
    return [name for name, off in zip(cases, found.values(), strict=True) if not off < 1e-4]


@pytest.mark.parametrize("group", GROUPS)
def test_ncnn_computes_what_the_file_says(group: str, tmp_path: Path) -> None:
    assert wrong(tmp_path / "n.onnx", GROUPS[group]) == []


@pytest.mark.parametrize("group", ["picking", "norms"])
def test_without_the_forms_it_does_not(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the comparison sees what pnnx makes of these operators as they are."""
    monkeypatch.setattr(ncnn_convert, "prepare", lambda model: None)
    some = dict(list(GROUPS[group].items())[-2:-1]) if group == "norms" else {"some": GROUPS[group]["some columns"]}
    try:
        assert wrong(tmp_path / "n.onnx", some)
    except ConversionError as error:
        assert "ncnn does not have" in str(error)


@pytest.mark.parametrize("mode", DEPTHS)
def test_depth_to_space(mode: str, tmp_path: Path) -> None:
    nodes, constants = DEPTHS[mode]
    first = node("Conv", ["c", "w"], ["d"])
    nodes[0].input[0] = "d"
    assert wrong(tmp_path / "n.onnx", {mode: ([first, *nodes], constants | {"w": weights(8, 6, 1, 1)})}) == []


# Outputs


def copies(*pairs: tuple[str, str], op: str = "Identity") -> list[onnx.NodeProto]:
    return [node(op, [a], [b]) for a, b in pairs]


OUTPUTS: dict[str, tuple[list[onnx.NodeProto], list[str]]] = {
    "one tensor, two names": ([node("Relu", ["c"], ["r"]), *copies(("r", "y"), ("r", "z"))], ["y", "z"]),
    "an output and its copies": ([node("Relu", ["c"], ["y"]), *copies(("y", "z"), ("y", "v"))], ["z", "y", "v"]),
    "computed twice": (copies(("c", "y"), ("c", "z"), op="Relu"), ["y", "z"]),
    "read on": ([node("Relu", ["c"], ["y"]), node("Sigmoid", ["y"], ["v"]), *copies(("y", "z"))], ["v", "z", "y"]),
    "the input": ([node("Relu", ["c"], ["y"]), *copies(("x", "z"))], ["y", "z"]),
    "a constant": ([node("Relu", ["c"], ["y"]), *copies(("k", "z"), ("k3", "v"), ("k1", "u"))], ["y", "z", "v", "u"]),
    "a copy": ([node("Relu", ["c"], ["r"]), node("Dropout", ["r"], ["y"])], ["y"]),
    "shapes that stay": (
        [node("Flatten", ["c"], ["y"]), node("Reshape", ["y", "one"], ["z"])],
        ["y", "z"],
    ),
    "one number": ([node("ReduceMean", ["c"], ["y"], keepdims=0), node("Relu", ["c"], ["z"])], ["y", "z"]),
    "no batch": ([node("Reshape", ["c", "rows"], ["y"])], ["y"]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_are_the_same_tensor_an_input_or_a_constant(name: str, tmp_path: Path) -> None:
    nodes, outputs = OUTPUTS[name]
    constants = {"k": weights(1, 5, 4), "k3": weights(1, 2, 5, 4), "k1": weights(3, 1)[:, 0]}
    constants |= {"stem": weights(6, 3, 3, 3), "one": np.array([1, -1]), "rows": np.array([-1, 2])}
    stem = node("Conv", ["x", "stem"], ["c"], kernel_shape=[3, 3], pads=[1] * 4)
    path = write(tmp_path / "n.onnx", [stem, *nodes], constants, {}, opset=13, shape=(1, 3, HEIGHT, WIDTH))
    model = onnx.load(path)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs)
    onnx.save(model, path)
    assert all(off < 1e-5 for off in differences(path).values())


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (one("CumSum", "a", constants={"a": np.array(3)}), "ncnn does not have: CumSum; write this part"),
        (one("MaxPool", kernel_shape=[3, 3], dilations=[2, 2]), "ncnn does not have: MaxPool; write this part"),
        (
            case(node("Flatten", ["c"], ["f"]), node("TopK", ["f", "k"], ["y", "i"]), k=np.array([5])),
            r"pnnx cannot convert TopK \(node .*: write this part",
        ),
    ],
)
def test_what_ncnn_does_not_have_is_named(found: Case, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=says):
        wrong(tmp_path / "n.onnx", {"case": found})
