"""What Jetsons say of themselves: trees from public facts (tests/support/device_trees.py), and hostile ones."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.benchmarks.latency.conditions import Moment, make_conditions
from facedeploy.benchmarks.record import Conditions
from facedeploy.benchmarks.record_file import read_record, write_record
from facedeploy.benchmarks.report.board import UNKNOWN, board_facts
from facedeploy.benchmarks.report.conditions import conditions_tables
from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.machine import linux as machine
from facedeploy.machine.jetson_board import highest_mode, is_jetson, read_board, read_modes
from facedeploy.machine.jetson_sensors import read_sensors
from facedeploy.machine.jetson_tegrastats import fill_in, parse_tegrastats
from facedeploy.machine.records import Board, During, Machine, Sensors, Span, State
from facedeploy.machine.sampler import Sampler
from tests.support import device_trees as trees
from tests.support.device_trees import ORIN_NANO, THOR, make_tree
from tests.support.records import make_record

EMPTY = Sensors({}, {}, {}, {})
QUIET = State("2026-01-01T00:00:00+00:00", 0.1, 1510.4, "schedutil", 48.6, None)


def sensors(root: Path, files: dict[str, str]) -> Sensors:
    found = read_sensors(make_tree(root, files))
    assert found is not None
    return found


def test_an_orin_nano(tmp_path: Path) -> None:
    found = sensors(tmp_path, ORIN_NANO)
    assert read_board(tmp_path) == Board(
        model="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        module="p3767-0005",
        soc="tegra234",
        release="L4T 36.4.3 (JetPack 6.2)",
        mode="15W",
        highest="MAXN_SUPER",
    )
    assert found.rails == pytest.approx({"VDD_IN": 9.109056, "VDD_CPU_GPU_CV": 2.20352, "VDD_SOC": 2.443904})
    assert found.clocks == {"cpu0": 1510.4, "cpu4": 729.6, "gpu": 612}
    assert found.temperatures == {"cpu": 47.687, "gpu": 48.625, "soc0": 47.468, "tj": 48.625}
    assert found.events == {"oc1": 0, "oc2": 0, "oc3": 27390}
    assert found.unfixed == ("cpu0", "cpu4", "gpu")
    assert (found.throttled, found.fan, found.rpm) == ((), 0.2, 1741)


def test_a_thor(tmp_path: Path) -> None:
    found = sensors(tmp_path, THOR)
    board = read_board(tmp_path)
    assert board is not None
    assert (board.module, board.soc, board.release) == ("p3834-0008", "tegra264", "L4T 38.2.2 (JetPack 7.0)")
    # Nobody has set a mode: it is the one of the boot.
    assert (board.mode, board.highest) == ("120W", "MAXN")
    assert found.rails["VIN"] == pytest.approx(124.486)
    assert found.rails["VDD_GPU"] == pytest.approx(19.616 * 1.934)
    assert sorted(found.rails) == ["VDD_CPU_SOC_MSS", "VDD_GPU", "VIN", "VIN_SYS_5V0"]
    assert found.clocks == {"cpu0": 2601, "gpu": 1575, "emc": 4266}
    assert found.temperatures == {"cpu": 58.25, "tj": 66.625, "soc012": 55.375}
    assert found.events == {"oc1": 0, "oc2": 0, "oc3": 179, "gpu hot": 12}
    # The clock of the video engines may move: nothing here is computed there.
    assert (found.unfixed, found.throttled) == ((), ("gpu",))


def test_jetson_clocks_is_seen(tmp_path: Path) -> None:
    fixed = trees.jetson_clocks(ORIN_NANO)
    assert sensors(tmp_path, fixed).unfixed == ()
    loose = {**fixed, f"{trees.GPU}/min_freq": "306000000\n"}
    assert sensors(tmp_path, loose).unfixed == ("gpu",)


def test_root_is_told_of_the_memory(tmp_path: Path) -> None:
    emc = "sys/kernel/debug/bpmp/debug/clk/emc"
    found = sensors(tmp_path, {**ORIN_NANO, f"{emc}/rate": "3199000000\n", f"{emc}/mrq_rate_locked": "0\n"})
    assert found.clocks["emc"] == 3199
    assert found.unfixed == ("cpu0", "cpu4", "gpu", "emc")


@pytest.mark.parametrize("name", ["17000000.gpu", "17000000.ga10b", "gpu-gpc-0"])
def test_the_gpu_has_many_names(name: str, tmp_path: Path) -> None:
    files = {k.replace("17000000.gpu/c", f"{name}/c"): text for k, text in ORIN_NANO.items()}
    assert sensors(tmp_path, files).clocks["gpu"] == 612


def test_watts_follow_the_labels(tmp_path: Path) -> None:
    """Not the numbers of the chips or of the channels, which change from boot to boot."""
    chip = f"{trees.HWMON}/hwmon1"
    swap = {"1": "3", "3": "1"}
    moved = {
        (f"{trees.HWMON}/hwmon7/{k.removeprefix(chip + '/')}" if k.startswith(chip) else k): text
        for k, text in ORIN_NANO.items()
        if k.removeprefix(chip + "/")[:3] not in ("in1", "in3")
        and k.removeprefix(chip + "/")[:5] not in ("curr1", "curr3")
    }
    for kind in ("in{}_label", "in{}_input", "curr{}_input"):
        for old, new in swap.items():
            moved[f"{trees.HWMON}/hwmon7/{kind.format(new)}"] = ORIN_NANO[f"{chip}/{kind.format(old)}"]
    right = {"VDD_IN": 9.109056, "VDD_CPU_GPU_CV": 2.20352, "VDD_SOC": 2.443904}
    assert sensors(tmp_path, moved).rails == pytest.approx(right)


def test_a_label_that_stands_twice_says_nothing(tmp_path: Path) -> None:
    twice = {**ORIN_NANO, f"{trees.HWMON}/hwmon1/in3_label": "VDD_IN\n"}
    assert list(sensors(tmp_path / "a", twice).rails) == ["VDD_CPU_GPU_CV"]
    second = {k.replace("hwmon1/", "hwmon9/"): text for k, text in ORIN_NANO.items() if "hwmon1/" in k}
    assert sensors(tmp_path / "b", {**ORIN_NANO, **second}).rails == {}
    # Nor where one of the two cannot be read.
    second[f"{trees.HWMON}/hwmon9/in1_input"] = "?"
    assert "VDD_IN" not in sensors(tmp_path / "c", {**ORIN_NANO, **second}).rails


def test_shunts_sums_and_what_is_not_connected_are_no_rails(tmp_path: Path) -> None:
    chip = f"{trees.HWMON}/hwmon1"
    files = {**ORIN_NANO, f"{chip}/in4_label": "VDD_SHUNT\n", f"{chip}/curr7_input": "9\n", f"{chip}/in2_label": "NC\n"}
    assert sorted(sensors(tmp_path, files).rails) == ["VDD_IN", "VDD_SOC"]
    # As other chips have labels, and volts of their own.
    other = {k: "acpi_power\n" if k == f"{chip}/name" else text for k, text in ORIN_NANO.items()}
    assert sensors(tmp_path, other).rails == {}


@pytest.mark.parametrize("garbage", ["0", "", "-5016", "99999999", "0x1398", "5016 5016", "nan", "1e3", "9" * 4000])
def test_a_rail_without_a_voltage_is_left_out(garbage: str, tmp_path: Path) -> None:
    found = sensors(tmp_path, {**ORIN_NANO, f"{trees.HWMON}/hwmon1/in1_input": garbage})
    assert sorted(found.rails) == ["VDD_CPU_GPU_CV", "VDD_SOC"]


@pytest.mark.parametrize(
    ("milliamperes", "watts"), [("0", 0.0), ("-20", 0.0), ("-2000", None), ("", None), ("9e9", None)]
)
def test_a_rail_without_a_current(milliamperes: str, watts: float | None, tmp_path: Path) -> None:
    """A part that is switched off takes nothing, or by its sensor a little less."""
    found = sensors(tmp_path, {**ORIN_NANO, f"{trees.HWMON}/hwmon1/curr1_input": milliamperes})
    assert found.rails.get("VDD_IN") == watts


@pytest.mark.parametrize("garbage", ["0", "-256000", "150000", "hot", "47687.5", ""])
def test_a_temperature_that_cannot_be_is_left_out(garbage: str, tmp_path: Path) -> None:
    found = sensors(tmp_path, {**ORIN_NANO, f"{trees.THERMAL}/thermal_zone0/temp": garbage})
    assert sorted(found.temperatures) == ["gpu", "soc0", "tj"]


@pytest.mark.parametrize("garbage", ["0", "-1", "612", "612000000000000", "off"])
def test_a_clock_that_cannot_be_is_left_out(garbage: str, tmp_path: Path) -> None:
    assert "gpu" not in sensors(tmp_path, {**ORIN_NANO, f"{trees.GPU}/cur_freq": garbage}).clocks


def test_the_highest_mode_is_not_the_highest_number(tmp_path: Path) -> None:
    make_tree(tmp_path, ORIN_NANO)
    assert read_modes(tmp_path) == {0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}
    assert highest_mode({0: "MAXN", 1: "10W", 2: "40W", 3: "MAXN_SUPER"}) == "MAXN_SUPER"
    assert highest_mode({0: "MODE_15W_2CORE", 1: "MODE_15W_6CORE", 2: "MODE_10W_4CORE"}) == "MODE_15W_6CORE"
    assert highest_mode({0: "15W", 1: "7W"}) == "15W"
    assert highest_mode({0: "FAST", 1: "SLOW"}) is None
    assert highest_mode({}) is None


@pytest.mark.parametrize("status", ["pmode:0007", "", "pmode:", "pmode:99999999999"])
def test_a_mode_that_is_not_offered_is_not_known(status: str, tmp_path: Path) -> None:
    files = {**ORIN_NANO, "var/lib/nvpmodel/status": status}
    files["etc/nvpmodel.conf"] = files["etc/nvpmodel.conf"].replace("< PM_CONFIG DEFAULT=1 >", "")
    board = read_board(make_tree(tmp_path, files))
    assert board is not None
    assert board.mode is None


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("# R39 (release), REVISION: 2.0, GCID: 1", "L4T 39.2.0 (JetPack 7.2)"),
        ("# R99 (release), REVISION: 1.0, GCID: 1", "L4T 99.1.0"),
        ("# R36 (release), GCID: 1", None),
        ("R36", None),
    ],
)
def test_releases(release: str, said: str | None, tmp_path: Path) -> None:
    board = read_board(make_tree(tmp_path, {**ORIN_NANO, "etc/nv_tegra_release": release}))
    assert board is not None
    assert board.release == said


def test_what_is_no_jetson_says_nothing(tmp_path: Path) -> None:
    files = {k: text for k, text in ORIN_NANO.items() if not k.startswith(("etc/nv_", "proc/"))}
    make_tree(tmp_path, files)
    assert not is_jetson(tmp_path)
    assert (read_board(tmp_path), read_sensors(tmp_path)) == (None, None)
    make_tree(tmp_path, {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"})
    assert (read_board(tmp_path), read_sensors(tmp_path)) == (None, None)


def test_a_jetson_that_says_nothing_more(tmp_path: Path) -> None:
    assert sensors(tmp_path, {"proc/device-tree/compatible": "nvidia,tegra234\0"}) == EMPTY
    assert read_board(tmp_path) == Board(None, None, "tegra234", None)
    # A container may hide the device tree.
    release = {"etc/nv_tegra_release": ORIN_NANO["etc/nv_tegra_release"]}
    assert read_board(make_tree(tmp_path / "container", release)) == Board(None, None, None, "L4T 36.4.3 (JetPack 6.2)")


NONSENSE = [b"inf", b"9" * 5000, b"< POWER_MODEL ID=1 NAME=" * 500, b"\x1b[2Jx", b"-1", b"\0" * 50, b"<" * 5000]


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(sorted({**ORIN_NANO, **THOR} | {"other": ""})),
        st.sampled_from(NONSENSE) | st.binary(max_size=80),
    )
)
def test_nonsense_is_never_an_error(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = make_tree(tmp_path_factory.mktemp("tree"), {**ORIN_NANO, **THOR})
    for name, data in files.items():
        (root / name).write_bytes(data)
    board, found = read_board(root), read_sensors(root)
    if board is not None:
        assert from_plain(Board, json.loads(json.dumps(to_plain(board), allow_nan=False))) == board
        assert len(str(board)) < 1000
        assert all(value is None or value.isprintable() for value in to_plain(board).values())
    if found is not None:
        assert from_plain(Sensors, json.loads(json.dumps(to_plain(found), allow_nan=False))) == found
        assert all(0 <= watts < 6000 for watts in found.rails.values())
        names = [*found.rails, *found.temperatures, *found.throttled]
        assert all(name.isprintable() and 0 < len(name) <= 48 for name in names)


def test_folders_where_files_should_be(tmp_path: Path) -> None:
    for name in ORIN_NANO:
        if not name.startswith(("proc/", "etc/nv_")):
            (tmp_path / name).mkdir(parents=True)
    make_tree(tmp_path, {k: text for k, text in ORIN_NANO.items() if k.startswith(("proc/", "etc/nv_"))})
    assert read_sensors(tmp_path) == EMPTY


def test_tegrastats_of_jetpack_6() -> None:
    found = parse_tegrastats(trees.TEGRASTATS_ORIN_NANO)
    assert found.rails == {"VDD_IN": 4.541, "VDD_CPU_GPU_CV": 0.521, "VDD_SOC": 1.446}
    assert found.clocks == {**{f"cpu{i}": 729 for i in (0, 1, 3)}, "cpu4": 1036, "cpu5": 1036, "gpu": 612}
    assert found.temperatures == {"cpu": 47.75, "soc2": 46.718, "gpu": 50, "tj": 50}


def test_tegrastats_of_jetpack_7() -> None:
    found = parse_tegrastats(trees.TEGRASTATS_THOR)
    assert found.rails == {"VDD_GPU": 37.939, "VDD_CPU_SOC_MSS": 30.059, "VIN_SYS_5V0": 15.486, "VIN": 124.486}
    assert found.clocks == {"cpu0": 2601, "cpu1": 2601, "cpu3": 2601, "gpu": 1574, "emc": 4266}
    assert found.temperatures == {"cpu": 58.25, "tj": 66.625, "soc012": 55.375}
    orin = parse_tegrastats(trees.TEGRASTATS_AGX_ORIN)
    assert orin.rails == {"VDD_GPU_SOC": 5.139, "VDD_CPU_CV": 3.268, "VIN_SYS_5V0": 5.5, "VDDQ_VDD2_1V8AO": 0.301}
    assert (orin.clocks["gpu"], orin.clocks["emc"]) == (1300, 3199)
    idle = parse_tegrastats(trees.TEGRASTATS_THOR_IDLE)
    assert idle.rails == {"VDD_GPU": 0, "VIN": 28.906}
    assert idle.clocks == {"cpu0": 2601, "cpu1": 2601, "gpu": 1574, "emc": 4266}


@pytest.mark.parametrize(
    "line",
    [
        "GR3D_FREQ 0%@[0,0]",
        "GR3D_FREQ 0%",
        "RAM 4722/7844MB SWAP 0/15268MB",
        "VDD_IN 4541mW",
        "VDD_IN 4541mW/4654mW VDD_IN 1mW/1mW",
        "VDD_IN 9999999mW/1mW",
        "xVDD 1/2 VDD_IN -4541mW/4654mW",
        "cv0@-256C gpu@0C PMIC@100C x@1e9C",
        "CPU [off,off]@2601",
        "NC 5mW/5mW",
        "",
    ],
)
def test_tegrastats_that_says_nothing(line: str) -> None:
    assert parse_tegrastats(line) == EMPTY


@given(
    st.text(max_size=400)
    | st.sampled_from(["VDD_A ", "CPU [", "9" * 300, "@[", "GR3D_FREQ ", "a" * 9000]).map(lambda t: t * 50)
)
def test_tegrastats_never_raises(line: str) -> None:
    found = parse_tegrastats(line)
    json.dumps(to_plain(found), allow_nan=False)
    assert parse_tegrastats(trees.TEGRASTATS_THOR[:200] + line).clocks["cpu0"] == 2601


def test_tegrastats_fills_in(tmp_path: Path) -> None:
    files = {k: text for k, text in THOR.items() if "/hwmon" not in k and "bwmgr" not in k}
    found = fill_in(sensors(tmp_path, files), parse_tegrastats(trees.TEGRASTATS_THOR))
    assert found.rails["VIN"] == 124.486
    assert found.clocks == {"gpu": 1575, "emc": 4266, "cpu0": 2601}
    assert found.throttled == ("gpu",)
    # What the files say is kept.
    full = sensors(tmp_path / "full", THOR)
    assert fill_in(full, parse_tegrastats(trees.TEGRASTATS_ORIN_NANO)).rails == full.rails


class Clock:
    """Runs a reading as often as asked, at no time of its own."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds
        self.asked: list[float] = []

    def pause(self, seconds: float) -> bool:
        self.asked.append(seconds)
        self.left -= 1
        return self.left < 0


