"""Published weights from a server on this machine: checked, loaded strictly, and only then there."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import zipfile
from collections.abc import Iterator
from hashlib import sha1, sha256
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from facedeploy.core.errors import CheckpointError, DeviceError, InputError
from facedeploy.core.terms import TERMS_FILE
from facedeploy.models import registry
from facedeploy.models.fetch import SUMS, fetch
from facedeploy.models.model import Model
from facedeploy.models.published_files import PublishedFile
from tests.conftest import GetWeights
from tests.support.fill import fill
from tests.support.weights_server import Server, serving

MTCNN = registry.published("mtcnn")
PARTS = ("pnet.pt", "rnet.pt", "onet.pt")
PUBLISHED = {m.published: m for known in registry.MODELS.values() for m in (known, *known.layouts) if m.published}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving() as state:
        yield state


def at(server: Server, model: Model, files: dict[str, bytes], *, known: bool = True) -> Model:
    """The model with its files on a server, whose digests are known or not."""
    server.files |= {f"/{name}": content for name, content in files.items()}
    own = tuple(
        PublishedFile(n, server.url(f"/{n}"), 64 << 20, f"sha256:{sha256(c).hexdigest()}" if known else "")
        for n, c in files.items()
    )
    assert model.published is not None
    return dataclasses.replace(model, published=dataclasses.replace(model.published, files=own))


@pytest.fixture
def drawn(weights: Path) -> dict[str, bytes]:
    """Files of MTCNN."""
    return {f"{p.name.partition('_')[0]}.pt": p.read_bytes() for p in weights.glob("*.pt")}


# --- what the registry says ---


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=lambda m: m.published.name)
def test_what_is_said_of_published_weights_fits_the_model(model: Model, tmp_path: Path) -> None:
    publication = model.published
    assert publication is not None
    for file in publication.files:
        assert urlsplit(file.url).scheme == urlsplit(publication.page).scheme == "https"
        assert Path(file.name).name == file.name
        kind, _, value = file.digest.partition(":")
        assert len(bytes.fromhex(value)) == {"sha256": 32, "git": 20, "": 0}[kind]
        (tmp_path / file.name).touch()
    found = model.find_files(tmp_path)  # Each part, and each constant, is one of the files.
    assert {path.name for path in found.values()} == {file.name for file in publication.files}


def test_models_without_weights_here_are_those_that_can_be_fetched() -> None:
    assert {m.id for m in registry.MODELS.values() if not m.published} == {"mos-tiny"}
    with pytest.raises(InputError, match="its weights are in this package"):
        fetch(registry.get("mos-tiny"))
    assert registry.published("mtcnn-facenet").terms.licence == "MIT"
    with pytest.raises(InputError, match="there is no model 'mtcnn-other'"):
        registry.published("mtcnn-other")


def test_the_published_mtcnn_is_what_the_registry_knows(server: Server, published: Path, tmp_path: Path) -> None:
    assert MTCNN.published is not None
    files = []
    for file in MTCNN.published.files:
        server.files[f"/{file.name}"] = (published / f"{Path(file.name).stem}_epoch_20.pt").read_bytes()
        files.append(dataclasses.replace(file, url=server.url(f"/{file.name}")))
    model = dataclasses.replace(MTCNN, published=dataclasses.replace(MTCNN.published, files=tuple(files)))
    assert fetch(model, tmp_path / "weights").new


# --- what is right ---


@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest not known"])
def test_weights_are_where_exports_look_with_what_was_got_and_their_terms(
    known: bool, server: Server, drawn: dict[str, bytes], tmp_path: Path
) -> None:
    model = at(server, MTCNN, drawn, known=known)
    done = fetch(model)
    assert done.new
    assert done.folder == tmp_path / "cache" / "facedeploy" / "weights" / "mtcnn"
    assert {p.name for p in done.folder.iterdir()} == {*PARTS, SUMS, TERMS_FILE}
    assert done.digests == {name: sha256(drawn[name]).hexdigest() for name in drawn}
    check = subprocess.run(["sha256sum", "--check", SUMS], cwd=done.folder, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
    assert "none stated" in (done.folder / TERMS_FILE).read_text(encoding="utf-8")
    for found in (model, registry.get("mtcnn")):
        assert found.fetched == done.folder
        assert found.find_weights(None) == {Path(n).stem: done.folder / n for n in PARTS}
    asked = len(server.asked)
    assert fetch(model) == dataclasses.replace(done, new=False)
    assert len(server.asked) == asked


def test_damaged_cache_is_put_in_order(server: Server, drawn: dict[str, bytes]) -> None:
    model = at(server, MTCNN, drawn)
    folder = fetch(model).folder
    (folder / "onet.pt").write_bytes(b"of another")
    assert fetch(model).new
    assert (folder / "onet.pt").read_bytes() == drawn["onet.pt"]


def test_folder_of_the_user_gets_the_files_and_keeps_its_own(
    server: Server, drawn: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    model = at(server, MTCNN, drawn)
    assert fetch(model, folder).folder == folder
    assert {p.name for p in folder.iterdir()} == {*PARTS, SUMS, TERMS_FILE, "notes.txt"}
    assert model.fetched is None  # Nothing is in the cache.
    (folder / "rnet.pt").write_bytes(b"mine too")
    with pytest.raises(InputError, match="choose another folder, or remove it"):
        fetch(model, folder)
    assert (folder / "rnet.pt").read_bytes() == b"mine too"


def test_what_git_calls_a_file_is_a_digest(server: Server, mos_weights: GetWeights, tmp_path: Path) -> None:
    content = mos_weights("mos-m").read_bytes()
    model = at(server, registry.get("mos-m"), {"MOS-M.pth": content})
    assert model.published is not None
    (file,) = model.published.files
    name = sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    for digest, right in ((f"git:{name}", True), (f"git:{name[::-1]}", False)):
        files = (dataclasses.replace(file, digest=digest),)
        named = dataclasses.replace(model, published=dataclasses.replace(model.published, files=files))
        if right:
            assert fetch(named, tmp_path / "right").new
            continue
        with pytest.raises(CheckpointError, match=r"gives another MOS-M\.pth than is known"):
            fetch(named, tmp_path / "wrong")
    assert registry.get("mos-m-published").published == registry.get("mos-m").published


# --- what is wrong ---


def nothing_is_there(tmp_path: Path) -> bool:
    return not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_wrong_digest(server: Server, drawn: dict[str, bytes], tmp_path: Path) -> None:
    model = at(server, MTCNN, drawn)
    server.files["/rnet.pt"] = drawn["pnet.pt"]
    with pytest.raises(CheckpointError, match=r"/rnet\.pt gives another rnet\.pt than is known .*changed there"):
        fetch(model)
    assert model.fetched is None
    server.files["/rnet.pt"] = drawn["rnet.pt"]
    assert fetch(model).new
    assert server.ranges_of("/pnet.pt") == [""]  # What was right is not asked for again.


@pytest.mark.parametrize("what", ["another network", "no checkpoint"])
def test_weights_that_do_not_load_strictly(what: str, server: Server, drawn: dict[str, bytes], tmp_path: Path) -> None:
    wrong = drawn["pnet.pt"] if what == "another network" else b"PK\3\4" + bytes(100)
    model = at(server, MTCNN, {**drawn, "onet.pt": wrong}, known=False)
    with pytest.raises(CheckpointError, match=r"does not fit mtcnn, and is removed: .*onet"):
        fetch(model)
    assert nothing_is_there(tmp_path)


def test_page_in_place_of_a_file(server: Server, drawn: dict[str, bytes], tmp_path: Path) -> None:
    model = at(server, MTCNN, {"pnet.pt": b"<html>sign in</html>", **drawn}, known=False)
    server.files["/pnet.pt"] = b"<html>sign in</html>"
    with pytest.raises(CheckpointError, match="gives a page and not the file"):
        fetch(model)
    assert nothing_is_there(tmp_path)


def test_cut_again_and_again_leaves_no_weights_and_goes_on(server: Server, drawn: dict[str, bytes]) -> None:
    model = at(server, MTCNN, drawn)
    server.cuts["/onet.pt"] = [300_000, 1000, 1000]
    with pytest.raises(DeviceError, match=r"run the same command again.* By hand: .*mtCNN_sysu"):
        fetch(model)
    assert model.fetched is None
    with pytest.raises(InputError, match=r"give --weights: .*; `facedeploy models mtcnn --fetch` gets them"):
        model.find_weights(None)
    assert fetch(model).new
    assert server.ranges_of("/onet.pt")[-1] == "bytes=302000-"


def test_no_network(server: Server, drawn: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # Nobody is there, so nothing leaves this machine.
    with pytest.raises(DeviceError, match=r"cannot reach raw\.githubusercontent\.com.* By hand: take the files from"):
        fetch(MTCNN)
    assert nothing_is_there(tmp_path)
    assert not list((tmp_path / "cache" / "facedeploy" / "weights").iterdir())


@pytest.mark.parametrize("where", ["under a file", "in /proc"])
def test_folder_that_cannot_be_written(where: str, server: Server, drawn: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "weights" if where == "under a file" else Path("/proc/weights")
    with pytest.raises(InputError, match=r"cannot write .*weights: "):
        fetch(at(server, MTCNN, drawn), folder)


# --- a zip ---


def zipped(server: Server, files: dict[str, bytes], **limits: int) -> Model:
    """img2pose with its files in a zip, as its authors have them, and the reference points beside it."""
    known = registry.get("img2pose")
    assert known.published is not None
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files.items():
            opened.writestr(f"models/{name}", content)
    server.files["/models.zip"] = archive.getvalue()
    own = []
    for file in known.published.files:
        path = "/models.zip" if file.member else f"/{file.name}"
        limit = limits.get(Path(file.name).stem, file.limit)
        own.append(dataclasses.replace(file, url=server.url(path), digest="", limit=limit))
    return dataclasses.replace(known, published=dataclasses.replace(known.published, files=tuple(own)))


def array(*shape: int) -> bytes:
    out = io.BytesIO()
    np.save(out, np.ones(shape))
    return out.getvalue()


@pytest.fixture
def points(server: Server) -> None:
    server.files["/reference_3d_68_points_trans.npy"] = array(68, 3)
    server.files["/reference_3d_5_points_trans.npy"] = array(5, 3)


STATISTICS = {f"WIDER_train_pose_{what}_v1.npy": array(6) for what in ("mean", "stddev")}


@pytest.mark.slow
@pytest.mark.usefixtures("points")
def test_files_in_a_zip(server: Server, tmp_path: Path) -> None:
    (module,) = registry.get("img2pose").build().values()
    out = io.BytesIO()
    torch.save({"fpn_model": fill(module.state_dict())}, out)
    model = zipped(server, {"img2pose_v1.pth": out.getvalue(), **STATISTICS})
    done = fetch(model, tmp_path / "weights")
    assert len(done.digests) == 5
    assert {p.name for p in done.folder.iterdir()} == {*done.digests, SUMS, TERMS_FILE}
    assert len(server.ranges_of("/models.zip")) == 1


@pytest.mark.usefixtures("points")
@pytest.mark.parametrize("what", ["no zip", "missing", "too large"])
def test_zip_that_is_none(what: str, server: Server, tmp_path: Path) -> None:
    files = {"img2pose_v1.pth": bytes(5000), **STATISTICS}
    if what == "missing":
        del files["img2pose_v1.pth"]
    # A zip of zeros is small, and what comes out of it is not.
    model = zipped(server, files, img2pose_v1=4000 if what == "too large" else 1 << 20)
    if what == "no zip":
        server.files["/models.zip"] = b"PK\3\4" + bytes(1000)
    with pytest.raises(CheckpointError, match=r"gives no zip with models/img2pose_v1\.pth in it|more than the 4,000"):
        fetch(model, tmp_path / "weights")
    assert not list(tmp_path.rglob("*.pth"))
    assert not (tmp_path / "weights").exists()


def test_what_is_left_of_other_weights_is_not_taken(server: Server, drawn: dict[str, bytes], tmp_path: Path) -> None:
    """Both layouts have files of the same names."""
    folder = tmp_path / "mine"
    folder.mkdir()
    server.cuts["/pnet.pt"] = [10_000, 1, 1]
    with pytest.raises(DeviceError):
        fetch(at(server, MTCNN, drawn), folder)
    facenet = registry.published("mtcnn-facenet")
    files = {}
    for name, module in facenet.build().items():
        out = io.BytesIO()
        torch.save(fill(module.state_dict()), out)
        files[f"{name}.pt"] = out.getvalue()
    assert fetch(at(server, facenet, files), folder).new
    assert all((folder / name).read_bytes() == content for name, content in files.items())
    assert server.ranges_of("/pnet.pt")[-1] == ""
