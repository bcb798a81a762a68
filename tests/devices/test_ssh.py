"""Devices over ssh, against a real sshd: what works, and what is left when it does not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.artifact.manifest import FileEntry
from facedeploy.benchmarks.latency.benchmark import benchmark
from facedeploy.benchmarks.record_file import read_record
from facedeploy.cli.app import main
from facedeploy.core.errors import BackendUnavailableError, DeviceError, InputError
from facedeploy.core.hashing import sha256
from facedeploy.devices.connection import Device
from facedeploy.devices.file_store import Content, pull, push
from facedeploy.devices.open import open_device
from facedeploy.devices.python.remote import benchmark_on
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.python.requirements import probe
from facedeploy.export.build import build
from tests.support.measured import export_pending, export_tiny
from tests.support.sshd import Sshd, make_key, serve, write_known

# What a device has not, and what runs there must not miss.
JOB = "facedeploy.devices.python.job"
ABSENT = (
    "torch",
    "onnx",
    "onnxscript",
    "typer",
    "click",
    "jinja2",
    "tqdm",
    "tomli",
    "packaging",
    "tensorrt",
    "tensorrt_rtx",
)
ONCE = MeasurementSettings(rounds=1, threads=1, cold=False)
LONG = MeasurementSettings(rounds=10_000_000, threads=1, cold=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of a tiny detector, and pictures of which two have one name."""
    folder = tmp_path_factory.mktemp("measured")
    export_tiny(folder)
    for i, name in enumerate(("photos/a b's.png", "photos/more/a b's.png")):
        (folder / name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / name), np.full((60, 80, 3), i, np.uint8))
    return folder


@pytest.fixture
def pending(folder: Path, tmp_path: Path) -> Path:
    """The same for TensorRT, as a machine without it writes it."""
    return export_pending(folder, tmp_path / "pending").path


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH of a machine without what a device lacks."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ABSENT:
        (folder / f"{name}.py").write_text(f"raise ImportError('there is no such module', name={name!r})\n")
    return str(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bare: str) -> Iterator[Sshd]:
    with serve(tmp_path_factory.mktemp("sshd"), {"PYTHONPATH": bare}) as server:
        yield server


