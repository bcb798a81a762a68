"""`facedeploy package`: what is in the folder, what its model.hpp says, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import FileEntry, Manifest, NetworkEntry, PipelineEntry
from facedeploy.cli.app import main
from facedeploy.core.errors import ArtifactError, InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.target import Target
from facedeploy.core.terms import TERMS_FILE
from facedeploy.formats.ncnn import param as graph
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.models import registry
from facedeploy.package.bundle import SOURCES, package_android, package_cpp, package_ios
from facedeploy.package.constants import PROTOCOLS, BoxesConstants, Constants, MosConstants, constants
from facedeploy.package.model_header import model_header
from facedeploy.package.model_text import model_text
from facedeploy.package.networks import OPTIONS
from facedeploy.package.stripped import strip
from facedeploy.pipelines.custom import NETWORK
from facedeploy.pipelines.load import load
from facedeploy.runtimes.base import RuntimeOptions
from facedeploy.runtimes.ncnn import NcnnRuntime, ncnn_options
from tests.conftest import GetArtifact
from tests.cpp import answers, c_api, stream
from tests.cpp.ncnn_itself import build_with_ncnn, ncnn_itself
from tests.support.exported import tiny as made_tiny

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
MODEL = stream.DRIVER.with_name("model.cpp")
OUTPUTS = {"boxes": "b", "scores": "s", "boxes_in": "unit", "face_class": 1, "landmarks": "l", "pitch": "p"}


GetTiny = Callable[[str], Artifact]


@pytest.fixture(scope="module")
def exported() -> GetTiny:
    """`exported("int8")`: the default model for ncnn."""
    return lambda precision: made_tiny(f"ncnn-{precision}", (96, 128))


@pytest.fixture(scope="module")
def tiny(exported: GetTiny) -> Artifact:
    return exported("fp16")


@pytest.fixture(scope="module")
def bundle(tiny: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_cpp(tiny.path, tmp_path_factory.mktemp("bundle") / "app")


@pytest.fixture(scope="module")
def own_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Of a network of one's own, for the stand-in of ncnn."""
    return answers.write_artifact(tmp_path_factory.mktemp("own") / "own", "boxes")


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
    runner = {f"runner/{p.name}" for p in (SOURCES / "runner").iterdir() if p.name != "CMakeLists.txt"}
    rest = {"model/model.hpp", "model/model.txt", "c/facedeploy.h", "c/facedeploy.cpp", "CMakeLists.txt", "README.md"}
    terms = {TERMS_FILE, f"model/{TERMS_FILE}"}
    assert tree(bundle) == headers | files | runner | rest | terms
    assert "runner/main.cpp" in runner
    assert len(headers) > 8
    for name in files:
        assert (bundle / name).read_bytes() == (tiny.path / Path(name).name).read_bytes()


def test_every_header_stands_alone(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the headers are not compiled")
    alone = tmp_path / "alone.cpp"
    for header in sorted((bundle / "include" / "facedeploy").glob("*.hpp")):
        if not header.name.startswith("ncnn"):  # They need ncnn's headers.
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
    build = tmp_path_factory.mktemp("build")
    return build_with_ncnn(bundle, build, "runner", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")


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
    done = call(runner, "detect", bundle / "model", 1, *words)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["image"], r["height"], r["width"]) for r in rows] == [
        tuple(map(str_or_int, words[i : i + 3])) for i in (0, 3, 6)
    ]
    found = [[read_face(f) for f in row["faces"]] for row in rows]
    with load(tiny, threads=1) as pipeline:
        difference = compare_faces([pipeline.detect(image) for image in images], found)
    assert difference.same_faces
    assert difference.matched >= 1
    # Two builds of ncnn, in fp16.
    assert max(difference.box, difference.landmarks) < 0.5
    assert difference.angle < 0.5


