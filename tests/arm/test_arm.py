"""The ncnn artifacts on ARM: an emulated aarch64 Python against the processor of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact, describe_file, write_manifest
from facedeploy.artifact.manifest import Manifest, NetworkEntry, PipelineEntry
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.serialization import from_plain
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.core.target import Target
from facedeploy.export.compiler import Job
from facedeploy.export.ncnn.convert import compile_network
from facedeploy.graph.from_torch import export_onnx
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.models import registry
from facedeploy.models.mos import DeformBlock
from facedeploy.runtimes.base import Arrays
from facedeploy.sources.probes import probe_inputs
from facedeploy.verification import tensors as parity
from tests.arm.run_network import answer, read, save
from tests.conftest import GetArtifact
from tests.support.exported import exported as stored
from tests.support.fill import GAIN, fill, noise

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "arm" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="there is no emulated ARM Python: run `make arm`"),
]
# What takes minutes, and says what is known from the rest unless it is looked for.
minutes = pytest.mark.skipif(os.environ.get("FACEDEPLOY_ARM") != "all", reason="minutes of emulation: run `make arm`")

SMALL, LARGE = (96, 128), (480, 640)
NCNN = Target("ncnn", "fp32")
FORMS: tuple[DeformConvForm, ...] = ("native", "gridsample")
RELATIVE = parity.TOLERANCES["fp32"].relative
# With larger random weights the rounding of float32 grows to pixels; with smaller ones all pictures look the same.
GAINS = {"mos-m": 1.2, "mos-s": 1.0, "mtcnn": GAIN}

Cases = dict[str, Arrays]
Exported = Callable[..., Artifact]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """`exported("mos-m", SMALL, "native")`: an artifact with deterministic weights, made once."""
    folder = tmp_path_factory.mktemp("arm")
    made: dict[str, Artifact] = {}

    def get(model: str, size: tuple[int, int] = SMALL, form: DeformConvForm | None = None) -> Artifact:
        key = f"{model}-{size[0]}-{form}"
        weights = folder / model
        if not weights.exists():
            weights.mkdir()
            for part, module in registry.get(model).build().items():
                torch.save(fill(module.state_dict(), GAINS[model]), weights / f"{part}.pt")
        if key not in made:
            made[key] = stored(model, str(NCNN), weights, input_size=size, deform_conv=form)
        return made[key]

    return get


def on_arm(*arguments: str | Path) -> str:
    """Standard output of the emulated Python."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [str(PYTHON), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def answer_on_arm(artifact: Artifact, feeds: Cases, folder: Path, rounds: int = 1) -> Cases:
    files = folder / "feeds.npz", folder / "answers.npz"
    save(str(files[0]), feeds)
    on_arm(ROOT / "tests" / "arm" / "run_network.py", artifact.path, *files, str(rounds))
    return read(str(files[1]))


def probes(artifact: Artifact, seed: int = 0) -> Cases:
    """Inputs of every network of an artifact, one for each of several sizes of its axes."""
    preprocess = pipelines.preprocess(artifact.manifest.pipeline)
    probe = registry.get(artifact.manifest.model).define().probe
    return {
        f"{spec.name}/{case}": feed
        for spec in (n.spec for n in artifact.manifest.networks)
        for case, feed in enumerate(probe_inputs(spec, preprocess, probe, seed))
        if spec.axes or case == 0
    }


def distances(want: Cases, have: Cases) -> dict[str, float]:
    """Relative L2 of every output, the worst of its cases."""
    worst: dict[str, float] = {}
    assert want.keys() == have.keys()
    for case, outputs in want.items():
        assert outputs.keys() == have[case].keys()
        for name in outputs:
            if name == "seconds":
                continue
            a, b = outputs[name].astype(np.float64), have[case][name].astype(np.float64)
            assert a.shape == b.shape
            key = f"{case.partition('/')[0]}.{name}"
            worst[key] = max(worst.get(key, 0.0), float(np.linalg.norm(a - b) / np.linalg.norm(a)))
    return worst


def show(what: str, numbers: Mapping[str, float]) -> None:
    print(what, *(f"{name} {number:.2g}" for name, number in numbers.items()), sep="  ")


def test_the_emulated_python_is_another_processor() -> None:
    assert on_arm("-c", "import platform; print(platform.machine())").strip() == "aarch64"


