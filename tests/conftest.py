"""Fixtures: checkpoints, artifacts, and the research assets that CI has and a user may lack."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
import torch

from facedeploy.artifact import Artifact
from facedeploy.export.exporter import export
from facedeploy.export.lowering import DeformConvForm
from facedeploy.models import registry
from facedeploy.models.specs import InputSize, Size
from facedeploy.target import Target
from tests.fill import fill

ASSETS = Path(__file__).parents[2] / "shared" / "assets"
GetArtifact = Callable[[str], Artifact]
GetWeights = Callable[[str], Path]

SMALL: Size = (96, 128)  # What the outputs of MOS are recorded for.

# Two cores: xdist gives each worker one, and more threads than that only get in each other's way.
torch.set_num_threads(1)


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
    """`mos_weights("mos-m")`: a checkpoint of deterministic weights in the published layout. It finds faces anywhere."""
    folder = tmp_path_factory.mktemp("mos")

    @functools.cache
    def get(model: str) -> Path:
        path = folder / f"{model.upper()}.pth"
        (module,) = registry.get(model).build().values()
        state = fill(module.state_dict())
        torch.save({"epoch": 100, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
        return path

    return get


class GetMos(Protocol):
    def __call__(
        self, model: str, target: str, size: InputSize = SMALL, deform_conv: DeformConvForm | None = None
    ) -> Artifact: ...


@pytest.fixture(scope="session")
def mos_artifact(mos_weights: GetWeights, tmp_path_factory: pytest.TempPathFactory) -> GetMos:
    """`mos_artifact("mos-m", "ncnn-fp16", (480, 640), "native")`: with the deterministic weights, exported once."""
    folder = tmp_path_factory.mktemp("mos-artifacts")

    @functools.cache
    def get(model: str, target: str, size: InputSize = SMALL, deform_conv: DeformConvForm | None = None) -> Artifact:
        _require(Target.parse(target))
        name = "-".join([model, target, "x".join(map(str, size)), deform_conv or "default"])
        weights = mos_weights(model.removesuffix("-published"))
        return export(model, target, weights, folder / name, input_size=size, deform_conv=deform_conv)

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
