"""A file from a web server: resumed where it was cut, never larger than it may be, and never a page in its place.

Proxies are those of the environment (`https_proxy`, `no_proxy`), as urllib reads them.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from facedeploy.core.errors import CheckpointError, DeviceError, InputError, brief

# Told the name of a file, how many bytes of it are here, and how many it has, where the server says so.
Received = Callable[[str, int, int | None], None]

_TIMEOUT = 30.0  # Seconds without a byte.
_ATTEMPTS = 3
_BLOCK = 1 << 16
_SCHEMES = ("http", "https")
# How what is no weights begins: a page, a server's message, and what git keeps of a large file that is elsewhere.
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"version https://git-lfs")


class _CutError(Exception):
    """The connection ended before the file did."""


def unseen(name: str, received: int, total: int | None) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Download:
    """A file to get.

    Attributes:
        url: Of http or https.
        path: The file to write. Until it is complete its bytes lie beside it, in a file that ends in `.part`.
        limit: The most bytes that it may have. What a server says of its size is checked, and not believed.
        known: Whether somebody compares a digest afterwards: then parts are put together without the server's word
            that they are of one file.
    """

    url: str
    path: Path
    limit: int
    known: bool = False

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def _tag(self) -> Path:
        """What the server calls the content that the part is of."""
        return self.path.with_name(f"{self.path.name}.part.tag")

    def get(self, received: Received = unseen) -> None:
        """Get it, or what is missing of it.

        Raises:
            DeviceError: the server or the proxy cannot be reached, does not have it, or the connection was cut; what
                came stays in `part`, and the next call goes on there.
            CheckpointError: what comes is a page, or larger than it may be.
            InputError: it cannot be written.
        """
        if urlsplit(self.url).scheme not in _SCHEMES:
            msg = f"{self.url} is no web address: http and https are"
            raise InputError(msg)
        for attempt in range(_ATTEMPTS):
            try:
                self._receive(received)
            except _CutError as error:
                if attempt + 1 == _ATTEMPTS:
                    msg = f"the connection to {_host(self.url)} was cut ({error}): run the same command again to go on"
                    raise DeviceError(msg) from error
            except (DeviceError, CheckpointError):
                raise
            except OSError as error:
                msg = f"cannot write {self.part}: {error.strerror or error}"
                raise InputError(msg) from error
            else:
                return

    def discard(self) -> None:
        """Remove what came."""
        for file in (self.path, self.part, self._tag):
            file.unlink(missing_ok=True)

    def _receive(self, received: Received) -> None:
        tag = self._tag.read_text(encoding="utf-8") if self._tag.is_file() else ""
        start = self.part.stat().st_size if self.part.is_file() and (tag or self.known) else 0
        headers = {"User-Agent": "facedeploy", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
        with contextlib.closing(self._open(urllib.request.Request(self.url, headers=headers))) as response:
            if response.status not in (200, 206):
                msg = f"{self.url} answers {response.status} and no file"
                raise DeviceError(msg)
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                self.discard()
                msg = "the server went on in another place"
                raise _CutError(msg)
            start = start if response.status == 206 else 0
            if response.headers.get_content_type() == "text/html":
                self._refuse_page()
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if len(length) < 19 and length.isascii() and length.isdigit() else None
            if (total or 0) > self.limit:
                self._refuse_size()
            if not start:
                self._tag.write_text(_tag_of(response.headers), encoding="utf-8")
            with self.part.open("ab" if start else "wb") as file:
                done = self._copy(response, file, start, total, received)
        if total is not None and done != total:
            msg = f"after {done:,} of {total:,} bytes"
            raise _CutError(msg)
        self.part.replace(self.path)
        self._tag.unlink(missing_ok=True)

    def _copy(self, response: Any, file: IO[bytes], done: int, total: int | None, received: Received) -> int:
        while block := _read(response, done, total):
            if not done and block.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
                self._refuse_page()
            done += len(block)
            if done > self.limit:
                self._refuse_size()
            file.write(block)
            received(self.path.name, done, total)
        return done

    def _open(self, request: urllib.request.Request) -> Any:
        host = _host(self.url)
        try:
            return urllib.request.build_opener(_WebOnly).open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # The part is all of the file, or of another one.
                self.discard()
                msg = "the server has another file by now"
                raise _CutError(msg) from error
            if 300 <= error.code < 400:
                msg = f"{self.url} leads to where no weights are: {brief(error)}"
                raise DeviceError(msg) from error
            msg = f"{self.url} answers {error.code} ({error.reason})"
            raise DeviceError(msg) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                msg = f"the certificate of {host} cannot be verified: {error.reason.verify_message}"
                raise DeviceError(msg) from error
            msg = f"cannot reach {host} ({_why(error.reason)}): check the network, and the proxy in https_proxy"
            raise DeviceError(msg) from error
        except (OSError, http.client.HTTPException) as error:
            msg = f"{host} does not answer ({_why(error)}): try again"
            raise DeviceError(msg) from error

    def _refuse_page(self) -> None:
        self.discard()
        msg = f"{self.url} gives a page and not the file: its authors, or a proxy, want something of a person"
        raise CheckpointError(msg)

    def _refuse_size(self) -> None:
        self.discard()
        msg = f"{self.url} gives more than the {self.limit:,} bytes that the file can have"
        raise CheckpointError(msg)


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows no redirect that leaves the web, or its encryption."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        left = urlsplit(newurl).scheme
        if left not in _SCHEMES or (urlsplit(req.full_url).scheme == "https" and left != "https"):
            fp.close()
            said = f"{req.full_url} leads to {newurl[:200]}, which is not followed"
            raise DeviceError(said)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(response: Any, done: int, total: int | None) -> bytes:
    try:
        block: bytes = response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        of = "" if total is None else f" of {total:,}"
        msg = f"after {done:,}{of} bytes"
        raise _CutError(msg) from error
    return block


def _tag_of(headers: Any) -> str:
    """What tells one content from the next, for If-Range; empty where the server says nothing that does."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') and tag.isascii() else ""


def _why(error: object) -> str:
    """In a few words."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or brief(error if isinstance(error, BaseException) else Exception(error)) or type(error).__name__


def _host(url: str) -> str:
    return urlsplit(url).netloc
