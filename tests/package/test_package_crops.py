"""`facedeploy package --cpp` of networks that look at faces, and of chains: C++ says of faces what Python says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import facedeploy
from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.preprocess import Pixels
from facedeploy.core.terms import TERMS_FILE
from facedeploy.devices.phone.run_folder import artifact_files
from facedeploy.formats.ncnn import param as graph
from facedeploy.models import registry
from facedeploy.package.bundle import package_android, package_cpp, package_ios
from facedeploy.package.crop_constants import crop_constants
from facedeploy.pipelines.base import Looker
from facedeploy.pipelines.composed import ComposedPipeline
from facedeploy.pipelines.custom import NETWORK
from facedeploy.pipelines.make_chain import make_chain
from tests.cpp import answers, c_api, stream
from tests.support.crop_networks import crop_network
from tests.support.exported import tiny

PROGRAM = stream.DRIVER.with_name("faces.cpp")
# What each network says of a face: its shapes, its configuration.
POINTS = (
    {"maps": (6, 5, 7), "angles": (3, 66)},
    {
        "meaning": {"points": {"points_in": "heatmaps"}, "pose": {"form": "bins", "outputs": ["angles"]}},
        "crop": {"grow": [1.3, 1.5], "shift": [0.0, 0.1], "edge": "mean"},
        "preprocess": {"colours": "rgb", "mean": [127.5] * 3, "scale": 1 / 128},
    },
)
WHO = (
    {"who": (64, 1, 1), "what": (3,), "more": (2,)},
    {
        "meaning": {
            "embedding": {"output": "who"},
            "classes": {"names": ['a "mask"\\?', "naïve", "none"], "activation": "softmax"},
        },
        "crop": {"align": "arcface"},
    },
)
OLD = ({"old": (2,)}, {"meaning": {"classes": {"names": ["young", "old"], "activation": "sigmoid"}}})

Kind = tuple[Mapping[str, tuple[int, ...]], Mapping[str, Any]]


def looker(folder: Path, kind: Kind, seed: int, size: tuple[int, int] = (24, 32)) -> Artifact:
    """A network that looks at faces, for the stand-in of ncnn; its numbers move with what it sees."""
    shapes, config = kind
    rng = np.random.default_rng(seed)
    numbers = {n: rng.normal(0, 1, (1, *shape)).astype(np.float32) for n, shape in shapes.items()}
    outputs = tuple(TensorSpec(n, v.shape) for n, v in numbers.items())
    spec = NetworkSpec(NETWORK, (TensorSpec("image", (1, 3, *size)),), outputs)
    # The largest cell stays what it is where all move by as much.
    network = answers.Network(spec, numbers, dict.fromkeys(shapes, 0.003))
    return answers.write(folder, [network], "own", pipelines.configure("crop", config))


class Built:
    """A packaged folder, the program over it, and Python's pipeline of the same files."""

    def __init__(self, home: Path, detector: str, *kinds: Kind, compiler: str = "g++", embed: bool = False) -> None:
        lookers = [looker(home / f"looker {i}", kind, i) for i, kind in enumerate(kinds)]
        self.pipeline = answers.open_pipeline(lookers[0])
        self.artifact = lookers[0]
        if detector:
            found = answers.write_artifact(home / "found", "mos" if detector == "mos" else "boxes", faces=5)
            self.artifact = make_chain(found.path, [a.path for a in lookers], home / "chain")
            looking = {a.path.name: answers.open_pipeline(a) for a in lookers}
            assert all(isinstance(p, Looker) for p in looking.values())
            self.pipeline = ComposedPipeline(answers.open_pipeline(found), looking)  # type: ignore[arg-type]
        self.embedded = embed
        self.folder = package_cpp(self.artifact.path, home / "app", embed=embed)
        included = [f"-I{self.folder / name}" for name in ("include", "model")]
        flags = (*(stream.SANITIZERS if compiler == "g++" else ("-O1",)), f"-I{answers.INCLUDES}", *included)
        self.program = stream.compile_driver(home / "program", *flags, compiler=compiler, source=PROGRAM)

    def faces(self, folder: Path, images: list[Pixels]) -> list[list[Any]]:
        """Status and faces of each picture."""
        words: list[object] = [self.program, self.folder / "model"]
        for i, image in enumerate(images):
            image.tofile(folder / str(i))
            words += [folder / str(i), *image.shape[:2]]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(line) for line in done.stdout.splitlines()]


