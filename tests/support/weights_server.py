"""A web server on this machine that has files, and can be told to misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class Server:
    """What a server has and was asked.

    Attributes:
        address: http://127.0.0.1:PORT
        files: Path -> content.
        cuts: Path -> after how many bytes of each answer the connection ends; each is used once.
        answers: Path -> what is done in place of a file's sending.
        asked: Path and Range of every request.
        tags: Whether it names what it sends (ETag).
        ranges: Whether it goes on where it is asked to.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    tags: bool = True
    ranges: bool = True

    def url(self, path: str) -> str:
        return f"{self.address}{path}"

    def ranges_of(self, path: str) -> list[str]:
        return [given for asked, given in self.asked if asked == path]


class Handler(BaseHTTPRequestHandler):
    """Answers for the server that it is made for."""

    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_: object) -> None:
        """Tell nobody."""

    def do_GET(self) -> None:
        state, given = self.state, self.headers.get("Range", "")
        state.asked.append((self.path, given))
        if self.path in state.answers:
            state.answers[self.path](self)
            return
        if self.path not in state.files:
            self.say(404)
            return
        content = state.files[self.path]
        tag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and state.ranges else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(content):
            self.say(416)
            return
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(content) - start)}
        headers |= {"ETag": tag} if state.tags else {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if start else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        cuts = state.cuts.get(self.path)
        end = start + cuts.pop(0) if cuts else len(content)
        with contextlib.suppress(ConnectionError):  # Whoever asked may have seen enough.
            self.wfile.write(content[start:end])
        self.close_connection = True

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer. headers: with _ for -."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server that runs until the block ends."""
    state = Server()
    handler = type("Own", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
