"""A phone on this machine: folders like Android's, tools that answer as its own do, and an `adb` that reaches it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.device_trees import BATTERY, PROPERTIES, THERMAL_SERVICE

STAND_IN = Path(__file__).with_name("adb_stand_in.py")
# What scripts may use: Android's toybox and toolbox have these, and no other is in the phone's PATH.
TOOLS = (
    *("cat", "chmod", "find", "flock", "grep", "ln", "mkdir", "mv", "rm", "sha256sum", "sleep", "tar", "taskset"),
    *("timeout", "touch", "true", "uname"),
)
COOL = THERMAL_SERVICE.replace("Thermal Status: 2", "Thermal Status: 0")
ABIS = {"x86_64": "x86_64", "aarch64": "arm64-v8a"}
ABI = ABIS.get(os.uname().machine, "unknown")
_DUMPSYS = """#!{shell}
f="$PHONE/said/$1"
if [ -d "$f" ]; then
  n=0; [ -e "$f/at" ] && read -r n < "$f/at"
  [ -e "$f/$((n + 1))" ] && echo "$((n + 1))" > "$f/at"
  cat "$f/$n"
else cat "$f"; fi
"""
_SECONDS = 10.0


@dataclass(frozen=True)
class StandInPhone:
    """folder: of the phone's files, and what it says."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "data/local/tmp/facedeploy"

    def asked(self) -> list[list[str]]:
        """The words that adb was given, call by call."""
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def scripts(self, with_: str) -> list[str]:
        """Those that had these words in them."""
        return [words[-1] for words in self.asked() if with_ in words[-1]]

    def forget(self) -> None:
        (self.folder / "log").unlink(missing_ok=True)

    def is_in_state(self, state: str) -> None:
        (self.folder / "state").write_text(state)

    def says(self, service: str, *texts: str) -> None:
        """What dumpsys says of a service: of several texts each time the next, and then the last."""
        place = self.folder / "said" / service
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        if len(texts) == 1:
            place.write_text(texts[0])
            return
        place.mkdir()
        for i, text in enumerate(texts):
            (place / str(i)).write_text(text)

    def has(self, program: str, text: str) -> None:
        """A program of its own in the phone's PATH."""
        path = self.folder / "system/bin" / program
        path.unlink(missing_ok=True)
        path.write_text(f"#!{self.folder}/system/bin/sh\n{text}\n")
        path.chmod(0o755)

    def lacks(self, program: str) -> None:
        (self.folder / "system/bin" / program).unlink()

    def is_cut(self, while_: str) -> None:
        """The connection goes while a script with these words runs."""
        (self.folder / "cut").write_text(while_)

    def processes(self) -> dict[int, str]:
        """Commands of all processes on the phone."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"PHONE={self.folder}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def nothing_is_left(self) -> None:
        """No process, and of files only those that are kept for the next time."""
        deadline = time.monotonic() + _SECONDS
        while (self.processes() or self.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.processes() == {}
        assert self.left() == set()

    def left(self) -> set[str]:
        """What should not lie there."""
        files = {p.name for p in self.cache.glob("*")} - {"objects", "lock"}
        return files | {p.name for p in self.cache.glob("objects/*") if len(p.name) != 64}


def make_phone(folder: Path, *, shell: str | None = None, toybox: str | None = None) -> StandInPhone:
    """A phone whose fast core is the last that this process may use. toybox: instead of this machine's tools."""
    tools = folder / "system/bin"
    tools.mkdir(parents=True)
    (folder / "said").mkdir()
    (folder / "data/local/tmp").mkdir(parents=True)
    (tools / "sh").symlink_to(shell or shutil.which("dash") or "/bin/sh")
    for name in TOOLS:
        program = toybox or shutil.which(name)
        if program is None:
            pytest.skip(f"no {name} here: a phone cannot be imitated")
        (tools / name).symlink_to(program)
    phone = StandInPhone(folder)
    phone.is_in_state("device")
    phone.has("dumpsys", _DUMPSYS.format(shell=f"{tools}/sh").partition("\n")[2])
    phone.has("getprop", 'cat "$PHONE/said/properties"')
    phone.has("settings", 'echo "0"')
    (folder / "said/properties").write_text(PROPERTIES.replace("arm64-v8a", ABI))
    phone.says("battery", BATTERY)
    phone.says("thermalservice", COOL)
    for core, most in clocks().items():
        place = folder / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        place.mkdir(parents=True)
        for name, text in (("cpuinfo_max_freq", most), ("scaling_cur_freq", most // 2)):
            (place / name).write_text(f"{text}\n")
        (place / "scaling_governor").write_text("schedutil\n")
    return phone


def clocks() -> dict[int, int]:
    """Clocks, in kHz, of this machine's cores, of which the last is the fast one."""
    cores = sorted(os.sched_getaffinity(0))
    return {core: 2802000 if core == cores[-1] else 1803000 for core in cores}


def reached_by(phone: StandInPhone, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in before whatever adb is installed here."""
    folder.mkdir(exist_ok=True)
    (folder / "adb").write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {STAND_IN} {phone.folder} "$@"\n')
    (folder / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
