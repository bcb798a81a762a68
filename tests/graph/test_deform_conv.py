"""Deformable convolution: the module, and every form of it on every backend, against its definition in NumPy."""

from __future__ import annotations

import functools
import importlib
import math
import tempfile
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import onnx
import pytest
import torch
from hypothesis import Phase, example, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from facedeploy.artifact.folder import describe_file
from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.errors import ConversionError
from facedeploy.core.network_spec import Axis, NetworkSpec, TensorSpec
from facedeploy.core.target import Backend, Target
from facedeploy.export import tensorrt
from facedeploy.export.compiler import Compiled, Job
from facedeploy.export.ncnn.deform_conv import refuse
from facedeploy.graph.from_torch import export_onnx
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.graph.passes.deform_conv import DeformConv, find_deform_convs, geometry_of
from facedeploy.models.deform_conv import DeformConv2d, deform_conv2d
from facedeploy.models.mos import DeformBlock
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from facedeploy.runtimes.tensorrt_api import find_tensorrt
from tests.support.deform_conv_oracle import Floats, Geometry, Pair, bilinear, deform_conv

TOLERANCE = 1e-4
BROKEN = 1e-2
FORMS: tuple[DeformConvForm, ...] = get_args(DeformConvForm)
COMPILERS: dict[Backend, str] = {
    "onnx": "facedeploy.export.onnxruntime",
    "openvino": "facedeploy.export.openvino",
    "ncnn": "facedeploy.export.ncnn.convert",
    "trt": "facedeploy.export.tensorrt",
}
NEEDS: dict[Backend, tuple[str, ...]] = {"openvino": ("openvino",), "ncnn": ("ncnn", "pnnx"), "trt": ("tensorrt_rtx",)}
BOTH_FORMS: list[tuple[Backend, DeformConvForm]] = [(b, f) for b in ("onnx", "openvino", "ncnn") for f in FORMS]


# --- cases ---


@dataclass(frozen=True)
class Case:
    """A deformable convolution with its numbers, which follow from the seed."""

    geometry: Geometry
    masked: bool = True
    bias: bool = True
    seed: int = 0


class Draw(NamedTuple):
    feeds: Arrays
    expected: Floats


class Alone(nn.Module):
    """The operator as a network whose inputs are image, offset and, where there is one, mask."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        g = case.geometry
        self.conv = DeformConv2d(
            g.in_channels,
            g.out_channels,
            g.kernel,
            g.stride,
            g.padding,
            g.dilation,
            g.groups,
            g.offset_groups,
            case.bias,
        )
        rng = np.random.default_rng(case.seed)
        for parameter in self.conv.parameters():
            parameter.data = torch.from_numpy(rng.uniform(-0.5, 0.5, parameter.shape).astype(np.float32))

    def forward(self, image: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.conv(image, offset, mask)
        return y


def spec_of(case: Case, batch: int = 1) -> NetworkSpec:
    g = case.geometry
    channels = {"image": g.in_channels, "offset": 2 * g.offset_groups * g.taps, "mask": g.offset_groups * g.taps}
    sizes = {"image": g.size, "offset": g.output, "mask": g.output}
    names = ("image", "offset", "mask") if case.masked else ("image", "offset")
    inputs = tuple(TensorSpec(n, (batch, channels[n], *sizes[n])) for n in names)
    return NetworkSpec("network", inputs, (TensorSpec("map", (batch, g.out_channels, *g.output)),))


@functools.cache
def draws(case: Case, count: int = 3, batch: int = 1) -> tuple[Draw, ...]:
    g, rng = case.geometry, np.random.default_rng(case.seed)
    shapes = spec_of(case, batch).input_shapes("optimum")
    made = []
    for _ in range(count):
        feeds = {
            "image": rng.standard_normal(shapes["image"]).astype(np.float32),
            "offset": np.concatenate([offsets(g, rng) for _ in range(batch)]),
        }
        if case.masked:
            feeds["mask"] = rng.random(shapes["mask"], np.float32)
        made.append(Draw(feeds, deform_conv(g, **weights_of(case), **feeds)))
    return tuple(made)


def weights_of(case: Case) -> dict[str, NDArray[np.float32]]:
    return {name: parameter.detach().numpy() for name, parameter in Alone(case).conv.named_parameters()}


def offsets(g: Geometry, rng: np.random.Generator) -> NDArray[np.float32]:
    """A third of the coordinates up to 8 pixels away, a third inside or less than a pixel outside, a third exactly on
    a border: the first and the last pixel, and the ones beyond them.
    """
    rows, columns = g.output
    result = np.zeros((g.offset_groups, *g.kernel, 2, rows, columns))
    for index in np.ndindex(result.shape):
        _, *taps, axis, y, x = index
        last = g.size[axis] - 1
        start = g.start(axis, taps[axis], (y, x)[axis])
        away = rng.uniform(-8, 8)
        near = rng.uniform(-1, last + 1) - start
        border = rng.choice([-1, 0, last, last + 1]) - start
        result[index] = rng.choice([away, near, border])
    return result.reshape(1, -1, rows, columns).astype(np.float32)


def distance(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Relative L2. Where everything is sampled outside, nothing is left to be relative to, hence the floor."""
    assert found.shape == expected.shape
    error, norm = (float(np.linalg.norm(a)) for a in (found - expected, expected))
    return error / max(norm, 0.1 * math.sqrt(expected.size))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    def pair(low: int, high: int) -> Pair:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    # Half of them ungrouped, since that is what ncnn's layer can do.
    grouped = st.sampled_from([(1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (2, 3), (3, 2), (3, 3)])
    groups, offset_groups = draw(st.just((1, 1)) | grouped)
    form = Geometry(
        size=(1, 1),
        in_channels=math.lcm(groups, offset_groups) * draw(st.sampled_from([1, 2, 4, 5])),
        out_channels=groups * draw(st.integers(1, 4)),
        kernel=draw(st.sampled_from([(3, 3), (1, 1), (1, 3), (3, 1), (2, 2), (2, 3), (1, 4)])),
        stride=pair(1, 3),
        padding=pair(0, 2),
        dilation=pair(1, 3),
        groups=groups,
        offset_groups=offset_groups,
    )
    least = [max(1, form.reach(axis) - 2 * form.padding[axis]) for axis in range(2)]
    height, width = (draw(st.integers(low, max(low, 9))) for low in least)
    geometry = replace(form, size=(height, width))
    return Case(geometry, draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 10_000)))


