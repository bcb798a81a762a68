"""The state of a machine: from trees like those of /proc and /sys, and of this machine itself."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.benchmarks.latency.conditions import Moment, make_conditions
from facedeploy.core.system import usable_cores
from facedeploy.machine.emulation import find_emulator
from facedeploy.machine.linux import Ticks, elsewhere, read_machine, read_state, read_ticks, stolen
from facedeploy.machine.records import State

linux = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system has no /proc/stat")
QUIET = State("2026-01-01T00:00:00+00:00", 0.1, 3000.0, "performance", 50.0, 3)

DESKTOP = {
    "proc/cpuinfo": """processor\t: 0
model name\t: Example CPU 3000 @ 2.60GHz
cpu MHz\t\t: 2600.000
flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni pdpe1gb

processor\t: 1
model name\t: Example CPU 3000 @ 2.60GHz
cpu MHz\t\t: 1200.000
flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni pdpe1gb
""",
    "proc/meminfo": "MemTotal:       16000000 kB\nMemFree:         1 kB\n",
    "proc/loadavg": "0.52 0.58 0.59 1/597 12345\n",
    "proc/stat": "cpu  300 0 100 1000 5 4 6 20 0 0\n"
    "cpu0 200 0 50 500 5 2 3 20 0 0\ncpu1 100 0 50 500 0 2 3 0 0 0\nintr 1\n",
    "proc/self/cgroup": "0::/user.slice/session\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "3\n",
    "sys/fs/cgroup/user.slice/session/cpu.stat": "usage_usec 12\nnr_throttled 10\n",
    "sys/class/thermal/thermal_zone0/temp": "45000\n",
    "sys/class/thermal/thermal_zone1/temp": "61500\n",
    "sys/class/thermal/thermal_zone2/temp": "-274000\n",
    "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
}
# As on a board with an ARM processor: no model name, no MHz, a device tree whose strings end in a zero byte.
BOARD = {
    "proc/cpuinfo": "".join(
        f"processor\t: {i}\nFeatures\t: fp asimd asimdhp asimddp crc32\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n\n"
        for i in range(6)
    ),
    "proc/device-tree/model": "Example Board Developer Kit\0",
    "proc/meminfo": "MemTotal:        7800000 kB\n",
    "proc/loadavg": "1.25 1.00 0.50 2/800 99\n",
    "sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "1510400\n",
    "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "schedutil\n",
    "sys/class/thermal/thermal_zone0/temp": "not a number\n",
    "sys/class/hwmon/hwmon3/temp1_input": "48500\n",
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_desktop(tmp_path: Path) -> None:
    root = tree(tmp_path, DESKTOP)
    machine = read_machine(root, (0, 1))
    assert machine.cpu == "Example CPU 3000 @ 2.60GHz"
    assert machine.flags == ("avx2", "avx512_vnni", "avx512f", "sse4_2")
    assert (machine.cores, machine.usable, machine.pinned) == (2, (0, 1), False)
    assert machine.memory == 16_000_000 * 1024
    assert machine.virtual is False
    assert "numpy" in machine.packages
    state = read_state(root, (0, 1))
    assert state.load == 0.52
    assert state.mhz == 2000
    assert state.governor == "performance/powersave"
    assert state.temperature == 61.5
    assert state.throttled == 4 + 3 + 10


def test_cores_of_others_do_not_count(tmp_path: Path) -> None:
    root = tree(tmp_path, DESKTOP)
    assert read_machine(root, (1,)).pinned
    state = read_state(root, (1,))
    assert (state.mhz, state.governor) == (1500, "performance")
    one, both = read_ticks(root, (1,)), read_ticks(root, (0, 1))
    assert one is not None
    assert both is not None
    hertz = both.busy / (250 + 5 + 150 + 5)
    assert one.busy == pytest.approx(155 * hertz)
    assert one.stolen == 0
    assert both.stolen == pytest.approx(20 * hertz)


def test_mhz_without_a_governor_is_that_of_the_processor(tmp_path: Path) -> None:
    """As in a virtual machine."""
    text = DESKTOP["proc/cpuinfo"].replace("fpu", "fpu hypervisor")
    root = tree(tmp_path, {"proc/cpuinfo": text})
    state = read_state(root, (1,))
    assert (state.mhz, state.governor, state.temperature, state.throttled) == (1200, None, None, None)
    assert read_machine(root).virtual is True


def test_a_board(tmp_path: Path) -> None:
    root = tree(tmp_path, BOARD)
    machine = read_machine(root, (3,))
    assert machine.cpu == "Example Board Developer Kit, ARM implementer 0x41 part 0xd42"
    assert machine.flags == ("asimd", "asimddp", "asimdhp")
    assert (machine.cores, machine.pinned, machine.virtual) == (6, True, None)
    state = read_state(root, (3,))
    assert (state.load, state.mhz, state.governor, state.temperature) == (1.25, 1510.4, "schedutil", 48.5)
    assert state.throttled is None
    assert read_ticks(root, (3,)) is None


def test_a_container_of_the_old_kind(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "2:cpu:/docker/ab\n", "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 5\nnr_throttled 2\n"}
    assert read_state(tree(tmp_path, files), (0,)).throttled == 2


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    machine, state = read_machine(tmp_path), read_state(tmp_path)
    assert machine.cpu
    assert machine.cores >= 1
    assert (machine.flags, machine.memory, machine.virtual) == ((), None, None)
    assert (state.load, state.mhz, state.governor, state.temperature, state.throttled) == (None,) * 5
    assert read_ticks(tmp_path) is None
    assert elsewhere(None, None) is None
    assert stolen(None, read_ticks(tmp_path)) is None


NONSENSE = [b"inf", b"nan", b"9" * 5000, b"cpu0 1 2 3", b"cpu0 " + b"9" * 5000, b"processor : 0\ncpu MHz : 1e999"]


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(DESKTOP)), st.sampled_from(NONSENSE) | st.binary(max_size=80)))
def test_nonsense_is_never_an_error(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("tree")
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    read_machine(root, (0, 1))
    read_state(root, (0, 1))
    read_ticks(root, (0, 1))


def test_what_others_did_is_what_the_cores_did_less_our_part() -> None:
    before, after = Ticks(10.0, 100.0, 5.0, 7.0), Ticks(20.0, 118.0, 6.0, 15.0)
    assert elsewhere(before, after) == pytest.approx((18 - 8) / 10)
    assert stolen(before, after) == pytest.approx(0.1)
    # Counters that are coarser than a process's own clock.
    assert elsewhere(before, Ticks(20.0, 107.9, 5.0, 15.0)) == 0
    assert elsewhere(before, before) is None


@linux
def test_another_process_is_seen_and_this_one_is_not() -> None:
    """A process that does nothing but count takes a core, or whatever the machine leaves it."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        before = read_ticks()
        time.sleep(1)
        after = read_ticks()
        other.kill()
    seen = elsewhere(before, after)
    assert seen is not None
    assert 0.15 < seen <= len(usable_cores()) + 0.1
    before = read_ticks()
    spent = time.process_time()
    while time.process_time() - spent < 0.5:
        pass
    after = read_ticks()
    assert before is not None
    assert after is not None
    mine = after.own - before.own
    assert mine > 0.45
    quiet = elsewhere(before, after)
    assert quiet is not None
    assert quiet <= (after.busy - before.busy - mine) / (after.time - before.time) + 1e-9 or quiet == 0


