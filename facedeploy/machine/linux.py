"""What a benchmark runs on, and what else runs there: read from /proc and /sys, without privileges.

Every function takes the root of the file system. Whatever cannot be read is None; nothing here raises. Formats: Linux'
proc(5), Documentation/admin-guide/pm/cpufreq.rst, Documentation/driver-api/thermal/sysfs-api.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.system import usable_cores
from facedeploy.machine.jetson_board import read_board
from facedeploy.machine.jetson_sensors import read_sensors
from facedeploy.machine.records import Machine, State
from facedeploy.machine.sysfs import COLDEST, HOTTEST, number, paths, temperature, text

ROOT = Path("/")
PACKAGES = (
    *("facedeploy", "numpy", "opencv-python-headless", "openvino", "ncnn", "onnxruntime", "torch"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13"),
)
# Of the instruction set, what inference kernels are chosen by.
FLAGS = frozenset(
    {
        *("sse4_2", "f16c", "fma", "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
        *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
        *("neon", "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
    }
)
_CPU = "sys/devices/system/cpu"
_MOST = 1e12  # No counter and no clock says more.


@dataclass(frozen=True)
class Ticks:
    """Time that cores have spent since the machine started, and this process, with its children that have ended, since
    it did.

    Attributes:
        time: Seconds of a clock.
        busy: Core-seconds that the counted cores worked.
        stolen: Core-seconds that a hypervisor took from the counted cores.
        own: CPU seconds of this process.
    """

    time: float
    busy: float
    stolen: float
    own: float


def read_machine(root: Path = ROOT, usable: Sequence[int] | None = None) -> Machine:
    """Read what a machine is.

    Args:
        root: Root of its file system.
        usable: Numbers of the cores that this process may use; None to ask the system.

    Returns:
        The machine. What it does not say is None.
    """
    info = text(root / "proc/cpuinfo") or ""
    usable = usable_cores() if usable is None else tuple(sorted(usable))
    counted = len(re.findall(r"^processor\s*:", info, re.MULTILINE)) or os.cpu_count() or 1
    flags = set(re.findall(r"\S+", _field(info, "flags") or _field(info, "Features") or ""))
    memory = re.search(r"^MemTotal:\s*([0-9]{1,15}) kB", text(root / "proc/meminfo") or "", re.MULTILINE)
    return Machine(
        cpu=_model(root, info),
        architecture=platform.machine(),
        flags=tuple(sorted(flags & FLAGS)),
        cores=counted,
        usable=tuple(usable),
        pinned=len(usable) < counted,
        memory=int(memory[1]) * 1024 if memory else None,
        virtual=_virtual(root, flags),
        system=platform.platform(),
        python=platform.python_version(),
        packages=installed_versions(*PACKAGES),
        board=read_board(root),
    )


def read_state(root: Path = ROOT, usable: Sequence[int] | None = None) -> State:
    """The machine now."""
    usable = usable_cores() if usable is None else usable
    load = re.match(r"[0-9]+\.[0-9]+", text(root / "proc/loadavg") or "")
    governors = sorted({g for core in usable if (g := text(root / _CPU / f"cpu{core}/cpufreq/scaling_governor"))})
    return State(
        time=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        load=float(load[0]) if load else None,
        mhz=_mhz(root, usable),
        governor="/".join(governors) or None,
        temperature=_temperature(root),
        throttled=_throttled(root),
        sensors=read_sensors(root),
    )


def read_ticks(root: Path = ROOT, usable: Sequence[int] | None = None) -> Ticks | None:
    """Time spent until now by the usable cores, and by this process; None where the system does not say.

    The counters are those of proc(5), in units of 1/SC_CLK_TCK: user, nice, system, idle, iowait, irq, softirq, steal.
    Time of guests is part of user and nice.
    """
    usable = usable_cores() if usable is None else usable
    lines = re.findall(r"^cpu([0-9]{1,6})((?: [0-9]{1,18})+) *$", text(root / "proc/stat") or "", re.MULTILINE)
    counts = [[int(v) for v in values.split()] for core, values in lines if int(core) in set(usable)]
    if not counts or any(len(v) < 8 for v in counts):
        return None
    hertz = os.sysconf("SC_CLK_TCK")
    busy = sum(sum(v[:3]) + v[5] + v[6] for v in counts)
    spent = os.times()
    own = spent.user + spent.system + spent.children_user + spent.children_system
    return Ticks(time.perf_counter(), busy / hertz, sum(v[7] for v in counts) / hertz, own)


def elsewhere(before: Ticks | None, after: Ticks | None) -> float | None:
    """Cores that other processes kept busy in between, on average."""
    if before is None or after is None or after.time <= before.time:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, others / (after.time - before.time))


def stolen(before: Ticks | None, after: Ticks | None) -> float | None:
    """Cores that the hypervisor gave to others in between, on average."""
    if before is None or after is None or after.time <= before.time:
        return None
    return max(0.0, (after.stolen - before.stolen) / (after.time - before.time))


def _numbers(root: Path, pattern: str, low: float, high: float) -> list[float]:
    return [value for path in paths(root, pattern) if (value := number(path, low, high)) is not None]


def _field(info: str, name: str) -> str | None:
    found = re.search(rf"^{name}[ \t]*:[ \t]*(.*)$", info, re.MULTILINE)
    return found[1].strip() if found else None


def _model(root: Path, info: str) -> str:
    """Name of the processor; of the board where the processor has none, as on ARM."""
    if name := _field(info, "model name"):
        return name
    part = _field(info, "CPU part")
    named = f"ARM implementer {_field(info, 'CPU implementer')} part {part}" if part else ""
    board = text(root / "proc/device-tree/model") or ""
    return ", ".join(filter(None, (board, named))) or platform.processor() or platform.machine() or "unknown"


def _virtual(root: Path, flags: set[str]) -> bool | None:
    if (
        "hypervisor" in flags
        or (root / "proc/device-tree/hypervisor").is_dir()
        or (root / "sys/hypervisor/type").exists()
    ):
        return True
    # x86 has the flag; elsewhere its absence says nothing.
    return False if "fpu" in flags else None


def _mhz(root: Path, usable: Sequence[int]) -> float | None:
    found = [number(root / _CPU / f"cpu{core}/cpufreq/scaling_cur_freq", 0, _MOST) for core in usable]
    kilohertz = [f for f in found if f is not None]
    if kilohertz:
        return sum(kilohertz) / len(kilohertz) / 1000
    blocks = re.split(r"\n\s*\n", text(root / "proc/cpuinfo") or "")
    mine = [b for b in blocks if (core := _field(b, "processor")) and core in set(map(str, usable))]
    values = [float(m) for b in mine if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", m := _field(b, "cpu MHz") or "")]
    return sum(values) / len(values) if values else None


def _temperature(root: Path) -> float | None:
    """Of the hottest zone; where there is none, as on many an AMD machine, of the hottest sensor of any chip. The files
    are in thousandths of a degree.
    """
    for pattern in ("sys/class/thermal/thermal_zone*/temp", "sys/class/hwmon/hwmon*/temp*_input"):
        read = (temperature(milli / 1000) for milli in _numbers(root, pattern, COLDEST * 1000, HOTTEST * 1000))
        if celsius := [value for value in read if value is not None]:
            return max(celsius)
    return None


def _throttled(root: Path) -> int | None:
    """Times that heat slowed a core down, and that a control group had used up its share of time."""
    counts = [int(v) for v in _numbers(root, f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count", 0, _MOST)]
    group = re.search(r"^0::(/.*)$", text(root / "proc/self/cgroup") or "", re.MULTILINE)
    mine = (group[1].rstrip("/") if group else "") + "/cpu.stat"
    # The second place is that of version 1 of control groups, as a container sees it.
    for path in (f"sys/fs/cgroup{mine}", "sys/fs/cgroup/cpu/cpu.stat"):
        quota = re.search(r"^nr_throttled ([0-9]{1,15})$", text(root / path) or "", re.MULTILINE)
        if quota:
            return sum(counts) + int(quota[1])
    return sum(counts) if counts else None
