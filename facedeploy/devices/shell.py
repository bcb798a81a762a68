"""One script on a device: what it is sent, what it says, and how long it may be silent."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence

from facedeploy.core.errors import DeviceError
from facedeploy.devices.connection import Device

SILENCE = 60.0  # Seconds without any byte in either direction after which the other side is given up.
LIMIT = 3600.0  # Seconds of a script.
_BEAT = 10.0
_BLOCK = 1 << 16
_PIPE = subprocess.PIPE
# Standard input is a socket, as only those can be written to without SIGPIPE, of which the command line dies.
_QUIETLY = getattr(socket, "MSG_NOSIGNAL", 0)
_KEPT = 4 << 10  # Of what a script writes to its standard error: the end.
_ENDING = 2.0  # Seconds that a process gets to end.


def talk(
    device: Device,
    script: str,
    doing: str,
    *,
    most: int,
    send: Iterable[bytes] = (),
    beat: float | None = None,
    silence: float = SILENCE,
    limit: float = LIMIT,
) -> Iterator[bytes]:
    """Run a script on a device.

    Args:
        device: The device.
        script: For a POSIX shell.
        doing: What it does, for messages, such as "measuring".
        most: Bytes that it may write.
        send: What its standard input gets.
        beat: None closes the standard input then. Else it stays open and gets a byte every so many seconds, so that the
            script can tell when the connection is lost.
        silence: Seconds that it may write nothing.
        limit: Seconds that it may take. The device ends it by itself after these, where its `timeout` is of use.

    Returns:
        What it writes to its standard output, as it comes.

    Raises:
        DeviceError: the connection failed or the script did, or it was silent, said too much or took too long.
    """
    said, size = b"", 0
    begun = heard = time.monotonic()
    command = device.command(_limited(device, script, limit))
    with _started(command) as (process, given), selectors.DefaultSelector() as selector:
        feed, out, errors = _Feed(given, iter(send), beat), process.stdout, process.stderr
        assert out is not None
        assert errors is not None
        selector.register(given, selectors.EVENT_WRITE)
        for pipe in (out, errors):
            selector.register(pipe, selectors.EVENT_READ)
        while {out, errors} & {key.fileobj for key in selector.get_map().values()}:
            for key, _ in selector.select(min(silence, beat or silence)):
                heard = time.monotonic()
                if key.fileobj is given:
                    if not feed.write():
                        selector.unregister(given)
                elif not (block := os.read(key.fd, _BLOCK)):
                    selector.unregister(key.fileobj)
                elif key.fileobj is errors:
                    said = (said + block)[-_KEPT:]
                else:
                    size += len(block)
                    if size > most:
                        msg = (
                            f"{device.name} says more than it may ({most} bytes) while {doing}: it is no device of ours"
                        )
                        raise DeviceError(msg)
                    yield block
            now = time.monotonic()
            feed.beat(now)
            if now - heard >= silence:
                msg = (
                    f"{device.name} has been silent for {silence:.0f} seconds while {doing}: look whether it still runs"
                )
                raise DeviceError(msg)
            if now - begun >= limit:
                msg = f"{device.name} took more than {limit:.0f} seconds while {doing}: it was told to stop"
                raise DeviceError(msg)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
    _check(device, process.returncode, said, doing)


class _Feed:
    """The standard input of a process: what it is sent, and then nothing more, or beats."""

    def __init__(self, stream: socket.socket, send: Iterator[bytes], interval: float | None) -> None:
        self._stream, self._send, self._interval = stream, send, interval
        self._pending, self._done, self._last = b"", False, time.monotonic()

    def write(self) -> bool:
        """Write some of it; whether there is more."""
        try:
            while not self._pending and not self._done:
                block = next(self._send, None)
                self._pending, self._done = block or b"", block is None
            self._pending = self._pending[self._stream.send(self._pending, _QUIETLY) :] if self._pending else b""
        except BlockingIOError:
            return True
        except ConnectionError:  # Why nobody reads any more, the process says itself.
            self._done = True
        if self._done and self._interval is None:
            self._stream.shutdown(socket.SHUT_WR)
        return not self._done

    def beat(self, now: float) -> None:
        if self._interval is not None and self._done and now - self._last >= self._interval:
            self._last = now
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self._stream.send(b"\n", _QUIETLY)


def beat_of(silence: float) -> float:
    """Seconds between signs of life to somebody who gives up after so many seconds without any."""
    return min(_BEAT, silence / 4)


def readable(text: str | bytes, most: int = 300) -> str:
    """What a device said, on one line that a terminal may show: it may have said anything."""
    decoded = text.decode(errors="replace") if isinstance(text, bytes) else text
    return " ".join("".join(c if c.isprintable() else " " for c in decoded).split())[-most:]


def _limited(device: Device, script: str, limit: float) -> str:
    """The script, which its device ends some time after we gave it up, where only half of the connection is lost."""
    if not device.timeout:
        return script
    inner = f"{device.shell} -c {shlex.quote(script)}"
    seconds = round(limit + SILENCE)
    return f"if command -v timeout >/dev/null 2>&1; then exec timeout {seconds} {inner}; else exec {inner}; fi"


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A process that has ended when the block has, and its standard input."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(command, stdin=theirs.fileno(), stdout=_PIPE, stderr=_PIPE, bufsize=0) as process,
    ):
        theirs.close()
        ours.setblocking(False)
        try:
            yield process, ours
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_ENDING)
                except subprocess.TimeoutExpired:
                    process.kill()


def _check(device: Device, status: int, said: bytes, doing: str) -> None:
    if status == 0:
        return
    reason = readable(said) or "it says no reason"
    if device.failed(status):
        advice = device.advice(reason) or f"see whether `{device.by_hand}` works"
        msg = f"the connection to {device.name} failed while {doing} ({reason}): {advice}"
        raise DeviceError(msg)
    msg = f"{device.name} failed while {doing} (status {status}): {reason}"
    raise DeviceError(msg)
