"""The Swift package, as far as a machine without Swift can say: its paths, the C that it calls, and its script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.core.terms import TERMS_FILE
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.package.bundle import package_ios
from tests.cpp import answers, c_api, stream

SLICES = ("ios-arm64", "ios-arm64_x86_64-simulator", "macos-arm64_x86_64")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return answers.write_artifact(tmp_path_factory.mktemp("artifact") / "mos")


@pytest.fixture(scope="module")
def package(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_ios(artifact.path, tmp_path_factory.mktemp("package") / "Face")


@pytest.fixture(scope="module")
def embedded(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_ios(artifact.path, tmp_path_factory.mktemp("package") / "Face", embed=True)


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_folder_is_a_package(package: Path, artifact: Artifact) -> None:
    headers = {f"Sources/CFacedeploy/facedeploy/{p.name}" for p in (stream.HEADERS / "facedeploy").glob("*.hpp")}
    code = {"facedeploy.cpp", "include/facedeploy.h", "include/module.modulemap", "model/model.hpp"}
    models = {f"Sources/Facedeploy/Model/{n}.{kind}" for n in ("detector", "pose") for kind in ("param", "bin")}
    swift = {"Sources/Facedeploy/Face.swift", "Sources/Facedeploy/FaceDetector.swift", "Package.swift"}
    assert tree(package) == headers | {f"Sources/CFacedeploy/{n}" for n in code} | models | swift | {
        "README.md",
        "ncnn.sh",
        TERMS_FILE,
        f"Sources/Facedeploy/Model/{TERMS_FILE}",
    }
    for name in models:
        assert (package / name).read_bytes() == (artifact.path / Path(name).name).read_bytes()


def test_embedded_networks_are_no_resources(embedded: Path) -> None:
    assert {"Sources/CFacedeploy/model/embedded.cpp", "Sources/CFacedeploy/model/embedded.hpp"} <= tree(embedded)
    assert not any(n.endswith((".param", ".bin")) for n in tree(embedded))
    assert not (embedded / "Sources" / "Facedeploy" / "Model").exists()


@pytest.mark.parametrize("which", ["package", "embedded"])
def test_paths_of_the_manifest_are_there(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    text = (folder / "Package.swift").read_text(encoding="utf-8")
    is_embedded = re.findall(r"let embedded = (\w+)", text) == ["true"]
    assert is_embedded == (which == "embedded")
    paths = re.findall(r'\bpath: "([^"]+)"', text)
    assert {"Sources/Facedeploy", "Sources/CFacedeploy"} < set(paths)
    # Those that ncnn.sh writes.
    written = {p for p in paths if p.startswith("Frameworks/")}
    assert written == {"Frameworks/ncnn.xcframework", "Frameworks/openmp.xcframework"}
    assert all((folder / p).is_dir() for p in set(paths) - written)
    code = folder / "Sources" / "CFacedeploy"
    searched = re.findall(r'headerSearchPath\("([^"]+)"\)', text)
    assert searched == [".", "model"]
    assert all((code / p).is_dir() for p in (*searched, *re.findall(r'publicHeadersPath: "([^"]+)"', text)))
    resources = re.findall(r'\.copy\("([^"]+)"\)', text)
    assert all((folder / "Sources" / "Facedeploy" / r).is_dir() != is_embedded for r in resources)
    targets = set(re.findall(r'arget\(\s*name: "(\w+)"', text))
    assert targets == {"Facedeploy", "CFacedeploy", "ncnn", "openmp"}
    used = {
        n
        for group in re.findall(r"(?:dependencies|targets): \[((?:\"[^\]]*)?)\]", text)
        for n in re.findall(r"\w+", group)
    }
    assert used == targets


# --- Swift against the header ---


def unknown(swift: str, header: str) -> set[str]:
    """What Swift calls of C that the header does not declare: functions with their number of arguments, constants, and
    fields of structs.
    """
    plain = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    functions = {
        name: 0 if words.strip() == "void" else words.count(",") + 1
        for name, words in re.findall(r"\b(facedeploy_\w+)\(([^)]*)\);", plain)
    }
    constants = set(re.findall(r"\b(FACEDEPLOY_[A-Z_]+) = \d", plain))
    types = set(re.findall(r"typedef (?:struct|enum) (\w+)", plain))
    fields = {
        name: set(re.findall(r"(\w+);", body)) for name, body in re.findall(r"struct (\w+) \{(.*?)\}", plain, re.DOTALL)
    }
    wrong = {n for n in re.findall(r"\bFACEDEPLOY_[A-Z_]+\b", swift) if n not in constants | {"FACEDEPLOY_EMBEDDED"}}
    for name, arguments in re.findall(r"\b(facedeploy_\w+)\(([^()]*(?:\([^()]*\))?[^()]*)\)", swift):
        count = 0 if not arguments.strip() else arguments.count(",") + 1
        if name not in types and functions.get(name) != count:
            wrong.add(f"{name}({count})")
    mentioned = set(re.findall(r"\bfacedeploy_\w+\b", swift))
    wrong |= mentioned - types - set(functions)
    for variable, struct in (("picture", "facedeploy_picture"), ("found", "facedeploy_face")):
        used = set(re.findall(rf"\b{variable}\.(\w+)", swift))
        assert used, f"nothing of {struct} is used"
        wrong |= {f"{struct}.{f}" for f in used - fields[struct]}
    return wrong


def sources(package: Path) -> tuple[str, str]:
    swift = "\n".join(p.read_text(encoding="utf-8") for p in sorted((package / "Sources/Facedeploy").glob("*.swift")))
    return swift, (package / "Sources/CFacedeploy/include/facedeploy.h").read_text(encoding="utf-8")


def test_swift_calls_what_the_header_has(package: Path) -> None:
    swift, header = sources(package)
    assert unknown(swift, header) == set()
    for field in re.findall(r"(\w+);", header.split("typedef struct facedeploy_face {")[1].split("}")[0]):
        assert f"found.{field}" in swift, f"Swift leaves out {field}"


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("facedeploy_close(handle)", "facedeploy_shut(handle)", "facedeploy_shut(1)"),
        ("facedeploy_close(handle)", "facedeploy_close(handle, 1)", "facedeploy_close(2)"),
        ("FACEDEPLOY_BGRA", "FACEDEPLOY_ARGB", "FACEDEPLOY_ARGB"),
        ("found.yaw", "found.angle", "facedeploy_face.angle"),
        ("picture.stride", "picture.rowBytes", "facedeploy_picture.rowBytes"),
    ],
)
def test_swift_that_calls_something_else_is_found_out(right: str, wrong: str, said: str, package: Path) -> None:
    swift, header = sources(package)
    assert right in swift
    assert said in unknown(swift.replace(right, wrong), header)


# --- C, as the Swift package compiles it ---


@pytest.mark.parametrize("which", ["package", "embedded"])
def test_c_of_the_package_finds_the_faces(
    which: str, artifact: Artifact, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(which)
    code = folder / "Sources" / "CFacedeploy"
    compiler = "clang++" if shutil.which("clang++") else "g++"
    includes = [code, code / "model", code / "include"]
    program = c_api.compile_c(tmp_path / "program", sorted(code.rglob("*.cpp")), includes, compiler=compiler)
    image = c_api.picture(100, 150)
    how, model = ("embedded", "") if which == "embedded" else ("folder", folder / "Sources" / "Facedeploy" / "Model")
    (row,) = c_api.call(program, how, model, [c_api.raw(tmp_path / "a", image, "bgra", 10)])
    with answers.open_pipeline(artifact) as pipeline:
        difference = compare_faces([pipeline.detect(image)], [c_api.faces(row)])
    assert difference.same_faces
    assert difference.matched == 3
    assert max(difference.box, difference.landmarks, difference.angle) < 1e-3


def test_header_is_a_module(package: Path, tmp_path: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("no clang: the module map is not read")
    include = package / "Sources" / "CFacedeploy" / "include"
    used = tmp_path / "used.m"
    used.write_text("@import CFacedeploy;\nint main(void) { return facedeploy_is_embedded() + FACEDEPLOY_OK; }\n")
    command = [clang, "-fsyntax-only", "-Werror", "-fmodules", f"-fmodules-cache-path={tmp_path}", f"-I{include}", used]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pragma", [True, False])
def test_clang_fuses_no_multiplication(pragma: bool, package: Path, tmp_path: Path) -> None:
    """Swift packages have no flag for it, so the source says it; without that the processor of phones would fuse."""
    clang = shutil.which("clang++")
    if clang is None or not Path("/usr/aarch64-linux-gnu/include").is_dir():
        pytest.skip("no clang++ with headers of aarch64")
    code = shutil.copytree(package / "Sources" / "CFacedeploy", tmp_path / "code")
    source = code / "facedeploy.cpp"
    text = source.read_text(encoding="utf-8") + "double fusible(double a, double b, double c) { return a * b + c; }\n"
    assert text.count("#pragma STDC FP_CONTRACT OFF\n") == 1
    source.write_text(text if pragma else text.replace("#pragma STDC FP_CONTRACT OFF\n", ""), encoding="utf-8")
    includes = [f"-I{p}" for p in (code, code / "model", code / "include", c_api.MEMORY)]
    # "on" is what newer ones of clang do unasked.
    flags = ["--target=aarch64-linux-gnu", "-std=c++17", "-O2", "-ffp-contract=on", "-S", *includes]
    command = [clang, *flags, source, "-o", tmp_path / "a.s"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fused = re.findall(r"\bf(?:n?m(?:add|sub)|mla|mls)\b", (tmp_path / "a.s").read_text(encoding="utf-8"))
    assert bool(fused) != pragma


# --- ncnn.sh ---


def release(path: Path, names: tuple[str, ...] = ("ncnn", "openmp")) -> Path:
    """A zip as ncnn's release for Apple is: frameworks of static libraries with a folder Versions, joined by links."""
    with zipfile.ZipFile(path, "w") as file:

        def link(name: str, target: str) -> None:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = 0o120777 << 16
            file.writestr(info, target)

        for name in names:
            for part in SLICES:
                home = f"{name}.xcframework/{part}/{name}.framework"
                file.writestr(f"{home}/Versions/A/{name}", f"{name} for {part}")
                file.writestr(f"{home}/Versions/A/Headers/ncnn/net.h", "")
                link(f"{home}/Versions/Current", "A")
                link(f"{home}/{name}", f"Versions/Current/{name}")
                link(f"{home}/Headers", "Versions/Current/Headers")
            file.writestr(f"{name}.xcframework/Info.plist", "")
    return path


