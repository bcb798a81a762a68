"""What an Android phone says of itself: parsers of what commands print, which somebody else runs.

Nothing here raises: what is not said, or cannot be, is absent. Formats: AOSP, frameworks/base/services/core/java/com/
android/server/BatteryService.java and power/ThermalManagerService.java, core/java/android/os/Temperature.java;
system/core/toolbox's getprop; Linux' Documentation/admin-guide/pm/cpufreq.rst.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facedeploy.machine.records import Board, Sensors
from facedeploy.machine.sysfs import plain_name, temperature

# What to run on the phone.
BATTERY = "dumpsys battery"
THERMAL = "dumpsys thermalservice"
PROPERTIES = "getprop"
_CPUFREQ = "/sys/devices/system/cpu/cpu*/cpufreq"
CPUS = f"grep -s . {_CPUFREQ}/cpuinfo_max_freq {_CPUFREQ}/scaling_cur_freq"

# android.os.Temperature: THROTTLING_*, by value.
STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_NOT_TEMPERATURES = (6, 7, 8)  # TYPE_BCL_VOLTAGE, TYPE_BCL_CURRENT, TYPE_BCL_PERCENTAGE.
_TEXT, _SENSORS, _PROPERTIES = 1 << 20, 128, 4096
_FASTEST = 10_000_000  # kHz.
_MODEL_LENGTH = 80


@dataclass(frozen=True)
class Battery:
    """A phone's battery.

    Attributes:
        level: Charge, percent.
        temperature: Celsius.
        plugged: "AC", "USB", "Wireless" or "Dock"; None where it does not say.
    """

    level: float | None
    temperature: float | None
    plugged: tuple[str, ...] | None


@dataclass(frozen=True)
class Thermal:
    """What a phone says of its heat.

    Attributes:
        status: 0 to 6, as in `STATUSES`.
        temperatures: Sensor -> Celsius.
    """

    status: int | None
    temperatures: Mapping[str, float]


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind.

    Attributes:
        cores: Their numbers.
        highest: MHz that they can reach.
        mhz: Their mean clock now, MHz.
    """

    cores: tuple[int, ...]
    highest: float
    mhz: float | None


@dataclass(frozen=True)
class Phone:
    """What a phone is; None where it does not say.

    Attributes:
        model: Such as "Pixel 8 Pro".
        maker: Such as "Google".
        soc: Such as "Google Tensor G3".
        android: Version of Android, such as "14".
        sdk: Level of its API, such as 34.
        abi: Such as "arm64-v8a".
        emulator: Whether it is Android's emulator and no phone.
    """

    model: str | None
    maker: str | None
    soc: str | None
    android: str | None
    sdk: int | None
    abi: str | None
    emulator: bool = False


def parse_battery(said: str) -> Battery:
    """Of `dumpsys battery`. Nothing, where somebody has set the values by hand."""
    said = said[:_TEXT]
    if "UPDATES STOPPED" in said:
        return Battery(None, None, None)
    level, scale, tenths = (_field(said, name) for name in ("level", "scale", "temperature"))
    percent = (
        100 * level / (scale or 100) if level is not None and level >= 0 and (scale is None or scale > 0) else None
    )
    powered = re.findall(r"^  (AC|USB|Wireless|Dock) powered: (true|false)[ \t\r]*$", said, re.MULTILINE)
    return Battery(
        level=percent if percent is not None and percent <= 100 else None,
        temperature=temperature(tenths / 10) if tenths is not None else None,
        plugged=tuple(dict.fromkeys(name for name, on in powered if on == "true")) if powered else None,
    )


def parse_thermal(said: str) -> Thermal:
    """Of `dumpsys thermalservice`: what the sensors say now, or what they last said, where that is all there is."""
    said = said[:_TEXT]
    status = re.search(r"^[ \t]*Thermal Status: ([0-6])[ \t\r]*$", said, re.MULTILINE)
    now = _section(said, "Current temperatures from HAL:")
    found: dict[str, float] = {}
    for value, kind, name in now if now is not None else _section(said, "Cached temperatures:") or ():
        label, celsius = plain_name(name), temperature(float(value))
        if label and celsius is not None and int(kind) not in _NOT_TEMPERATURES:
            found[label] = max(celsius, found.get(label, celsius))
    return Thermal(int(status[1]) if status else None, found)


