"""Artifacts that are damaged, unsafe or unfinished are refused by name; writing one is all or nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from facedeploy.artifact.folder import MANIFEST, Artifact, staged, write_manifest
from facedeploy.artifact.manifest import VERSION
from facedeploy.core.errors import ArtifactError, InputError
from facedeploy.core.hashing import sha256
from tests.conftest import GetArtifact
from tests.support.manifests import Edit, edit


@pytest.fixture
def copy(artifact: GetArtifact, tmp_path: Path) -> Path:
    """A private copy of a real artifact."""
    return Path(shutil.copytree(artifact("onnx-fp32").path, tmp_path / "mtcnn"))


def point(folder: Path, path: str) -> None:
    """Make the manifest name another file, one whose size and digest are right if it can be read."""

    def change(data: dict[str, Any]) -> None:
        entry = data["networks"][0]["files"]["onnx"]
        entry["path"] = path

    edit(folder, change)


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(folder)
    assert caught.value.exit_status == 2
    return one_sentence(str(caught.value))


def one_sentence(message: str) -> str:
    assert "\n" not in message
    assert not re.search(r"[.!?] [A-Z]", message), message
    return message


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def test_opens_what_export_wrote(copy: Path, artifact: GetArtifact) -> None:
    opened = Artifact.open(copy)
    assert opened.manifest == artifact("onnx-fp32").manifest
    assert opened.file("rnet", "onnx") == copy / "rnet.onnx"
    assert opened.size == sum(p.stat().st_size for p in copy.glob("*.onnx"))
    assert tree(copy) == {MANIFEST, "pnet.onnx", "rnet.onnx", "onet.onnx"}


def test_a_role_that_is_not_there(copy: Path) -> None:
    with pytest.raises(ArtifactError, match="network rnet has no engine file") as caught:
        Artifact.open(copy).file("rnet", "engine")
    assert str(copy) in one_sentence(str(caught.value))


def test_the_manifest_survives_a_round_trip(copy: Path) -> None:
    manifest = Artifact.open(copy).manifest
    (copy / MANIFEST).write_text("something older")
    write_manifest(copy, manifest)
    assert Artifact.open(copy).manifest == manifest
    assert MANIFEST in tree(copy)
    assert len(tree(copy)) == 4


@pytest.mark.parametrize("position", [0, -1], ids=["first", "last"])
def test_one_byte_changed(copy: Path, position: int) -> None:
    file = copy / "rnet.onnx"
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    message = refusal(copy)
    assert message.startswith(f"{file} is not the file that was exported")


def test_file_shortened(copy: Path) -> None:
    file = copy / "onet.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    assert str(file) in refusal(copy)


def test_file_missing(copy: Path) -> None:
    (copy / "pnet.onnx").unlink()
    message = refusal(copy)
    assert str(copy / "pnet.onnx") in message
    assert "missing" in message


def test_file_that_is_a_folder(copy: Path) -> None:
    (copy / "pnet.onnx").unlink()
    (copy / "pnet.onnx").mkdir()
    assert str(copy / "pnet.onnx") in refusal(copy)


def test_size_is_checked_as_well_as_the_digest(copy: Path) -> None:
    edit(copy, lambda data: data["networks"][2]["files"]["onnx"].update(size=1))
    assert str(copy / "onet.onnx") in refusal(copy)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"{}",
        b"[]",
        b"null",
        b'"facedeploy-artifact"',
        b" " * (5 << 20),
    ],
    ids=["empty", "cut", "binary", "open lists", "nested", "object", "list", "null", "text", "huge"],
)
def test_manifest_that_is_no_manifest(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    assert str(copy / MANIFEST) in refusal(copy)


@pytest.mark.parametrize("depth", [100, 400, 900, 3000, 20_000])
@pytest.mark.parametrize("key", ["model", "tools", "pipeline", "networks"])
def test_value_that_is_nested_deeply(copy: Path, key: str, depth: int) -> None:
    text = json.loads((copy / MANIFEST).read_text())
    text[key] = "@"
    (copy / MANIFEST).write_text(json.dumps(text).replace('"@"', "[" * depth + "]" * depth))
    assert str(copy / MANIFEST) in refusal(copy)


def test_manifest_missing(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    assert refusal(copy) == f"{copy} is not an artifact: give the folder that `facedeploy export` wrote"


def test_folder_missing(tmp_path: Path) -> None:
    assert str(tmp_path / "absent") in refusal(tmp_path / "absent")


def test_a_file_is_not_an_artifact(copy: Path) -> None:
    assert str(copy / MANIFEST) in refusal(copy / MANIFEST)


@pytest.mark.parametrize("version", [VERSION + 1, 0, "1", None, True, 1.5])
def test_another_version_says_what_to_do(copy: Path, version: object) -> None:
    edit(copy, lambda data: data.update(version=version))
    message = refusal(copy)
    assert str(copy / MANIFEST) in message
    assert "export the artifact again" in message


def test_future_version_names_both_versions(copy: Path) -> None:
    edit(copy, lambda data: data.update(version=VERSION + 1, something_new={}))
    message = refusal(copy)
    assert f"has version {VERSION + 1} and this release reads version {VERSION}" in message
    assert "update facedeploy" in message


@pytest.mark.parametrize("value", ["facedeploy-report", None, 1, ["facedeploy-artifact"]])
def test_another_format(copy: Path, value: object) -> None:
    edit(copy, lambda data: data.update(format=value))
    said = f"{copy / MANIFEST} is not a manifest of a facedeploy artifact: export the artifact again"
    assert refusal(copy) == said


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d["networks"][1].update(surprise=1), "networks[1].surprise"),
        (lambda d: d["networks"][1]["files"]["onnx"].update(url="x"), "networks[1].files.onnx.url"),
        (lambda d: d.pop("source"), "source"),
        (lambda d: d["networks"][0]["files"]["onnx"].pop("sha256"), "networks[0].files.onnx.sha256"),
        (lambda d: d["networks"][0]["files"]["onnx"].update(size="12"), "networks[0].files.onnx.size"),
        (lambda d: d["networks"][0]["files"]["onnx"].update(size=True), "networks[0].files.onnx.size"),
        (lambda d: d["networks"][2].update(engine="maybe"), "networks[2].engine"),
        (lambda d: d["target"].update(precision="fp8"), "target.precision"),
        (lambda d: d.update(networks={}), "networks"),
        (lambda d: d.update(pipeline=None), "pipeline"),
        (lambda d: d["parity"][0].update(max_abs=None), "parity[0].max_abs"),
    ],
)
def test_wrong_key_or_value_is_named(copy: Path, change: Edit, place: str) -> None:
    edit(copy, change)
    assert refusal(copy).startswith(f"{copy / MANIFEST}: {place} ")


def outside(tmp_path: Path) -> Path:
    """The real file, beside the artifact: only its place is wrong."""
    return Path(shutil.copy(tmp_path / "mtcnn" / "pnet.onnx", tmp_path / "outside.onnx"))


@pytest.mark.parametrize("spelling", ["../outside.onnx", "sub/../../outside.onnx", "./../outside.onnx"])
def test_path_that_climbs_out(copy: Path, tmp_path: Path, spelling: str) -> None:
    outside(tmp_path)
    (copy / "sub").mkdir()
    point(copy, spelling)
    message = refusal(copy)
    assert f"{copy / MANIFEST}: the path {spelling!r} leaves the artifact" in message


def test_absolute_path(copy: Path, tmp_path: Path) -> None:
    point(copy, str(outside(tmp_path)))
    assert "leaves the artifact" in refusal(copy)


def test_absolute_path_into_the_artifact(copy: Path) -> None:
    point(copy, str(copy / "pnet.onnx"))
    assert "leaves the artifact" in refusal(copy)


@pytest.mark.parametrize("spelling", ["..\\outside.onnx", "C:\\outside.onnx", "sub\\pnet.onnx"])
def test_path_with_backslashes(copy: Path, spelling: str) -> None:
    shutil.copy(copy / "pnet.onnx", copy / spelling)
    point(copy, spelling)
    assert "leaves the artifact" in refusal(copy)


def test_symlink_that_leaves_the_folder(copy: Path, tmp_path: Path) -> None:
    outside(tmp_path)
    (copy / "pnet.onnx").unlink()
    (copy / "pnet.onnx").symlink_to("../outside.onnx")
    assert "the path 'pnet.onnx' leaves the artifact" in refusal(copy)


def test_folder_symlink_that_leaves_the_folder(copy: Path, tmp_path: Path) -> None:
    outside(tmp_path)
    (copy / "sub").symlink_to(tmp_path)
    point(copy, "sub/outside.onnx")
    assert "the path 'sub/outside.onnx' leaves the artifact" in refusal(copy)


def test_symlink_that_stays_inside(copy: Path) -> None:
    (copy / "pnet.onnx").rename(copy / "real.onnx")
    (copy / "pnet.onnx").symlink_to("real.onnx")
    assert Artifact.open(copy).file("pnet", "onnx").resolve() == (copy / "real.onnx").resolve()


def test_symlink_to_the_artifact_itself(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(copy)
    assert Artifact.open(tmp_path / "current").manifest.model == "mtcnn"


@pytest.mark.parametrize(
    "spelling", ["", ".", "a\0b", "x" * 300, "loop"], ids=["empty", "dot", "null byte", "too long", "symlink loop"]
)
def test_path_that_is_no_file_name(copy: Path, spelling: str) -> None:
    (copy / "loop").symlink_to("loop")
    point(copy, spelling)
    assert str(copy) in refusal(copy)


def test_unfinished_folder(copy: Path, tmp_path: Path) -> None:
    """Complete as it looks, the exporter had not said that it was done with it."""
    copy.rename(tmp_path / ".mtcnn.x.partial")
    assert str(tmp_path / ".mtcnn.x.partial") in refusal(tmp_path / ".mtcnn.x.partial")


def test_staged_folder_appears_complete(tmp_path: Path) -> None:
    with staged(tmp_path / "deep" / "er" / "out") as folder:
        (folder / "file").write_text("1")
        assert not (tmp_path / "deep" / "er" / "out").exists()
        with pytest.raises(ArtifactError):
            Artifact.open(folder)
    assert tree(tmp_path) == {"deep", "deep/er", "deep/er/out", "deep/er/out/file"}
    assert (tmp_path / "deep" / "er" / "out").stat().st_mode & 0o777 == 0o755


def test_staged_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged(tmp_path / "out") as folder:
        (folder / "file").write_text("1")
    assert tree(tmp_path) == {"out", "out/file"}


def test_staged_takes_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with staged(".") as folder:
        (folder / "file").write_text("1")
    assert tree(tmp_path) == {"here", "here/file"}


def test_staged_takes_a_symlink_to_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    with staged(tmp_path / "out") as folder:
        (folder / "file").write_text("1")
    assert (tmp_path / "out" / "file").read_text() == "1"


def test_staged_leaves_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("keep me")
    with pytest.raises(InputError) as caught, staged(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert str(tmp_path / "out") in one_sentence(str(caught.value))
    assert tree(tmp_path) == {"out", "out/precious"}
    assert (tmp_path / "out" / "precious").read_text() == "keep me"


def test_staged_leaves_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("keep me")
    with pytest.raises(InputError) as caught, staged(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert str(tmp_path / "out") in one_sentence(str(caught.value))
    assert (tmp_path / "out").read_text() == "keep me"
    assert tree(tmp_path) == {"out"}


def test_staged_leaves_what_another_process_wrote_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, staged(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("keep me")
    assert str(tmp_path / "out") in one_sentence(str(caught.value))
    assert tree(tmp_path) == {"out", "out/precious"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [False, True])
def test_staged_leaves_nothing_after_an_exception(tmp_path: Path, error: type[BaseException], existed: bool) -> None:
    if existed:
        (tmp_path / "out").mkdir()
    with pytest.raises(error), staged(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("1")
        raise error
    assert tree(tmp_path) == ({"out"} if existed else set())


def test_staged_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep me")
    with pytest.raises(InputError) as caught, staged(tmp_path / "file" / "out"):
        pytest.fail("the block must not run")
    assert str(tmp_path / "file" / "out") in one_sentence(str(caught.value))
    assert (tmp_path / "file").read_text() == "keep me"


def test_staged_under_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, staged(tmp_path / ("x" * 300)):
        pytest.fail("the block must not run")
    one_sentence(str(caught.value))
    assert tree(tmp_path) == set()


def test_digest_of_a_known_text(tmp_path: Path) -> None:
    """The example of FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
