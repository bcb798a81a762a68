"""Phones over adb, against a stand-in that runs their shell on this machine: no phone was here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.compare import compare_records
from facedeploy.benchmarks.latency.benchmark import benchmark
from facedeploy.benchmarks.record import PHASES, Record
from facedeploy.benchmarks.record_file import read_record, write_record
from facedeploy.cli.app import main
from facedeploy.core.errors import DeviceError, InputError
from facedeploy.core.images import read_picture
from facedeploy.devices.adb import AdbDevice, parse_cores
from facedeploy.devices.connection import Device
from facedeploy.devices.file_store import Content, push
from facedeploy.devices.open import open_device
from facedeploy.devices.phone.benchmark import benchmark_on_phone
from facedeploy.devices.phone.cooldown import Cooling
from facedeploy.devices.phone.detect import detect_on_phone
from facedeploy.devices.phone.device_lock import hold
from facedeploy.devices.phone.runner_protocol import read_opening
from facedeploy.devices.phone.state import mask, read_phone
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.shell import talk
from facedeploy.export.build import build
from facedeploy.export.exporter import export
from facedeploy.machine.elf import read_program
from facedeploy.metrics.face_matching import compare_faces as compare_faces
from tests.cpp import answers
from tests.cpp.ncnn_itself import build_with_ncnn, ncnn_itself
from tests.support.device_trees import BATTERY
from tests.support.manifests import edit
from tests.support.phones import ABI, COOL, StandInPhone, clocks, make_phone, reached_by

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "astronaut.jpg"
ONCE = MeasurementSettings(rounds=1, cold=False)
LONG = MeasurementSettings(rounds=900_000, cold=False)
QUICK = Cooling(every=0.01, most=20.0)
FAST = sorted(clocks())[-1:]  # The big cores of the stand-in.
HOT = COOL.replace("Thermal Status: 0", "Thermal Status: 3")
WARM = COOL.replace("mValue=49.071", "mValue=71.5")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real runner over a stand-in for ncnn."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++: there is no runner for the stand-in of a phone")
    path = tmp_path_factory.mktemp("runner") / "runner"
    source, includes = ROOT / "mobile/runner/main.cpp", (ROOT / "mobile/include", answers.INCLUDES)
    options = ("-std=c++17", "-O1", "-static", "-pthread", *(f"-I{folder}" for folder in includes))
    subprocess.run([compiler, *options, str(source), "-o", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts, a slow one, one for another backend, and pictures."""
    folder = tmp_path_factory.mktemp("measured")
    answers.write_artifact(folder / "tiny")
    answers.write_artifact(folder / "boxes", "boxes", seed=1)
    answers.write_artifact(folder / "slow", more=["wait 0.02"])
    (folder / "photos").mkdir()
    for i, size in enumerate(((60, 80), (90, 50))):
        picture = np.random.default_rng(i).integers(0, 255, (*size, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"photos/{i}.png"), picture)
    return folder


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInPhone]:
    """A phone, and afterwards the proof that nothing was left there but what is kept for the next time."""
    phone = make_phone(tmp_path / "phone")
    reached_by(phone, tmp_path / "bin", monkeypatch)
    yield phone
    phone.is_in_state("device")
    phone.nothing_is_left()


def at(url: str, runner: Path | None = None, **changes: Any) -> AdbDevice:
    found = open_device(url)
    assert isinstance(found, AdbDevice)
    return replace(found, runner=runner, **changes)


@pytest.fixture
def device(phone: StandInPhone, runner: Path) -> AdbDevice:
    return at("adb://ABC", runner)


def run_command(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["facedeploy", *map(str, words)])
        main()
    return int(ended.value.code or 0)


def measure(device: AdbDevice, folder: Path, settings: MeasurementSettings = ONCE, **more: Any) -> Record:
    artifacts = [folder / name for name in more.pop("names", ("tiny", "boxes"))]
    return benchmark_on_phone(device, artifacts, [folder / "photos"], settings, **{"cooling": QUICK, **more})


# --- names ---


