"""A phone at one moment: its sensors and the files of its kernel, asked for in one script."""

from __future__ import annotations

import contextlib
import datetime
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facedeploy.devices.connection import Device
from facedeploy.devices.shell import talk
from facedeploy.machine import linux as machine
from facedeploy.machine.android_dumpsys import (
    BATTERY,
    CPUS,
    THERMAL,
    Battery,
    Cluster,
    Thermal,
    parse_battery,
    parse_clusters,
    parse_thermal,
    phone_sensors,
)
from facedeploy.machine.linux import Ticks
from facedeploy.machine.records import Machine, Sensors, State

MARK = "@facedeploy"
_MOST = 4 << 20
_SECONDS = 60.0
_FILES = (
    "/proc/stat /proc/loadavg /proc/uptime /proc/cpuinfo /proc/meminfo "
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
)
_PATH = re.compile(r"(?:^|/)(proc/[a-z]{1,16}|sys/devices/system/cpu/cpu[0-9]{1,3}/cpufreq/[a-z_]{1,32})$")


@dataclass(frozen=True)
class Reading:
    """A phone at one moment.

    Attributes:
        time: ISO 8601, UTC, of this machine's clock.
        battery: Its battery.
        thermal: Its heat.
        clusters: Its cores, by kind.
        files: Path below the kernel's root -> text.
    """

    time: str
    battery: Battery
    thermal: Thermal
    clusters: tuple[Cluster, ...]
    files: Mapping[str, str]

    @property
    def sensors(self) -> Sensors:
        return phone_sensors(self.battery, self.thermal, self.clusters)

    @property
    def hottest(self) -> tuple[str, float] | None:
        """Name and Celsius of the hottest sensor."""
        return max(self.sensors.temperatures.items(), key=lambda item: item[1], default=None)

    def state(self, cores: Sequence[int]) -> State:
        """As a record has it, of these cores."""
        with _tree(self.files) as root:
            state = machine.read_state(root, cores)
        hottest = self.hottest
        return replace(state, time=self.time, temperature=hottest and hottest[1], sensors=self.sensors)

    def ticks(self, cores: Sequence[int]) -> Ticks | None:
        """What these cores have spent until now, by the phone's own clock; nothing of it is ours."""
        uptime = re.match(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ", self.files.get("proc/uptime", ""))
        with _tree(self.files) as root:
            ticks = machine.read_ticks(root, cores)
        return replace(ticks, time=float(uptime[1]), own=0.0) if ticks and uptime else None

    def machine(self, cores: Sequence[int]) -> Machine:
        """As far as these files know it."""
        with _tree(self.files) as root:
            known = machine.read_machine(root, cores)
        # What the files do not say, this machine would.
        return known if "proc/cpuinfo" in self.files else replace(known, cpu="unknown", cores=self.cores)

    @property
    def cores(self) -> int:
        """How many the phone has."""
        listed = len(re.findall(r"^processor\s*:", self.files.get("proc/cpuinfo", ""), re.MULTILINE))
        return listed or sum(len(cluster.cores) for cluster in self.clusters)


def read_phone(device: Device, quiet: Sequence[int] = ()) -> Reading:
    """Ask a phone for its sensors and the files of its kernel.

    Args:
        device: The phone.
        quiet: Numbers of the cores to ask on, where there are such, so that others are not disturbed.

    Returns:
        How the phone is now.

    Raises:
        DeviceError: the connection failed.
    """
    said = b"".join(talk(device, _script(device, quiet), "reading its sensors", most=_MOST, limit=_SECONDS))
    parts = sections(said)
    return Reading(
        datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        parse_battery(parts.get("battery", "")),
        parse_thermal(parts.get("thermal", "")),
        parse_clusters(parts.get("cpus", "")),
        _files(parts.get("files", "")),
    )


def sections(said: bytes) -> dict[str, str]:
    """What was said after each line of a mark and a name."""
    text = said.decode(errors="replace").replace("\r\n", "\n")
    parts = re.split(rf"^{MARK} ([a-z]{{1,16}})$", text, flags=re.MULTILINE)
    return {name: part.lstrip("\n") for name, part in zip(parts[1::2], parts[2::2], strict=True)}


def mask(cores: Sequence[int]) -> str:
    """As taskset has it: hexadecimal."""
    return f"{sum(1 << core for core in cores):x}"


def listed(cores: Sequence[int]) -> str:
    """For people."""
    return ",".join(map(str, cores))


def _script(device: Device, quiet: Sequence[int]) -> str:
    asked = {"battery": BATTERY, "thermal": THERMAL, "cpus": CPUS, "files": f"grep -sH '' {_FILES}"}
    script = "; ".join(f"echo; echo {MARK} {name}; {command} 2>/dev/null" for name, command in asked.items())
    inner = f"{device.shell} -c {shlex.quote(script + '; exit 0')}"
    if not quiet:
        return f"exec {inner}"
    return f"if taskset {mask(quiet)} true 2>/dev/null; then exec taskset {mask(quiet)} {inner}; else exec {inner}; fi"


def _files(said: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for line in said.split("\n"):
        path, colon, rest = line.partition(":")
        known = _PATH.search(path) if colon else None
        if known:
            found.setdefault(known[1], []).append(rest)
    return {path: "\n".join(lines) + "\n" for path, lines in found.items()}


@contextlib.contextmanager
def _tree(files: Mapping[str, str]) -> Iterator[Path]:
    """The files, as those who read them from a root want them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        yield Path(folder)
