"""Downloads from a server on this machine: cut, resumed, redirected, too large, no file at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facedeploy.core.download import Download
from facedeploy.core.errors import CheckpointError, DeviceError, FacedeployError, InputError
from tests.support.weights_server import Answer, Handler, Server, serving

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = "/repository/weights.pt"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as state:
        state.files[FILE] = CONTENT
        yield state


def download(server: Server, folder: Path, *, limit: int = 1 << 20, known: bool = False, path: str = FILE) -> Download:
    return Download(server.url(path), folder / "w.pt", limit, known)


def only(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_whole_file_and_its_progress(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    download(server, tmp_path).get(lambda *given: told.append(given))
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert only(tmp_path) == {"w.pt"}
    assert told[-1] == ("w.pt", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize(("tags", "known"), [(True, False), (False, True), (True, True)])
def test_cut_connection_is_gone_on_with(tags: bool, known: bool, server: Server, tmp_path: Path) -> None:
    server.tags, server.cuts[FILE] = tags, [100_000, 50_000]
    download(server, tmp_path, known=known).get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert server.ranges_of(FILE) == ["", "bytes=100000-", "bytes=150000-"]


def test_cut_again_and_again_is_gone_on_with_the_next_time(server: Server, tmp_path: Path) -> None:
    server.cuts[FILE] = [100_000, 50_000, 50_000]
    with pytest.raises(DeviceError, match=r"was cut \(after 200,000 of 300,000 bytes\): run the same command"):
        download(server, tmp_path).get()
    assert only(tmp_path) == {"w.pt.part", "w.pt.part.tag"}
    download(server, tmp_path).get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert server.ranges_of(FILE)[-1] == "bytes=200000-"
    assert only(tmp_path) == {"w.pt"}


def test_file_that_changed_meanwhile_is_not_mixed(server: Server, tmp_path: Path) -> None:
    server.cuts[FILE] = [100_000, 1, 1]
    with pytest.raises(DeviceError):
        download(server, tmp_path).get()
    server.files[FILE] = CONTENT[::-1]
    download(server, tmp_path).get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT[::-1]


def test_part_of_which_nothing_is_known_is_begun_again(server: Server, tmp_path: Path) -> None:
    server.tags = False
    (tmp_path / "w.pt.part").write_bytes(b"of something else")
    download(server, tmp_path).get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert server.ranges_of(FILE) == [""]


def test_server_that_cannot_go_on_sends_all_of_it(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts[FILE] = False, [100_000]
    download(server, tmp_path).get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("there", [CONTENT, CONTENT + b"more"], ids=["all", "more"])
def test_part_that_is_already_all_or_more(there: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pt.part").write_bytes(there)
    download(server, tmp_path, known=True).get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


def test_server_that_goes_on_elsewhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pt.part").write_bytes(CONTENT[:1000])
    server.answers[FILE] = lambda h: h.say(206, CONTENT[500:], Content_Range=f"bytes 500-{len(CONTENT) - 1}/300000")
    with pytest.raises(DeviceError, match="was cut"):
        download(server, tmp_path, known=True).get()
    assert not (tmp_path / "w.pt").exists()


PAGE = b"\n <!DOCTYPE html><title>Sign in</title>" + CONTENT
REFUSED: dict[str, tuple[Answer, type[FacedeployError], str]] = {
    "page": (lambda h: h.say(200, PAGE, Content_Type="text/html"), CheckpointError, "gives a page and not the file"),
    "page as bytes": (lambda h: h.say(200, PAGE), CheckpointError, "gives a page and not the file"),
    "lfs": (lambda h: h.say(200, b"version https://git-lfs.github.com/spec/v1\n"), CheckpointError, "gives a page"),
    "announced too large": (
        lambda h: h.say(200, b"1", Content_Length=str(1 << 40)),
        CheckpointError,
        "more than the 1,048,576 bytes",
    ),
    "not there": (lambda h: h.say(404), DeviceError, "answers 404"),
    "broken": (lambda h: h.say(503), DeviceError, "answers 503"),
    "empty": (lambda h: h.say(204), DeviceError, "answers 204 and no file"),
    "to a file": (lambda h: h.say(302, Location="file:///etc/passwd"), DeviceError, "leads to where no weights are"),
    "to ftp": (lambda h: h.say(302, Location="ftp://127.0.0.1/w"), DeviceError, "ftp://127.0.0.1/w, which is not"),
    "to itself": (lambda h: h.say(302, Location=FILE), DeviceError, "leads to where no weights are"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_file_is_refused_and_nothing_stays(what: str, server: Server, tmp_path: Path) -> None:
    answer, error, says = REFUSED[what]
    server.answers[FILE] = answer
    with pytest.raises(error, match=says):
        download(server, tmp_path).get()
    assert only(tmp_path) == set()


def test_more_than_the_server_announces_is_stopped_at_the_limit(server: Server, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        handler.wfile.write(CONTENT)

    server.answers[FILE] = endless
    with pytest.raises(CheckpointError, match="more than the 200,000 bytes"):
        download(server, tmp_path, limit=200_000).get()
    assert only(tmp_path) == set()
    download(server, tmp_path, limit=300_000).get()  # Without a length its end is the end of the connection.
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


def test_redirect_on_the_web_is_followed(server: Server, tmp_path: Path) -> None:
    server.answers["/old"] = lambda h: h.say(302, Location=FILE)
    download(server, tmp_path, path="/old").get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


def test_server_that_is_down(tmp_path: Path, server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/w.pt"
        with pytest.raises(DeviceError, match=r"cannot reach 127\.0\.0\.1:\d+ \(Connection refused\)"):
            Download(url, tmp_path / "w.pt", 100).get()
    with pytest.raises(DeviceError, match=r"cannot reach weights\.invalid"):
        Download("https://weights.invalid/w.pt", tmp_path / "w.pt", 100).get()
    assert only(tmp_path) == set()


def test_server_that_hangs_up(server: Server, tmp_path: Path) -> None:
    server.answers[FILE] = lambda h: setattr(h, "close_connection", True)
    with pytest.raises(DeviceError, match="does not answer"):
        download(server, tmp_path).get()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/w", "data:,x", "/etc/passwd"])
def test_only_the_web_is_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no web address"):
        Download(url, tmp_path / "w.pt", 1 << 20).get()


def test_proxy_of_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    server.files["http://weights.invalid/w.pt"] = CONTENT
    Download("http://weights.invalid/w.pt", tmp_path / "w.pt", 1 << 20).get()
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


def test_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*: No such file or directory"):
        download(server, tmp_path / "none").get()