@pytest.mark.parametrize(
    ("url", "name", "words"),
    [
        ("adb://", "adb://", ["adb", "shell"]),
        ("adb://?cores=4-7", "adb://", ["adb", "shell"]),
        ("adb://192.168.1.5:5555", "adb://192.168.1.5:5555", ["adb", "-s", "192.168.1.5:5555", "shell"]),
        ("adb://emulator-5554/?runner=a/b+c", "adb://emulator-5554", ["adb", "-s", "emulator-5554", "shell"]),
        ("adb://adb-1X (2)._adb-tls-connect._tcp", None, ["adb", "-s", "adb-1X (2)._adb-tls-connect._tcp", "shell"]),
    ],
)
def test_names_of_phones(url: str, name: str | None, words: list[str], phone: StandInPhone) -> None:
    device = at(url)
    assert device.name == (name or url)
    assert device.command("true")[: len(words)] == words
    parsed = open_device("adb://?runner=a/b+c&cores=0,6-7")
    assert isinstance(parsed, AdbDevice)
    assert (parsed.runner, parsed.cores) == (Path("a/b+c"), (0, 6, 7))


@pytest.mark.parametrize(
    "url",
    ["adb://-x", "adb:// x", "adb://a/b", "adb://a\n", "adb://?runner=", "adb://?python=x", "adb://?cores=7-4"]
    + ["adb://?cores=4,", "adb://?cores=1024", "adb://?cores=x", "adb://?runner=a?b=c"],
)
def test_what_is_no_phone_is_refused(url: str, phone: StandInPhone) -> None:
    with pytest.raises(InputError) as refused:
        open_device(url)
    assert "\n" not in str(refused.value)


def test_no_adb_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="needs adb: install Android's platform-tools here"):
        open_device("adb://")


def test_masks() -> None:
    assert [mask(parse_cores(text)) for text in ("4-7", "0", "0,6-7", "64")] == ["f0", "1", "c1", "1" + "0" * 16]


# --- scripts ---


@pytest.mark.parametrize("status", [0, 1, 2, 3, 126, 255])
def test_a_status_of_a_script_is_not_that_of_adb(status: int, device: AdbDevice) -> None:
    if status == 0:
        assert b"".join(talk(device, "echo 'a b\"$0'; exit 0", "trying", most=99)).startswith(b'a b"')
        return
    with pytest.raises(DeviceError, match=r"^adb://ABC failed while trying \(status \d+\): why$"):
        list(talk(device, f"echo why >&2; exit {status}", "trying", most=99))


def test_only_what_is_missing_is_sent(device: AdbDevice, phone: StandInPhone) -> None:
    contents = [Content.of(os.urandom(300_000)), Content.of(b"small")]
    assert [push(device, contents), push(device, contents)] == [2, 0]
    assert {p.name for p in (phone.cache / "objects").iterdir()} == {c.sha256 for c in contents}


def test_one_measures_at_a_time(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    (phone.cache / "runs/killed").mkdir(parents=True)
    with hold(device, beat=1, silence=5, limit=60):
        assert not (phone.cache / "runs/killed").exists()
        with pytest.raises(DeviceError, match="another facedeploy is at work on this device: wait until it is done"):
            measure(device, folder)
        assert (phone.cache / "runs/run").is_dir()
    assert not (phone.cache / "runs").exists()


def test_a_phone_lets_go_of_who_says_nothing(device: AdbDevice, phone: StandInPhone) -> None:
    with hold(device, beat=60, silence=1, limit=60):
        deadline = time.monotonic() + 10
        while (phone.cache / "runs").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not (phone.cache / "runs").exists()


# --- a record ---


@pytest.fixture(scope="module")
def measured(
    runner: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Record, Record, list[list[str]], list[list[str]]]]:
    """Two runs on one phone, and what adb was asked for each."""
    place = tmp_path_factory.mktemp("phone")
    phone = make_phone(place / "phone")
    with pytest.MonkeyPatch.context() as patch:
        reached_by(phone, place / "bin", patch)
        device = at("adb://ABC", runner)
        first = measure(device, folder, MeasurementSettings(rounds=6, seed=3))
        asked = phone.asked()
        phone.forget()
        second = measure(device, folder, MeasurementSettings(rounds=6, seed=3))
        yield first, second, asked, phone.asked()
        phone.nothing_is_left()


