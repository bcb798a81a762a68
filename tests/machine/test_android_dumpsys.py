"""What a phone prints, as AOSP and phones do (tests/support/device_trees.py says where from), and hostile text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.machine.android_dumpsys import (
    Battery,
    Cluster,
    Phone,
    Thermal,
    big_cores,
    parse_battery,
    parse_clusters,
    parse_properties,
    parse_thermal,
    phone_board,
    phone_sensors,
)
from facedeploy.machine.records import Board, Sensors
from tests.support.device_trees import BATTERY, CPUS, PROPERTIES, THERMAL_SERVICE

NOBODY = Phone(None, None, None, None, None, None)


def crlf(text: str) -> str:
    """As older versions of adb deliver it."""
    return text.replace("\n", "\r\n")


@pytest.mark.parametrize("text", [BATTERY, crlf(BATTERY)])
def test_a_battery(text: str) -> None:
    assert parse_battery(text) == Battery(76.0, 27.4, ("USB",))


def test_a_battery_by_itself() -> None:
    assert parse_battery(BATTERY.replace("USB powered: true", "USB powered: false")).plugged == ()
    assert parse_battery(BATTERY.replace("scale: 100", "scale: 200")).level == 38
    # Before Android 5.
    assert parse_battery("  level: 50\n  temperature:300\n") == Battery(50, 30, None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("level: 76", "level: -1"), (None, 27.4)),
        (("level: 76", "level: 176"), (None, 27.4)),
        (("scale: 100", "scale: 0"), (None, 27.4)),
        (("temperature: 274", "temperature: 0"), (76.0, None)),
        (("temperature: 274", "temperature: -999"), (76.0, None)),
        (("temperature: 274", "temperature: 27400"), (76.0, None)),
    ],
)
def test_what_a_battery_cannot_be_is_left_out(
    change: tuple[str, str], expected: tuple[float | None, float | None]
) -> None:
    text = BATTERY.split("[EventLogBuffer]")[0]
    assert change[0] in text
    found = parse_battery(text.replace(*change))
    assert (found.level, found.temperature) == expected


def test_values_that_were_set_by_hand_are_not_believed() -> None:
    note = "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n"
    assert parse_battery(BATTERY.replace("state:\n", note)) == Battery(None, None, None)


@pytest.mark.parametrize("text", [THERMAL_SERVICE, crlf(THERMAL_SERVICE)])
def test_heat(text: str) -> None:
    """The sensors as they are now, not what they last said to somebody; no voltages, and none that are off."""
    expected = {"BIG": 49.071, "G3D": 48.937, "VIRTUAL-SKIN": 31.25, "TPU": 33.5}
    assert parse_thermal(text) == Thermal(2, expected)


def test_heat_that_was_only_kept() -> None:
    kept, _ = THERMAL_SERVICE.split("HAL Ready")
    assert parse_thermal(kept + "HAL Ready: false\n") == Thermal(2, {"BIG": 99.0})
    # A list of now that is empty is not the one of before.
    assert parse_thermal(kept + "Current temperatures from HAL:\n").temperatures == {}


@pytest.mark.parametrize("status", ["7", "-1", "22", "", "none"])
def test_a_status_that_is_none(status: str) -> None:
    assert parse_thermal(f"Thermal Status: {status}\n").status is None


def test_clusters() -> None:
    expected = (
        Cluster((0, 1, 2, 3), 1803.0, 901.5),
        Cluster((4, 5), 2253.0, 1126.5),
        Cluster((6, 7), 2802.0, 1401.0),
    )
    assert parse_clusters(CPUS) == parse_clusters(crlf(CPUS)) == expected
    shuffled = "\n".join(reversed(CPUS.splitlines()))
    assert parse_clusters(shuffled) == expected
    assert big_cores(expected) == (6, 7)
    assert big_cores((Cluster((0, 1), 2000.0, None),)) == (0, 1)
    assert big_cores(()) == ()


def test_clocks_that_may_not_be_read() -> None:
    text = CPUS.replace("cpu7/cpufreq/scaling_cur_freq:1401000", "cpu7/cpufreq/scaling_cur_freq: Permission denied")
    assert parse_clusters(text)[2] == Cluster((6, 7), 2802.0, 1401.0)
    only = "\n".join(line for line in CPUS.splitlines() if "cpuinfo" in line)
    assert [c.mhz for c in parse_clusters(only)] == [None] * 3
    assert parse_clusters(CPUS.replace("cpuinfo_max_freq", "cpuinfo_min_freq")) == ()
    assert parse_clusters("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq:0\n") == ()


@pytest.mark.parametrize("text", [PROPERTIES, crlf(PROPERTIES)])
def test_properties(text: str) -> None:
    assert parse_properties(text) == Phone("Pixel 8 Pro", "Google", "Google Tensor G3", "14", 34, "arm64-v8a")


def test_properties_of_older_phones() -> None:
    text = "[ro.hardware.chipname]: [exynos2400]\n[ro.product.model]: [SM-S928B]\n[ro.soc.manufacturer]: [Samsung]\n"
    found = parse_properties(text)
    assert (found.soc, found.model, found.maker) == ("exynos2400", "SM-S928B", None)
    assert parse_properties("[ro.build.version.sdk]: [VanillaIceCream]\n") == NOBODY
    assert parse_properties("") == NOBODY


def test_a_phone_as_a_record_has_it() -> None:
    phone = parse_properties(PROPERTIES)
    assert phone_board(phone) == Board("Google Pixel 8 Pro", None, "Google Tensor G3", "Android 14")
    assert phone_board(NOBODY) == Board(None, None, None, None)
    found = phone_sensors(parse_battery(BATTERY), parse_thermal(THERMAL_SERVICE), parse_clusters(CPUS))
    assert found.temperatures["battery"] == 27.4
    assert found.clocks == {"cpu0": 901.5, "cpu4": 1126.5, "cpu6": 1401.0}
    assert found.throttled == ("thermal status moderate",)
    assert (found.rails, found.unfixed) == ({}, None)
    assert phone_sensors(Battery(None, None, None), Thermal(0, {}), ()) == Sensors({}, {}, {}, {})


PIECES = [*BATTERY.splitlines(), *THERMAL_SERVICE.splitlines(), *PROPERTIES.splitlines(), *CPUS.splitlines()]
HOSTILE = st.lists(
    st.sampled_from(PIECES)
    | st.text(max_size=60)
    | st.sampled_from(["9" * 5000, "\x1b[2J", "[ro.product.model]: [\x1b]0;x\x07]", "[" * 3000, "Temperature{" * 500]),
    max_size=40,
).map("\n".join)


@given(HOSTILE)
def test_hostile_text_is_never_an_error(text: str) -> None:
    battery, thermal, clusters, phone = (
        parse(text) for parse in (parse_battery, parse_thermal, parse_clusters, parse_properties)
    )
    assert isinstance(battery, Battery)
    assert isinstance(thermal, Thermal)
    assert isinstance(clusters, tuple)
    assert isinstance(phone, Phone)
    board, found = phone_board(phone), phone_sensors(battery, thermal, clusters)
    for made in (board, found):
        assert from_plain(type(made), json.loads(json.dumps(to_plain(made), allow_nan=False))) == made
    assert all(value is None or value.isprintable() for value in to_plain(board).values())
    assert len(str(board)) < 1000
    assert all(-40 < celsius < 150 and name.isprintable() for name, celsius in found.temperatures.items())
    assert set(big_cores(clusters)) <= {core for c in clusters for core in c.cores}


def test_much_text_takes_no_more_than_some() -> None:
    sensor = "\tTemperature{{mValue=30.0, mType=0, mName=cpu{}, mStatus=0}}\n"
    many = "Current temperatures from HAL:\n" + "".join(sensor.format(i) for i in range(20_000))
    assert len(parse_thermal(many).temperatures) <= 128
    assert parse_battery("x" * (1 << 20) + BATTERY) == Battery(None, None, None)
    assert parse_properties("y\n" * (1 << 20) + PROPERTIES) == NOBODY
    assert len(parse_clusters(CPUS * 5000)) == 3