def test_a_sampler_gives_least_mean_and_most(tmp_path: Path) -> None:
    root = make_tree(tmp_path, ORIN_NANO)
    currents = iter(["1000", "2000", "6000", "?"])

    def read() -> Sensors | None:
        (root / trees.HWMON / "hwmon1/curr1_input").write_text(next(currents))
        return read_sensors(root)

    clock = Clock(3)
    with Sampler(read, 0.5, clock.pause) as sampler:
        pass
    during = sampler.during()
    assert during is not None
    assert during.samples == 4
    # What was not said the last time does not count.
    assert to_plain(during.rails["VDD_IN"]) == pytest.approx({"low": 5.016, "mean": 15.048, "high": 30.096})
    assert during.clocks["gpu"] == Span(612, 612, 612)
    assert during.temperatures["tj"] == Span(48.625, 48.625, 48.625)
    assert clock.asked == [0.5] * 4


def test_a_sampler_goes_on_where_it_stopped() -> None:
    values = iter([1.0, 2.0, 6.0, 7.0])
    sampler = Sampler(lambda: replace(EMPTY, rails={"A": next(values)}, throttled=("gpu",)), pause=Clock(0).pause)
    with sampler:
        pass
    with sampler:
        pass
    assert sampler.during() == During(2, {"A": Span(1, 1.5, 2)}, {}, {}, ("gpu",))


