"""Wherever weights go, their terms go with them: the package, artifacts of every model and target, chains, packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facedeploy.artifact.folder import Artifact, write_manifest
from facedeploy.artifact.manifest import Manifest, PipelineEntry
from facedeploy.core.errors import ArtifactError
from facedeploy.core.serialization import to_plain
from facedeploy.core.target import TARGETS, Target
from facedeploy.core.terms import TERMS_FILE, Terms, terms_text
from facedeploy.models import registry
from facedeploy.models.model import Model
from facedeploy.models.terms import cautions, terms_by_part, terms_of
from facedeploy.package.bundle import package_android, package_cpp, package_ios
from facedeploy.pipelines.make_chain import make_chain
from facedeploy.sources.open import open_source
from tests.cpp import answers
from tests.package.test_package_crops import WHO, looker
from tests.support.exported import tiny
from tests.support.fill import fill
from tests.support.manifests import edit

ROOT = Path(__file__).parents[2]
WEIGHTS = Path("facedeploy") / "models" / "weights"
TINY = registry.get("mos-tiny").terms
MODELS = {f"{m.id} {layout.architecture}": layout for m in registry.MODELS.values() for layout in m.layouts or (m,)}
HEAVY = ("img2pose", "mogface")
PACKAGES: dict[str, tuple[Callable[..., Path], str]] = {
    "cpp": (package_cpp, "model"),
    "android": (package_android, "src/main/assets/facedeploy"),
    "ios": (package_ios, "Sources/Facedeploy/Model"),
}


def text_of(folder: Path) -> str:
    return (folder / TERMS_FILE).read_text(encoding="utf-8")


# --- the registry ---


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_has_terms_that_say_whether_products_may(model: Model) -> None:
    assert model.terms.licence
    assert model.terms.weights
    assert bool(model.terms.caution) == (model.terms.products != "allowed")
    assert not model.terms.caution or model.terms.licence in model.terms.caution


# --- the package ---


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a wheel of this checkout, by name."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "mobile", folder / "mobile")
    shutil.copytree(
        ROOT / "facedeploy", folder / "facedeploy", symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_has_the_terms_beside_the_weights(wheel: dict[str, bytes]) -> None:
    folders = {Path(n).parent for n in wheel if n.endswith((".safetensors", ".pt", ".pth", ".onnx"))}
    assert folders == {WEIGHTS}
    assert wheel[(WEIGHTS / TERMS_FILE).as_posix()].decode() == terms_text([("mos-tiny", TINY)])
    assert (WEIGHTS / "mos-tiny.md").as_posix() in wheel
    (notice,) = (content.decode() for name, content in wheel.items() if name.endswith("/NOTICE"))
    assert "not for products" in notice
    assert "mos-tiny.safetensors" in notice


# --- artifacts ---


def weights_of(model: Model, folder: Path) -> Path:
    """A checkpoint with the keys of a model, and its constants."""
    for part, module in model.build().items():
        torch.save(fill(module.state_dict(), gain=1.0), folder / f"{part}.pt")
    for i, (option, name) in enumerate(model.constants.items()):
        shape = {"pose_mean": (6,), "pose_std": (6,), "points68": (68, 3), "points5": (5, 3)}[option]
        np.save(folder / name, np.random.default_rng(i).uniform(0.5, 1, shape))
    return folder


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, id=name, marks=[pytest.mark.slow] * (m.id in HEAVY)) for name, m in MODELS.items()],
)
def test_what_is_exported_of_a_model_has_its_terms(model: Model, tmp_path: Path) -> None:
    """All targets are written from this one source."""
    source = open_source(model.id, weights_of(model, tmp_path))
    assert source.settings == {"source": to_plain(model.terms)}


@pytest.mark.parametrize(
    "target", [pytest.param(str(t), marks=[pytest.mark.slow] * (str(t) != "onnx-fp32")) for t in TARGETS]
)
def test_an_artifact_of_every_target_has_the_terms(target: str) -> None:
    made = tiny(target, (240, 320))  # As other tests have it made.
    assert made.manifest.terms == TINY
    (caution,) = cautions(made)
    assert caution.startswith("the weights are not for products")


def manifest(model: str, **more: Any) -> Manifest:
    return Manifest(model, Target.parse("onnx-fp32"), (), PipelineEntry("mos", {}), (), {}, (), **more)


def test_terms_are_part_of_the_digest(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest("mos-tiny", settings={"source": to_plain(TINY)}))
    assert Artifact.open(tmp_path).manifest.terms == TINY
    edit(tmp_path, lambda m: m["settings"]["source"].update(products="allowed"), sign=False)
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        Artifact.open(tmp_path)


def test_manifest_of_0_1_0_is_read_and_the_registry_knows_its_terms(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest("img2pose"))

    def older(data: dict[str, Any]) -> None:
        for key in ("digest", "settings", "options"):
            del data[key]

    edit(tmp_path, older)
    opened = Artifact.open(tmp_path)
    assert opened.manifest.terms is None
    assert terms_of(opened.manifest) == registry.get("img2pose").terms
    assert terms_of(manifest("mos-tiny", origin="onnx")) is None  # A file that is called so.


@pytest.mark.parametrize("said", [3, {}, {"licence": 1}, {"licence": "MIT", "products": "perhaps"}])
def test_terms_that_are_none_are_refused(said: object, tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest("own", settings={"source": said}, origin="onnx"))
    with pytest.raises(ArtifactError, match=r"settings\.source"):
        Artifact.open(tmp_path)


# --- chains and packages ---


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A detector of the registry, of a release that wrote no terms, and a network of one's own."""
    home = tmp_path_factory.mktemp("chain")
    found = answers.write_artifact(home / "found", "mos", faces=2)
    own = looker(home / "own", WHO, 0)
    edit(own.path, lambda m: m.update(settings={"source": {"licence": "ours", "products": "allowed"}}))
    return make_chain(found.path, [own.path], home / "whole")