FREE = Case(Geometry((4, 5), 2, 3))
CONTROL = Case(Geometry((6, 7), 4, 3))
ONE_PIXEL = Case(Geometry((1, 1), 1, 2))
ONE_ROW = Case(Geometry((1, 7), 4, 3, dilation=(1, 2)))
ONE_COLUMN = Case(Geometry((6, 1), 4, 3, stride=(2, 1)), masked=False)
ONE_CHANNEL = Case(Geometry((5, 6), 8, 1))
ONE_NUMBER = Case(Geometry((1, 1), 1, 1, (1, 1), padding=(0, 0)))
# Groups whose rows do not fill vectors, and groups that do.
ODD_GROUPS = Case(Geometry((5, 6), 15, 6, (3, 2), stride=(2, 1), padding=(2, 1), groups=3, offset_groups=3))
DEPTHWISE = Case(Geometry((5, 4), 16, 16, dilation=(2, 1), groups=16, offset_groups=4), bias=False)


def hard(test: Callable[..., None]) -> Callable[..., None]:
    for case in (ONE_PIXEL, ONE_ROW, ONE_COLUMN, ONE_CHANNEL, ONE_NUMBER, ODD_GROUPS, DEPTHWISE):
        test = example(case=case)(test)
    return test


# --- the definition and the module ---


@settings(deadline=None, max_examples=30)
@given(case=cases())
def test_oracle_without_offsets_is_the_ordinary_convolution(case: Case) -> None:
    """What judges everything here is itself judged by PyTorch."""
    g, conv = case.geometry, Alone(case).conv.double()
    image = np.random.default_rng(case.seed).standard_normal((1, g.in_channels, *g.size))
    y = functional.conv2d(torch.from_numpy(image), conv.weight, conv.bias, g.stride, g.padding, g.dilation, g.groups)
    expected = y.detach().numpy()
    zero = np.zeros((1, 2 * g.offset_groups * g.taps, *g.output))
    ones = np.ones((1, g.offset_groups * g.taps, *g.output))
    assert distance(deform_conv(g, image, offset=zero, **weights_of(case)), expected) < 1e-12
    assert distance(deform_conv(g, image, offset=zero, mask=ones, **weights_of(case)), expected) < 1e-12