@pytest.mark.parametrize(
    ("model", "size", "form"),
    [
        pytest.param("mos-m", LARGE, "gridsample", marks=minutes),
        *(
            pytest.param(model, SMALL, form, marks=minutes)
            for model, form in (("mos-m", "native"), ("mos-s", "native"))
        ),
        *((model, SMALL, "gridsample") for model in ("mos-m", "mos-s")),
        ("mtcnn", SMALL, None),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else value,
)
def test_every_output_equals_that_of_this_machine(
    model: str, size: tuple[int, int], form: DeformConvForm | None, exported: Exported, tmp_path: Path
) -> None:
    artifact = exported(model, size, form)
    feeds = probes(artifact)
    want, have = answer(artifact, feeds), answer_on_arm(artifact, feeds, tmp_path)
    measured = distances(want, have)
    show(f"{model} {size[0]}x{size[1]} {form}: relative L2 to this machine", measured)
    assert {name for name, distance in measured.items() if not distance <= RELATIVE} == set()
    control = distances(want, answer(artifact, probes(artifact, seed=1)))
    show("  to the answers to other inputs", control)
    assert {name for name, distance in control.items() if distance <= RELATIVE} == set()


@pytest.mark.parametrize("model", [pytest.param("mos-m", marks=minutes), "mos-s"])
def test_the_command_line_finds_the_faces_of_this_machine(model: str, exported: Exported, tmp_path: Path) -> None:
    """On a picture of the network's size, as OpenCV resizes 8-bit pictures by other roundings on ARM."""
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), group_photo(np.random.default_rng(0), *SMALL, 2))
    found = assert_same_faces(exported(model, SMALL, "gridsample"), picture)
    assert len(found) >= 5
    assert all(None not in (f.yaw, f.pitch, f.roll) for f in found)


def test_the_command_line_finds_the_published_faces(real_artifact: GetArtifact, crowd: Path) -> None:
    assert len(assert_same_faces(real_artifact("ncnn-fp32"), crowd, "-O", "min_face=20")) == 3


def assert_same_faces(artifact: Artifact, picture: Path, *options: str) -> list[Face]:
    command = ["-m", "facedeploy", "detect", str(artifact.path), str(picture), "--json", "--threads", "1", *options]
    here = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True).stdout
    want, have = ([from_plain(Face, f) for f in json.loads(text)["faces"]] for text in (here, on_arm(*command)))
    difference = compare_faces([want], [have])
    numbers = {"box": difference.box, "score": difference.score, "angle": difference.angle}
    show(f"{artifact.manifest.model}: {difference.matched} faces, off by", numbers)
    assert difference.same_faces
    assert max(difference.box, difference.landmarks) <= 0.5
    assert difference.score <= 1e-3
    assert difference.angle <= 0.1
    return have


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """MOS's deformable block alone, in both forms: an artifact of two networks."""
    folder = tmp_path_factory.mktemp("blocks")
    module = DeformBlock(64, 64, relu=True)
    module.load_state_dict(fill(module.state_dict()))
    shape, onnx = (1, 64, 40, 40), folder / "block.onnx"
    networks: list[NetworkEntry] = []
    for form in FORMS:
        spec = NetworkSpec(form, (TensorSpec("x", shape),), (TensorSpec("y", shape),))
        if not networks:
            export_onnx(module, spec, onnx)
        made = compile_network(Job(spec, onnx, "fp32", folder, deform_conv=form))
        assert made.lowerings == {"DeformConv": form}
        files = {role: describe_file(folder, name) for role, name in made.files.items()}
        networks.append(NetworkEntry(spec, files, lowerings=made.lowerings))
    write_manifest(folder, Manifest("block", NCNN, tuple(networks), PipelineEntry("", {}), (), {}, ()))
    return Artifact.open(folder)


@minutes
def test_gridsample_beats_the_stock_layer_on_the_deformable_block(blocks: Artifact, tmp_path: Path) -> None:
    """On ARM the stock layer is ncnn's generic one. This is a ratio of emulated work, not of latencies."""
    x = noise("x", (1, 64, 40, 40)).astype(np.float32)
    feeds = {f"{form}/0": {"x": x} for form in FORMS}
    here, there = answer(blocks, feeds), answer_on_arm(blocks, feeds, tmp_path, rounds=9)
    measured = distances(here, there)
    show("block: relative L2 to this machine", measured)
    assert max(measured.values()) <= RELATIVE
    # The first round allocates as well.
    native, gridsample = (there[f"{form}/0"]["seconds"][1:] for form in FORMS)
    ratio = float(np.median(native / gridsample))
    seconds = {"native": float(np.median(native)), "gridsample": float(np.median(gridsample))}
    show("block: emulated processor seconds", {**seconds, "native over gridsample": ratio})
    assert ratio >= 4
