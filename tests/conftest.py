"""Fixtures: checkpoints, artifacts, and the research assets that CI has and a user may lack."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from hypothesis import settings

from facedeploy.artifact.folder import Artifact
from facedeploy.core.network_spec import InputSize, NetworkSpec, Size
from facedeploy.export import exporter, one_network
from facedeploy.export.fp16_fallback import choose_float32
from facedeploy.graph import from_torch
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.models import registry
from facedeploy.sources import published as published_source
from tests.support import fill as filling
from tests.support import store
from tests.support.exported import exported, trace_once
from tests.support.fill import GAIN, fill
from tests.support.remembered_torch import Answers, remembering

ASSETS = Path(__file__).parents[2] / "shared" / "assets"
HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGPIPE)}
GetArtifact = Callable[[str], Artifact]
GetWeights = Callable[[str], Path]

FILL = Path(filling.__file__)
OTHER_PRECISIONS = ("openvino-fp16", "ncnn-fp32", "trt-fp32")
OTHER_BACKENDS, HEAVIEST = ("openvino", "trt", "ncnn"), ("test_img2pose", "test_mogface")
LARGE = ("480x640", "(480, 640)")
SMALL: Size = (96, 128)  # What the outputs of MOS are recorded for.
# With the gain of the recorded outputs MOS-S is chaotic on pictures: PyTorch in float32 and float64 give other boxes.
MOS_GAINS = {"mos-m": GAIN, "mos-s": 1.0}

from_torch._trace = trace_once()  # type: ignore[assignment]  # The same call.

# An example that takes long on a busy machine is no failure.
settings.register_profile("facedeploy", deadline=None)
settings.load_profile("facedeploy")

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
def weights() -> Path:
    """A folder of MTCNN checkpoints with deterministic weights, in the published layout. They find no faces."""

    def write(folder: Path) -> None:
        for name, module in registry.get("mtcnn").build().items():
            torch.save(fill(module.state_dict()), folder / f"{name}_epoch_20.pt")

    return store.made_once("mtcnn-weights", [store.exporter(), FILL], write)


@pytest.fixture(scope="session")
def artifact(weights: Path) -> GetArtifact:
    """`artifact("ncnn-fp16")`: MTCNN with the deterministic weights."""
    return lambda target: exported("mtcnn", target, weights)


@pytest.fixture(scope="session")
def real_artifact(published: Path) -> GetArtifact:
    """`real_artifact("ncnn-fp16")`: the published MTCNN."""
    return lambda target: exported("mtcnn", target, published)


@pytest.fixture(scope="session")
def mos_weights() -> GetWeights:
    """`mos_weights("mos-m")`: a checkpoint of deterministic weights in the published layout, which sees many faces."""

    def get(model: str) -> Path:
        name = f"{model.upper()}.pth"

        def write(folder: Path) -> None:
            (module,) = registry.get(model).build().values()
            state = fill(module.state_dict(), MOS_GAINS[model])
            torch.save(
                {"epoch": 100, "state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / name
            )

        return store.made_once("mos-weights", [store.exporter(), FILL, model], write) / name

    return get


class GetMos(Protocol):
    def __call__(
        self, model: str, target: str, size: InputSize = SMALL, deform_conv: DeformConvForm | None = None
    ) -> Artifact: ...


@pytest.fixture(scope="session")
def mos_artifact(mos_weights: GetWeights) -> GetMos:
    """`mos_artifact("mos-m", "ncnn-fp16", (480, 640), "native")`.

    What all targets have in common is done once for them all, as it takes longer than the rest: the answers of PyTorch,
    and the choice of what stays in float32.
    """
    answers: Answers = {}
    choices: dict[tuple[str, NetworkSpec], tuple[str, ...]] = {}

    def make(model: str, *rest: Any, **options: Any) -> Artifact:
        def choose_once(onnx: Path, spec: NetworkSpec, *rest: Any) -> tuple[str, ...]:
            if (model, spec) not in choices:
                choices[model, spec] = choose_float32(onnx, spec, *rest)
            return choices[model, spec]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(published_source, "TorchRuntime", remembering(answers, model))
            patch.setattr(one_network, "choose_float32", choose_once)
            return exporter.export(model, *rest, **options)

    @functools.cache
    def get(model: str, target: str, size: InputSize = SMALL, deform_conv: DeformConvForm | None = None) -> Artifact:
        weights = mos_weights(model.removesuffix("-published"))
        return exported(model, target, weights, make=make, input_size=size, deform_conv=deform_conv)

    return get


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        store.prune()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-all`: models at the size that they are deployed at, each backend's other precision, MOS-S
    beside its larger brother, and of the two heaviest models all backends but one; the others run on every backend.
    """
    for item in items:
        case = getattr(getattr(item, "callspec", None), "id", "")
        left = (*OTHER_PRECISIONS, *(OTHER_BACKENDS if item.path.stem in HEAVIEST else ()))
        other = item.name.startswith("test_every_target") and any(target in case for target in left)
        large = "models" in item.path.parts and any(size in case for size in LARGE)
        if other or large or "mos-s" in case:
            item.add_marker(pytest.mark.slow)
