"""What decides where a network samples stays in float32: the rule on small graphs, and in every fp16 form."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from facedeploy.artifact.folder import describe_file
from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.target import Backend, Target
from facedeploy.export import tensorrt
from facedeploy.export.compiler import Compiled, Job
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph
from facedeploy.graph.from_torch import export_onnx
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.graph.passes import float16
from facedeploy.graph.sampling_positions import Step, averages, exact_steps, feeding, spread
from facedeploy.models.mos import DeformBlock
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import RuntimeOptions

# --- the rule ---

SAMPLERS = {"Sample": (1,), "Deform": (2, 4)}
CONTRACTIONS = {"Conv", "Gemm"}


def steps(text: str) -> list[Step]:
    """A line is `outputs = Op inputs`; `-` is an input that is left out. Constants are names that nothing makes."""
    made = []
    for line in text.strip().splitlines():
        outputs, call = line.split("=")
        op, *inputs = call.split()
        made.append(Step(op, tuple(n.replace("-", "") for n in inputs), tuple(outputs.split())))
    return made


def exact(text: str) -> str:
    """The first outputs of the steps that must be exact, in order."""
    made = steps(text)
    return " ".join(made[i].outputs[0] for i in sorted(exact_steps(made, SAMPLERS, CONTRACTIONS)))


def test_what_feeds_a_head_up_to_the_last_contraction() -> None:
    """What computes is in; what only moves numbers is not, unless something was computed before."""
    made = steps(
        """
        a = Conv image w
        a2 = Relu a
        b = Conv a2 v
        c = Transpose b
        d = Reshape c shape
        e = Sigmoid d
        f = Reshape e shape
        g = Conv a2 u
        h = Transpose g
        i = Concat f h
        j = Mul i decode
        k = Exp other
        """
    )
    kept = {n for n, step in enumerate(made) if step.op == "Mul"}
    found = feeding(
        made, kept, {n for n, step in enumerate(made) if step.op == "Conv"}, {"Transpose", "Reshape", "Concat"}
    )
    assert "".join(made[n].outputs[0] for n in sorted(found)) == "efij"


def test_a_layer_that_takes_a_mean_is_none_that_learned() -> None:
    made = steps(
        """
        a = Conv image w
        b = Softmax a
        c = Transpose b
        d = Conv c bins
        e = Conv d v
        """
    )
    assert averages(made, {0, 3, 4}, {"Transpose"}) == {3}


def test_from_the_last_contraction_to_the_next() -> None:
    """The mask's Sigmoid and the Mul after the sampler belong to it; the 1x1 convolution after does not."""
    text = """
        stem = Conv image w
        x = Relu stem
        predicted = Conv x v
        offset mask = Split predicted
        weight = Sigmoid mask
        planes = Reshape offset
        position = Add planes base
        grid = Transpose position
        taps = Sample x grid
        tall = Reshape weight
        weighed = Mul taps tall
        columns = Reshape weighed
        y = Conv columns u
        z = Relu y
    """
    assert exact(text) == "predicted offset weight planes position grid taps tall weighed columns"


def test_operator_with_offsets_and_mask() -> None:
    text = """
        x = Conv image w
        predicted = Conv x v
        offset mask = Split predicted
        weight = Sigmoid mask
        y = Deform x u offset bias weight
        normed = Norm y
        z = Conv normed t
    """
    assert exact(text) == "predicted offset weight y normed"
    without_mask = "x = Conv image w\no = Conv x v\ny = Deform x u o\nz = Conv y t"
    assert exact(without_mask) == exact(without_mask.replace("u o", "u o -")) == "o y"


def test_search_stops_at_a_contraction() -> None:
    """Whatever one is made of, also another one that predicts."""
    assert exact("a = Conv image w\nb = Relu a\nc = Gemm b v\nd = Tanh c\ny = Sample image d") == "c d y"
    assert exact("a = Conv image w\nb = Conv a v\ny = Sample a b") == "b y"