def test_a_mean_is_between_the_least_and_the_most() -> None:
    with Sampler(lambda: replace(EMPTY, clocks={"cpu0": 1510.4}), pause=Clock(14).pause) as sampler:
        pass
    during = sampler.during()
    assert during is not None
    assert during.clocks["cpu0"] == Span(1510.4, 1510.4, 1510.4)


def test_a_sampler_with_nothing_to_ask_starts_no_thread() -> None:
    def pause(seconds: float) -> bool:
        raise AssertionError

    with Sampler(lambda: None, pause=pause) as sampler:
        pass
    assert sampler.during() is None


def test_a_sampler_ends_by_itself() -> None:
    """By the real clock, which would let an hour pass."""
    with Sampler(lambda: EMPTY, 3600):
        assert "sensors" in [thread.name for thread in threading.enumerate()]
    assert "sensors" not in [thread.name for thread in threading.enumerate()]


def test_a_sampler_tells_what_went_wrong() -> None:
    said = iter([EMPTY])
    with pytest.raises(StopIteration), Sampler(lambda: next(said), pause=Clock(5).pause):
        pass
    said = iter([EMPTY])
    # An error of the run itself goes before.
    with pytest.raises(KeyError), Sampler(lambda: next(said), pause=Clock(5).pause):
        raise KeyError


