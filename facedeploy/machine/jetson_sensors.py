"""What the sensors of a Jetson say: watts, clocks, temperatures, throttling, over-currents; from sysfs, without root.

Every function takes the root of the file system. What cannot be read, or cannot be, is absent; nothing here raises.
docs/reference/jetson.md says where each fact comes from, and which ones nobody has confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from facedeploy.machine.jetson_board import ROOT, is_jetson
from facedeploy.machine.records import Sensors
from facedeploy.machine.sysfs import COLDEST, HOTTEST, number, paths, plain_name, temperature, text

_POLICIES = "sys/devices/system/cpu/cpufreq/policy[0-9]*"
_HWMON = "sys/class/hwmon/hwmon*"
_ALERT = "-throttle-alert"
_EMC = "sys/kernel/debug/bpmp/debug/clk/emc"
# Orin: 17000000.gpu, or 17000000.ga10b before JetPack 6; Thor: gpu-gpc-0. gpu-nvd-0 is the clock of the video engines.
_GPU = re.compile(r"([0-9a-f]{1,16}\.)?(gpu|ga10b|gv11b|gp10b)|gpu-gpc-[0-9]{1,2}")
_VOLTS, _AMPERES = 60.0, 100.0  # Above what any of the boards' supplies gives.
# A rail that is switched off may read a little less than nothing: -0.4 W was seen on Thor.
_OFFSET = -1.0
_SLOWEST, _FASTEST = 1.0, 10_000.0  # MHz.
_COUNT, _HERTZ = 1e12, 1e13  # No counter and no bound of a clock is higher.


def read_sensors(root: Path = ROOT) -> Sensors | None:
    """The sensors now; None where it is no Jetson."""
    if not is_jetson(root):
        return None
    duty = _first(root, f"{_HWMON}/pwm1", 0, 255)
    return Sensors(
        rails=_rails(root),
        clocks=_clocks(root),
        temperatures=_temperatures(root),
        events=_events(root),
        unfixed=_unfixed(root),
        throttled=_throttled(root),
        fan=None if duty is None else duty / 255,
        rpm=_first(root, f"{_HWMON}/rpm", 1, 1e5) or _first(root, f"{_HWMON}/fan1_input", 1, 1e5),
    )


def sane_watts(watts: float) -> float | None:
    """Watts of a rail, 0 for a little less than nothing; None for what cannot be."""
    return max(0.0, watts) if _OFFSET < watts < _VOLTS * _AMPERES else None


def sane_clock(mhz: float) -> float | None:
    """MHz of a clock; None for what cannot be, and for 0: then the part is switched off."""
    return mhz if _SLOWEST <= mhz <= _FASTEST else None


def _rails(root: Path) -> dict[str, float]:
    """Watts by label. A label that stands at two channels says nothing of either."""
    found: dict[str, float | None] = {}
    for path in paths(root, f"{_HWMON}/name"):
        for label, watts in _channels(path.parent, text(path) or ""):
            found[label] = None if label in found else watts
    return {label: watts for label, watts in found.items() if watts is not None}


def _channels(chip: Path, name: str) -> Iterator[tuple[str, float | None]]:
    """An INA3221 has three channels, mV times mA: numbers from 4 on are voltages of shunts, and sums. An INA238 and its
    like have one, microwatts.
    """
    if name.startswith("ina3221"):
        for channel in (1, 2, 3):
            label = plain_name(text(chip / f"in{channel}_label"))
            if label is not None and label != "NC":  # Not connected.
                volts = number(chip / f"in{channel}_input", 1, _VOLTS * 1e3)
                amperes = number(chip / f"curr{channel}_input", -_AMPERES * 1e3, _AMPERES * 1e3)
                yield label, None if volts is None or amperes is None else sane_watts(volts * amperes / 1e6)
    elif name.startswith("ina") and (label := plain_name(text(chip / "label"))):
        power = number(chip / "power1_input", 1, _VOLTS * _AMPERES * 1e6)
        yield label, None if power is None else power / 1e6


def _clocks(root: Path) -> dict[str, float]:
    """MHz. "cpu4" is the policy of that name."""
    places = [(_core(policy), policy / "scaling_cur_freq", 1e3) for policy in paths(root, _POLICIES)]
    places += [("gpu", device / "cur_freq", 1e6) for device in _gpus(root)]
    places += [("emc", root / "sys/class/devfreq/bwmgr/cur_freq", 1e6), ("emc", root / _EMC / "rate", 1e6)]
    found: dict[str, float] = {}
    for name, path, unit in places:
        hertz = number(path, 0, _HERTZ)
        _keep(found, name, None if hertz is None else sane_clock(hertz / unit))
    return found


def _unfixed(root: Path) -> tuple[str, ...] | None:
    """Clocks whose least and most differ: jetson_clocks makes them equal. The memory's says so to root only."""
    places = [(_core(p), p / "scaling_min_freq", p / "scaling_max_freq") for p in paths(root, _POLICIES)]
    places += [("gpu", device / "min_freq", device / "max_freq") for device in _gpus(root)]
    said: dict[str, bool] = {}
    for name, low, high in places:
        least, most = number(low, 0, _HERTZ), number(high, 0, _HERTZ)
        if least is not None and most is not None:
            said[name] = said.get(name, False) or least != most
    locked = number(root / _EMC / "mrq_rate_locked", 0, 1)
    if locked is not None:
        said["emc"] = locked == 0
    return tuple(name for name, moves in said.items() if moves) if said else None


def _core(policy: Path) -> str:
    return policy.name.replace("policy", "cpu")


def _gpus(root: Path) -> list[Path]:
    return [path for path in paths(root, "sys/class/devfreq/*") if _GPU.fullmatch(path.name)]


def _temperatures(root: Path) -> dict[str, float]:
    """Celsius by zone, "cpu" for cpu-thermal. The zone of a part that is switched off cannot be read."""
    found: dict[str, float] = {}
    for zone in paths(root, "sys/class/thermal/thermal_zone[0-9]*"):
        name = re.sub(r"[-_]therm(al)?$", "", (plain_name(text(zone / "type")) or "").lower())
        value = number(zone / "temp", COLDEST * 1e3, HOTTEST * 1e3)
        if name and not name.startswith("pmic") and value is not None:  # The PMIC's says 100, whatever its temperature.
            _keep(found, name, temperature(value / 1e3))
    return found


def _keep(found: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        found[name] = max(value, found.get(name, value))


def _events(root: Path) -> dict[str, int]:
    """Since boot. oc1: the input's voltage fell too low; oc2: too much power on average; oc3: for an instant."""
    places = [(path.name[:3], path) for path in paths(root, f"{_HWMON}/oc[0-9]_event_cnt")]
    places += [
        (f"{plain_name(path.parent.name.removesuffix(_ALERT))} hot", path)
        for path in paths(root, f"sys/devices/platform/*{_ALERT}/thermal_trip_event")
    ]
    counts = ((name, number(path, 0, _COUNT)) for name, path in places)
    return {name: int(count) for name, count in counts if count is not None}


def _throttled(root: Path) -> tuple[str, ...]:
    alerts = {
        (plain_name(text(device / "type")) or ""): number(device / "cur_state", 1, _COUNT)
        for device in paths(root, "sys/class/thermal/cooling_device[0-9]*")
    }
    return tuple(
        sorted(n.removesuffix(_ALERT) for n, state in alerts.items() if n.endswith(_ALERT) and state is not None)
    )


def _first(root: Path, pattern: str, low: float, high: float) -> float | None:
    return next((value for path in paths(root, pattern) if (value := number(path, low, high)) is not None), None)