def test_search_ends_at_the_inputs_where_there_is_no_contraction() -> None:
    assert exact("a = Neg image\nb = Exp a\nc = Relu image\ny = Sample c b\nz = Conv y w") == "a b y"


def test_picture_that_is_sampled_may_be_rounded() -> None:
    text = "a = Conv image w\nx = Relu a\ng = Conv a v\ny = Sample x g"
    assert exact(text) == "g y"


def test_every_branch_of_a_position_is_followed() -> None:
    text = """
        a = Conv image w
        b = Conv image v
        c d = Split b
        e = Sigmoid d
        f = Concat a c
        g = Add f e
        y = Sample image g
    """
    assert exact(text) == "a b c e f g y"


def test_two_samplers_of_one_prediction() -> None:
    text = """
        p = Conv image w
        a b = Split p
        c = Sample image a
        d = Conv c v
        e = Relu d
        f = Sample e b
    """
    assert exact(text) == "p a c f"


def test_result_that_is_mixed_with_another_may_be_rounded() -> None:
    text = "a = Conv image w\ng = Conv image v\ny = Sample a g\nz = Add y a\nu = Relu z"
    assert exact(text) == "g y"


def test_network_that_does_not_sample() -> None:
    assert exact("a = Conv image w\nb = Sigmoid a") == ""


def kept(text: str, names: str, stops: str = "") -> str:
    made = steps(text)
    index = {name: i for i, step in enumerate(made) for name in step.outputs}
    result = spread(made, {index[n] for n in names.split()}, {index[n] for n in stops.split()})
    return " ".join(made[i].outputs[0] for i in sorted(result))


CHAIN = "a = Op image\nb = Op a w\nc = Op b\nd = Op c a"


def test_spread_takes_what_reads_nothing_else() -> None:
    assert kept(CHAIN, "a") == "a b c d"
    assert kept(CHAIN, "b") == "b c"
    assert kept(CHAIN, "c") == "c"
    assert kept(CHAIN, "") == ""
    assert kept("a b = Op image\nc = Op b\nd = Op a", "a") == "a c d"


def test_spread_does_not_take_what_reads_only_constants() -> None:
    assert kept("a = Op image\nb = Op w\nc = Op a b", "a") == "a"


def test_spread_ends_at_the_stops() -> None:
    assert kept(CHAIN, "a", stops="b") == "a"
    assert kept(CHAIN, "a", stops="c") == "a b"
    assert kept(CHAIN, "a b", stops="b") == "a b c d"


# --- what was compiled ---

Precisions = dict[str, set[str]]
SINGLE, HALF = {"float32"}, {"float16"}
TARGETS: list[tuple[Backend, DeformConvForm]] = [
    ("trt", "gridsample"),
    ("trt", "native"),
    ("openvino", "gridsample"),
    ("openvino", "native"),
    ("ncnn", "gridsample"),
    ("ncnn", "native"),
]
COMPILERS: dict[Backend, str] = {
    "openvino": "facedeploy.export.openvino",
    "ncnn": "facedeploy.export.ncnn.convert",
    "trt": "facedeploy.export.tensorrt",
}
# A convolution goes by its number of outputs: 27 offsets and masks, 5 of the deformable one; 8 before it, 4 after.
EXACT: dict[tuple[Backend, DeformConvForm], set[str]] = {
    ("trt", "gridsample"): {"Conv 27", "Split", "Sigmoid", "Reshape", "Add", "Transpose", "GridSample", "Mul"},
    ("trt", "native"): {"Conv 27", "Split", "Sigmoid", "DeformConv"},
    ("openvino", "gridsample"): {"Convolution 27", "Add"},
    ("openvino", "native"): {"Convolution 27"},
    ("ncnn", "gridsample"): {"Convolution 27", "Slice", "Sigmoid", "Reshape", "BinaryOp", "GridSample"},
    ("ncnn", "native"): {"Convolution 27", "Slice", "Sigmoid", "DeformableConv2D"},
}
ROUNDED: dict[tuple[Backend, DeformConvForm], set[str]] = {
    ("trt", "gridsample"): {"Conv 8", "Conv 5", "Conv 4"},
    ("trt", "native"): {"Conv 8", "Conv 4"},
    ("openvino", "gridsample"): {"Convolution 8", "Convolution 5", "Convolution 4"},
    ("openvino", "native"): {"Convolution 8", "DeformableConvolution 5", "Convolution 4"},
    ("ncnn", "gridsample"): {"Convolution 8", "Convolution 5", "Convolution 4"},
    ("ncnn", "native"): {"Convolution 8", "Convolution 4"},
}


