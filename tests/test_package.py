"""`facedeploy package`: what is in the folder, what its model.hpp says, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy import pipelines
from facedeploy.artifact import Artifact, FileEntry, Manifest, NetworkEntry, PipelineEntry
from facedeploy.cli.app import main
from facedeploy.errors import ArtifactError, InputError
from facedeploy.export.exporter import export
from facedeploy.faces import Face, compare
from facedeploy.loading import load
from facedeploy.models import registry
from facedeploy.package.bundle import package_cpp
from facedeploy.package.constants import PROTOCOLS, BoxesConstants, Constants, MosConstants, constants
from facedeploy.package.model_header import OPTIONS, model_header
from facedeploy.pipelines.own import NETWORK
from facedeploy.runtimes.ncnn import ncnn_options
from facedeploy.spec import NetworkSpec, TensorSpec
from facedeploy.target import Target
from tests.conftest import GetArtifact
from tests.cpp import stream

PHOTO = Path(__file__).parents[1] / "examples" / "astronaut.jpg"
MODEL = stream.DRIVER.with_name("model.cpp")
OUTPUTS = {"boxes": "b", "scores": "s", "boxes_in": "unit", "face_class": 1, "landmarks": "l", "pitch": "p"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    for module in ("ncnn", "pnnx"):
        pytest.importorskip(module)
    return export("mos-tiny", "ncnn-fp16", None, tmp_path_factory.mktemp("tiny") / "tiny", input_size=(96, 128))


@pytest.fixture(scope="module")
def bundle(tiny: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_cpp(tiny.path, tmp_path_factory.mktemp("bundle") / "app")


def manifest(model: str, specs: Sequence[NetworkSpec], entry: PipelineEntry) -> Manifest:
    files = {role: FileEntry(f"{role} of it.{role}", "", 0) for role in ("param", "bin")}
    networks = tuple(NetworkEntry(spec, files, options=ncnn_options("fp16")) for spec in specs)
    return Manifest(model, Target.parse("ncnn-fp16"), networks, entry, (), {}, ())


def own(shapes: dict[str, tuple[int, ...]], **options: Any) -> tuple[list[NetworkSpec], PipelineEntry]:
    outputs = tuple(TensorSpec(name, shape) for name, shape in shapes.items())
    spec = NetworkSpec(NETWORK, (TensorSpec('the "input"\\?', (1, 3, 24, 40)),), outputs)
    named = {role: name for role, name in OUTPUTS.items() if role in ("boxes_in", "face_class") or name in shapes}
    return [spec], pipelines.configure("boxes", {"outputs": named, **options})


MOS = pipelines.configure("mos", {"protocol": "stretch", "score_threshold": 0.1, "nms": 1 / 3, "top": 9, "keep": 3})
RGB = {"preprocess": {"colours": "rgb", "mean": [0.1, 123.456, 255], "scale": [1 / 255, 0.017, 2.0]}}
WITH_ALL = own({"b": (1, 7, 4), "s": (1, 7, 2), "l": (1, 7, 6), "p": (1, 7, 1)}, **RGB)
DESCRIBED: dict[str, tuple[str, Sequence[NetworkSpec], PipelineEntry]] = {
    "mos-m": ("mos-m", registry.get("mos-m").network_specs((64, 96)), MOS),
    "mos-tiny": ("mos-tiny", registry.get("mos-tiny").network_specs((33, 47)), pipelines.configure("mos", {})),
    "boxes": ('naïve "name"\\??/\n', *WITH_ALL),
}


def written(given: Manifest, found: Constants, folder: Path) -> Any:
    """What C++ reads in the model.hpp of a manifest."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: model.hpp is not compiled")
    (folder / "model.hpp").write_text(model_header(given, found), encoding="utf-8")
    program = stream.compile_driver(folder / "model", "-O0", f"-I{folder}", source=MODEL)
    return json.loads(subprocess.run([str(program)], capture_output=True, check=True).stdout)


def expected(given: Manifest, found: Constants) -> dict[str, Any]:
    image, selection, *rest = astuple(found)
    height, width, protocol, colours, mean, scale = image
    own_names = given.pipeline.config.get("outputs")
    roles = ("boxes", "scores", "landmarks", "yaw", "pitch", "roll")

    def names(network: NetworkEntry) -> list[Any]:
        outputs = [own_names[r] for r in roles] if own_names else [t.name for t in network.spec.outputs]
        padded = [[t.name for t in network.spec.inputs], outputs]
        return [n for group, size in zip(padded, (2, 6), strict=True) for n in (*group, *[None] * (size - len(group)))]

    def text(value: str | None) -> list[int] | None:
        return None if value is None else list(value.encode())

    return {
        "input": [height, width, PROTOCOLS.index(protocol), ["bgr", "rgb"].index(colours)],
        "mean": np.array(mean, np.float32).tolist(),
        "scale": np.array(scale, np.float32).tolist(),
        "selection": list(selection),
        "rest": [int(v) for v in rest],
        "networks": [
            {
                "files": [text(n.files["param"].path), text(n.files["bin"].path)],
                "names": [*map(text, names(n)), 0],
                "options": [int(n.options[o]) for o in OPTIONS],
            }
            for n in given.networks
        ],
        "name": text(given.model),
        "target": text(str(given.target)),
    }


