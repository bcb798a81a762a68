"""Faces of ncnn's ARM kernels: an emulated aarch64 machine behind a real sshd, against this machine."""

from __future__ import annotations

import functools
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.artifact.folder import Artifact, describe_file, write_manifest
from facedeploy.cli.app import main
from facedeploy.core.errors import DeviceError, InputError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.devices.connection import Device
from facedeploy.devices.open import open_device
from facedeploy.devices.python.remote import benchmark_on, detect_on
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.python.requirements import probe
from facedeploy.formats.ncnn import bin as weights
from facedeploy.formats.ncnn import param as graph
from facedeploy.metrics.face_matching import FaceDifference, compare_faces
from tests.support.exported import tiny as made_tiny
from tests.support.sshd import Sshd, serve

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "arm" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="there is no emulated ARM Python: run `make arm`"),
]

SIZE = (240, 320)
# Pixels that a coordinate of a face may be off.
BARS = {"ncnn-fp32": 0.1, "ncnn-fp16": 0.5, "ncnn-int8": 1.0}
Faces = list[list[Face]]
GetArtifact = Callable[[str], Artifact]
GetFaces = Callable[[str], Faces]


@pytest.fixture(scope="module")
def tiny() -> GetArtifact:
    """`tiny("ncnn-int8")`: mos-tiny with its embedded weights and ranges."""
    return lambda target: made_tiny(target, SIZE)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of the network's size, as OpenCV resizes 8-bit pictures by other roundings on ARM: a photo and drawn faces."""
    folder = tmp_path_factory.mktemp("pictures")
    photo = read_picture(ROOT / "examples" / "astronaut.jpg")[: SIZE[0], 60 : 60 + SIZE[1]]
    drawn = [group_photo(np.random.default_rng(seed), *SIZE, faces) for seed, faces in ((0, 1), (2, 3), (3, 4))]
    for i, image in enumerate((photo, *drawn)):
        assert cv2.imwrite(str(folder / f"{i}.png"), image)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with serve(tmp_path_factory.mktemp("sshd"), {}) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEDEPLOY_SSH_CONFIG", str(server.config))
        yield server


@pytest.fixture(scope="module")
def arm(server: Sshd) -> Device:
    return open_device(f"{server.url}?python={PYTHON}")


def found_here(artifact: Artifact, pictures: list[Path]) -> Faces:
    with facedeploy.load(artifact, threads=1) as pipeline:
        return [pipeline.detect(read_picture(picture)) for picture in pictures]


@pytest.fixture(scope="module")
def here(tiny: GetArtifact, pictures: list[Path]) -> GetFaces:
    return functools.cache(lambda target: found_here(tiny(target), pictures))


@pytest.fixture(scope="module")
def there(tiny: GetArtifact, pictures: list[Path], arm: Device) -> GetFaces:
    return functools.cache(lambda target: detect_on(arm, tiny(target), pictures, MeasurementSettings(threads=1)))


def holds(difference: FaceDifference, target: str) -> bool:
    return difference.same_faces and max(difference.box, difference.landmarks) <= BARS[target]


def test_the_device_is_another_processor(arm: Device) -> None:
    assert probe(arm).machine == "aarch64" != platform.machine()


@pytest.mark.parametrize("target", BARS)
def test_the_faces_are_those_of_this_machine(target: str, here: GetFaces, there: GetFaces) -> None:
    assert [len(faces) for faces in here(target)] == [1, 1, 3, 4]
    difference = compare_faces(here(target), there(target))
    print(f"{target} on ARM against this machine: {difference}")
    assert holds(difference, target)


@pytest.mark.parametrize("target", ["ncnn-fp16", "ncnn-int8"])
def test_arm_computes_in_the_precision_of_the_target(target: str, here: GetFaces, there: GetFaces) -> None:
    """The control: kernels of float32 would give the faces of float32, to the last digits."""
    plain = compare_faces(here("ncnn-fp32"), there("ncnn-fp32"))
    difference = compare_faces(there("ncnn-fp32"), there(target))
    print(f"{target} against ncnn-fp32 on ARM: {difference}")
    assert min(difference.box, difference.landmarks) > 20 * max(plain.box, plain.landmarks, 1e-4)
    assert difference.score > 20 * plain.score