class Source(NamedTuple):
    spec: NetworkSpec
    onnx: Path
    image: NDArray[np.float32]
    expected: NDArray[np.float32]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A block between two convolutions, on a map that is wide enough for a rounded position to be seen."""
    rng = np.random.default_rng(0)
    block = DeformBlock(8, 5)
    module = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), block, nn.Conv2d(5, 4, 1)).eval()
    for parameter in module.parameters():
        parameter.data.copy_(torch.from_numpy(rng.uniform(-0.5, 0.5, parameter.shape)))
    image = rng.standard_normal((1, 6, 8, 160)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(image)).numpy()
    inputs, outputs = (TensorSpec("image", image.shape),), (TensorSpec("map", expected.shape),)
    spec = NetworkSpec("network", inputs, outputs)
    path = tmp_path_factory.mktemp("positions") / "source.onnx"
    export_onnx(module, spec, path)
    return Source(spec, path, image, expected)


@pytest.fixture(autouse=True)
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is what is looked at here, in both forms, whatever TensorRT this machine has."""
    monkeypatch.setattr(tensorrt, "find_tensorrt", lambda: None)


def compile_network(source: Source, backend: Backend, form: DeformConvForm, folder: Path) -> Compiled:
    for module in {"openvino": ("openvino",), "ncnn": ("ncnn", "pnnx")}.get(backend, ()):
        pytest.importorskip(module)
    job = Job(source.spec, source.onnx, "fp16", folder, deform_conv=form)
    return cast(Compiled, importlib.import_module(COMPILERS[backend]).compile_network(job))


def read(backend: Backend, folder: Path) -> Precisions:
    readers: dict[Backend, Callable[[Path], Precisions]] = {
        "trt": read_onnx,
        "openvino": read_openvino,
        "ncnn": read_ncnn,
    }
    return readers[backend](folder)


def read_onnx(folder: Path) -> Precisions:
    """Types of all floating inputs and outputs of each kind of node."""
    model = onnx.load(folder / "network.onnx")
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    kinds |= {w.name: w.data_type for w in inferred.initializer}
    shapes = {w.name: tuple(w.dims) for w in inferred.initializer}
    found: Precisions = {}
    for node in inferred.node:
        if node.op_type != "Cast":
            label = f"Conv {shapes[node.input[1]][0]}" if node.op_type == "Conv" else node.op_type
            types = {onnx.helper.tensor_dtype_to_np_dtype(kinds[n]) for n in (*node.input, *node.output) if n}
            found.setdefault(label, set()).update(t.name for t in types if t.kind == "f")
    return found


def read_openvino(folder: Path) -> Precisions:
    """Types in which the constants of two and more axes are stored, by the operation that reads them."""
    ov = importlib.import_module("openvino")
    found: Precisions = {}
    for node in ov.Core().read_model(str(folder / "network.xml")).get_ops():
        if node.get_type_name() == "Constant" and len(node.shape) > 1:
            (reader,) = readers_of(node)
            if reader.get_type_name() == "Convert":
                (reader,) = readers_of(reader)
            label = reader.get_type_name()
            if label.endswith("Convolution"):
                label = f"{label} {node.shape[0]}"
            found.setdefault(label, set()).add(node.get_element_type().to_dtype().name)
    return found


def readers_of(node: Any) -> list[Any]:
    return [target.get_node() for target in node.output(0).get_target_inputs()]


