"""Fixtures: checkpoints, artifacts, and the research assets that CI has and a user may lack."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from facedeploy.artifact.folder import Artifact
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size
from facedeploy.core.target import Target
from facedeploy.export import exporter
from facedeploy.export.exporter import export
from facedeploy.export.fp16_fallback import choose_float32
from facedeploy.graph.from_torch import export_onnx
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.models import registry
from facedeploy.runtimes.base import Array, Arrays
from facedeploy.runtimes.torch import TorchRuntime
from facedeploy.sources import published as published_source
from tests.support.fill import GAIN, fill

ASSETS = Path(__file__).parents[2] / "shared" / "assets"
HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGPIPE)}
GetArtifact = Callable[[str], Artifact]
GetWeights = Callable[[str], Path]

SMALL: Size = (96, 128)  # What the outputs of MOS are recorded for.
# With the gain of the recorded outputs MOS-S is chaotic on pictures: PyTorch in float32 and float64 give other boxes.
MOS_GAINS = {"mos-m": GAIN, "mos-s": 1.0}

# Two cores: xdist gives each worker one, and more threads than that only get in each other's way.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The command line, called in this process, would have it die when a later test writes to a pipe that closes."""
    _restore_signals()  # A fixture of the module may have called it too.
    yield
    _restore_signals()


def _restore_signals() -> None:
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real weights and pictures for research: never in the repository, so a test without them is skipped."""
    if not ASSETS.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the assets at {ASSETS}")
        pytest.skip(f"no research assets at {ASSETS}: published weights and pictures are not shipped")
    return ASSETS


@pytest.fixture(scope="session")
def published(assets: Path) -> Path:
    """The published MTCNN checkpoints."""
    return assets / "weights" / "mtcnn_sysu"


@pytest.fixture(scope="session")
def crowd(assets: Path) -> Path:
    """The photo of the MTCNN repository, 421x640, that the published counts are for."""
    return assets / "images" / "samples" / "mtcnn_mid.png"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of MTCNN checkpoints with deterministic weights, in the published layout. They find no faces."""
    folder = tmp_path_factory.mktemp("weights")
    for name, module in registry.get("mtcnn").build().items():
        torch.save(fill(module.state_dict()), folder / f"{name}_epoch_20.pt")
    return folder


@pytest.fixture(scope="session")
def artifact(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> GetArtifact:
    """`artifact("ncnn-fp16")`: MTCNN with the deterministic weights, exported once per session."""
    return _exporter(weights, tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def real_artifact(published: Path, tmp_path_factory: pytest.TempPathFactory) -> GetArtifact:
    """`real_artifact("ncnn-fp16")`: the published MTCNN, exported once per session."""
    return _exporter(published, tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="session")
def mos_weights(tmp_path_factory: pytest.TempPathFactory) -> GetWeights:
    """`mos_weights("mos-m")`: a checkpoint of deterministic weights in the published layout, which sees many faces."""
    folder = tmp_path_factory.mktemp("mos")

    @functools.cache
    def get(model: str) -> Path:
        (module,) = registry.get(model).build().values()
        state = fill(module.state_dict(), MOS_GAINS[model])
        path = folder / f"{model.upper()}.pth"
        torch.save({"epoch": 100, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
        return path

    return get


class GetMos(Protocol):
    def __call__(
        self, model: str, target: str, size: InputSize = SMALL, deform_conv: DeformConvForm | None = None
    ) -> Artifact: ...


@pytest.fixture(scope="session")
def mos_artifact(mos_weights: GetWeights, tmp_path_factory: pytest.TempPathFactory) -> GetMos:
    """`mos_artifact("mos-m", "ncnn-fp16", (480, 640), "native")`: exported once per session.

    What all targets have in common is done once for them all, as it takes longer than the rest: the way from PyTorch to
    ONNX, the answers of PyTorch, and the choice of what stays in float32.
    """
    folder = tmp_path_factory.mktemp("mos-artifacts")
    graphs: dict[tuple[str, NetworkSpec], Path] = {}
    answers: dict[tuple[object, ...], Arrays] = {}
    choices: dict[tuple[str, NetworkSpec], tuple[str, ...]] = {}

    def make(model: str, target: str, size: InputSize, deform_conv: DeformConvForm | None) -> Artifact:
        def export_once(module: torch.nn.Module, spec: NetworkSpec, path: Path) -> None:
            if (model, spec) not in graphs:
                graphs[model, spec] = folder / f"{len(graphs)}.onnx"
                export_onnx(module, spec, graphs[model, spec])
            shutil.copy(graphs[model, spec], path)

        class Remembering(TorchRuntime):
            def run(self, inputs: Mapping[str, Array]) -> Arrays:
                key = model, self.spec, *(sha256(v.tobytes()).digest() for v in inputs.values())
                if key not in answers:
                    answers[key] = super().run(inputs)
                return answers[key]

        def choose_once(onnx: Path, spec: NetworkSpec, *rest: Any) -> tuple[str, ...]:
            if (model, spec) not in choices:
                choices[model, spec] = choose_float32(onnx, spec, *rest)
            return choices[model, spec]

        weights = mos_weights(model.removesuffix("-published"))
        output = folder / f"{model}-{target}-{size}-{deform_conv}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(published_source, "export_onnx", export_once)
            patch.setattr(published_source, "TorchRuntime", Remembering)
            patch.setattr(exporter, "choose_float32", choose_once)
            return exporter.export(model, target, weights, output, input_size=size, deform_conv=deform_conv)

    made: dict[tuple[object, ...], Artifact] = {}

    def get(model: str, target: str, size: InputSize = SMALL, deform_conv: DeformConvForm | None = None) -> Artifact:
        key = model, target, size, deform_conv
        if key not in made:
            _require(Target.parse(target))
            made[key] = make(*key)
        return made[key]

    return get


def _exporter(weights: Path, folder: Path) -> GetArtifact:
    made: dict[str, Artifact] = {}

    def get(target: str) -> Artifact:
        if target not in made:
            _require(Target.parse(target))
            made[target] = export("mtcnn", target, weights, folder / target)
        return made[target]

    return get


def _require(target: Target) -> None:
    for module in {"openvino": ["openvino"], "ncnn": ["ncnn", "pnnx"], "trt": ["tensorrt_rtx"]}.get(target.backend, []):
        pytest.importorskip(module)