def conditions(before: Sensors, after: Sensors, board: Board | None, during: During | None = None) -> Conditions:
    rounds = np.ones((10, 1))
    with pytest.MonkeyPatch.context() as patch:
        here = replace(machine.read_machine(), board=board)
        patch.setattr(machine, "read_machine", lambda: here)
        return make_conditions(
            *(Moment(replace(QUIET, sensors=s), machine.Ticks(t, 0, 0, 0)) for s, t in ((before, 0.0), (after, 10.0))),
            seconds=10.0,
            warmed=1.0,
            unsteady=[],
            times={"a": rounds},
            lengths=(5, 5),
            threads=0,
            during=during,
        )


def test_a_board_at_its_best_needs_no_remark(tmp_path: Path) -> None:
    """Nor does its governor, which jetson_clocks leaves as it is."""
    best = {**trees.jetson_clocks(ORIN_NANO), "var/lib/nvpmodel/status": "pmode:0002"}
    found = sensors(tmp_path, best)
    assert conditions(found, found, read_board(tmp_path)).remarks == ()


def test_what_a_reader_must_know_of_a_board_is_remarked(tmp_path: Path) -> None:
    found = sensors(tmp_path, ORIN_NANO)
    later = replace(found, events={**found.events, "oc3": 27400}, throttled=("cpu",))
    during = During(3, {}, {}, {}, ("gpu",))
    mode, clocks, hot, events = conditions(found, later, read_board(tmp_path), during).remarks
    assert "15W; MAXN_SUPER would allow more" in mode
    assert "not fixed (cpu0, cpu4, gpu)" in clocks
    assert "(cpu, gpu)" in hot
    assert "(oc3 10 times)" in events