def read_ncnn(folder: Path) -> Precisions:
    """Arithmetic that each kind of layer is allowed, and the types in which weights are stored."""
    layers = graph.parse((folder / "network.param").read_text())
    arrays = weights.read(layers, (folder / "network.bin").read_bytes())
    found: Precisions = {}
    for layer in layers:
        if layer.type not in ("Input", "Split", "MemoryData"):
            params = dict(layer.params)
            label = f"Convolution {params[0]}" if layer.type == "Convolution" else layer.type
            types = found.setdefault(label, set())
            # Two bits of the mask say it; another one is of Winograd.
            types.add({0: "float16", 3: "float32"}[int(params.get(31, "0")) & 3])
            if layer.name in arrays and layer.type != "BatchNorm":
                types.add(arrays[layer.name][0].dtype.name)
    return found


def pick(found: Precisions, labels: set[str]) -> Precisions:
    return {label: found[label] for label in labels}


@pytest.mark.parametrize(("backend", "form"), TARGETS)
def test_positions_are_exact_and_the_rest_is_not(
    source: Source, tmp_path: Path, backend: Backend, form: DeformConvForm
) -> None:
    compile_network(source, backend, form, tmp_path)
    found = read(backend, tmp_path)
    exact, rounded = EXACT[backend, form], ROUNDED[backend, form]
    assert pick(found, exact) == dict.fromkeys(exact, SINGLE)
    assert pick(found, rounded) == dict.fromkeys(rounded, HALF)


@pytest.mark.parametrize(("backend", "form"), TARGETS)
def test_manifest_names_the_weights_that_stay(
    source: Source, tmp_path: Path, backend: Backend, form: DeformConvForm
) -> None:
    names = compile_network(source, backend, form, tmp_path).float32
    suffix = ".planar" if form == "gridsample" else ""
    assert {f"2.conv.conv_offset_mask.{part}{suffix}" for part in ("weight", "bias")} <= set(names)


def without_the_rule(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    def nothing(*_: Sequence[Step]) -> set[int]:
        return set()

    monkeypatch.setattr(float16, "exact_nodes", nothing)
    if backend == "ncnn":
        monkeypatch.setattr("facedeploy.export.ncnn.convert.exact_steps", nothing)


@pytest.mark.parametrize(("backend", "form"), TARGETS)
def test_readers_see_rounded_positions(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend, form: DeformConvForm
) -> None:
    """Negative control."""
    pytest.importorskip("ncnn" if backend == "ncnn" else "onnx")
    without_the_rule(monkeypatch, backend)
    compile_network(source, backend, form, tmp_path)
    found = read(backend, tmp_path)
    assert pick(found, EXACT[backend, form]) == dict.fromkeys(EXACT[backend, form], HALF)


def error(source: Source, backend: Backend, form: DeformConvForm, folder: Path) -> float:
    compiled = compile_network(source, backend, form, folder)
    files = {role: describe_file(folder, name) for role, name in compiled.files.items()}
    entry = NetworkEntry(source.spec, files, compiled.engine, compiled.lowerings, compiled.float32)
    substitute: Substitute | None = "onnxruntime" if backend == "trt" else None
    options = RuntimeOptions(threads=1)
    with open_network("none", Target(backend, "fp16"), entry, folder, options, substitute) as runtime:
        found = runtime.run({"image": source.image})["map"]
    return float(np.linalg.norm(found - source.expected) / np.linalg.norm(source.expected))


@pytest.mark.parametrize(("backend", "form"), [t for t in TARGETS if t[0] != "ncnn"])
def test_half_precision_samples_where_single_does(
    source: Source, tmp_path: Path, backend: Backend, form: DeformConvForm
) -> None:
    """Not ncnn, whose arithmetic between the kept layers depends on the processor."""
    assert error(source, backend, form, tmp_path) < 2e-3


def test_rounded_positions_cost_accuracy(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    without_the_rule(monkeypatch, "trt")
    assert error(source, "trt", "gridsample", tmp_path) > 5e-3
