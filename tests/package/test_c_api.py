"""The C functions of a phone's folder, over a stand-in for ncnn: the faces of Python, and an error for all else."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.metrics.face_matching import compare_faces
from facedeploy.package.bundle import package_cpp
from tests.cpp import answers, c_api, stream
from tests.cpp.c_api import Raw

OK, BAD_PICTURE, NOT_FINITE, NETWORK_FAILED, BAD_CALL, NOT_LOADED, NOT_EMBEDDED, NO_MEMORY = 0, 2, 4, 5, 6, 7, 8, 9


def build(folder: Path, output: Path, *flags: str) -> Path:
    sources = [folder / "c" / "facedeploy.cpp", *folder.glob("model/embedded.cpp")]
    includes = [folder / "c", folder / "include", folder / "model"]
    return c_api.compile_c(output, sources, includes, *(flags or (*stream.SANITIZERS, "-O0")))


class Built:
    """A packaged folder and the program over it."""

    def __init__(self, home: Path, family: str, embed: bool) -> None:
        assert family in ("mos", "boxes")
        self.artifact: Artifact = answers.write_artifact(home / "artifact", "mos" if family == "mos" else "boxes")
        self.folder = package_cpp(self.artifact.path, home / "app", embed=embed)
        self.model = self.folder / "model"
        self.program = build(self.folder, home / "program", *(() if family == "mos" else ("-O0",)))


@pytest.fixture(scope="module")
def mos(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("mos"), "mos", embed=True)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("boxes"), "boxes", embed=False)


def same_faces(built: Built, how: str, tmp_path: Path) -> None:
    images = [c_api.picture(*size) for size in ((64, 96), (300, 200), (41, 333))]
    pictures = [
        c_api.raw(tmp_path / f"{i}{form}", image, form, padding)
        for i, image in enumerate(images)
        for form, padding in zip(c_api.FORMATS, (0, 5, 0, 8), strict=True)
    ]
    rows = c_api.call(built.program, how, built.model, pictures)
    assert [row["status"] for row in rows] == [OK] * 12
    with answers.open_pipeline(built.artifact) as pipeline:
        wanted = [pipeline.detect(image) for image in images for _ in c_api.FORMATS]
    found = [c_api.faces(row) for row in rows]
    difference = compare_faces(wanted, found)
    assert difference.same_faces
    assert difference.matched == 36
    assert max(difference.box, difference.landmarks, difference.angle) < 1e-3
    assert [f.score for f in found[0]] == pytest.approx([f.score for f in wanted[0]], abs=1e-6)


@pytest.mark.parametrize("how", ["folder", "bytes", "embedded"])
def test_faces_of_python(how: str, mos: Built, tmp_path: Path) -> None:
    same_faces(mos, how, tmp_path)


@pytest.mark.parametrize("how", ["folder", "bytes"])
def test_faces_of_a_network_of_ones_own(how: str, boxes: Built, tmp_path: Path) -> None:
    same_faces(boxes, how, tmp_path)
    (row,) = c_api.call(boxes.program, how, boxes.model, [c_api.raw(tmp_path / "a", c_api.picture(64, 96))])
    # Angles that the model has not are not there.
    assert set(row["faces"][0]) == {"box", "score", "landmarks", "yaw"}


def test_comparison_finds_a_wrong_order_of_colours(mos: Built, tmp_path: Path) -> None:
    image = c_api.picture(64, 96)
    right = c_api.raw(tmp_path / "a", image)
    wrong = replace(right, format=c_api.FORMATS.index("rgb"))
    rows = c_api.call(mos.program, "folder", mos.model, [right, wrong])
    assert c_api.faces(rows[0]) != c_api.faces(rows[1])


def test_not_embedded(boxes: Built) -> None:
    (row,) = c_api.call(boxes.program, "embedded", boxes.model)
    assert row["status"] == NOT_EMBEDDED
    assert "--embed" in row["message"]


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_no_number_of_threads(threads: int, mos: Built) -> None:
    for how in ("folder", "bytes", "embedded"):
        (row,) = c_api.call(mos.program, how, mos.model, threads=threads)
        assert row["status"] == BAD_CALL


@pytest.mark.parametrize("how", ["folder", "bytes"])
@pytest.mark.parametrize("file", ["detector.param", "detector.bin", "pose.param", "pose.bin"])
@pytest.mark.parametrize("wrong", ["missing", "empty", "truncated"])
def test_files_that_are_not_whole(how: str, file: str, wrong: str, mos: Built, tmp_path: Path) -> None:
    model = shutil.copytree(mos.model, tmp_path / "model")
    path = model / file
    content = path.read_bytes()
    if wrong == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: 0 if wrong == "empty" else 20 if file.endswith("param") else len(content) - 1])
    (row,) = c_api.call(mos.program, how, model)
    assert row["status"] == NOT_LOADED
    assert "package the artifact again" in row["message"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"height": -1}, BAD_PICTURE),
        ({"width": 70000}, BAD_PICTURE),
        ({"stride": 96 * 3 - 1}, BAD_PICTURE),
        ({"file": "null"}, BAD_PICTURE),
        ({"format": 4}, BAD_CALL),
        ({"format": -1}, BAD_CALL),
        ({"height": 0}, OK),
    ],
)
def test_pictures_that_are_none(change: dict[str, int | str], status: int, mos: Built, tmp_path: Path) -> None:
    right = c_api.raw(tmp_path / "a", c_api.picture(64, 96))
    wrong = Raw(**{**right.__dict__, **change})
    rows = c_api.call(mos.program, "folder", mos.model, [right, wrong, right])
    assert [row["status"] for row in rows] == [OK, status, OK]
    assert rows[1]["faces"] == []
    # What went wrong does not stay.
    assert rows[2] == rows[0]


def test_null_pointers(mos: Built) -> None:
    assert c_api.call(mos.program, "null", "x") == [[BAD_CALL] * 6]


@pytest.mark.parametrize(("line", "status"), [("fails", NETWORK_FAILED), ("nan", NOT_FINITE)])
def test_networks_that_fail(line: str, status: int, mos: Built, tmp_path: Path) -> None:
    model = shutil.copytree(mos.model, tmp_path / "model")
    if line == "nan":
        path = model / "pose.bin"
        path.write_bytes(b"\xff" * path.stat().st_size)
    else:
        path = model / "detector.param"
        path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    (row,) = c_api.call(mos.program, "bytes", model, [c_api.raw(tmp_path / "a", c_api.picture(64, 96))])
    assert row["status"] == status
    assert row["faces"] == []


def test_no_exception_leaves_where_memory_ends(mos: Built, tmp_path: Path) -> None:
    """Every allocation fails once: the standard library's streams turn some of that into a file that does not load."""
    folder, output = mos.folder, tmp_path / "program"
    sources = [folder / "c" / "facedeploy.cpp", folder / "model" / "embedded.cpp"]
    flags = [f"-I{p}" for p in (folder / "c", folder / "include", folder / "model", c_api.MEMORY)]
    program = c_api.HERE / "no_memory.cpp"
    command = ["g++", "-std=c++17", *stream.WARNINGS, "-O0", "-fsanitize=address,undefined", *flags, *sources, program]
    done = subprocess.run([*map(str, command), "-o", str(output)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([str(output), str(mos.model)], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    opened, detected = ({int(w) for w in line.split()} for line in ran.stdout.splitlines())
    assert {OK, NO_MEMORY} <= opened <= {OK, NOT_LOADED, NO_MEMORY}
    assert detected == {OK, NO_MEMORY}


@pytest.mark.parametrize("compiler", ["g++", "aarch64-linux-gnu-g++"])
def test_compiles_as_phones_do(compiler: str, mos: Built, tmp_path: Path) -> None:
    """Without exceptions and run-time types, which ncnn's releases for phones ask for."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    folder = mos.folder
    flags = ["-fno-exceptions", "-fno-rtti", "-c", f"-I{c_api.MEMORY}", f"-I{folder / 'model'}"]
    source = folder / "c" / "facedeploy.cpp"
    stream.compile_driver(tmp_path / "a.o", *flags, headers=folder / "include", compiler=compiler, source=source)


def test_the_header_is_c_and_cpp(mos: Built, tmp_path: Path) -> None:
    used = tmp_path / "used.cpp"
    used.write_text('#include "facedeploy.h"\nint main() { return facedeploy_is_embedded(); }\n')
    flags = ["-fsyntax-only", "-Wold-style-cast", "-Wzero-as-null-pointer-constant"]
    stream.compile_driver(tmp_path / "used", *flags, headers=mos.folder / "c", source=used)


def test_embedded_arrays_are_the_files(mos: Built) -> None:
    """Read back without a compiler."""
    text = (mos.model / "embedded.cpp").read_text(encoding="utf-8")
    for i, name in enumerate(("detector", "pose")):
        words = text.split(f"bin_{i}[] = {{")[1].split("};")[0].replace(",", " ").split()
        assert b"".join(int(w, 16).to_bytes(4, "little") for w in words) == (mos.model / f"{name}.bin").read_bytes()
        lines = text.split(f"param_{i}[] =")[1].split(";\n")[0].split("\n")
        param = "".join(json.loads(line.strip().replace("\\012", "\\n")) for line in lines if line.strip())
        assert param == (mos.model / f"{name}.param").read_text(encoding="utf-8")