def test_c_functions_find_the_faces_of_python(tiny: Artifact, tmp_path: Path) -> None:
    """With ncnn itself, from a folder, from bytes, and compiled in without names."""
    ncnn_itself()
    app = package_cpp(tiny.path, tmp_path / "app", embed=True, strip_names=True)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app LANGUAGES C CXX)\nfind_package(ncnn REQUIRED)\n"
        "add_subdirectory(app)\n"
        f'add_executable(program "{c_api.PROGRAM}" app/c/facedeploy.cpp app/model/embedded.cpp)\n'
        "target_include_directories(program PRIVATE app/c)\ntarget_link_libraries(program facedeploy ncnn)\n"
    )
    program = build_with_ncnn(tmp_path, tmp_path / "b", "program")
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    image = np.asarray(photo, np.uint8)
    raw = c_api.raw(tmp_path / "raw", image, "rgba", 20)
    rows = [c_api.call(program, how, app / "model", [raw]) for how in ("folder", "bytes", "embedded")]
    assert rows[0] == rows[1] == rows[2]
    with load(tiny, threads=1) as pipeline:
        difference = compare_faces([pipeline.detect(image)], [c_api.faces(rows[0][0])])
    assert difference.same_faces
    assert difference.matched == 1
    # Two builds of ncnn, in fp16.
    assert max(difference.box, difference.landmarks, difference.angle) < 0.5
    # Weights that end too early are no network.
    (app / "model" / "pose.bin").write_bytes((app / "model" / "pose.bin").read_bytes()[:-4])
    for how in ("folder", "bytes"):
        (row,) = c_api.call(tmp_path / "b" / "program", how, app / "model", [raw])
        assert row["message"] == "a file of the model is missing or damaged: package the artifact again"


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
    words: list[object] = ["detect", model, 1, raw, 40, 50]
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
        words[4] = "40x"
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


@pytest.mark.parametrize("write", [model_header, model_text])
def test_other_options_of_ncnn_are_refused(write: Callable[[Manifest, Constants], str]) -> None:
    given = manifest(*DESCRIBED["mos-m"])
    newer = tuple(replace(n, options={**n.options, "use_magic": True}) for n in given.networks)
    older = tuple(replace(n, options={}) for n in given.networks)
    found = constants([n.spec for n in given.networks], given.pipeline)
    assert "use_magic" in refused(lambda: write(replace(given, networks=newer), found))
    assert "as old ones do not: export again" in refused(lambda: write(replace(given, networks=older), found))


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


# --- names ---


def words_of(folder: Path) -> dict[str, set[str]]:
    """Words of the text files of a folder that are of the model."""
    files = [p for p in folder.rglob("*") if p.suffix in (".param", ".txt", ".hpp", ".cpp") and p.is_file()]
    of_the_model = [p for p in files if p.parent.name in ("model", "Model") or "assets" in p.parts]
    return {p.name: set(re.findall(r"[\w./]+", p.read_text(encoding="utf-8"))) for p in of_the_model}


def names(artifact: Artifact) -> set[str]:
    """Of layers and blobs, but for numbers and letters, which may be anything else."""
    layers = [
        v for n in artifact.manifest.networks for v in graph.parse(artifact.file(n.spec.name, "param").read_text())
    ]
    return {name for v in layers for name in (v.name, *v.inputs, *v.outputs) if len(name) > 2 and not name.isdigit()}


PACKAGES = {"cpp": package_cpp, "android": package_android, "ios": package_ios}


@pytest.mark.parametrize("kind", PACKAGES)
@pytest.mark.parametrize("embed", [False, True])
def test_stripped_folders_have_no_old_name(kind: str, embed: bool, exported: GetTiny, tmp_path: Path) -> None:
    artifact = exported("fp16")
    PACKAGES[kind](artifact.path, tmp_path / "kept", embed=embed)
    PACKAGES[kind](artifact.path, tmp_path / "stripped", embed=embed, strip_names=True)
    old = names(artifact)
    kept, stripped = words_of(tmp_path / "kept"), words_of(tmp_path / "stripped")
    assert set(kept) == set(stripped)
    assert ("embedded.cpp" in stripped) == embed
    assert not old & set().union(*stripped.values())
    # That the names would be seen.
    assert "boxes" in kept["model.hpp"]
    assert old <= set().union(*kept.values())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_stripped_networks_give_the_same_bits(precision: str, exported: GetTiny, tmp_path: Path) -> None:
    manifest = exported(precision).manifest
    files = {n.spec.name: exported(precision).file(n.spec.name, "param") for n in manifest.networks}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    stripped, params = strip(manifest, texts)
    for before, after in zip(manifest.networks, stripped.networks, strict=True):
        name = before.spec.name
        renamed = tmp_path / f"{name}.param"
        renamed.write_text(params[name], encoding="utf-8")
        weights = exported(precision).file(name, "bin")
        rng = np.random.default_rng(0)
        given = [rng.normal(0, 1, [d if isinstance(d, int) else 1 for d in t.shape]) for t in before.spec.inputs]
        found = []
        for param, spec in ((files[name], before.spec), (renamed, after.spec)):
            with NcnnRuntime(param, weights, manifest.target.precision, spec, RuntimeOptions(threads=1)) as runtime:
                fed = {t.name: v.astype(np.float32) for t, v in zip(spec.inputs, given, strict=True)}
                got = runtime.run(fed)
                found.append([got[t.name] for t in spec.outputs])
        assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
        # One that changes with a name would be seen.
        assert len({a.tobytes() for a in found[0]}) == len(found[0])
        assert not {t.name for t in before.spec.outputs} & {t.name for t in after.spec.outputs}