def test_chain_has_the_terms_of_each_part(chain: Artifact) -> None:
    assert list(terms_by_part(chain).values()) == [TINY, Terms("ours", "allowed")]
    assert cautions(chain) == (TINY.caution,)


@pytest.mark.parametrize("embed", [False, True], ids=["files", "embedded"])
@pytest.mark.parametrize("kind", PACKAGES)
def test_package_has_the_terms(kind: str, embed: bool, tmp_path: Path) -> None:
    package, beside = PACKAGES[kind]
    artifact = answers.write_artifact(tmp_path / "found", "mos", faces=2)
    folder = package(artifact.path, tmp_path / "app", embed=embed)
    assert text_of(folder) == terms_text([("mos-tiny", TINY)])
    networks = {path.parent for path in folder.rglob("*.bin")}
    assert networks == (set() if embed and kind != "cpp" else {folder / beside})
    assert all(text_of(place) == text_of(folder) for place in networks)
    assert all(TERMS_FILE in path.read_text(encoding="utf-8") for path in folder.rglob("embedded.cpp"))


def test_package_of_a_chain_has_the_terms_of_each_part(chain: Artifact, tmp_path: Path) -> None:
    folder = package_cpp(chain.path, tmp_path / "app")
    assert text_of(folder) == text_of(folder / "model") == terms_text(terms_by_part(chain).items())
    assert TINY.licence in text_of(folder)
    assert "ours" in text_of(folder)


def test_package_of_a_network_that_says_nothing(tmp_path: Path) -> None:
    artifact = answers.write_artifact(tmp_path / "own", "boxes")
    assert cautions(artifact) == ()
    assert "nothing is known of their terms" in text_of(package_cpp(artifact.path, tmp_path / "app"))


def test_terms_cannot_write_lines_of_their_own() -> None:
    text = terms_text([("a\nb", Terms("MIT\n  products: allowed", "not allowed"))])
    assert text.splitlines()[-3:] == ["a b", "  licence:  MIT products: allowed", "  products: not allowed"]