def test_counters_that_were_high_before_are_not_remarked(tmp_path: Path) -> None:
    found = sensors(tmp_path, {**THOR, f"{trees.THERMAL}/cooling_device2/cur_state": "0"})
    assert conditions(found, found, None).remarks == ()


def test_a_governor_is_remarked_where_no_clock_says_more(tmp_path: Path) -> None:
    silent = sensors(tmp_path, {"proc/device-tree/compatible": "nvidia,tegra234\0"})
    (remark,) = conditions(silent, silent, None).remarks
    assert "governed by schedutil" in remark


def test_records_carry_boards_and_old_ones_are_read(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", THOR)
    old = make_record(rounds=8)
    path = tmp_path / "r.json"
    here, state = machine.read_machine(root), machine.read_state(root)
    assert isinstance(here, Machine)
    assert here.board is not None
    assert state.sensors is not None
    during = During(2, {"VIN": Span(20, 30, 40)}, {}, {}, ())
    carried = replace(old.conditions, machine=here, before=state, after=state, during=during)
    write_record(replace(old, conditions=carried), path)
    assert read_record(path).conditions == carried
    # As it was written before boards said anything.
    data = to_plain(old)
    del data["conditions"]["during"], data["conditions"]["machine"]["board"]
    del data["conditions"]["before"]["sensors"], data["conditions"]["after"]["sensors"]
    path.write_text(json.dumps(data))
    assert read_record(path) == old


def test_reports_say_what_boards_said(tmp_path: Path) -> None:
    found = sensors(tmp_path, ORIN_NANO)
    later = replace(found, events={**found.events, "oc3": 27400})
    during = During(3, {"VDD_IN": Span(8, 9.5, 12.25)}, {}, {}, ())
    made = conditions(found, later, read_board(tmp_path), during)
    facts = board_facts(made)
    assert facts["board"].endswith("p3767-0005, tegra234, L4T 36.4.3 (JetPack 6.2)")
    assert facts["power mode"] == "15W (the highest is MAXN_SUPER)"
    assert facts["fixed clocks"] == "all but cpu0, cpu4, gpu"
    assert facts["power"] == "VDD_IN 9.50 W (8.00 to 12.25), VDD_CPU_GPU_CV 2.20 W, VDD_SOC 2.44 W"
    assert facts["events"] == "oc1 0, oc2 0, oc3 10"
    assert facts["fan"] == "20 %, 1,741 rpm"
    plain = make_record(rounds=8)
    assert set(board_facts(plain.conditions).values()) == {UNKNOWN}
    named = [
        [row[0].text for row in conditions_tables([r], ["m"])[0].rows] for r in (plain, replace(plain, conditions=made))
    ]
    assert "power mode" not in named[0]
    assert "power mode" in named[1]
    mixed = conditions_tables([plain, replace(plain, conditions=made)], ["a", "b"])
    assert len(mixed) == 2
