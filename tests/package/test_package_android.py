"""The Android module: Kotlin over JNI over C, run by this machine's Java over stand-ins for Android and ncnn."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.core.face import Face
from facedeploy.core.terms import TERMS_FILE
from facedeploy.export.exporter import export
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.package.bundle import package_android
from facedeploy.pipelines.load import load
from tests.cpp import answers, c_api, stream
from tests.cpp.ncnn_itself import ncnn_itself

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
STAND_INS = Path(__file__).parents[1] / "android"
BAD_PICTURE, BAD_CALL, NOT_LOADED = 2, 6, 7
RGBA_8888, RGB_565, UNKNOWN = 1, 4, 0  # Of the NDK; the last one is what only the stand-in takes for ARGB_8888.
PAGE = 16384


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return answers.write_artifact(tmp_path_factory.mktemp("artifact") / "mos")


@pytest.fixture(scope="module")
def module(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_android(artifact.path, tmp_path_factory.mktemp("module") / "face")


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_folder_is_a_module(module: Path, artifact: Artifact) -> None:
    kotlin = {f"src/main/kotlin/facedeploy/{n}.kt" for n in ("Face", "FaceDetector", "Native")}
    headers = {f"src/main/cpp/include/facedeploy/{p.name}" for p in (stream.HEADERS / "facedeploy").glob("*.hpp")}
    cpp = {"CMakeLists.txt", "facedeploy.h", "facedeploy.cpp", "facedeploy_jni.cpp", "model/model.hpp"}
    assets = {f"src/main/assets/facedeploy/{n}.{kind}" for n in ("detector", "pose") for kind in ("param", "bin")}
    rest = {
        "build.gradle.kts",
        "settings.gradle.kts",
        "consumer-rules.pro",
        "README.md",
        "src/main/AndroidManifest.xml",
        TERMS_FILE,
        f"src/main/assets/facedeploy/{TERMS_FILE}",
    }
    assert tree(module) == kotlin | headers | {f"src/main/cpp/{n}" for n in cpp} | assets | rest
    for name in assets:
        assert (module / name).read_bytes() == (artifact.path / Path(name).name).read_bytes()


def test_embedded_networks_are_no_assets(artifact: Artifact, tmp_path: Path) -> None:
    folder = package_android(artifact.path, tmp_path / "face", embed=True)
    assert {"src/main/cpp/model/embedded.cpp", "src/main/cpp/model/embedded.hpp"} <= tree(folder)
    assert not any(n.endswith((".param", ".bin")) for n in tree(folder))


def externals(folder: Path) -> set[str]:
    """The functions that Kotlin calls, as JNI names them."""
    text = (folder / "src/main/kotlin/facedeploy/Native.kt").read_text(encoding="utf-8")
    return {f"Java_facedeploy_Native_{name}" for name in re.findall(r"external fun (\w+)", text)}


def test_shrinking_keeps_the_names_that_jni_looks_up(module: Path) -> None:
    assert "facedeploy.Native " in (module / "consumer-rules.pro").read_text(encoding="utf-8")
    assert len(externals(module)) == 6


# --- built ---


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}: the Android module is not built")
    return path


def run(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=300, **more)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


def java_headers() -> list[Path]:
    include = Path(tool("javac")).resolve().parents[1] / "include"
    if not (include / "jni.h").is_file():
        pytest.skip("this Java has no jni.h")
    return [include, include / "linux"]


def build_library(module: Path, output: Path, ncnn: Path | None = None) -> Path:
    """Build libfacedeploy.so with the module's CMakeLists.txt, as Gradle does.

    ncnn: the lib/cmake/ncnn of a real one. Else the stand-in, where a release would be unpacked.
    """
    cmake, compiler = tool("cmake"), tool("g++")
    includes = [STAND_INS, *java_headers()]
    flags = " ".join([*stream.WARNINGS, "-Wno-pedantic", f"-I{STAND_INS}", *(f"-isystem {p}" for p in includes[1:])])
    output.mkdir()
    jni = [f"-I{p}" for p in includes]
    run(compiler, "-shared", "-fPIC", *jni, STAND_INS / "bitmap.cpp", "-o", output / "libjnigraphics.so")
    if ncnn is None:
        release = module / "ncnn-20260101-android" / "x86_64" / "lib" / "cmake" / "ncnn"
        release.mkdir(parents=True, exist_ok=True)
        (release / "ncnnConfig.cmake").write_text(
            f'add_library(ncnn INTERFACE IMPORTED)\ntarget_include_directories(ncnn INTERFACE "{c_api.MEMORY}")\n'
            "target_compile_options(ncnn INTERFACE -fno-rtti -fno-exceptions)\n"
        )
    found = "-DANDROID_ABI=x86_64" if ncnn is None else f"-Dncnn_DIR={ncnn}"
    given = [f"-DCMAKE_CXX_FLAGS={flags}", f"-DCMAKE_SHARED_LINKER_FLAGS=-L{output}", found]
    run(cmake, "-S", module / "src" / "main" / "cpp", "-B", output / "build", *given)
    run(cmake, "--build", output / "build")
    return output


@pytest.fixture(scope="module")
def library(module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = shutil.copytree(module, tmp_path_factory.mktemp("copy") / "face")
    return build_library(copy, tmp_path_factory.mktemp("library") / "out")


@pytest.fixture(scope="module")
def classes(module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module's Kotlin with the stand-ins and the test's main."""
    kotlinc, javac = tool("kotlinc"), tool("javac")
    tool("java")
    folder = tmp_path_factory.mktemp("classes")
    run(javac, "-d", folder / "stand-ins", *sorted((STAND_INS / "java").rglob("*.java")))
    sources = [module / "src" / "main" / "kotlin", STAND_INS / "Main.kt"]
    run(kotlinc, "-cp", folder / "stand-ins", "-include-runtime", "-d", folder / "all.jar", *sources)
    return folder


