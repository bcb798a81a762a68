"""Runs on a device, in its own process beside the work: ends that when whoever asked is gone, and tidies up.

It needs the standard library only, so that it can say what else is missing. Its folder is the current one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_MOST = 64 << 20  # Bytes of a request.
_ENDING = 5.0  # Seconds that the job gets to end by itself when it is done.


def main() -> None:
    """Read a request from the first line of standard input, have `job` answer it on standard output, and stay."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    line = sys.stdin.buffer.readline(_MOST)
    request = json.loads(line)
    os.utime(sys.argv[0])  # Kept for a month from now, as all that is used.
    with _alone() as lock, _folder() as folder:
        _unpack(line, folder)
        _watch(folder, lock, request["beat"], request["silence"], request["limit"])


def _unpack(line: bytes, folder: Path) -> None:
    """The request, and the modules: so they are compiled once. From the zip file, each process would spend 10 ms of its
    times on it.
    """
    try:
        (folder / "request.json").write_bytes(line)
        with zipfile.ZipFile(sys.argv[0]) as bundle:
            bundle.extractall(folder / "code")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        sys.exit(f"{error.strerror}{': is its disk full?' if full else ''}")


@contextlib.contextmanager
def _alone() -> Iterator[IO[bytes]]:
    """Nobody else works on this device meanwhile: times would be of both."""
    with Path("lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("another facedeploy is at work on this device: wait until it is done")
        yield lock


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for this run. As nobody else is at work, all others are of runs that were killed."""
    runs = Path("runs").absolute()
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir()
    try:
        yield Path(tempfile.mkdtemp(dir=runs))
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def _watch(folder: Path, lock: IO[bytes], beat: float, silence: float, limit: float) -> None:
    """Run the job until it is done, or nobody is there to hear its answer."""
    running, held = os.pipe()  # The job holds an end of it for as long as it runs.
    paths = os.pathsep.join(filter(None, [str(folder / "code"), os.environ.get("PYTHONPATH")]))
    job = subprocess.Popen(
        [sys.executable, "-m", "facedeploy.devices.python.job", str(folder)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(held, lock.fileno()),
        env={**os.environ, "PYTHONPATH": paths},
    )
    os.close(held)
    begun = heard = time.monotonic()
    try:
        while running not in (ready := select.select([0, running], [], [], beat)[0]):
            now = time.monotonic()
            if ready and not os.read(0, 4096):
                sys.exit("the connection was lost")
            heard = now if ready else heard
            if now - heard > silence:
                sys.exit(f"nothing was heard for {silence:.0f} seconds")
            if now - begun > limit:
                sys.exit(f"the work took more than {limit:.0f} seconds")
            os.write(2, b"\n")
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(_ENDING)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        status = job.wait()
    if status < 0:
        sys.exit(f"the work was ended by signal {-status}, as where memory runs out")
    if status:
        sys.exit(status)