def rewritten(artifact: Artifact, folder: Path, change: Callable[[Path], None]) -> Artifact:
    """A copy of an artifact with its detector's files changed, which are those of its manifest all the same."""
    shutil.copytree(artifact.path, folder)
    change(folder)
    networks = tuple(
        replace(n, files={role: describe_file(folder, file.path) for role, file in n.files.items()})
        for n in artifact.manifest.networks
    )
    write_manifest(folder, replace(artifact.manifest, networks=networks))
    return Artifact.open(folder)


def other_scales(folder: Path) -> None:
    """Each int8 layer takes what it is given for a fifth larger."""
    layers = graph.parse((folder / "detector.param").read_text())
    arrays = weights.read(layers, (folder / "detector.bin").read_bytes())
    for name, (weight, *rest) in arrays.items():
        if weight.dtype == np.int8:
            arrays[name] = (weight, *rest[:-1], (rest[-1] * np.float32(1.2)).astype(np.float32))
    (folder / "detector.bin").write_bytes(weights.write(layers, arrays))


def no_casts(folder: Path) -> None:
    """As if ncnn cast what it gives to the layers that stay in float32 by itself."""
    layers = graph.parse((folder / "detector.param").read_text())
    casts = {v.outputs[0]: v.inputs[0] for v in layers if v.type == "Dropout"}
    assert casts
    kept = [v for v in layers if v.type != "Dropout"]
    changed = tuple(replace(v, inputs=tuple(casts.get(blob, blob) for blob in v.inputs)) for v in kept)
    (folder / "detector.param").write_text(graph.render(changed))


def winograd(folder: Path) -> None:
    """As if ncnn's Winograd in half were exact."""
    file = folder / "detector.param"
    file.write_text(file.read_text().replace(" 31=64", ""))


@pytest.mark.parametrize(
    ("target", "change"), [("ncnn-int8", other_scales), ("ncnn-fp16", no_casts), ("ncnn-fp16", winograd)]
)
def test_what_is_broken_is_found_out(
    target: str,
    change: Callable[[Path], None],
    tiny: GetArtifact,
    pictures: list[Path],
    here: GetFaces,
    arm: Device,
    tmp_path: Path,
) -> None:
    broken = rewritten(tiny(target), tmp_path / "broken", change)
    try:
        found = detect_on(arm, broken, pictures, MeasurementSettings(threads=1))
    except DeviceError as error:
        # A sampler that is told to read at NaN: the memory it hits decides how it dies (SIGSEGV or SIGABRT).
        assert re.search(r"ended by signal (6|11)\b", str(error))
    else:
        assert not holds(compare_faces(here(target), found), target)


def test_verify_compares_the_faces_of_the_device_with_pytorch(
    tiny: GetArtifact,
    pictures: list[Path],
    server: Sshd,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def verify(*more: str) -> tuple[object, str]:
        url = f"{server.url}?python={PYTHON}"
        monkeypatch.setattr(sys, "argv", ["facedeploy", "verify", str(tiny("ncnn-fp16").path), "--device", url, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    status, said = verify("--images", str(pictures[0].parent))
    assert status in (None, 0)
    assert "9 the same, 0 missing, 0 extra" in said
    assert "verified" in said
    status, said = verify()
    assert status == 2
    assert "only faces are compared" in said
    assert said.count("\n") == 1


def test_times_of_an_emulated_processor_are_refused(
    tiny: GetArtifact, pictures: list[Path], server: Sshd, arm: Device
) -> None:
    settings = MeasurementSettings(rounds=1, threads=1, cold=False)
    with pytest.raises(InputError, match=r"on ssh://.*: the processor here \(aarch64\) is emulated by qemu-aarch64"):
        benchmark_on(arm, [tiny("ncnn-fp32").path], pictures[:1], settings)
    # The control: the same worker over the same connection, on this processor.
    native = open_device(f"{server.url}?python={sys.executable}")
    assert benchmark_on(native, [tiny("ncnn-fp32").path], pictures[:1], settings).measurements


def test_nothing_is_left(server: Sshd, there: GetFaces) -> None:
    there("ncnn-fp32")
    assert server.wait_for_none() == {}
    assert {p.name for p in server.cache.glob("*")} <= {"objects", "lock"}