def test_a_record_of_a_phone_is_a_record(
    measured: tuple[Record, Record, list[list[str]], list[list[str]]], folder: Path, tmp_path: Path
) -> None:
    record, again, _, _ = measured
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == record
    assert [c.name for c in compare_records(record, again).changes] == ["tiny", "boxes"]
    assert record.openings == (2, 1, 1, 1, 1)
    assert record.protocol.threads == len(FAST)
    for m in record.measurements:
        pipeline = answers.open_pipeline(Artifact.open(folder / m.name))
        local = [pipeline.detect(read_picture(folder / "photos" / name)) for name in record.pictures]
        assert [len(found) for found in m.found] == [len(faces) for faces in local]
        for found, faces in zip(m.found, local, strict=True):
            for a, b in zip(found, faces, strict=True):
                assert np.allclose(a.box, b.box, atol=1e-3)
                assert a.score == pytest.approx(b.score, abs=1e-6)
        assert m.cold is not None
        assert m.cold.load >= 0
        assert m.cold.first > 0
        times = np.array([m.samples[phase] for phase in PHASES])
        assert times.shape == (4, 6, 2)
        assert (times[0] > 0).all()
        assert m.runtime["backend"] == "ncnn"


def test_what_a_phone_says_is_in_the_record(
    measured: tuple[Record, Record, list[list[str]], list[list[str]]],
) -> None:
    record, *_ = measured
    machine, state, during = record.conditions.machine, record.conditions.before, record.conditions.during
    assert machine.cpu == "Google Tensor G3"
    assert machine.board is not None
    assert machine.board.model == "Google Pixel 8 Pro"
    assert machine.system.startswith(f"Android 14 (Linux {os.uname().release}")
    assert (machine.python, machine.architecture) == (None, os.uname().machine)
    assert set(machine.packages) == {"ncnn", "facedeploy"}
    assert list(machine.usable) == FAST
    assert machine.pinned == (len(clocks()) > 1)
    apart = datetime.fromisoformat(record.conditions.after.time) - datetime.fromisoformat(state.time)
    assert abs(apart.total_seconds() - record.conditions.seconds) <= 2
    assert state.mhz == 1401.0
    assert state.governor == "schedutil"
    assert state.temperature == 49.071
    assert state.sensors is not None
    assert (state.sensors.battery, state.sensors.temperatures["battery"]) == (76.0, 27.4)
    assert during is not None
    assert during.samples >= 5
    assert during.clocks[f"cpu{FAST[0]}"].high == 1401.0
    assert record.conditions.elsewhere is not None


def test_what_adb_is_asked(measured: tuple[Record, Record, list[list[str]], list[list[str]]]) -> None:
    _, _, first, second = measured
    assert {tuple(words[:4]) for words in (*first, *second)} == {("-s", "ABC", "shell", "-T")}
    assert all(len(words) == 5 for words in first)
    for asked, sends in ((first, 1), (second, 0)):
        scripts = [words[-1] for words in asked]
        assert sum("tar -xmf -" in s for s in scripts) == sends
        calls = [s for s in scripts if "./runner measure" in s]
        assert len(calls) == 5 + 2
        assert all(f"exec taskset {mask(FAST)} ./runner measure" in s for s in calls)
        looks = [s for s in scripts if "dumpsys battery" in s]
        others = sorted(set(clocks()) - set(FAST))
        assert len(looks) >= 12
        assert not others or all(f"exec taskset {mask(others)} " in s for s in looks)