def exported(library: Path) -> set[str]:
    names = run(tool("nm"), "-D", "--defined-only", library / "build" / "libfacedeploy.so").stdout
    return {line.split()[-1] for line in names.splitlines()}


def test_library_has_the_functions_that_kotlin_calls_and_shows_no_more(module: Path, library: Path) -> None:
    functions = {name for name in exported(library) if not name.startswith("_")}
    assert functions == externals(module)


def test_library_is_for_large_pages(library: Path) -> None:
    text = run(tool("readelf"), "-lW", library / "build" / "libfacedeploy.so").stdout
    loads = [int(line.split()[-1], 16) for line in text.splitlines() if line.strip().startswith("LOAD")]
    assert loads
    assert all(align % PAGE == 0 for align in loads)


def test_release_of_ncnn_that_is_not_there(module: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(module, tmp_path / "face")
    words = [tool("cmake"), "-S", str(copy / "src" / "main" / "cpp"), "-B", str(tmp_path / "b")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "unpack one of ncnn's releases there" in " ".join(done.stderr.split())


# --- run ---


@dataclass(frozen=True)
class App:
    """A Java with the module's classes and library."""

    classes: Path
    library: Path
    assets: Path | str

    def ask(self, *lines: Sequence[object], threads: int = 1) -> list[dict[str, Any]]:
        """The answer to each line; where the detector does not open, one that says why."""
        path = f"{self.classes / 'all.jar'}:{self.classes / 'stand-ins'}"
        words = ["java", "-Xcheck:jni", f"-Djava.library.path={self.library / 'build'}", "-cp", path, "MainKt"]
        text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.library)}
        done = run(*words, self.assets, threads, input=text, env=environment)
        assert "WARNING" not in done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def app(module: Path, library: Path, classes: Path) -> App:
    return App(classes, library, module / "src" / "main" / "assets")


def line(kind: str, picture: c_api.Raw, form: object = None, extra: object = 0) -> list[object]:
    name = c_api.FORMATS[picture.format].upper() if form is None else form
    return [kind, picture.file, picture.width, picture.height, picture.stride, name, extra]


def same(rows: Sequence[dict[str, Any]], wanted: Sequence[Sequence[Face]]) -> None:
    assert all("faces" in row for row in rows), rows
    difference = compare_faces([list(w) for w in wanted], [c_api.faces(row) for row in rows])
    assert difference.same_faces
    assert difference.matched >= len(wanted)
    # Kotlin has them in floats.
    assert max(difference.box, difference.landmarks, difference.angle) < 1e-3