@pytest.mark.parametrize("which", DESCRIBED)
def test_model_hpp_says_what_the_manifest_says(which: str, tmp_path: Path) -> None:
    given = manifest(*DESCRIBED[which])
    found = constants([n.spec for n in given.networks], given.pipeline)
    assert written(given, found, tmp_path) == expected(given, found)


def test_constants_of_the_published_models() -> None:
    tiny, large = (constants(DESCRIBED[m][1], DESCRIBED[m][2]) for m in ("mos-tiny", "mos-m"))
    assert isinstance(tiny, MosConstants)
    assert isinstance(large, MosConstants)
    assert (tiny.anchors, tiny.channels, tiny.patch_channels, tiny.level, tiny.pose_batch) == (1, 48, 48, False, 64)
    assert (large.anchors, large.channels, large.patch_channels, large.level) == (2, 64, 65, True)


def test_constants_of_a_network_of_ones_own() -> None:
    found = constants(*WITH_ALL)
    assert isinstance(found, BoxesConstants)
    assert (found.priors, found.classes, found.face_class, found.landmarks) == (7, 2, 1, 3)
    assert (found.unit, found.yaw, found.pitch, found.roll) == (True, False, True, False)


# --- the folder ---


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_folder_has_all_that_an_app_needs(bundle: Path, tiny: Artifact) -> None:
    headers = {f"include/facedeploy/{p.name}" for p in (stream.HEADERS / "facedeploy").glob("*.hpp")}
    files = {f"model/{n}.{kind}" for n in ("detector", "pose") for kind in ("param", "bin")}
    rest = {"model/model.hpp", "runner/main.cpp", "CMakeLists.txt", "README.md"}
    assert tree(bundle) == headers | files | rest
    assert len(headers) > 8
    for name in files:
        assert (bundle / name).read_bytes() == (tiny.path / Path(name).name).read_bytes()


def test_every_header_stands_alone(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the headers are not compiled")
    alone = tmp_path / "alone.cpp"
    for header in sorted((bundle / "include" / "facedeploy").glob("*.hpp")):
        if header.name != "ncnn.hpp":  # It needs ncnn's headers.
            alone.write_text(f"#include <facedeploy/{header.name}>\nint main() {{ return 0; }}\n")
            flags = ("-fsyntax-only", "-Wunused")
            stream.compile_driver(tmp_path / "alone", *flags, headers=bundle / "include", source=alone)


def test_cmake_gives_a_target_to_an_app(bundle: Path, tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake")
    shutil.copy(MODEL, tmp_path / "app.cpp")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app LANGUAGES CXX)\n"
        f'add_subdirectory("{bundle}" facedeploy)\nadd_executable(app app.cpp)\ntarget_link_libraries(app facedeploy)\n'
    )
    for command in ([cmake, "-S", str(tmp_path), "-B", str(tmp_path / "b")], [cmake, "--build", str(tmp_path / "b")]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(subprocess.run([str(tmp_path / "b" / "app")], capture_output=True, check=True).stdout)
    assert said["input"][:2] == [96, 128]


# --- the runner, where ncnn's headers are ---


@pytest.fixture(scope="module")
def runner(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cmake, ncnn = shutil.which("cmake"), os.environ.get("NCNN_DIR")
    if cmake is None or ncnn is None:
        pytest.skip("no ncnn with headers: build it, and set NCNN_DIR to its lib/cmake/ncnn")
    build = tmp_path_factory.mktemp("build")
    flags = "-Wall -Wextra -Werror"
    configure = [cmake, "-S", bundle, "-B", build, f"-Dncnn_DIR={ncnn}", f"-DCMAKE_CXX_FLAGS={flags}"]
    for command in (configure, [cmake, "--build", build]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "runner"


def call(runner: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(runner), *map(str, words)], capture_output=True, text=True, timeout=120, check=False)


def test_runner_finds_the_faces_of_python(runner: Path, bundle: Path, tiny: Artifact, tmp_path: Path) -> None:
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    images = [
        np.asarray(photo, np.uint8),
        np.tile(np.asarray(photo, np.uint8), (2, 2, 1)),
        np.zeros((5, 900, 3), np.uint8),
    ]
    words: list[object] = []
    for i, image in enumerate(images):
        image.tofile(tmp_path / f'"{i}"')
        words += [tmp_path / f'"{i}"', *image.shape[:2]]
    done = call(runner, bundle / "model", 1, *words)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["image"], r["height"], r["width"]) for r in rows] == [
        tuple(map(str_or_int, words[i : i + 3])) for i in (0, 3, 6)
    ]
    found = [[read_face(f) for f in row["faces"]] for row in rows]
    with load(tiny, threads=1) as pipeline:
        difference = compare([pipeline.detect(image) for image in images], found)
    assert difference.same_faces
    assert difference.matched >= 1
    # Two builds of ncnn, in fp16.
    assert max(difference.box, difference.landmarks) < 0.5
    assert difference.angle < 0.5