def parse_clusters(said: str) -> tuple[Cluster, ...]:
    """Of `CPUS`: clusters of the cores that can reach the same clock, the slowest first."""
    values: dict[tuple[int, str], int] = {}
    line = r"^\S{0,300}/cpu([0-9]{1,3})/cpufreq/(cpuinfo_max_freq|scaling_cur_freq):[ \t]*([0-9]{1,9})[ \t\r]*$"
    for core, name, value in re.findall(line, said[:_TEXT], re.MULTILINE):
        if 0 < int(value) <= _FASTEST:
            values[int(core), name] = int(value)
    highest = {core: value for (core, name), value in values.items() if name == "cpuinfo_max_freq"}
    clusters = []
    for most in sorted(set(highest.values())):
        cores = tuple(sorted(core for core, value in highest.items() if value == most))
        current = [values[core, "scaling_cur_freq"] for core in cores if (core, "scaling_cur_freq") in values]
        clusters.append(Cluster(cores, most / 1e3, sum(current) / len(current) / 1e3 if current else None))
    return tuple(clusters)


def big_cores(clusters: Sequence[Cluster]) -> tuple[int, ...]:
    """Cores whose highest clock is not in the lower half of the range of all: what ncnn calls big (src/cpu.cpp)."""
    if not clusters:
        return ()
    middle = (min(c.highest for c in clusters) + max(c.highest for c in clusters)) / 2
    return tuple(sorted(core for c in clusters if c.highest >= middle for core in c.cores))


def parse_properties(said: str) -> Phone:
    """Of `getprop`."""
    lines = re.findall(r"^\[([A-Za-z0-9_.-]{1,100})\]: \[([^\n]{0,500})\][ \t\r]*$", said[:_TEXT], re.MULTILINE)
    found = dict(reversed(lines[:_PROPERTIES]))

    def first(*keys: str) -> str | None:
        return next((name for key in keys if (name := plain_name(found.get(key), _MODEL_LENGTH))), None)

    chip = first("ro.soc.model", "ro.hardware.chipname", "ro.board.platform")
    maker = first("ro.soc.manufacturer") if chip and first("ro.soc.model") else None
    sdk = first("ro.build.version.sdk") or ""
    return Phone(
        model=first("ro.product.marketname", "ro.product.model"),
        maker=first("ro.product.manufacturer", "ro.product.brand"),
        soc=" ".join(filter(None, (maker, chip))) or None,
        android=first("ro.build.version.release"),
        sdk=int(sdk) if re.fullmatch(r"[0-9]{1,4}", sdk) else None,
        abi=first("ro.product.cpu.abi"),
        # The first one from Android 12 on.
        emulator="1" in (found.get("ro.boot.qemu"), found.get("ro.kernel.qemu")),
    )


def phone_board(phone: Phone) -> Board:
    """The phone, as a record has it."""
    known = phone.model and phone.maker and phone.maker.lower() not in phone.model.lower()
    return Board(
        model=f"{phone.maker} {phone.model}" if known else phone.model or phone.maker,
        module=None,
        soc=phone.soc,
        release=f"Android {phone.android}" if phone.android else None,
    )


def phone_sensors(battery: Battery, thermal: Thermal, clusters: Sequence[Cluster]) -> Sensors:
    """The sensors, as a record has them: clock "cpu4" is that of the cluster that begins with core 4."""
    known = {} if battery.temperature is None else {"battery": battery.temperature}
    return Sensors(
        rails={},
        clocks={f"cpu{c.cores[0]}": c.mhz for c in clusters if c.mhz is not None},
        temperatures={**known, **dict(list(thermal.temperatures.items())[:_SENSORS])},
        events={},
        throttled=(f"thermal status {STATUSES[thermal.status]}",) if thermal.status else (),
        battery=battery.level,
    )


def _field(said: str, name: str) -> int | None:
    found = re.search(rf"^  {name}:[ \t]*(-?[0-9]{{1,9}})[ \t\r]*$", said, re.MULTILINE)
    return int(found[1]) if found else None


def _section(said: str, heading: str) -> list[tuple[str, str, str]] | None:
    """Value, type and name of each sensor of a list; None where there is no such list."""
    _, there, rest = said.partition(heading)
    if not there:
        return None
    found = []
    for line in rest.split("\n")[1 : _SENSORS + 1]:
        sensor = re.match(
            r"[ \t]+Temperature\{mValue=(-?[0-9]{1,6}(?:\.[0-9]{1,9})?), mType=(-?[0-9]{1,3}), mName=([^,}]{1,100}),",
            line,
        )
        if sensor:
            found.append((sensor[1], sensor[2], sensor[3]))
        elif "Temperature{" not in line:
            break
    return found