@linux
def test_this_machine() -> None:
    machine, state = read_machine(), read_state()
    assert len(machine.usable) <= machine.cores
    assert machine.memory is not None
    assert machine.memory > 1 << 28
    assert state.load is not None


def moment(
    state: State = QUIET, busy: float = 0.0, own: float = 0.0, lost: float = 0.0, seconds: float = 0.0
) -> Moment:
    return Moment(state, Ticks(seconds, busy, lost, own))


def remarks(
    after: Moment, times: list[list[float]] | None = None, before: Moment | None = None, threads: int = 0
) -> tuple[str, ...]:
    rounds = np.array(times or [[1.0]] * 10)
    made = make_conditions(
        before or moment(),
        after,
        seconds=10.0,
        warmed=1.0,
        unsteady=[],
        times={"a": rounds, "steady": np.ones_like(rounds)},
        lengths=(len(rounds) // 2, len(rounds) - len(rounds) // 2),
        threads=threads,
    )
    return made.remarks


def test_a_quiet_run_needs_no_remark() -> None:
    assert remarks(moment(seconds=10, busy=10.2, own=10)) == ()


def state(**changes: object) -> State:
    return replace(QUIET, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (moment(seconds=10, busy=20, own=10), "kept 1.00 of"),
        (moment(seconds=10, busy=10, own=10, lost=1), "hypervisor gave 0.10 of"),
        (moment(state(throttled=5), seconds=10), "throttled 2 times"),
        (moment(state(mhz=1500.0), seconds=10), "from 3000 to 1500 MHz"),
        (Moment(QUIET, None), "does not say what else ran"),
    ],
)
def test_what_a_reader_must_know_is_remarked(after: Moment, said: str) -> None:
    (remark,) = remarks(after)
    assert said in remark