def str_or_int(value: object) -> object:
    return value if isinstance(value, int) else str(value)


def read_face(row: dict[str, Any]) -> Face:
    landmarks = tuple((x, y) for x, y in row["landmarks"])
    return Face(tuple(row["box"]), row["score"], landmarks, row["yaw"], row["pitch"], row["roll"])


@pytest.mark.parametrize(
    "wrong", ["truncated bin", "truncated param", "no bin", "short picture", "no picture", "size", "usage"]
)
def test_runner_refuses(wrong: str, runner: Path, bundle: Path, tmp_path: Path) -> None:
    model = shutil.copytree(bundle / "model", tmp_path / "model")
    raw = tmp_path / "picture"
    raw.write_bytes(bytes(40 * 50 * 3))
    words: list[object] = [model, 1, raw, 40, 50]
    assert call(runner, *words).returncode == 0
    if wrong.startswith("truncated"):
        path = model / f"detector.{wrong.split()[1]}"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif wrong == "no bin":
        (model / "pose.bin").unlink()
    elif wrong == "short picture":
        raw.write_bytes(raw.read_bytes()[:-1])
    elif wrong == "no picture":
        raw.unlink()
    elif wrong == "size":
        words[3] = "40x"
    else:
        words.pop()
    done = call(runner, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("runner: ")


# --- what is refused ---


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        work()
    text = str(error.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


@pytest.mark.parametrize("model", ["mtcnn", "mogface", "img2pose", "landmarks106", "mos-m-published"])
def test_other_families_are_refused(model: str) -> None:
    known = registry.get(model)
    entry = PipelineEntry(known.family, {})
    assert f"family {known.family}:" in refused(lambda: constants(known.network_specs(), entry))


def test_network_whose_outputs_mean_nothing_is_refused() -> None:
    specs, _ = WITH_ALL
    assert "family tensors" in refused(lambda: constants(specs, pipelines.configure("tensors", {})))


@pytest.mark.parametrize("protocol", ["original", "longest", "multiscale"])
def test_other_protocols_are_refused(protocol: str) -> None:
    specs = registry.get("mos-m").network_specs()
    text = refused(lambda: constants(specs, pipelines.configure("mos", {"protocol": protocol})))
    assert f"protocol {protocol}" in text


def test_network_of_any_size_is_refused() -> None:
    specs = registry.get("mos-m").network_specs("any")
    assert "--input-size" in refused(lambda: constants(specs, pipelines.configure("mos", {})))


def test_option_of_ncnn_that_is_new_is_refused() -> None:
    given = manifest(*DESCRIBED["mos-m"])
    newer = tuple(replace(n, options={**n.options, "use_magic": True}) for n in given.networks)
    found = constants([n.spec for n in given.networks], given.pipeline)
    assert "use_magic" in refused(lambda: model_header(replace(given, networks=newer), found))


def test_artifact_of_another_backend_is_refused(artifact: GetArtifact, tmp_path: Path) -> None:
    path = artifact("torch-fp32").path
    assert "ncnn-fp16" in refused(lambda: package_cpp(path, tmp_path / "app"))
    assert not (tmp_path / "app").exists()


def test_damaged_artifact_and_full_folder_are_refused(tiny: Artifact, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny.path, tmp_path / "copy")
    (copy / "pose.bin").write_bytes(b"no")
    with pytest.raises(ArtifactError):
        package_cpp(copy, tmp_path / "app")
    assert not (tmp_path / "app").exists()
    assert "not an empty folder" in refused(lambda: package_cpp(tiny.path, copy))
    assert (copy / "manifest.json").is_file()


def test_command(
    tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGPIPE)}
    try:
        for status in (0, 2):  # The second time the folder is full.
            monkeypatch.setattr(sys, "argv", ["facedeploy", "package", str(tiny.path), "--cpp", str(tmp_path / "app")])
            with pytest.raises(SystemExit) as ended:
                main()
            assert (ended.value.code or 0) == status
            out, err = capsys.readouterr()
            assert (str(tmp_path / "app") in out) == (status == 0)
            assert err.startswith("facedeploy: ") == (status == 2)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