def test_oracle_samples_zero_outside() -> None:
    image = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    inside = {(0, 0): 1, (1, 2): 6, (0.5, 0): 2.5, (0.5, 1.5): 4, (0.25, 0.5): 2.25}
    border = {(-0.5, 0): 0.5, (1.5, 2): 3, (0, -0.25): 0.75, (1, 2.75): 1.5, (-0.5, -0.5): 0.25}
    outside = dict.fromkeys([(-1, 0), (2, 0), (0, -1), (0, 3), (-1, -1), (-7.5, 1), (9, 9), (0.5, 3.25)], 0)
    found = {at: bilinear(image, *at)[0] for at in (*inside, *border, *outside)}
    assert found == {**inside, **border, **outside}


@hard
@settings(deadline=None, max_examples=80)
@given(case=cases())
def test_module(case: Case) -> None:
    module = Alone(case)
    for feeds, expected in draws(case, count=2, batch=2):
        with torch.no_grad():
            single = module(*map(torch.from_numpy, feeds.values())).numpy()
        assert single.dtype == np.float32
        assert distance(single, expected) < TOLERANCE


@settings(deadline=None, max_examples=30)
@given(case=cases())
def test_module_in_double_precision(case: Case) -> None:
    module = Alone(case)
    ((feeds, expected),) = draws(case, count=1)
    with torch.no_grad():
        double = module.double()(*(torch.from_numpy(a).double() for a in feeds.values())).numpy()
    assert double.dtype == np.float64
    assert distance(double, expected) < 1e-12