XCODEBUILD = """#!/bin/sh
# Writes what it was asked for: each library with its headers.
echo "$@" >> "$LOG"
while [ "$1" != -output ]; do
    case $1 in
        -library) library=$2; name=$(basename "$2"); content=$(cat "$2"); echo "$name: $content" >> "$LOG"; shift;;
        -headers) ls "$2/ncnn/net.h" > /dev/null || exit 1; echo "headers" >> "$LOG"; shift;;
    esac
    shift
done
mkdir -p "$2"
"""


def script(package: Path, tmp_path: Path, *words: object) -> tuple[subprocess.CompletedProcess[str], str, Path]:
    if shutil.which("unzip") is None:
        pytest.skip("no unzip")
    home = shutil.copytree(package, tmp_path / "a folder")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "xcodebuild").write_text(XCODEBUILD)
    (tools / "xcodebuild").chmod(0o755)
    log = tmp_path / "log"
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "LOG": str(log)}
    command = ["sh", str(home / "ncnn.sh"), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, log.read_text() if log.exists() else "", home


def test_script_makes_plain_libraries_of_the_release(package: Path, tmp_path: Path) -> None:
    done, log, home = script(package, tmp_path, release(tmp_path / "ncnn-20260101-apple.zip"))
    assert done.returncode == 0, done.stderr
    for name in ("ncnn", "openmp"):
        assert [f"lib{name}.a: {name} for {part}" in log for part in SLICES] == [True] * 3
        assert (home / "Frameworks" / f"{name}.xcframework").is_dir()
    assert log.splitlines().count("headers") == len(SLICES)


def test_script_refuses_another_zip(package: Path, tmp_path: Path) -> None:
    done, _, home = script(package, tmp_path, release(tmp_path / "other.zip", ("ncnn",)))
    assert done.returncode != 0
    assert "openmp" in done.stderr
    assert not (home / "Frameworks" / "ncnn.xcframework").exists()