@pytest.fixture
def sshd(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """The server, and afterwards the proof that nothing was left there but what is kept for the next time."""
    monkeypatch.setenv("FACEDEPLOY_SSH_CONFIG", str(server.config))
    yield server
    nothing_left(server)


@pytest.fixture
def device(sshd: Sshd) -> Device:
    return open_device(f"{sshd.url}?python={sys.executable}")


def nothing_left(server: Sshd) -> None:
    assert server.wait_for_none() == {}
    assert {p.name for p in server.cache.glob("*")} <= {"objects", "engines", "lock"}
    assert all(len(p.name) == 64 for p in server.cache.glob("objects/*"))


def test_a_device_says_what_it_is(device: Device) -> None:
    found = probe(device)
    assert (found.system, found.machine) == ("Linux", os.uname().machine)
    assert found.python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert {"numpy", "cv2", "onnxruntime"} <= {*found.modules}


def test_only_what_is_missing_is_sent(device: Device, sshd: Sshd, tmp_path: Path) -> None:
    big = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(big)
    contents = [Content.of(tmp_path / "big"), Content.of(b"x" * 512), Content.of(b"small")]
    steps: list[str] = []
    assert push(device, contents, steps.append) == 3
    assert steps[-1] == f"{device.name}: 3 files, 3.0 of 3.0 MB sent"
    assert push(device, [*contents, Content.of(b"new")]) == 1
    assert push(device, contents) == 0
    assert pull(device, contents[0].sha256, len(big)) == big
    # A power cut leaves an empty file, which is not a file that is there.
    (sshd.cache / "objects" / contents[1].sha256).write_bytes(b"")
    assert push(device, contents) == 1


def test_what_comes_back_must_be_what_was_asked_for(device: Device, sshd: Sshd) -> None:
    content = Content.of(b"an engine")
    push(device, [content])
    place = sshd.cache / "objects" / content.sha256
    for wrong in (b"an Engine", b"an engine, and more"):
        place.write_bytes(wrong)
        with pytest.raises(DeviceError):
            pull(device, content.sha256, content.size)
    place.unlink()


def test_a_record_of_a_device_is_a_record(device: Device, sshd: Sshd, folder: Path) -> None:
    settings = MeasurementSettings(rounds=2, threads=1, seed=3)
    steps: list[str] = []
    record = benchmark_on(device, [folder / "tiny"], [folder / "photos"], settings, progress=steps.append)
    assert f"{device.name}: opening 1 of 2" in steps
    here = benchmark([folder / "tiny"], [folder / "photos"], rounds=2, threads=1, seed=3, cold=False)
    assert record.protocol_digest == here.protocol_digest
    assert record.pictures == here.pictures == ("a b's.png", "a b's.png")
    assert record.measurements[0].found == here.measurements[0].found
    assert record.measurements[0].digest == here.measurements[0].digest
    # Absent from the device, though installed here.
    assert record.measurements[0].cold is not None
    assert record.measurements[0].cold.load > 0
    again: list[str] = []
    benchmark_on(device, [folder / "tiny"], [folder / "photos"], ONCE, progress=again.append)
    assert any("sent" in step for step in steps)
    assert not any("sent" in step for step in again)


def test_the_command_line(
    sshd: Sshd, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{sshd.url}?python={sys.executable}"
    arguments = [
        "benchmark",
        folder / "tiny",
        "--images",
        folder / "photos",
        "--rounds",
        1,
        "--threads",
        1,
        "--no-cold",
    ]
    more = ["--device", url, "--save", tmp_path / "record.json", "--report", tmp_path / "report"]
    monkeypatch.setattr(sys, "argv", ["facedeploy", *map(str, [*arguments, *more])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0)
    assert "1 round in 1 opening" in capsys.readouterr().out
    assert read_record(tmp_path / "record.json").measurements[0].name == "tiny"
    assert (tmp_path / "report" / "index.html").is_file()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--dataset", f"csv:{folder}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "accuracy is computed on this machine" in capsys.readouterr().err


def test_what_a_device_refuses_is_said_here(device: Device, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    with pytest.raises(InputError, match=r"on ssh://.*: 2 streams need at least 2 threads"):
        benchmark_on(device, [tmp_path / "tiny"], [folder / "photos"], MeasurementSettings(threads=1, streams=2))
    with pytest.raises(InputError, match="needs no build"):
        build(tmp_path / "tiny", builder=device)


def test_an_engine_is_not_built_without_tensorrt(device: Device, pending: Path) -> None:
    before = Artifact.open(pending).manifest
    with pytest.raises(BackendUnavailableError, match=r"^on ssh://.*: TensorRT is not installed"):
        build(pending, builder=device)
    assert Artifact.open(pending).manifest == before


def test_engines_are_built_there_and_kept(pending: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    with serve(tmp_path / "sshd", {}) as server:
        monkeypatch.setenv("FACEDEPLOY_SSH_CONFIG", str(server.config))
        device = open_device(f"{server.url}?python={sys.executable}")

        def built() -> tuple[FileEntry, bool]:
            """The engine, and whether it was built just then."""
            steps: list[str] = []
            (network,) = build(pending, builder=device, progress=steps.append).manifest.networks
            assert network.engine == "ready"
            return network.files["engine"], any("build the engine" in step for step in steps)

        engine, anew = built()
        assert anew
        assert engine.size > 10_000
        assert built() == (engine, False)
        (server.cache / "objects" / engine.sha256).write_bytes(b"damaged")
        engine, anew = built()
        assert anew
        assert {p.name for p in pending.iterdir()} == {"manifest.json", "network.onnx", engine.path}
        nothing_left(server)


Cut = Callable[[Sshd], None]


def end_session(server: Sshd) -> None:
    for pid in server.sessions():
        os.kill(pid, signal.SIGKILL)


def _clients() -> list[int]:
    """The ssh processes that this one started."""
    return [int(p) for p in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split() if _is_ssh(p)]


def _is_ssh(pid: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "ssh"


def end_client(server: Sshd) -> None:
    for pid in _clients():
        os.kill(pid, signal.SIGKILL)


def stop_client(server: Sshd) -> None:
    """As where a cable is pulled: nothing is closed, and nothing comes any more."""
    for pid in _clients():
        os.kill(pid, signal.SIGSTOP)
    # The worker notices by itself, before this side gives up and closes the connection.
    assert server.wait_for_none() == {}


@pytest.mark.parametrize(
    ("cut", "message"),
    [(end_session, "the connection to"), (end_client, "the connection to"), (stop_client, "has been silent for 2 sec")],
)
def test_a_connection_cut_while_measuring(cut: Cut, message: str, device: Device, sshd: Sshd, folder: Path) -> None:
    cuts: list[str] = []

    def progress(step: str) -> None:
        if "opening 1" in step:
            assert any(JOB in command for command in sshd.processes().values())
            cuts.append(step)
            cut(sshd)

    with pytest.raises(DeviceError, match=message):
        benchmark_on(device, [folder / "tiny"], [folder / "photos"], LONG, silence=2, progress=progress)
    assert cuts
    nothing_left(sshd)


def test_a_connection_cut_while_sending(device: Device, sshd: Sshd) -> None:
    kept = {*sshd.cache.glob("objects/*")}
    killed: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, frame: killed.append(number))  # The command line dies of it.
    try:
        with pytest.raises(DeviceError, match="failed while sending files"):
            push(device, [Content.of(os.urandom(30_000_000))], lambda step: end_session(sshd))
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert killed == []
    assert sshd.wait_for_none() == {}
    assert {*sshd.cache.glob("objects/*")} == kept


def test_a_killed_command_leaves_nothing(sshd: Sshd, folder: Path) -> None:
    url = f"{sshd.url}?python={sys.executable}"
    command = [sys.executable, "-m", "facedeploy", "benchmark", folder / "tiny", "--images", folder / "photos"]
    options = ["--rounds", "10000000", "--device", url]
    running = subprocess.Popen([*map(str, command), *options], stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(JOB in c for c in sshd.processes().values()):
        assert running.poll() is None
        assert time.monotonic() < deadline
    running.kill()
    running.wait()
    nothing_left(sshd)


def test_work_that_takes_too_long_is_ended(device: Device, folder: Path) -> None:
    with pytest.raises(DeviceError, match="took more than 4 seconds"):
        benchmark_on(device, [folder / "tiny"], [folder / "photos"], LONG, limit=4, silence=8)


def test_a_full_disk(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not grow is, for whoever writes it, one on a disk that is full."""
    with serve(tmp_path / "sshd", {}, limit_bytes=100_000) as server:
        monkeypatch.setenv("FACEDEPLOY_SSH_CONFIG", str(server.config))
        device = open_device(f"{server.url}?python={sys.executable}")
        with pytest.raises(DeviceError, match=r"failed while sending files \(status \d+\): .*is its disk full\?$"):
            benchmark_on(device, [folder / "tiny"], [folder / "photos"], ONCE)
        nothing_left(server)
        assert [*server.cache.glob("objects/*")] == []


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes. Skips the test where nobody may mount one."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk to fill: this user may not mount one ({mounted.stderr.strip()[-100:]})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


# The package has 0.4 MB, and 1.5 when it is unpacked.
@pytest.mark.parametrize(
    ("size", "message"),
    [
        (150_000, r"failed while sending files \(status \d+\): .*is its disk full\?$"),
        (900_000, r"failed while measuring \(status 1\): No space left on device: is its disk full\?$"),
    ],
)
def test_a_disk_that_is_really_full(
    size: int, message: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", size) as disk, serve(disk / "sshd", {}) as server:
        monkeypatch.setenv("FACEDEPLOY_SSH_CONFIG", str(server.config))
        device = open_device(f"{server.url}?python={sys.executable}")
        with pytest.raises(DeviceError, match=message):
            benchmark_on(device, [folder / "tiny"], [folder / "photos"], ONCE)
        nothing_left(server)
        # What arrived whole stays for the next time; of what did not, nothing.
        assert all(sha256(kept) == kept.name for kept in server.cache.glob("objects/*"))


def test_a_host_that_is_another(device: Device, sshd: Sshd, tmp_path: Path) -> None:
    known = sshd.config.with_name("known")
    right = known.read_text()
    make_key(tmp_path / "other")
    try:
        for change in (lambda: known.write_text(""), lambda: write_known(known, sshd.port, tmp_path / "other.pub")):
            change()
            with pytest.raises(
                DeviceError, match=r"connecting \(.*Host key verification failed.*ssh -F .* true` works"
            ):
                probe(device)
    finally:
        known.write_text(right)
    assert probe(device).system == "Linux"


def test_a_key_that_does_not_open(sshd: Sshd) -> None:
    with pytest.raises(DeviceError, match=r"Permission denied"):
        probe(open_device(sshd.url.replace("//", "//nobody@")))


def test_nobody_answers(sshd: Sshd) -> None:
    with pytest.raises(DeviceError, match=r"connecting \(.*Connection refused"):
        probe(open_device("ssh://127.0.0.1:1"))


def test_a_device_without_python(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with serve(tmp_path / "sshd", {"PATH": str(tmp_path / "empty")}) as server:
        monkeypatch.setenv("FACEDEPLOY_SSH_CONFIG", str(server.config))
        with pytest.raises(DeviceError, match=r"there is no python3 on ssh://127.0.0.1:\d+: install Python"):
            benchmark_on(open_device(server.url), [folder / "tiny"], [folder / "photos"], ONCE)
        assert [*server.home.iterdir()] == []


def test_a_device_without_a_backend(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has nothing: without its site, that is any."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    with serve(tmp_path / "sshd", {}) as server:
        monkeypatch.setenv("FACEDEPLOY_SSH_CONFIG", str(server.config))
        device = open_device(f"{server.url}?python={python}")
        with pytest.raises(InputError, match=r"\(Python 3\.\d+\.\d+, \w+\) has no numpy, OpenCV \(cv2\), ONNX Runtime"):
            benchmark_on(device, [folder / "tiny"], [folder / "photos"], ONCE)
        assert not server.cache.exists()