def test_stripped_names_are_short_and_new() -> None:
    spec = NetworkSpec(
        NETWORK, (TensorSpec("image", (1, 3, 24, 40)),), (TensorSpec("a", (1, 7, 4)), TensorSpec("c", (7,)))
    )
    entry = pipelines.configure("boxes", {"outputs": {"boxes": "a", "scores": "c", "boxes_in": "pixels"}})
    lines = ["7767517", "3 3", "Input b 0 1 image", "Magic x 1 1 image a 0=1", "Magic y 1 1 image c 0=2,3"]
    renamed, params = strip(manifest("own", [spec], entry), {NETWORK: "\n".join(lines) + "\n"})
    text = params[NETWORK]
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["Input", "g", "0", "1", "d"],
        ["Magic", "h", "1", "1", "d", "e", "0=1"],
        ["Magic", "i", "1", "1", "d", "f", "0=2,3"],
    ]
    outputs = renamed.pipeline.config["outputs"]
    assert (outputs["boxes"], outputs["scores"], outputs["boxes_in"]) == ("e", "f", "pixels")
    assert '"d"' in model_header(renamed, constants([spec], entry))


def test_param_that_is_none_is_refused(own_artifact: Artifact, tmp_path: Path) -> None:
    """A stand-in's is no ncnn file."""
    with pytest.raises(ArtifactError, match="export the artifact again"):
        package_cpp(own_artifact.path, tmp_path / "app", strip_names=True)
    assert not (tmp_path / "app").exists()


# --- all of it ---


@pytest.mark.parametrize("kind", PACKAGES)
def test_folders_know_nothing_of_this_machine(kind: str, own_artifact: Artifact, tmp_path: Path) -> None:
    folder = PACKAGES[kind](own_artifact.path, tmp_path / "app", embed=True)
    here = {str(Path.home()), str(Path.cwd()), str(tmp_path), str(own_artifact.path)}
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        assert not path.is_file() or not any(word in path.read_text("latin-1") for word in here), path


def test_wheel_has_all_of_it(tmp_path: Path) -> None:
    """What is packaged comes from the installed package, without the checkout."""
    pytest.importorskip("setuptools", minversion="77")
    root = SOURCES.resolve().parent
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "facedeploy").mkdir()
    (tmp_path / "facedeploy" / "__init__.py").touch()
    (tmp_path / "facedeploy" / "package").mkdir()
    (tmp_path / "facedeploy" / "package" / "__init__.py").touch()
    shutil.copytree(SOURCES, tmp_path / "mobile")
    (tmp_path / "facedeploy" / "package" / "mobile").symlink_to("../../mobile")
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {n.removeprefix("facedeploy/package/mobile/") for n in wheel.namelist() if "/package/mobile/" in n}
    assert packed == tree(tmp_path / "mobile")


def test_command_writes_several_folders(
    own_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(monkeypatch, own_artifact, "--android", tmp_path / "a", "--ios", tmp_path / "i", "--embed")
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "a"), str(tmp_path / "i")]
    assert (tmp_path / "a" / "src" / "main" / "cpp" / "model" / "embedded.cpp").is_file()
    assert (tmp_path / "i" / "Sources" / "CFacedeploy" / "model" / "embedded.cpp").is_file()
    run_command(monkeypatch, own_artifact, status=2)
    assert "--android DIR" in capsys.readouterr().err


def run_command(monkeypatch: pytest.MonkeyPatch, artifact: Artifact, *words: object, status: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["facedeploy", "package", str(artifact.path), *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == status


def test_command(
    tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for status in (0, 2):  # The second time the folder is full.
        run_command(monkeypatch, tiny, "--cpp", tmp_path / "app", status=status)
        out, err = capsys.readouterr()
        assert (str(tmp_path / "app") in out) == (status == 0)
        assert err.startswith("facedeploy: ") == (status == 2)