def test_threads_that_had_no_core_of_their_own_are_remarked() -> None:
    cores = len(usable_cores())
    alone, shared = (remarks(moment(seconds=10, busy=15, own=10), threads=n) for n in (0, cores))
    assert len(alone) == 1
    assert len(shared) == 2
    assert "take fewer threads" in shared[1]


def test_a_governor_is_remarked() -> None:
    slow = moment(state(governor="powersave"))
    assert any("powersave" in r for r in remarks(moment(state(governor="powersave"), seconds=10), before=slow))


def test_openings_that_differ_are_remarked() -> None:
    steady = moment(seconds=10)
    assert remarks(steady, [[1.0]] * 10) == ()
    (remark,) = remarks(steady, [[1.0]] * 5 + [[1.2]] * 5)
    assert "20% longer" in remark
    (remark,) = remarks(steady, [[1.0]] * 3)
    assert remark.startswith("Fewer than 6 rounds prove nothing")


def test_times_that_swing_are_remarked() -> None:
    (remark,) = remarks(moment(seconds=10), [*[[1.0, 2.0]] * 2, *[[1.2, 2.4]] * 8] * 2)
    assert "half of a's are at least 20% above" in remark
    assert remarks(moment(seconds=10), [[1.0, 2.0], [1.05, 2.1]] * 10) == ()


def test_warm_up_that_did_not_end_is_remarked() -> None:
    made = make_conditions(
        moment(),
        moment(seconds=1),
        seconds=1,
        warmed=1,
        unsteady=["a", "b"],
        times={"a": np.ones((10, 1))},
        lengths=(10,),
        threads=1,
    )
    assert not made.steady
    assert made.remarks == ("a, b did not become steady before warm-up ended.",)


ELF = b"\x7fELF\x02\x01\x01".ljust(18, b"\0")  # Of 64 bits, the lowest byte first; what follows is the processor.
X86, ARM = ELF + b"\x3e\0", ELF + b"\xb7\0"


@pytest.mark.parametrize(
    ("architecture", "program", "name", "info", "emulator"),
    [
        # As QEMU 7.2 shows it, and as 8.2 does, which makes up a /proc/cpuinfo of ARM.
        ("aarch64", X86, "qemu-aarch64", DESKTOP["proc/cpuinfo"] + "vendor_id\t: x\n", "qemu-aarch64"),
        ("aarch64", X86, "qemu-aarch64-st", BOARD["proc/cpuinfo"], "qemu-aarch64-st"),
        ("x86_64", ARM, "box64", DESKTOP["proc/cpuinfo"], "box64"),
        ("x86_64", X86, "qemu-x86_64", DESKTOP["proc/cpuinfo"], "qemu-x86_64"),
        ("aarch64", b"", "", "processor\t: 0\nvendor_id\t: GenuineIntel\n", "a program for x86"),
        ("aarch64", ARM, "python3", "CPU implementer\t: 0x00\nCPU part\t: 0x051\n", "QEMU"),
        ("x86_64", X86, "python3", "vendor_id\t: AuthenticAMD\nmodel name\t: QEMU TCG CPU version 2.5+\n", "QEMU"),
        # What is none: machines of both kinds, a virtual one, programs of 32 bits, and where nothing can be read.
        ("x86_64", X86, "python3", DESKTOP["proc/cpuinfo"], None),
        ("aarch64", ARM, "python3", BOARD["proc/cpuinfo"], None),
        ("x86_64", X86, "python3", "vendor_id\t: x\nmodel name\t: QEMU Virtual CPU version 2.5+\n", None),
        ("i686", X86, "python3", DESKTOP["proc/cpuinfo"], None),
        ("armv7l", ARM, "qemuist", BOARD["proc/cpuinfo"], None),
        ("aarch64", b"#!/bin/sh", "", "", None),
        ("sparc64", b"", "python3", "", None),
    ],
)
def test_an_emulated_processor_is_seen(
    architecture: str, program: bytes, name: str, info: str, emulator: str | None, tmp_path: Path
) -> None:
    tree(tmp_path, {"proc/thread-self/comm": f"{name}\n", "proc/cpuinfo": info})
    (tmp_path / "proc/thread-self/exe").write_bytes(program)
    assert find_emulator(tmp_path, architecture) == emulator


def test_this_processor_is_real() -> None:
    assert find_emulator() is None
