"""A phone that `adb`, the system's own, reaches. docs/explanation/phones.md says what happens there.

Facts: AOSP, packages/modules/adb: client/commandline.cpp (words of `shell` are joined as they are; where the connection
ends, it ends with 255), daemon/shell_service.cpp (the phone's /system/bin/sh runs them in a session of their own; when
the client goes, it gets SIGHUP and its input ends), transport.cpp (what is said of phones that do not answer).
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedeploy.core.errors import InputError
from facedeploy.devices.connection import Device

if TYPE_CHECKING:
    from facedeploy.artifact.folder import Artifact
    from facedeploy.benchmarks.record import Record
    from facedeploy.core.face import Face
    from facedeploy.core.progress import Progress
    from facedeploy.devices.python.request import MeasurementSettings
    from facedeploy.runtimes import Substitute

_FORM = "adb://[SERIAL][?runner=PATH][&cores=4-7]"
_URL = re.compile(r"adb://(?P<serial>\w[\w.:()%\[\] -]{0,120})?/?(?:\?(?P<query>[^?#\n]*))?", re.ASCII)
# What adb itself ends with: where it does not reach the phone, and where it loses it.
_FAILED = (1, 255)
_OTHER = 2
_CORES = 1024
_PERMISSIONS = "let your user open the phone (udev rules; on Debian, group plugdev), and plug it in again"
# What adb says -> what to do.
_ADVICE = {
    "unauthorized": "unlock the phone and allow USB debugging in the dialog that it shows",
    "still authorizing": "unlock the phone and allow USB debugging in the dialog that it shows",
    "still connecting": "wait a moment and try again",
    "offline": "unplug the phone and plug it in again, or `adb reconnect offline`",
    "no devices": "plug a phone in and turn on USB debugging in its developer options; `adb devices` lists it then",
    "more than one device": "name one of those that `adb devices` lists, as in adb://SERIAL",
    "not found": "`adb devices` lists the phones that are there; `adb connect HOST:PORT` reaches one by network",
    "no permissions": _PERMISSIONS,
    "insufficient permissions": _PERMISSIONS,
    "only supports allocating a pty": "this Android is too old: 8.0 or newer is needed",
    "cannot connect to daemon": "`adb kill-server` and `adb start-server` start adb's own server anew",
}


@dataclass(frozen=True)
class AdbDevice(Device):
    """A phone that `adb` reaches.

    Attributes:
        shell: The path of its POSIX shell.
        folder: Where all that is ours lies there, as a word of that shell.
        timeout: Whether its program `timeout` passes on the status of what it runs. toybox's, up to 0.8.9 at least,
            says 127 of a program that ends before it has looked (its change acac56a2).
        serial: As `adb devices` lists it; None for the only phone, or that of ANDROID_SERIAL.
        runner: The program that measures there, on this machine.
        cores: Numbers of the cores to measure on; None for the big ones.
    """

    shell: str = "/system/bin/sh"
    folder: str = "/data/local/tmp/facedeploy"
    timeout: bool = False
    serial: str | None = None
    runner: Path | None = None
    cores: tuple[int, ...] | None = None

    def command(self, script: str) -> list[str]:
        """With the streams apart (-T), and a status of its own: one that is adb's becomes another."""
        kept = f"s=$?; case $s in {'|'.join(map(str, _FAILED))}) s={_OTHER};; esac; exit $s"
        return [*self._adb, "shell", "-T", f"{self.shell} -c {shlex.quote(script)}; {kept}"]

    def failed(self, status: int) -> bool:
        return status in _FAILED or status < 0

    def advice(self, said: str) -> str | None:
        return next((what for words, what in _ADVICE.items() if words in said), None)

    def benchmark(
        self, artifacts: Sequence[Path], images: Sequence[Path], settings: MeasurementSettings, progress: Progress
    ) -> Record:
        from facedeploy.devices.phone.benchmark import benchmark_on_phone

        return benchmark_on_phone(self, artifacts, images, settings, progress=progress)

    def detect(
        self,
        artifact: Artifact,
        images: Sequence[Path],
        *,
        threads: int,
        runtime: Substitute | None,
        options: Mapping[str, Any],
        progress: Progress,
    ) -> list[list[Face]]:
        from facedeploy.devices.phone.detect import detect_on_phone
        from facedeploy.devices.python.request import MeasurementSettings

        settings = MeasurementSettings(threads, runtime=runtime, options=options)
        return detect_on_phone(self, artifact, images, settings, progress=progress)

    @property
    def python_word(self) -> str:
        """Never.

        Raises:
            InputError: a phone has no Python.
        """
        msg = f"{self.name} is a phone, which has no Python: `benchmark` and `verify` work there, and nothing else"
        raise InputError(msg)

    @property
    def by_hand(self) -> str:
        return shlex.join([*self._adb, "shell", "true"])

    @property
    def _adb(self) -> list[str]:
        return ["adb", *(("-s", self.serial) if self.serial else ())]


def parse_adb(url: str) -> AdbDevice:
    """Read adb://[SERIAL][?runner=PATH][&cores=4-7].

    Raises:
        InputError: it is something else, or there is no adb here.
    """
    found = _URL.fullmatch(url)
    if found is None:
        msg = f"{url!r} is no phone to reach by adb: write {_FORM}"
        raise InputError(msg)
    given = dict(pair.partition("=")[::2] for pair in (found["query"] or "").split("&") if pair)
    if unknown := sorted(name for name, value in given.items() if name not in ("runner", "cores") or not value):
        msg = f"{url!r} says {unknown[0]!r}, which is not understood: write {_FORM}"
        raise InputError(msg)
    if shutil.which("adb") is None:
        msg = f"{url} needs adb: install Android's platform-tools here (on Debian, `apt install adb`)"
        raise InputError(msg)
    runner = Path(given["runner"]).expanduser() if "runner" in given else None
    cores = parse_cores(given["cores"]) if "cores" in given else None
    name = url.partition("?")[0].rstrip("/") if found["serial"] else "adb://"
    return AdbDevice(name, serial=found["serial"], runner=runner, cores=cores)


def parse_cores(text: str) -> tuple[int, ...]:
    """Read "4-7" or "0,6-7", as taskset has it.

    Raises:
        InputError: it is something else, or names no core that can be.
    """
    cores: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not first <= last < _CORES:
            msg = f"cores={text} names no cores: write such as cores=4-7 or cores=0,6"
            raise InputError(msg)
        cores.update(range(first, last + 1))
    return tuple(sorted(cores))
