"""`facedeploy models NAME --fetch`, and the exports after it, with a server on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.cli.app import main
from facedeploy.models import registry
from tests.cli.test_json import WHOLE
from tests.models.test_fetch import MTCNN, at
from tests.support.output_schema import objections
from tests.support.weights_server import Server, serving

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["facedeploy", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def server(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Has weights of MTCNN, which the registry finds there."""
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with serving() as state:
        files = {f"{p.name.partition('_')[0]}.pt": p.read_bytes() for p in weights.glob("*.pt")}
        layout = at(state, MTCNN, files)
        known = registry.get("mtcnn")
        here = dataclasses.replace(known, published=layout.published, layouts=(layout, *known.layouts[1:]))
        monkeypatch.setitem(registry.MODELS, "mtcnn", here)
        yield state


@pytest.mark.usefixtures("server")
def test_whose_the_weights_are_and_where_they_lie(tmp_path: Path, run: Run) -> None:
    status, out, err = run("models", "mtcnn", "--fetch")
    folder = tmp_path / "cache" / "facedeploy" / "weights" / "mtcnn"
    assert status == 0
    assert f"{folder}: fetched and loaded strictly" in out
    assert "mtcnn: weights by Enderfga (mtCNN_sysu)" in err
    assert "licence: none stated; products: not stated" in err
    assert "ask those who made the weights before a product uses them" in err
    assert "next: facedeploy export mtcnn --target TARGET\n" in err


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_exports_take_what_was_fetched(tmp_path: Path, run: Run) -> None:
    run("models", "mtcnn", "--fetch")
    folder = tmp_path / "cache" / "facedeploy" / "weights" / "mtcnn"
    status, _, err = run("export", "mtcnn", "--target", "torch-fp32", "-o", "made", "--input-size", "96x128")
    assert status == 0, err
    assert f"no --weights: taking those of mtcnn that were fetched, in {folder}" in err
    assert "ask those who made the weights before a product uses them (licence: none stated)" in err
    made = Artifact.open("made").manifest
    assert made.terms == MTCNN.terms
    assert str(tmp_path) not in Path("made/manifest.json").read_text(encoding="utf-8")


def test_fetching_as_json_is_one_document(server: Server, tmp_path: Path, run: Run) -> None:
    for new in (True, False):
        status, out, _ = run("models", "mtcnn", "--fetch", tmp_path / "mine", "--json")
        assert status == 0
        told = json.loads(out)
        assert not list(objections(told, WHOLE["$defs"]["models"], WHOLE))
        assert set(told) == {"version", "model", "folder", "new", "authors", "terms", "files"}
        assert (told["model"], told["folder"], told["new"]) == ("mtcnn", str(tmp_path / "mine"), new)
        assert told["terms"]["licence"] == "none stated"
        digests = {name.removeprefix("/"): sha256(content).hexdigest() for name, content in server.files.items()}
        assert {f["name"]: f["sha256"] for f in told["files"]} == digests
        assert all(f["known"] is True for f in told["files"])


@pytest.mark.usefixtures("server")
def test_folder_of_ones_own_is_named_in_what_is_next(run: Run) -> None:
    status, _, err = run("models", "mtcnn", "--fetch", "mine")
    assert status == 0
    assert f"next: facedeploy export mtcnn --target TARGET --weights {Path('mine').absolute()}" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fetch",), "--fetch gets the weights of one model: name it"),
        (("mtcnn", "mine"), "mine is for --fetch: `facedeploy models mtcnn --fetch mine`"),
        (("mos-tiny", "--fetch"), "mos-tiny needs no download: its weights are in this package"),
        (("retina", "--fetch"), "there is no model 'retina'"),
        (("retina",), "there is no model 'retina'"),
    ],
)
def test_calls_that_are_none(words: tuple[str, ...], says: str, run: Run) -> None:
    status, out, err = run("models", *words)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_server_without_the_weights(server: Server, run: Run, tmp_path: Path) -> None:
    server.files.clear()
    status, out, err = run("models", "mtcnn", "--fetch")
    assert (status, out) == (2, "")
    assert "pnet.pt answers 404" in err
    assert "By hand: take the files from https://github.com/Enderfga/mtCNN_sysu, and give --weights" in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.pt*"))


def test_one_model_is_listed_alone(run: Run) -> None:
    status, out, _ = run("models", "mos-tiny", "--json")
    assert status == 0
    assert json.loads(out)["id"] == "mos-tiny"