def test_faces_of_python(app: App, artifact: Artifact, tmp_path: Path) -> None:
    image = c_api.picture(120, 77)
    paddings = (0, 3, 0, 12)
    pictures = [
        c_api.raw(tmp_path / form, image, form, padding) for form, padding in zip(c_api.FORMATS, paddings, strict=True)
    ]
    later = tmp_path / "later"
    later.write_bytes(b"12345" + (tmp_path / "rgba").read_bytes())
    shifted = c_api.Raw(later, 120, 77, pictures[3].stride, pictures[3].format)
    rows = app.ask(
        *(line("buffer", p) for p in pictures),
        line("buffer", shifted, extra=5),
        line("bitmap", pictures[3], RGBA_8888),
        line("threads", pictures[0], extra=8),
    )
    with answers.open_pipeline(artifact) as pipeline:
        wanted = pipeline.detect(image)
    same(rows, [wanted] * 7)
    # What is compared depends on the picture.
    assert app.ask(line("buffer", pictures[0], "RGB"))[0] != rows[0]


def test_pictures_that_are_none(app: App, tmp_path: Path) -> None:
    image = c_api.picture(64, 96)
    right = c_api.raw(tmp_path / "a", image, "rgba")
    wide, negative = (c_api.Raw(right.file, 64, w, right.stride, 3) for w in (97, -1))
    tall = c_api.Raw(right.file, 65, 96, right.stride, 3)
    recycled = c_api.Raw("recycled", 64, 96, right.stride, 3)
    large = c_api.Raw(right.file, 65535, 65535, 2**31 - 1, 3)
    rows = app.ask(
        line("buffer", wide),
        line("buffer", tall),
        line("buffer", large),
        line("buffer", right, extra=1),
        line("bitmap", right, RGB_565),
        line("bitmap", right, UNKNOWN),
        line("bitmap", recycled, RGBA_8888),
        line("buffer", negative),
        line("heap", right),
        line("close", right),
        line("buffer", right),
        line("bitmap", right, RGBA_8888),
        line("close", right),
    )
    statuses = [row.get("status") for row in rows]
    assert statuses == [BAD_PICTURE] * 7 + [BAD_CALL, BAD_CALL, None, BAD_CALL, BAD_CALL, None]
    assert "ARGB_8888" in rows[4]["message"]
    assert "recycled" in rows[6]["message"]
    assert "direct" in rows[8]["message"]
    assert rows[10]["message"] == "the detector is closed"


@pytest.mark.parametrize("wrong", ["no assets", "missing", "truncated", "threads"])
def test_models_that_do_not_open(wrong: str, app: App, tmp_path: Path) -> None:
    assets = Path(shutil.copytree(app.assets, tmp_path / "assets"))
    path = assets / "facedeploy" / "pose.bin"
    if wrong == "missing":
        path.unlink()
    elif wrong == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    given = App(app.classes, app.library, "none" if wrong == "no assets" else assets)
    (row,) = given.ask(threads=0 if wrong == "threads" else 1)
    assert row["status"] == (BAD_CALL if wrong == "threads" else NOT_LOADED)
    if wrong == "missing":
        assert "facedeploy/pose.bin" in row["message"]


def test_faces_of_ncnn_itself(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    ncnn = ncnn_itself()
    for name in ("ncnn", "pnnx"):
        pytest.importorskip(name)
    home = tmp_path_factory.mktemp("real")
    made = export("mos-tiny", "ncnn-fp16", None, home / "tiny", input_size=(96, 128))
    module = package_android(made.path, home / "face", strip_names=True)
    app = App(classes, build_library(module, home / "out", ncnn), module / "src" / "main" / "assets")
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    image = np.asarray(photo, np.uint8)
    rows = app.ask(line("bitmap", c_api.raw(home / "raw", image, "rgba", 20), RGBA_8888), threads=2)
    with load(made, threads=1) as pipeline:
        difference = compare_faces([pipeline.detect(image)], [c_api.faces(row) for row in rows])
    assert difference.same_faces
    assert difference.matched == 1
    # Two builds of ncnn, in fp16.
    assert max(difference.box, difference.landmarks, difference.angle) < 0.5


def test_embedded_networks_need_no_assets(
    artifact: Artifact, classes: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("embedded")
    module = package_android(artifact.path, home / "face", embed=True)
    app = App(classes, build_library(module, home / "out"), "none")
    image = c_api.picture(64, 96)
    rows = app.ask(line("buffer", c_api.raw(home / "a", image)))
    with answers.open_pipeline(artifact) as pipeline:
        same(rows, [pipeline.detect(image)])
