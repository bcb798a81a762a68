"""MOS with the weights that the recorded outputs are for, network by network, on every backend in every form.

These weights amplify: pictures drive MOS-S out of float32's range, so `export`, which compares on drawn faces, refuses
them, and the compilers are called here on the recorded input instead.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facedeploy.artifact.folder import describe_file
from facedeploy.artifact.manifest import NetworkEntry
from facedeploy.core.network_spec import NetworkSpec, Size
from facedeploy.core.target import Target
from facedeploy.export.compiler import Compile, Job
from facedeploy.export.fp16_fallback import choose_float32
from facedeploy.export.ncnn.convert import compile_network as compile_ncnn
from facedeploy.export.onnxruntime import compile_network as compile_onnx
from facedeploy.export.openvino import compile_network as compile_openvino
from facedeploy.export.tensorrt import compile_network as compile_tensorrt
from facedeploy.graph.from_torch import export_onnx
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.models import registry
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from tests.support.fill import fill, noise

COMPILERS: dict[str, Compile] = {
    "onnx": compile_onnx,
    "openvino": compile_openvino,
    "ncnn": compile_ncnn,
    "trt": compile_tensorrt,
}
FORMS: tuple[DeformConvForm, ...] = ("native", "gridsample")
SIZES: tuple[Size, ...] = ((96, 128), (480, 640))


@dataclass(frozen=True)
class Golden:
    """A detector with the recorded weights: its ONNX file, the recorded input, and PyTorch's answers."""

    model: str
    spec: NetworkSpec
    onnx: Path
    feed: Arrays
    float32: Arrays
    float64: Arrays

    def run(self, target: str, folder: Path, form: DeformConvForm | None = None) -> Arrays:
        """Compile, load and run."""
        goal = Target.parse(target)
        kept: tuple[str, ...] = ()
        if goal.precision == "fp16":
            kept = choose_float32(self.onnx, self.spec, registry.get(self.model).float32["detector"], [self.feed])
        compiled = COMPILERS[goal.backend](Job(self.spec, self.onnx, goal.precision, folder, kept, form))
        files = {role: describe_file(folder, name) for role, name in compiled.files.items()}
        entry = NetworkEntry(self.spec, files, compiled.engine, compiled.lowerings, compiled.float32)
        substitute: Substitute | None = "onnxruntime" if goal.backend == "trt" else None
        with open_network(self.model, goal, entry, folder, RuntimeOptions(threads=1), substitute) as runtime:
            return runtime.run(self.feed)


@pytest.fixture(
    scope="module",
    params=[(model, size) for model in ("mos-m", "mos-s") for size in SIZES],
    ids=lambda p: f"{p[0]}-{p[1][0]}x{p[1][1]}",
)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    name, size = request.param
    model = registry.get(name)
    modules = model.build()
    modules["mos"].load_state_dict(fill(modules["mos"].state_dict()))
    networks = model.networks(modules)
    spec = model.network_specs(size)[0]
    path = tmp_path_factory.mktemp("golden") / "detector.onnx"
    export_onnx(model.fold(networks)["detector"], spec, path)
    image = noise("input", (1, 3, *size)).astype(np.float32)
    detector = networks["detector"]
    with torch.inference_mode():
        single = detector(torch.from_numpy(image))
        double = copy.deepcopy(detector).double()(torch.from_numpy(image).double())
    names = [t.name for t in spec.outputs]
    answers = [dict(zip(names, (o.numpy() for o in outputs), strict=True)) for outputs in (single, double)]
    return Golden(name, spec, path, {"image": image}, *answers)


def relative_l2(have: NDArray[np.floating], want: NDArray[np.floating]) -> float:
    assert have.shape == want.shape
    return float(np.linalg.norm(have.astype(np.float64) - want) / np.linalg.norm(want.astype(np.float64)))


def overlaps(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    areas = [(v[:, 2:] - v[:, :2]).prod(axis=1) for v in (a, b)]
    result: NDArray[np.floating] = inter / (areas[0] + areas[1] - inter)
    return result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["onnx", "openvino", "ncnn"])
def test_every_form_gives_the_published_answers(
    backend: str, form: DeformConvForm, golden: Golden, tmp_path: Path
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    have = golden.run(f"{backend}-fp32", tmp_path, form)
    assert have.keys() == golden.float32.keys()
    for name, want in golden.float32.items():
        assert relative_l2(have[name], want) <= 1e-3, name
        # Nor is it further from the truth than PyTorch, but for the chance of rounding.
        own = relative_l2(want, golden.float64[name])
        assert relative_l2(have[name], golden.float64[name]) <= 3 * own + 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "ncnn", "trt"])
def test_half_precision_moves_no_box_that_matters(backend: str, golden: Golden, tmp_path: Path) -> None:
    pytest.importorskip({"trt": "tensorrt_rtx"}.get(backend, backend))
    results = []
    for precision in ("fp32", "fp16"):
        folder = tmp_path / precision
        folder.mkdir()
        results.append(golden.run(f"{backend}-{precision}", folder))
    single, half = results
    likely = single["scores"] > 0.3
    assert likely.sum() > 100
    assert overlaps(single["boxes"][likely], half["boxes"][likely]).min() >= 0.99