def test_the_command_line(
    phone: StandInPhone, runner: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmark", folder / "tiny", folder / "boxes", "--images", folder / "photos", "--rounds", 1, "--no-cold"]
    places = ["--save", tmp_path / "record.json", "--report", tmp_path / "report"]
    assert run_command(*words, "--device", f"adb://?runner={runner}", *places) == 0
    said = capsys.readouterr().out
    assert "2 pictures, 1 round in 1 opening" in said
    assert "Android 14" in said
    assert "Python" not in said
    assert "thermal" not in said
    assert read_record(tmp_path / "record.json").conditions.machine.python is None
    assert "Android 14" in (tmp_path / "report" / "index.html").read_text()
    assert {tuple(asked[:2]) for asked in phone.asked()} == {("shell", "-T")}


def test_cores_and_threads_that_are_named(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    first = sorted(clocks())[0]
    record = measure(replace(device, cores=(first,)), folder, replace(ONCE, threads=2))
    assert record.conditions.machine.usable == (first,)
    assert record.protocol.threads == 2
    assert phone.scripts(f"taskset {mask([first])} ./runner")


def test_time_instead_of_rounds(device: AdbDevice, folder: Path) -> None:
    record = measure(device, folder, MeasurementSettings(seconds=0.05, cold=False))
    assert len(record.openings) == 5
    assert min(record.openings) >= 2


def test_options_count(device: AdbDevice, folder: Path) -> None:
    none = measure(device, folder, replace(ONCE, options={"score_threshold": 0.999}))
    assert [len(faces) for m in none.measurements for faces in m.found] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["ro.boot.qemu", "ro.kernel.qemu"])
def test_the_emulator_is_no_phone(name: str, device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    said = phone.folder / "said/properties"
    said.write_text(f"{said.read_text().rstrip()}\n[{name}]: [1]\n")
    with pytest.raises(InputError, match="adb://ABC is Android's emulator, whose times are no phone's"):
        measure(device, folder)
    assert phone.scripts("tar -xmf") == []
    assert len(detect_on_phone(device, folder / "tiny", [folder / "photos"], ONCE)) == 2
    said.write_text(said.read_text().replace("[1]", "[0]"))
    measure(device, folder)


def test_the_faces_of_a_phone(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    """Of one artifact, without a record: as the Python pipeline finds them over the same outputs."""
    for name in ("tiny", "boxes"):
        artifact = Artifact.open(folder / name)
        pictures = [read_picture(file) for file in sorted((folder / "photos").glob("*"))]
        with answers.open_pipeline(artifact) as pipeline:
            wanted = [pipeline.detect(picture) for picture in pictures]
        found = detect_on_phone(device, artifact, [folder / "photos"], ONCE)
        difference = compare_faces(wanted, found)
        assert difference.same_faces
        assert difference.matched >= 1
        assert max(difference.box, difference.landmarks, difference.angle) <= 1e-3
        changed = detect_on_phone(
            device, artifact, [folder / "photos"], MeasurementSettings(options={"score_threshold": 0.999})
        )
        assert changed == [[], []]
    with pytest.raises(InputError, match="--runtime cannot be had on a phone"):
        detect_on_phone(device, artifact, [folder / "photos"], MeasurementSettings(runtime="onnxruntime"))
    phone.nothing_is_left()


@pytest.mark.parametrize("tools", ["toybox and mksh"])
def test_with_the_tools_of_android(
    tools: str, runner: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toybox, mksh = shutil.which("toybox"), shutil.which("mksh")
    if toybox is None or mksh is None:
        pytest.skip(f"no {tools} here: the scripts run in this machine's shell only")
    phone = make_phone(tmp_path / "phone", shell=mksh, toybox=toybox)
    reached_by(phone, tmp_path / "bin", monkeypatch)
    device = at("adb://", runner)
    for _ in range(2):
        assert measure(device, folder, MeasurementSettings(rounds=2)).openings == (1, 1)
    assert len(phone.scripts("tar -xmf -")) == 1
    phone.nothing_is_left()


def test_with_ncnn_it_finds_the_faces_of_python(
    phone: StandInPhone, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    ncnn_itself()
    for module in ("ncnn", "pnnx"):
        pytest.importorskip(module)
    build = tmp_path_factory.mktemp("build")
    program = build_with_ncnn(ROOT / "mobile/runner", build, "runner", "-DCMAKE_EXE_LINKER_FLAGS=-static")
    artifacts = [
        export("mos-tiny", t, None, tmp_path / t, input_size=(96, 128)).path for t in ("ncnn-fp32", "ncnn-fp16")
    ]
    found = benchmark_on_phone(at("adb://", program), artifacts, [PHOTO], MeasurementSettings(rounds=2), cooling=QUICK)
    local = benchmark(artifacts, [PHOTO], rounds=2, threads=len(FAST), cold=False)
    assert found.protocol_digest == local.protocol_digest
    for here, there in zip(local.measurements, found.measurements, strict=True):
        assert (here.name, here.digest, here.input_sizes) == (there.name, there.digest, there.input_sizes)
        assert len(here.found[0]) == len(there.found[0]) >= 1
        # Two builds of ncnn.
        a, b = (np.array([face.box for face in m.found[0]]) for m in (here, there))
        assert np.allclose(a, b, atol=0.5 if here.target == "ncnn-fp16" else 0.05)
    for artifact in artifacts:
        assert run_command("verify", artifact, "--images", PHOTO, "--device", f"adb://?runner={program}") == 0
    assert capsys.readouterr().out.count("faces on 1 pictures: 1 the same, 0 missing, 0 extra") == 2
    assert run_command("verify", artifacts[0], "--device", f"adb://?runner={program}") == 2
    assert "only faces are compared" in capsys.readouterr().err


# --- heat ---


def test_a_hot_phone_is_let_cool(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    steps: list[str] = []
    phone.says("thermalservice", HOT, HOT, COOL)
    record = measure(device, folder, progress=steps.append)
    waits = [step for step in steps if "waiting until it is cool" in step]
    assert waits == ["adb://ABC: waiting until it is cool (thermal status severe)"] * 2
    assert not [r for r in record.conditions.remarks if "warm" in r or "Heat" in r]
    assert record.conditions.before.sensors is not None
    assert record.conditions.before.sensors.throttled == ()


def test_a_phone_cools_between_openings(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    """Before and after the first opening, and while it runs, the sensors are looked at once each."""
    steps: list[str] = []
    phone.says("thermalservice", COOL, COOL, WARM, WARM, WARM, COOL)
    measure(device, folder, MeasurementSettings(rounds=2, cold=False), progress=steps.append, interval=1000)
    waits = [step for step in steps if "waiting" in step]
    assert waits == ["adb://ABC: waiting until it is cool (BIG 71.5 Celsius, the hottest 49.1 at the beginning)"] * 2
    assert steps.index(waits[0]) > steps.index("adb://ABC: opening 1 of 2")
    assert steps.index(waits[-1]) < steps.index("adb://ABC: opening 2 of 2")


def test_a_phone_that_stays_warm_is_measured_and_it_is_said(
    device: AdbDevice, phone: StandInPhone, folder: Path
) -> None:
    warm = BATTERY.replace("temperature: 274", "temperature: 391")
    phone.says("battery", BATTERY, BATTERY, warm)
    settings = MeasurementSettings(rounds=2, cold=True)
    record = measure(device, folder, settings, cooling=Cooling(every=0.01, most=0), interval=1000)
    said = [r for r in record.conditions.remarks if "still warm" in r]
    assert said[0].startswith(
        "The phone was still warm when opening 2 began, after waiting 0 seconds (battery 39.1 Celsius, 27.4 at the"
    )
    assert [r.split(" when ")[1].split(" in ")[0].split(" began")[0] for r in said] == [
        "opening 2",
        "tiny was opened",
        "boxes was opened",
    ]


def test_throttling_while_it_measures_is_said(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    phone.says("thermalservice", COOL, HOT, COOL)
    record = measure(device, folder, interval=1000)
    assert "Heat slowed the board down (thermal status severe): let it cool, or give it a fan." in (
        record.conditions.remarks
    )


def test_a_phone_without_sensors_is_measured(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    phone.has("dumpsys", "echo nonsense; exit 1")
    shutil.rmtree(phone.folder / "sys")
    record = measure(device, folder)
    state = record.conditions.before
    assert (state.temperature, state.governor) == (None, None)
    assert any("was not kept on the big cores" in r for r in record.conditions.remarks)
    assert not record.conditions.machine.pinned


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ("unauthorized", "unlock the phone and allow USB debugging"),
        ("authorizing", "unlock the phone and allow USB debugging"),
        ("offline", "unplug the phone and plug it in again"),
        ("none", "plug a phone in and turn on USB debugging"),
        ("several", "name one of those that `adb devices` lists, as in adb://SERIAL"),
        ("other", "`adb devices` lists the phones that are there"),
        ("permissions", "let your user open the phone"),
        ("old", "8.0 or newer is needed"),
        ("closed", "see whether `adb -s ABC shell true` works"),
    ],
)
def test_a_phone_that_does_not_answer(
    state: str, what: str, phone: StandInPhone, runner: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phone.is_in_state(state)
    words = ("benchmark", folder / "tiny", "--images", folder / "photos", "--device", f"adb://ABC?runner={runner}")
    assert run_command(*words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("facedeploy: the connection to adb://ABC failed while connecting (error: ")
    assert what in line


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("tar -xmf -", "failed while sending files"),
        ("ln -s", "failed while laying its files out"),
        ("runner measure", "failed while measuring"),
        ("dumpsys", "failed while reading its sensors"),
        ("flock", "failed while"),
    ],
)
def test_a_connection_cut_in_the_middle(
    cut: str, message: str, device: AdbDevice, phone: StandInPhone, folder: Path
) -> None:
    phone.is_cut(while_=cut)
    with pytest.raises(DeviceError, match=f"^the connection to adb://ABC {message}"):
        measure(device, folder, LONG, names=("slow",))
    (phone.folder / "cut").unlink()
    phone.nothing_is_left()


def test_a_killed_command_leaves_nothing(phone: StandInPhone, runner: Path, folder: Path) -> None:
    words = ["benchmark", folder / "slow", "--images", folder / "photos", "--rounds", 900_000]
    command = [sys.executable, "-m", "facedeploy", *words, "--device", f"adb://?runner={runner}"]
    running = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any("./runner measure" in c for c in phone.processes().values()):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.kill()
    running.wait()
    phone.nothing_is_left()


def test_a_runner_that_says_nothing(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    _runs_instead(phone, "exec cat >/dev/null")
    with pytest.raises(DeviceError, match="adb://ABC has been silent for 1 seconds while measuring"):
        measure(device, folder, silence=1)


def test_a_full_disk(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    """A file that may not grow is, for whoever writes it, one on a disk that is full."""
    (phone.folder / "largest").write_text("100000")
    with pytest.raises(DeviceError, match=r"failed while sending files \(status \d+\): .*is its disk full\?$"):
        measure(device, folder)
    assert [*phone.cache.glob("objects/*")] == []


def test_a_kept_file_that_is_damaged(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    measure(device, folder)
    damaged = phone.cache / "objects" / Content.of(folder / "tiny/detector.bin").sha256
    damaged.write_bytes(b"x")
    with pytest.raises(DeviceError, match="a file that was kept on the device is lost or damaged: run the command ag"):
        measure(device, folder)
    measure(device, folder)


def test_a_phone_that_refuses_taskset(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    phone.has("taskset", "exit 1")
    remarks = measure(device, folder).conditions.remarks
    assert any("was not kept on the big cores: the phone does not say" in r for r in remarks)
    assert not phone.scripts("exec taskset 1 ./runner")
    phone.lacks("taskset")
    assert measure(device, folder).openings == (1,)
    with pytest.raises(InputError, match="does not let a program run on cores 0,1000: name others"):
        measure(replace(device, cores=(0, 1000)), folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[ro.build.version.sdk]: [34]", "[ro.build.version.sdk]: [25]"), r"Android 14 \(API 25\): 8.0 or newer"),
        (("[ro.product.cpu.abi]: [", "[ro.product.cpu.abi]: [mips"), r"is built for \w+, and adb://ABC is mips"),
        ((f"abi]: [{ABI}]", "abi]: [armeabi-v7a]"), r"is built for \w+, and adb://ABC is armeabi-v7a: build it for"),
        (("ro.", "x."), "has Android of an unknown version"),
    ],
)
def test_phones_that_cannot(
    change: tuple[str, str], message: str, device: AdbDevice, phone: StandInPhone, folder: Path
) -> None:
    said = phone.folder / "said/properties"
    said.write_text(said.read_text().replace(*change))
    with pytest.raises(InputError, match=message):
        measure(device, folder)
    assert not phone.cache.exists()


def test_a_phone_without_a_tool(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    phone.lacks("sha256sum")
    with pytest.raises(InputError, match=r"has Android 14 .*no sha256sum: 8.0 or newer is needed"):
        measure(device, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtime": "onnxruntime"}, "--runtime cannot be had on a phone"),
        ({"streams": 2}, "--streams cannot be had on a phone"),
        ({"layers": True}, "--layers cannot be had on a phone"),
        ({"vendors": True}, "--vendors cannot be had on a phone"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"options": {"protocol": "mirrored"}}, "the C\\+\\+ library has no protocol|must be"),
        ({"options": {"nothing": 1}}, "has no option 'nothing'"),
    ],
)
def test_what_a_phone_does_not_measure(
    changes: Mapping[str, Any], message: str, device: AdbDevice, phone: StandInPhone, folder: Path
) -> None:
    with pytest.raises(InputError, match=message):
        measure(device, folder, replace(ONCE, **changes))
    assert not phone.cache.exists()


def test_artifacts_that_are_not_for_phones(
    device: AdbDevice, phone: StandInPhone, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "tiny", tmp_path / "other")

    def for_another(manifest: dict[str, Any]) -> None:
        manifest["target"]["backend"] = "onnx"
        for network in manifest["networks"]:
            network["files"]["onnx"] = network["files"].pop("param")

    edit(tmp_path / "other", for_another)
    with pytest.raises(InputError, match="is for onnx-fp32: phones run ncnn, so export with --target ncnn-fp16"):
        benchmark_on_phone(device, [tmp_path / "other"], [folder / "photos"], ONCE)
    with pytest.raises(InputError, match="no artifact to run on a phone"):
        benchmark_on_phone(device, [], [folder / "photos"], ONCE)
    with pytest.raises(
        InputError, match="adb://ABC is a phone, which has no Python: `benchmark` and `verify` work there"
    ):
        device.python_word  # noqa: B018
    assert phone.asked() == []


def test_runners_that_android_does_not_load(phone: StandInPhone, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("#!/bin/sh\n")
    (tmp_path / "short").write_bytes(b"\x7fELF\x02\x01")
    for runner, message in (
        (None, r"name it as in adb://ABC\?runner=PATH; docs/guides/phones.md says how it is built with the NDK"),
        (tmp_path / "absent", "cannot read the runner .*: No such file"),
        (tmp_path / "text", "is no program of Linux or Android"),
        (tmp_path / "short", "is no program of Linux or Android"),
        (Path("/bin/sh").resolve(), "is no program for Android: it is loaded by /lib.*, which no phone has"),
    ):
        with pytest.raises(InputError, match=message):
            measure(at("adb://ABC", runner), folder)
    assert phone.asked() == []


def test_what_programs_are_for(runner: Path) -> None:
    assert read_program(runner).interpreter is None
    assert read_program(runner).machine == os.uname().machine
    assert read_program(Path("/bin/sh").resolve()).machine == os.uname().machine


def _runs_instead(phone: StandInPhone, script: str) -> None:
    """The taskset of the phone runs this in the place of the runner."""
    phone.has("taskset", f'case $2 in ./runner) {script};; *) shift; exec "$@";; esac')


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "ended without an answer while measuring: is its memory full"),
        ("nonsense", "ended without an answer"),
        ('{"facedeploy": {"opening": {}}}', "answers what cannot be read .*ncnn is missing"),
        ('{"facedeploy": {"opening": 7}}', "answers what cannot be read"),
        ('{"facedeploy": {"opening": [[[[', "answers what cannot be read"),
        ('{"facedeploy": {"error": ["InputError", "no\\u001b[2J model"]}}', r"on adb://ABC: no \[2J model"),
    ],
)
def test_a_runner_that_answers_nonsense(
    said: str, message: str, device: AdbDevice, phone: StandInPhone, folder: Path
) -> None:
    (phone.folder / "said/answer").write_text(f"{said}\n")
    _runs_instead(phone, 'cat "$PHONE/said/answer"')
    with pytest.raises((DeviceError, InputError), match=message):
        measure(device, folder)


def test_a_runner_that_fails_is_heard(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    _runs_instead(phone, "echo 'runner: it cannot' >&2; exit 1")
    with pytest.raises(DeviceError, match=r"adb://ABC failed while measuring \(status 2\): runner: it cannot"):
        measure(device, folder)
    _runs_instead(phone, "kill -9 $$")
    with pytest.raises(DeviceError, match=r"adb://ABC failed while measuring \(status 137\)"):
        measure(device, folder)


GOOD: dict[str, Any] = {
    "ncnn": "1.0",
    "usable": [4, 5],
    "seconds": 1.0,
    "warmed": 0.5,
    "processor": 3.0,
    "artifacts": [
        {
            "steady": True,
            "load": 3,
            "first": 2.5,
            "memory": None,
            "times": [[[0.3, 0.1]] * 2, [[0.1, 0.05]] * 2, [[0.1, 0.05]] * 2, [[0.1, 0]] * 2],
            "faces": [[{"box": [1, 2, 3, 4], "score": 0.5, "landmarks": [[1, 2]], "yaw": 3}], []],
        }
    ],
}
NAN = float("nan")


def part(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "artifacts": [{**GOOD["artifacts"][0], **changes}]}


def times(change: Callable[[Any], Any]) -> dict[str, Any]:
    array = np.array(GOOD["artifacts"][0]["times"])
    return part(times=change(array).tolist())


HOSTILE: dict[str, dict[str, Any]] = {
    "more keys": {**GOOD, "more": 1},
    "no version": {k: v for k, v in GOOD.items() if k != "ncnn"},
    "no cores": {**GOOD, "usable": []},
    "a core twice": {**GOOD, "usable": [4, 4]},
    "cores that cannot be": {**GOOD, "usable": [-1]},
    "a core that is true": {**GOOD, "usable": [True]},
    "other artifacts": {**GOOD, "artifacts": []},
    "more artifacts": {**GOOD, "artifacts": GOOD["artifacts"] * 2},
    "seconds that are none": {**GOOD, "seconds": NAN},
    "seconds of tomorrow": {**GOOD, "seconds": 1e5},
    "negative warm-up": {**GOOD, "warmed": -1.0},
    "processors of others": {**GOOD, "processor": 1e4},
    "steady is one": part(steady=1),
    "negative load": part(load=-1.0),
    "endless load": part(load=1e999),
    "no first": part(first=NAN),
    "negative memory": part(memory=-1),
    "memory in parts": part(memory=0.5),
    "no times": part(times=[]),
    "three phases": times(lambda t: t[:3]),
    "one picture": times(lambda t: t[:, :, :1]),
    "more rounds": times(lambda t: np.concatenate([t, t], axis=1)),
    "no rounds": times(lambda t: t[:, :0]),
    "a time that is none": times(lambda t: t * np.where(np.arange(2) == 1, NAN, 1)),
    "negative times": times(lambda t: t - 0.2),
    "nothing takes no time": times(lambda t: t * 0),
    "phases that are not the whole": times(lambda t: t * np.array([1, 1, 1, 1.01])[:, None, None]),
    "times of tomorrow": times(lambda t: t * 1000),
    "rows that differ": part(times=[[[0.3, 0.1], [0.3]], *GOOD["artifacts"][0]["times"][1:]]),
    "faces of one picture": part(faces=[[]]),
    "a box of three": part(faces=[[{"box": [1, 2, 3], "score": 0.5}], []]),
    "a box that is none": part(faces=[[{"box": [1, 2, 3, NAN], "score": 0.5}], []]),
    "an enormous box": part(faces=[[{"box": [1, 2, 3, 1e30], "score": 0.5}], []]),
    "an endless score": part(faces=[[{"box": [1, 2, 3, 4], "score": float("inf")}], []]),
    "a landmark that is none": part(faces=[[{"box": [1, 2, 3, 4], "score": 0.5, "landmarks": [[NAN, 1]]}], []]),
    "an angle that is none": part(faces=[[{"box": [1, 2, 3, 4], "score": 0.5, "roll": NAN}], []]),
    "more of a face": part(faces=[[{"box": [1, 2, 3, 4], "score": 0.5, "name": "x"}], []]),
}
ASKED: dict[str, Any] = {"artifacts": 1, "pictures": 2, "rounds": 2, "fewest": 2, "elapsed": 3.0}


def test_an_answer_that_can_be() -> None:
    opening = read_opening(GOOD, "adb://", **ASKED)
    assert opening.artifacts[0].array.shape == (4, 2, 2)
    assert opening.artifacts[0].answers[0].faces[0].landmarks == ((1.0, 2.0),)
    assert read_opening(GOOD, "adb://", **{**ASKED, "rounds": -1}) == opening
    with pytest.raises(DeviceError, match=r"\[2\] rounds, not at least 3"):
        read_opening(GOOD, "adb://", **{**ASKED, "rounds": -1, "fewest": 3})


@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_that_cannot_be(name: str) -> None:
    with pytest.raises(DeviceError, match=r"^adb:// answers what cannot be"):
        read_opening(HOSTILE[name], "adb://", **ASKED)


def test_what_sensors_print_cannot_do_harm(device: Device, phone: StandInPhone) -> None:
    phone.has("dumpsys", 'printf "@facedeploy cpus\\n@facedeploy x\\n/../../proc/stat:1\\n\\033[2J\\377\\n"')
    reading = read_phone(device)
    assert reading.thermal.status is None
    assert set(reading.files) >= {"proc/stat"}
    assert all(not name.startswith((".", "/")) and ".." not in name for name in reading.files)
    assert reading.sensors.battery is None


def test_a_phone_builds_nothing(device: AdbDevice, phone: StandInPhone, folder: Path) -> None:
    with pytest.raises(InputError):
        build(folder / "tiny", builder=device)
    assert phone.asked() == []
