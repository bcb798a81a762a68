"""A line of tegrastats, for what the files of a Jetson do not tell.

Formats: NVIDIA Jetson Linux Developer Guide, "tegrastats Utility"; lines that people recorded are in the tests.
JetPack 6: "VDD_IN 4654mW/4654mW" (now/mean), "GR3D_FREQ 62%@612" or "62%@[612]", "CPU [0%@1036,off]".
JetPack 7: "VDD_GPU 37939mW/8660mW/37939mW" (now/mean/most), "cpu@58.2C/61.7C", "GR3D_FREQ @[1574,1574,1574]".
"""

from __future__ import annotations

import re

from facedeploy.machine.jetson_sensors import sane_clock, sane_watts
from facedeploy.machine.records import Sensors
from facedeploy.machine.sysfs import temperature

_LINE = 8192
# Before JetPack 5 the unit is missing, and milliwatts too.
_RAIL = re.compile(
    r"(?<!\S)([A-Z][A-Z0-9_]{1,47}) (-?[0-9]{1,7})(mW)?/-?[0-9]{1,7}(?:mW)?(?:/-?[0-9]{1,7}(?:mW)?)?(?!\S)"
)
_ZONE = re.compile(r"(?<!\S)([A-Za-z][A-Za-z0-9_]{0,47})@(-?[0-9]{1,5}(?:\.[0-9]{1,6})?)C(?:/-?[0-9.]{1,12}C)?(?!\S)")
_CLOCK = r"(?<!\S){} (?:[0-9]{{1,3}}%)?@(?:([0-9]{{1,6}})|\[([0-9, ]{{1,100}})\])(?!\S)"
_CORES = re.compile(r"(?<!\S)CPU \[([^\[\]]{1,2000})\](?:@([0-9]{1,6}))?")


def parse_tegrastats(line: str) -> Sensors:
    """What one line says: watts now, MHz ("cpu4" is core 4), Celsius now. What is not in it, or cannot be, is absent.

    Rails of one name twice say nothing, as "NC".
    """
    line = line[:_LINE]
    clocks = {**_cores(line), "gpu": _clock(line, "GR3D_FREQ"), "emc": _clock(line, "EMC_FREQ")}
    found = [(name, sane_watts(int(milli) / 1e3)) for name, milli, _ in _RAIL.findall(line)]
    names = [name for name, _ in found]
    zones = {name.lower(): temperature(float(celsius)) for name, celsius in _ZONE.findall(line)}
    return Sensors(
        rails={name: watts for name, watts in found if watts is not None and names.count(name) == 1 and name != "NC"},
        clocks={name: mhz for name, mhz in clocks.items() if mhz is not None},
        temperatures={name: c for name, c in zones.items() if c is not None and not name.startswith("pmic")},
        events={},
    )


def fill_in(sensors: Sensors, line: Sensors) -> Sensors:
    """What the files say, and of what they do not, what tegrastats does."""
    return Sensors(
        rails=sensors.rails or line.rails,
        clocks={**{name: line.clocks[name] for name in ("gpu", "emc") if name in line.clocks}, **sensors.clocks},
        temperatures={**line.temperatures, **sensors.temperatures},
        events=sensors.events,
        unfixed=sensors.unfixed,
        throttled=sensors.throttled,
        fan=sensors.fan,
        rpm=sensors.rpm,
    )


def _cores(line: str) -> dict[str, float | None]:
    found = _CORES.search(line)
    if found is None:
        return {}
    shared = f"@{found[2]}" if found[2] else ""
    clocks = [re.fullmatch(r"[0-9]{1,3}%@([0-9]{1,6})", core.strip() + shared) for core in found[1].split(",")]
    return {f"cpu{i}": sane_clock(float(clock[1])) for i, clock in enumerate(clocks) if clock}


def _clock(line: str, name: str) -> float | None:
    """Of the fastest, where there are several."""
    found = re.search(_CLOCK.format(name), line)
    values = re.findall(r"[0-9]{1,6}", found[1] or found[2]) if found else []
    return max((mhz for v in values if (mhz := sane_clock(float(v))) is not None), default=None)
