"""A device that is ours for a while: nobody else measures on it, and the folder of our run goes with the connection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from facedeploy.core.errors import FacedeployError
from facedeploy.devices.connection import Device
from facedeploy.devices.file_store import enter
from facedeploy.devices.shell import talk

RUN = "runs/run"  # Of the device's folder.
# mksh keeps what it opens from what it starts, unless it is named once more. As the lock is ours, all that lies in
# runs/ is of runs that were killed. A shell of POSIX cannot wait for a line for so many seconds only; timeout can, but
# its status says nothing (see adb.py), so a file does.
_HOLD = """exec 9>lock
flock -n 9 9>&9 || {{ echo "another facedeploy is at work on this device: wait until it is done" >&2; exit 3; }}
rm -rf runs; trap 'rm -rf "$d/runs"' EXIT; trap 'exit 0' HUP INT TERM PIPE
mkdir -p {run}; find objects -type f -mtime +30 -exec rm -f {{}} + 2>/dev/null || :
echo; echo held
while rm -f runs/beat; timeout {silence} {shell} -c 'read -r beat && : > runs/beat'; [ -e runs/beat ]; do
  echo
done"""
_SOON = 0.05
_ENDING = 10.0
_MOST = 1 << 20


@contextlib.contextmanager
def hold(device: Device, *, beat: float, silence: float, limit: float) -> Iterator[None]:
    """Take the device's lock and make `RUN` there. Afterwards both are gone, and also when the connection is.

    Args:
        device: The device.
        beat: Seconds between signs of life.
        silence: Seconds without a sign of life after which the device lets go.
        limit: Seconds in all.

    Raises:
        DeviceError: somebody else has it, or the connection failed.
    """
    ours = _Hold(device, beat, silence, limit)
    ours.begin()
    try:
        yield
    finally:
        ours.end()
    ours.check()


class _Hold:
    def __init__(self, device: Device, beat: float, silence: float, limit: float) -> None:
        self._device, self._beat, self._limit = device, beat, limit
        self._silence = silence
        self._known, self._ended = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hold", daemon=True)

    def begin(self) -> None:
        self._thread.start()
        self._known.wait()
        self.check()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(_ENDING)

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        device = self._device
        script = enter(device) + _HOLD.format(run=RUN, silence=max(1, round(self._silence)), shell=device.shell)
        said = b""
        try:
            for block in talk(device, script, "holding it", most=_MOST, send=self._signs(), limit=self._limit):
                said = (said + block)[-80:]
                if b"held" in said:
                    self._known.set()
        except FacedeployError as error:
            self._error = error
        finally:
            self._known.set()

    def _signs(self) -> Iterator[bytes]:
        """Signs of life, until the end, which ends the script's input."""
        while not self._ended.wait(self._beat if self._known.is_set() else _SOON):
            yield b"\n"