BUILDS: dict[str, Callable[[Path], Built]] = {
    "mos": lambda home: Built(home, "mos", POINTS, WHO, OLD),
    "boxes": lambda home: Built(home, "boxes", POINTS, compiler="clang++", embed=True),
    "alone": lambda home: Built(home, "", WHO),
}


@pytest.fixture(scope="module", params=BUILDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    if shutil.which("g++") is None or shutil.which("clang++") is None:
        pytest.skip("no g++ or clang++: the C++ library is not compiled")
    return BUILDS[request.param](tmp_path_factory.mktemp(request.param))


def near(have: Any, want: Any, off: float) -> bool:
    return np.shape(have) == np.shape(want) and np.allclose(have, want, rtol=0, atol=off)


def same(have: dict[str, Any], want: Face) -> bool:
    """To a thousandth of a pixel and of a degree, and 1e-5 of all else."""
    angles = {n: v for n in ("yaw", "pitch", "roll") if (v := getattr(want, n)) is not None}
    classes = want.classes or {}
    return (
        near(have["box"], want.box, 1e-3)
        and abs(have["score"] - want.score) < 1e-5
        and near(have["landmarks"], want.landmarks or (), 1e-3)
        and near([have.get(n, np.nan) for n in angles], list(angles.values()), 1e-3)
        and near(have["embedding"], want.embedding or (), 1e-5)
        and [bytes(name[1:]).decode() for name in have["names"]] == list(classes)
        and near(have["shares"], list(classes.values()), 1e-5)
    )


def test_program_says_what_python_says(built: Built, tmp_path: Path) -> None:
    images = [c_api.picture(*size) for size in ((64, 96), (300, 200), (41, 333))]
    rows = built.faces(tmp_path, [*images, np.zeros((0, 4, 3), np.uint8)])
    assert [row[0] for row in rows] == [stream.OK] * 4
    assert rows.pop() == [stream.OK]
    wanted = [built.pipeline.detect(image) for image in images]
    assert [len(row) - 1 for row in rows] == [len(want) for want in wanted]
    assert sum(map(len, wanted)) == (15 if built.artifact.parts else 3)
    for row, want in zip(rows, wanted, strict=True):
        assert all(same(a, b) for a, b in zip(row[1:], want, strict=True))
    told = [face for want in wanted for face in want]
    # What it says is of what it sees, so that another picture would be found out.
    assert not same(rows[0][1], wanted[1][0])
    assert all(f.yaw is not None or f.embedding is not None for f in told)


def test_folder_has_what_runs(built: Built) -> None:
    names = {p.relative_to(built.folder).parts[0] for p in built.folder.iterdir()}
    assert names == {"include", "model", "CMakeLists.txt", "README.md", TERMS_FILE}
    files = {p.relative_to(built.folder / "model").as_posix() for p in (built.folder / "model").rglob("*.param")}
    parts = [f"{name}/" for name in built.artifact.parts] or [""]
    assert {f"{Path(f).parent}/" if "/" in f else "" for f in files} == set(parts)
    assert (built.folder / "model" / "embedded.cpp").is_file() == built.embedded
    header = (built.folder / "model" / "model.hpp").read_text(encoding="utf-8")
    assert ("ChainConfig<" in header) == bool(built.artifact.parts)
    assert all(f'"{file}"' in header for file in files)


def test_cmake_gives_a_target_without_a_runner(tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake")
    folder = package_cpp(looker(tmp_path / "who", WHO, 0).path, tmp_path / "app")
    (tmp_path / "app.cpp").write_text(
        '#include <facedeploy/facedeploy.hpp>\n#include "model.hpp"\n'
        "int main() { return check(facedeploy::model::config()) == facedeploy::Status::ok ? 0 : 1; }\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app LANGUAGES CXX)\n"
        f'add_subdirectory("{folder}" facedeploy)\nadd_executable(app app.cpp)\ntarget_link_libraries(app facedeploy)\n'
    )
    for command in ([cmake, "-S", tmp_path, "-B", tmp_path / "b"], [cmake, "--build", tmp_path / "b"]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([tmp_path / "b" / "app"], check=False).returncode == 0


# --- what ncnn itself loads ---


@pytest.mark.slow
def test_stripped_chain_names_the_blobs_that_are_there(tmp_path: Path) -> None:
    """Of real ncnn files: each name of model.hpp is a blob of its .param, and none is an old one."""
    made = []
    for name, outputs, settings in (
        (
            "points",
            {"where": np.linspace(0, 1, 12), "turned": np.zeros(3)},
            "[meaning.points]\ncount = 6\n[meaning.pose]\n",
        ),
        ("who", {"vector": np.ones(16), "kind": np.zeros(2)}, '[meaning.embedding]\noutput = "vector"\n'),
    ):
        path = crop_network(tmp_path / f"{name}.onnx", outputs)
        path.with_suffix(".toml").write_text(settings)
        made.append(facedeploy.export(str(path), "ncnn-fp32", output=tmp_path / name).path)
    whole = make_chain(tiny("ncnn-fp16", (96, 128)).path, made, tmp_path / "chain")
    kept = package_cpp(whole.path, tmp_path / "kept")
    stripped = package_cpp(whole.path, tmp_path / "stripped", strip_names=True)
    for name, output in (("points", "where"), ("points", "turned"), ("who", "vector")):
        file = f"model/{name}/{NETWORK}.param"
        assert output in blobs(kept / file)
        assert output not in blobs(stripped / file)
    for folder in (kept, stripped):
        header = (folder / "model" / "model.hpp").read_text(encoding="utf-8")
        files = re.findall(r'\]\.param = "(.+)";', header)
        assert len(files) == 4
        for i, file in enumerate(files):
            (named,) = re.findall(rf"all\[{i}\]\.outputs = \{{\{{(.+)\}}\}};", header)
            names = set(re.findall('"(.+?)"', named))
            assert names
            assert names <= blobs(folder / "model" / file)


def blobs(param: Path) -> set[str]:
    return {b for layer in graph.parse(param.read_text(encoding="utf-8")) for b in layer.outputs}


# --- what is refused ---


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("package", [package_android, package_ios])
def test_kotlin_and_swift_do_not_look(package: Callable[..., Path], tmp_path: Path) -> None:
    artifact = looker(tmp_path / "who", WHO, 0)
    assert "looks at faces, which Kotlin and Swift do not run" in refused(
        lambda: package(artifact.path, tmp_path / "a")
    )
    assert not (tmp_path / "a").exists()


def test_the_runner_does_not_look(tmp_path: Path) -> None:
    artifact = looker(tmp_path / "who", WHO, 0)
    found = answers.write_artifact(tmp_path / "found")
    whole = make_chain(found.path, [artifact.path], tmp_path / "chain")
    assert "family crop" in refused(lambda: artifact_files(artifact, {}, "f"))
    assert "is a chain, which the runner does not run" in refused(lambda: artifact_files(whole, {}, "f"))
    assert artifact_files(found, {}, "f")


def test_other_lookers_and_bins_are_refused() -> None:
    spec = registry.get("landmarks106").network_specs()[0]
    assert "family landmarks106" in refused(lambda: crop_constants(spec, PipelineEntry("landmarks106", {})))
    sizes = (66, 66, 50)
    outputs = tuple(TensorSpec(f"a{i}", (1, count)) for i, count in enumerate(sizes))
    spec = NetworkSpec(NETWORK, (TensorSpec("image", (1, 3, 24, 40)),), outputs)
    entry = pipelines.configure("crop", {"meaning": {"pose": {"form": "bins"}}})
    assert "different counts" in refused(lambda: crop_constants(spec, entry))
    equal = replace(spec, outputs=tuple(replace(t, shape=(1, 66)) for t in outputs))
    assert crop_constants(equal, entry).pose.outputs == 3