@pytest.mark.parametrize(
    ("out", "wrong", "message"),
    [
        (4, {"groups": 3}, "^groups must divide the 4 input channels, not be 3"),
        (4, {"groups": 0}, "^groups must divide the 4 input channels, not be 0"),
        (4, {"offset_groups": 3}, "^offset_groups must divide the 4 input channels, not be 3"),
        (4, {"offset_groups": 0}, "^offset_groups must divide the 4 input channels, not be 0"),
        (3, {"groups": 2}, "^groups must divide the 3 output channels, not be 2"),
    ],
)
def test_groups_must_divide_the_channels(out: int, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeformConv2d(4, out, 3, **wrong)


GRADIENT_CASES = [
    Case(Geometry((3, 2), 2, 2, (2, 1), padding=(1, 0))),
    Case(Geometry((3, 4), 4, 2, (1, 2), (2, 1), (0, 1), (1, 2), groups=2, offset_groups=2)),
    Case(Geometry((2, 3), 2, 2, (2, 2)), masked=False),
    Case(Geometry((1, 3), 1, 1, (1, 2)), bias=False),
    Case(Geometry((2, 2), 2, 1, (1, 1), padding=(0, 0), offset_groups=2), masked=False, bias=False),
]


def operands(case: Case) -> tuple[Any, ...]:
    """Arguments of the operator in double precision. No sample is near a pixel, where the gradient jumps."""
    g, rng = case.geometry, np.random.default_rng(case.seed)
    shapes = {**spec_of(case).input_shapes("optimum")}
    offset = rng.integers(-2, 2, shapes["offset"]) + rng.uniform(0.1, 0.9, shapes["offset"])
    weight = rng.standard_normal((g.out_channels, g.in_channels // g.groups, *g.kernel))
    arrays = [
        rng.standard_normal(shapes["image"]),
        weight,
        offset,
        rng.standard_normal(g.out_channels) if case.bias else None,
        rng.random(shapes["mask"]) if case.masked else None,
    ]
    tensors = (a if a is None else torch.from_numpy(a).requires_grad_() for a in arrays)
    return (*tensors, [*g.stride, *g.padding, *g.dilation], g.groups, g.offset_groups)


@pytest.mark.parametrize("case", GRADIENT_CASES, ids=["plain", "groups", "unmasked", "row", "bare"])
def test_gradients(case: Case) -> None:
    assert torch.autograd.gradcheck(deform_conv2d, operands(case))


def test_gradient_of_the_weight_alone() -> None:
    """As in a first layer, whose image needs no gradient."""
    case = GRADIENT_CASES[0]
    image, weight, *rest = operands(case)
    image, *rest = (a.detach() if isinstance(a, Tensor) else a for a in (image, *rest))
    assert torch.autograd.gradcheck(lambda w: deform_conv2d(image, w, *rest), (weight,))


def test_operator_is_registered_as_pytorch_asks() -> None:
    torch.library.opcheck(deform_conv2d, operands(GRADIENT_CASES[1]))


def test_flops_are_those_of_the_convolution() -> None:
    case = Case(Geometry((5, 6), 4, 6, groups=2))
    module = Alone(case)
    feeds = [torch.from_numpy(a) for a in draws(case, count=1)[0].feeds.values()]
    with FlopCounterMode(display=False) as deformable, torch.no_grad():
        module(*feeds)
    ordinary = nn.Conv2d(4, 6, 3, padding=1, groups=2)
    with FlopCounterMode(display=False) as plain, torch.no_grad():
        ordinary(feeds[0])
    assert deformable.get_total_flops() == plain.get_total_flops() > 0


# --- every form on every backend ---


def compile_network(backend: Backend, job: Job) -> Compiled:
    for module in NEEDS.get(backend, ()):
        pytest.importorskip(module)
    return cast(Compiled, importlib.import_module(COMPILERS[backend]).compile_network(job))


def run(backend: Backend, job: Job, compiled: Compiled, feeds: Iterable[Arrays]) -> list[Arrays]:
    """What the backend's own runtime answers; for TensorRT, ONNX Runtime on the graph that the engine is made of."""
    files = {role: describe_file(job.folder, name) for role, name in compiled.files.items()}
    entry = NetworkEntry(job.spec, files, compiled.engine, compiled.lowerings, compiled.float32)
    target = Target(backend, job.precision)
    substitute: Substitute | None = "onnxruntime" if backend == "trt" else None
    with open_network("none", target, entry, job.folder, RuntimeOptions(threads=1), substitute) as runtime:
        return [runtime.run(feed) for feed in feeds]


class Source(NamedTuple):
    """A network as ONNX, to be compiled many times: the exporter takes longer than any compiler."""

    module: nn.Module
    spec: NetworkSpec
    onnx: Path

    def job(self, form: DeformConvForm | None) -> Job:
        return Job(self.spec, self.onnx, "fp32", Path(tempfile.mkdtemp(dir=self.onnx.parent)), deform_conv=form)


class Sources:
    """What was exported in this file, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[Hashable, Source] = {}

    def get(self, name: Hashable, module: nn.Module, spec: NetworkSpec) -> Source:
        if name not in self._made:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            export_onnx(module, spec, folder / "source.onnx")
            self._made[name] = Source(module, spec, folder / "source.onnx")
        return self._made[name]

    def case(self, case: Case, batch: int = 1) -> Source:
        return self.get((case, batch), Alone(case), spec_of(case, batch))

    def network(self, name: str) -> Source:
        torch.manual_seed(0)
        module = NETWORKS[name]()
        outputs = tuple(TensorSpec(f"out_{i}", y.shape) for i, y in enumerate(answers_of(module)))
        return self.get(name, module, NetworkSpec("network", (TensorSpec("image", PICTURE.shape),), outputs))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(tmp_path_factory.mktemp("sources"))


def worst(backend: Backend, job: Job, compiled: Compiled, given: Sequence[Draw]) -> float:
    answers = run(backend, job, compiled, (d.feeds for d in given))
    return max(distance(answer["map"], draw.expected) for answer, draw in zip(answers, given, strict=True))


# One seed, so that each backend gets the cases that are exported already. Shrinking would compile hundreds.
few = settings(deadline=None, max_examples=14, database=None, phases=[Phase.explicit, Phase.generate])


@pytest.mark.parametrize(("backend", "form"), [*BOTH_FORMS, ("trt", "gridsample")])
@hard
@seed(1)
@few
@given(case=cases())
def test_backend(sources: Sources, backend: Backend, form: DeformConvForm, case: Case) -> None:
    job = sources.case(case).job(form)
    if (backend, form) == ("ncnn", "native") and is_refused(job):
        assert_refused(backend, job, "--deform-conv gridsample")
        # The rule must not be wider than what was seen to fail.
        assert case.geometry.groups > 1 or case.geometry.offset_groups > 1 or case.geometry.out_channels == 1
        return
    compiled = compile_network(backend, job)
    assert compiled.lowerings == {"DeformConv": form}
    assert worst(backend, job, compiled, draws(case)) < TOLERANCE


def is_refused(job: Job) -> bool:
    model = onnx.load(job.onnx_path)
    return any(refuse(geometry_of(model, node)) for node in find_deform_convs(model))


def assert_refused(backend: Backend, job: Job, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        compile_network(backend, job)
    assert not list(job.folder.iterdir())


@pytest.mark.parametrize(("backend", "form"), [v for v in BOTH_FORMS if v[0] != "ncnn"])
def test_batch_of_two(sources: Sources, backend: Backend, form: DeformConvForm) -> None:
    job = sources.case(ODD_GROUPS, batch=2).job(form)
    assert worst(backend, job, compile_network(backend, job), draws(ODD_GROUPS, batch=2)) < TOLERANCE


@pytest.mark.parametrize(("backend", "form"), [*BOTH_FORMS, ("trt", "gridsample")])
def test_padding_of_one_side(tmp_path: Path, backend: Backend, form: DeformConvForm) -> None:
    """ONNX has it, the module has not. Padding by hand gives the same, as the input is zero outside anyway."""
    top, left, bottom, right = 1, 0, 2, 1
    height, width = 5, 6
    case = Case(Geometry((height + top + bottom, width + left + right), 4, 3, padding=(0, 0)))
    inside = (..., slice(top, -bottom), slice(left, -right))
    given = []
    for draw in draws(case):
        image = np.zeros_like(draw.feeds["image"])
        image[inside] = draw.feeds["image"][inside]
        expected = deform_conv(
            case.geometry, image, offset=draw.feeds["offset"], mask=draw.feeds["mask"], **weights_of(case)
        )
        given.append(Draw({**draw.feeds, "image": np.ascontiguousarray(image[inside])}, expected))
    spec = spec_of(case)
    spec = replace(spec, inputs=(TensorSpec("image", (1, 4, height, width)), *spec.inputs[1:]))
    node = helper.make_node(
        "DeformConv", ["image", "weight", "offset", "bias", "mask"], ["map"], name="d", pads=[top, left, bottom, right]
    )
    made = tmp_path / "made"
    made.mkdir()
    job = Job(spec, write(tmp_path / "source.onnx", spec, node, weights_of(case)), "fp32", made, deform_conv=form)
    assert worst(backend, job, compile_network(backend, job), given) < TOLERANCE


def write(path: Path, spec: NetworkSpec, node: onnx.NodeProto, weights: dict[str, NDArray[Any]]) -> Path:
    def values(tensors: Sequence[TensorSpec]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.shape) for t in tensors]

    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], "g", values(spec.inputs), values(spec.outputs), constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("backend", "form"), [("onnx", "native"), ("openvino", "native"), ("ncnn", "gridsample")])
def test_choice_of_the_backend(sources: Sources, backend: Backend, form: DeformConvForm) -> None:
    assert compile_network(backend, sources.case(ONE_ROW).job(None)).lowerings == {"DeformConv": form}


def test_graph_has_a_bias_where_the_module_has_none(sources: Sources) -> None:
    """TensorRT's importer reads the fourth input as one whenever a mask follows it."""
    model = onnx.load(sources.case(DEPTHWISE).onnx)
    (node,) = find_deform_convs(model)
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    np.testing.assert_array_equal(weights[node.input[3]], np.zeros(16, np.float32))
    assert node.input[4] == "mask"


def test_network_without_deformable_convolutions_has_no_choice(sources: Sources) -> None:
    assert compile_network("onnx", sources.network("ordinary").job("gridsample")).lowerings == {}


# --- what is refused ---


@pytest.mark.parametrize(("groups", "offset_groups"), [(2, 1), (1, 2), (2, 2)])
def test_ncnn_has_no_groups(sources: Sources, groups: int, offset_groups: int) -> None:
    pytest.importorskip("ncnn")
    case = Case(Geometry((4, 5), 4, 4, groups=groups, offset_groups=offset_groups))
    source = sources.case(case)
    message = f"one group and one offset group, not {groups} and {offset_groups}; use --deform-conv gridsample"
    assert_refused("ncnn", source.job("native"), message)
    job = source.job(None)
    compiled = compile_network("ncnn", job)
    assert compiled.lowerings == {"DeformConv": "gridsample"}
    assert worst("ncnn", job, compiled, draws(case)) < TOLERANCE


def test_ncnn_tells_convolutions_apart_by_their_weights(sources: Sources) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(3, 2, 3, 3))

        def forward(self, image: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
            near, far = ([1, 1, d, d, d, d] for d in (1, 2))
            y: Tensor = deform_conv2d(image, self.weight, offset, None, mask, near, 1, 1)
            z: Tensor = deform_conv2d(image, self.weight, offset, None, mask, far, 1, 1)
            return y + z

    pytest.importorskip("ncnn")
    job = sources.get("shared weight", Shared(), spec_of(FREE)).job("native")
    assert_refused("ncnn", job, "shares its weight with one of other attributes; use --deform-conv gridsample")


@pytest.mark.parametrize("backend", ["onnx", "openvino", "ncnn", "trt"])
def test_gridsample_needs_fixed_sizes(sources: Sources, backend: Backend) -> None:
    job = sources.get("any size", Alone(FREE), dynamic(spec_of(FREE))).job("gridsample")
    assert_refused(backend, job, "dynamic: give a fixed --input-size")


def dynamic(spec: NetworkSpec) -> NetworkSpec:
    def free(tensors: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(replace(t, shape=(*t.shape[:2], "height", "width")) for t in tensors)

    axes = (Axis("height", 2, 4, 16), Axis("width", 2, 5, 16))
    return replace(spec, inputs=free(spec.inputs), outputs=free(spec.outputs), axes=axes)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_native_takes_any_size(sources: Sources, backend: Backend) -> None:
    job = sources.get("any size", Alone(FREE), dynamic(spec_of(FREE))).job("native")
    sizes = (FREE, replace(FREE, geometry=replace(FREE.geometry, size=(7, 3))))
    given = [draw for case in sizes for draw in draws(case)]
    assert worst(backend, job, compile_network(backend, job), given) < TOLERANCE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["onnx", "openvino", "ncnn", "trt"])
def test_computed_weight_is_refused(sources: Sources, backend: Backend, form: DeformConvForm) -> None:
    class Computed(nn.Module):
        def forward(self, image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
            y: Tensor = deform_conv2d(image, 2 * weight, offset, None, mask, [1] * 6, 1, 1)
            return y

    spec = spec_of(FREE)
    spec = replace(spec, inputs=(*spec.inputs, TensorSpec("weight", (3, 2, 3, 3))))
    job = sources.get("computed", Computed(), spec).job(form)
    assert_refused(backend, job, "the weight of .* is computed, not a constant")


def test_tensorrt_rtx_has_no_operator(sources: Sources) -> None:
    require_rtx()
    source = sources.case(FREE)
    assert_refused("trt", source.job("native"), "TensorRT-RTX has no deformable .* use --deform-conv gridsample")
    compiled = compile_network("trt", source.job(None))
    assert (compiled.engine, compiled.lowerings) == ("ready", {"DeformConv": "gridsample"})


def require_rtx() -> None:
    pytest.importorskip("tensorrt_rtx")
    if cast(Any, find_tensorrt()).__name__ != "tensorrt_rtx":
        pytest.skip("there is a CUDA device here, so tensorrt builds")


@pytest.mark.parametrize(("asked", "form"), [(None, "gridsample"), ("gridsample", "gridsample"), ("native", "native")])
def test_engine_that_is_built_elsewhere(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, asked: DeformConvForm | None, form: DeformConvForm
) -> None:
    """Nothing here tells what the device's TensorRT has, so it may be either, and GridSample is in all of them."""
    monkeypatch.setattr(tensorrt, "find_tensorrt", lambda: None)
    job = sources.case(DEPTHWISE).job(asked)
    compiled = tensorrt.compile_network(job)
    assert (compiled.engine, compiled.lowerings) == ("pending", {"DeformConv": form})
    assert worst("trt", job, compiled, draws(DEPTHWISE)) < TOLERANCE


SYMMETRIC = DeformConv((3, 3), (1, 1), (1, 2, 1, 2), (1, 1), 1, 1, 8)
ASYMMETRIC = replace(SYMMETRIC, pads=(1, 2, 2, 1))


@pytest.mark.parametrize(
    ("module", "version", "op", "reason"),
    [
        ("tensorrt", "10.0.1", SYMMETRIC, "TensorRT 10.0.1 does not import DeformConv, which 10.1 does"),
        ("tensorrt", "9.3.0.post12", SYMMETRIC, "TensorRT 9.3.0.post12 does not import DeformConv, which 10.1 does"),
        ("tensorrt", "10.1.0", SYMMETRIC, ""),
        ("tensorrt", "10.3.0", SYMMETRIC, ""),
        ("tensorrt", "10.13.2.6", replace(SYMMETRIC, groups=2, offset_groups=4), ""),
        ("tensorrt", "11.0.0", SYMMETRIC, ""),
        ("tensorrt", "10.3.0", ASYMMETRIC, "TensorRT pads both ends of an axis alike, not (1, 2, 2, 1)"),
        ("tensorrt_rtx", "1.7.1", SYMMETRIC, "TensorRT-RTX has no deformable convolution and no plugin for one"),
        (None, "", SYMMETRIC, ""),
        (None, "", ASYMMETRIC, "TensorRT pads both ends of an axis alike, not (1, 2, 2, 1)"),
    ],
)
def test_what_tensorrt_imports(module: str | None, version: str, op: DeformConv, reason: str) -> None:
    trt = module and SimpleNamespace(__name__=module, __version__=version)
    assert tensorrt._refuse(trt, op) == reason


# --- near misses ---

Break = Callable[[Arrays], Arrays]


def swapped(feeds: Arrays) -> Arrays:
    """Offsets read as dx, dy."""
    order = np.arange(feeds["offset"].shape[1]).reshape(-1, 2)[:, ::-1].ravel()
    return {**feeds, "offset": np.ascontiguousarray(feeds["offset"][:, order])}


def planes(feeds: Arrays) -> Arrays:
    """Offsets read as dy of every tap, then dx of every tap."""
    order = np.arange(feeds["offset"].shape[1]).reshape(2, -1).T.ravel()
    return {**feeds, "offset": np.ascontiguousarray(feeds["offset"][:, order])}


def unmasked(feeds: Arrays) -> Arrays:
    return {**feeds, "mask": np.ones_like(feeds["mask"])}


@pytest.mark.parametrize("wrong", [swapped, planes, unmasked])
@pytest.mark.parametrize("form", FORMS)
def test_wrong_inputs_disagree(sources: Sources, form: DeformConvForm, wrong: Break) -> None:
    """Negative control: a backend with another convention would be seen."""
    job = sources.case(CONTROL).job(form)
    compiled = compile_network("onnx", job)
    answers = run("onnx", job, compiled, (wrong(d.feeds) for d in draws(CONTROL)))
    for answer, draw in zip(answers, draws(CONTROL), strict=True):
        assert distance(answer["map"], draw.expected) > BROKEN


@pytest.mark.parametrize(
    ("name", "value"), [("align_corners", 1), ("padding_mode", "border"), ("padding_mode", "reflection")]
)
def test_wrong_sampler_disagrees(sources: Sources, name: str, value: int | str) -> None:
    """Negative control: the grid is made for this sampler and no other."""
    job = sources.case(CONTROL).job("gridsample")
    compiled = compile_network("onnx", job)
    model = onnx.load(job.folder / compiled.files["onnx"])
    (sampler,) = (n for n in model.graph.node if n.op_type == "GridSample")
    (attribute,) = (a for a in sampler.attribute if a.name == name)
    attribute.CopyFrom(helper.make_attribute(name, value))
    onnx.save(model, job.folder / compiled.files["onnx"])
    answers = run("onnx", job, compiled, (d.feeds for d in draws(CONTROL)))
    for answer, draw in zip(answers, draws(CONTROL), strict=True):
        assert distance(answer["map"], draw.expected) > BROKEN


@pytest.mark.parametrize("padded", [True, False])
def test_openvino_has_two_border_rules(padded: bool) -> None:
    """Negative control: the draws tell OpenVINO's own default, which cuts samples off at the border."""
    ov = pytest.importorskip("openvino")
    ops, weights = ov.opset8, weights_of(CONTROL)
    inputs = [ops.parameter(t.shape, np.float32, t.name) for t in spec_of(CONTROL).inputs]
    image, offset, mask = inputs
    one = [1, 1]
    result = ops.deformable_convolution(
        image, offset, ops.constant(weights["weight"]), one, one, one, one, mask, bilinear_interpolation_pad=padded
    )
    result = ops.add(result, ops.constant(weights["bias"][:, None, None]))
    compiled = ov.compile_model(ov.Model([result], inputs), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for feeds, expected in draws(CONTROL):
        found = distance(compiled([*feeds.values()])[0], expected)
        assert found < TOLERANCE if padded else found > BROKEN


# --- blocks that predict their own offsets ---


def block(channels: int, out: int, relu: bool = False) -> DeformBlock:
    """Offsets of a few pixels, and statistics that do something."""
    made = DeformBlock(channels, out, relu)
    randomise(made)
    return made


def randomise(module: nn.Module) -> None:
    rng = np.random.default_rng(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            low = 0.5 if name.endswith("running_var") else -0.5
            tensor.copy_(torch.from_numpy(rng.uniform(low, low + 1, tensor.shape)))


class TwoSizes(nn.Module):
    """One block on a map and on half of it, as a head that all levels share."""

    def __init__(self) -> None:
        super().__init__()
        self.block = block(6, 5, relu=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.block(x), self.block(functional.max_pool2d(x, 2))


class Predicting(nn.Module):
    """As the block, but the mask may come before the offsets, and what is predicted may be an output as well."""

    def __init__(self, *, mask_first: bool = False, shown: Literal["nothing", "offset", "all"] = "nothing") -> None:
        super().__init__()
        self.predict = nn.Conv2d(6, 27, 3, padding=1)
        self.conv = DeformConv2d(6, 4, 3, padding=1)
        self.mask_first, self.shown = mask_first, shown
        randomise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        predicted = self.predict(x)
        if self.mask_first:
            mask, offset = predicted.split((9, 18), dim=1)
        else:
            offset, mask = predicted.split((18, 9), dim=1)
        y = self.conv(x, offset, mask.sigmoid())
        return {"nothing": (y,), "offset": (y, offset), "all": (y, predicted)}[self.shown]


class RawOffsets(nn.Module):
    """A convolution that predicts offsets alone, and no mask."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = nn.Conv2d(6, 36, 3, padding=1, bias=False)
        self.conv = DeformConv2d(6, 4, 3, padding=1, offset_groups=2)
        randomise(self)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.conv(x, self.predict(x)),)


class Chain(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.blocks(x),)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ordinary": lambda: Chain(nn.Conv2d(6, 4, 3)),
    "block": lambda: Chain(block(6, 5)),
    "chain": lambda: Chain(block(6, 8, relu=True), nn.Conv2d(8, 8, 1), nn.ReLU(), block(8, 5)),
    "two sizes": TwoSizes,
    "mask first": lambda: Predicting(mask_first=True),
    "shown offsets": lambda: Predicting(shown="offset"),
    "shown prediction": lambda: Predicting(shown="all"),
    "raw offsets": RawOffsets,
}
PICTURE = np.random.default_rng(0).standard_normal((1, 6, 8, 10)).astype(np.float32)


def answers_of(module: nn.Module) -> list[NDArray[np.float32]]:
    with torch.no_grad():
        return [y.numpy() for y in module.eval()(torch.from_numpy(PICTURE))]


def graph_of(source: Source, form: DeformConvForm) -> onnx.GraphProto:
    job = source.job(form)
    return onnx.load(job.folder / compile_network("onnx", job).files["onnx"]).graph


@pytest.mark.parametrize(("backend", "form"), [*BOTH_FORMS, ("trt", "gridsample")])
@pytest.mark.parametrize("name", list(NETWORKS)[1:])
def test_networks(sources: Sources, name: str, backend: Backend, form: DeformConvForm) -> None:
    source = sources.network(name)
    job = source.job(form)
    if (backend, form, name) == ("ncnn", "native", "raw offsets"):
        assert_refused(backend, job, "--deform-conv gridsample")
        return
    (found,) = run(backend, job, compile_network(backend, job), [{"image": PICTURE}])
    for tensor, expected in zip(source.spec.outputs, answers_of(source.module), strict=True):
        assert distance(found[tensor.name], expected) < TOLERANCE


@pytest.mark.parametrize(("name", "count"), [("block", 1), ("chain", 2), ("two sizes", 2), ("mask first", 1)])
def test_gridsample_adds_no_step_to_the_prediction(sources: Sources, name: str, count: int) -> None:
    """Scale and order of the offsets are in the weights of the convolution that predicts them."""
    graph = graph_of(sources.network(name), "gridsample")
    producer = {output: node for node in graph.node for output in node.output}
    kinds = [node.op_type for node in graph.node]
    assert not {"DeformConv", "Gather", "GatherND", "Slice"} & set(kinds)
    assert kinds.count("GridSample") == count
    for sampler in (node for node in graph.node if node.op_type == "GridSample"):
        node, path = producer[sampler.input[1]], []
        while node.op_type != "Conv":
            path.append(node.op_type)
            node = producer[node.input[0]]
        assert path == ["Transpose", "Add", "Reshape", "Split"]
        # The published one, on what the sampler reads too.
        assert node.input[0] == sampler.input[0]
        assert next(a.ints for a in node.attribute if a.name == "kernel_shape") == [3, 3]


@pytest.mark.parametrize(
    ("name", "pixels"), [("shown offsets", True), ("shown prediction", True), ("mask first", False)]
)
def test_offsets_that_something_else_reads_stay_in_pixels(sources: Sources, name: str, pixels: bool) -> None:
    """The sampler then gets its own, from a 1x1 convolution that no other network has."""
    source = sources.network(name)
    (published,) = (p.detach().numpy() for n, p in source.module.named_parameters() if n == "predict.weight")
    weights = [numpy_helper.to_array(w) for w in graph_of(source, "gridsample").initializer]
    assert any(np.array_equal(w, published) for w in weights) == pixels
    assert any(w.shape == (18, 18, 1, 1) for w in weights) == pixels


def test_native_graph_is_the_exported_one(sources: Sources) -> None:
    source = sources.network("block")
    assert graph_of(source, "native") == onnx.load(source.onnx).graph
