"""What holds for every device: names, the bundle, the worker, and that nothing a device says is believed."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy.core.errors import ArtifactError, DeviceError, FacedeployError, InputError
from facedeploy.core.images import read_picture
from facedeploy.core.optional_imports import installed_versions
from facedeploy.core.serialization import to_plain
from facedeploy.core.version_ranges import installed_version
from facedeploy.devices.connection import Device, LocalDevice
from facedeploy.devices.file_store import Content, push
from facedeploy.devices.open import open_device
from facedeploy.devices.python.remote import benchmark_on, detect_on
from facedeploy.devices.python.request import MeasurementSettings
from facedeploy.devices.python.requirements import Probe, check, probe
from facedeploy.devices.python.zipapp import make_bundle
from facedeploy.devices.shell import readable, talk
from facedeploy.devices.ssh import SshDevice
from facedeploy.export.build import build
from facedeploy.pipelines.load import load
from tests.support.installed import ask_for
from tests.support.measured import export_pending, export_tiny

# What a device has not, and what runs there must not miss.
ABSENT = ("torch", "onnx", "onnxscript", "typer", "click", "jinja2", "tqdm", "tomli", "packaging", "openvino", "ncnn")
ONCE = MeasurementSettings(rounds=1, threads=1, cold=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of a tiny detector, one for TensorRT without its engine, and a picture."""
    folder = tmp_path_factory.mktemp("measured")
    export_tiny(folder)
    export_pending(folder, folder / "pending")
    assert cv2.imwrite(str(folder / "photo.png"), np.zeros((60, 80, 3), np.uint8))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a local device keeps its files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "facedeploy"


@pytest.mark.parametrize(
    ("url", "name", "options", "python"),
    [
        ("ssh://nano", "ssh://nano", ["--", "nano"], "python3"),
        (
            "ssh://me@Nano-2.lan:2222/",
            "ssh://me@Nano-2.lan:2222",
            ["-p", "2222", "-l", "me", "--", "Nano-2.lan"],
            "python3",
        ),
        ("ssh://[fe80::1%eth0]?python=~/my-venv/bin/python", "ssh://[fe80::1%eth0]", ["--", "fe80::1%eth0"], None),
    ],
)
def test_names_of_machines(
    url: str, name: str, options: list[str], python: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEDEPLOY_SSH_CONFIG", "")
    device = open_device(url)
    assert isinstance(device, SshDevice)
    assert device.name == name
    command = device.command("echo 'a b'")
    assert command[-1 - len(options) : -1] == options
    assert "-oBatchMode=yes" in command
    assert not any("StrictHostKeyChecking" in word for word in command)
    assert device.python_word == (python or '"$HOME"/my-venv/bin/python')


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://a b",
            "ssh://host:0",
            "ssh://host:70000",
            "ssh://host:x",
            "ssh://u@",
        ),
        *("ssh://-u@host", "ssh://$(x)@host", "ssh://host;x", "ssh://host?python=a b", "ssh://host/path", "ssh://h\n"),
        *("adb://-x", "adb://a?b=c", "adb://a?cores=7-4", "host", "", "LOCAL"),
    ],
)
def test_what_is_no_device_is_refused(url: str) -> None:
    with pytest.raises(InputError) as refused:
        open_device(url)
    assert str(refused.value).count("\n") == 0


def test_the_bundle_is_the_same_in_every_process_and_holds_no_commands() -> None:
    code = "import sys; from facedeploy.devices.python.zipapp import make_bundle as m; sys.stdout.buffer.write(m())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert other == make_bundle()
    with zipfile.ZipFile(io.BytesIO(other)) as archive:
        names = archive.namelist()
        said = [archive.read(name).decode() for name in names if not name.endswith(".py")]
    ours = {f"facedeploy/{name}.py" for name in ("benchmarks/latency/benchmark", "devices/python/worker")}
    assert {"__main__.py", *ours} <= {*names}
    assert not any(name.startswith("facedeploy/cli/") for name in names)
    # A record of a device says which version measured.
    assert said == [
        f"Metadata-Version: 2.1\nName: facedeploy\nVersion: {v}\n" for v in installed_versions("facedeploy").values()
    ]


def test_measuring_needs_numpy_opencv_and_the_backend_only(
    cache: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('there is no such module', name={name!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # The control: what is absent is what this process would import.
    alone = subprocess.run([sys.executable, "-c", "import facedeploy.cli.app"], capture_output=True, check=False)
    assert alone.returncode
    settings = MeasurementSettings(rounds=1, threads=1, layers=True, streams=1)
    record = benchmark_on(LocalDevice(), [folder / "tiny"], [folder / "photo.png"], settings)
    (measured,) = record.measurements
    assert measured.cold is not None
    assert measured.layers
    assert not {"torch", "openvino", "ncnn"} & {*record.measurements[0].runtime}
    assert [*cache.glob("runs*")] == [*cache.glob("incoming*")] == []
    # A kept file that is not what it was is noticed, removed and sent again.
    damaged = cache / "objects" / Content.of(folder / "photo.png").sha256
    damaged.write_bytes(b"x")
    with pytest.raises(DeviceError, match="lost or damaged: run the command again"):
        benchmark_on(LocalDevice(), [folder / "tiny"], [folder / "photo.png"], ONCE)
    benchmark_on(LocalDevice(), [folder / "tiny"], [folder / "photo.png"], ONCE)


def test_one_works_at_a_time_and_tidies_up_after_those_that_were_killed(cache: Path, folder: Path) -> None:
    (cache / "runs" / "old").mkdir(parents=True)
    (cache / "incoming.1").mkdir()
    (cache / "objects").mkdir()
    (cache / "objects" / "forgotten").write_bytes(b"x")
    month_ago = time.time() - 31 * 86400
    for name in ("incoming.1", "objects/forgotten"):
        os.utime(cache / name, (month_ago, month_ago))
    with (cache / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match="another facedeploy is at work on this device"):
            benchmark_on(LocalDevice(), [folder / "tiny"], [folder / "photo.png"], ONCE)
        assert (cache / "runs" / "old").is_dir()
    benchmark_on(LocalDevice(), [folder / "tiny"], [folder / "photo.png"], ONCE)
    assert {p.name for p in cache.iterdir()} == {"objects", "lock"}
    assert not (cache / "objects" / "forgotten").exists()


def test_work_that_is_killed_is_said(cache: Path, folder: Path) -> None:
    def kill(step: str) -> None:
        if "opening 1" in step:
            for place in Path("/proc").glob("[0-9]*"):
                words = (place / "cmdline").read_bytes().split(b"\0")
                if b"facedeploy.devices.python.job" in words and str(cache).encode() in words[-2]:
                    os.kill(int(place.name), signal.SIGKILL)

    with pytest.raises(DeviceError, match="the work was ended by signal 9, as where memory runs out"):
        benchmark_on(
            LocalDevice(), [folder / "tiny"], [folder / "photo.png"], replace(ONCE, rounds=10**7), progress=kill
        )
    assert not (cache / "runs").exists()


@pytest.mark.parametrize(
    ("needed", "found", "missing"),
    [
        ((("numpy",), ("cv2",)), {"numpy": ""}, r"has no OpenCV \(cv2\)"),
        ((("tensorrt", "tensorrt_rtx"),), {"numpy": ""}, "has no TensorRT"),
        ((("tensorrt", "tensorrt_rtx"),), {"tensorrt_rtx": ""}, None),
    ],
)
def test_what_is_missing_is_named(needed: Any, found: dict[str, str], missing: str | None) -> None:
    def look(python: str) -> None:
        check(LocalDevice("ssh://nano", "python3"), Probe("Linux", "aarch64", python, found), needed)

    with pytest.raises(InputError, match=r"python3 of ssh://nano \(Python 3.8.10, aarch64\) is too old"):
        look("3.8.10")
    if missing is None:
        look("3.10.12")
    else:
        with pytest.raises(InputError, match=rf"\(Python 3.10.12, aarch64\) {missing}: install that there"):
            look("3.10.12")


@pytest.mark.parametrize(
    ("needed", "found", "old"),
    [
        ((("numpy",),), {"numpy": "1.21.5"}, r"numpy 1\.21\.5 is too old \(1\.24 or newer is needed\)"),
        (
            (("onnxruntime",),),
            {"onnxruntime": "1.18.1"},
            r"ONNX Runtime 1\.18\.1 is too old \(1\.19 or newer is needed\)",
        ),
        ((("onnxruntime",),), {"onnxruntime": "1.23.2"}, None),
        ((("onnxruntime",),), {"onnxruntime": ""}, None),
        ((("tensorrt", "tensorrt_rtx"),), {"tensorrt": "8.6.2", "tensorrt_rtx": "1.7"}, None),
        ((("tensorrt", "tensorrt_rtx"),), {"tensorrt": "8.6.2"}, "TensorRT 8.6.2 is too old"),
    ],
)
def test_what_is_too_old_is_named(
    needed: Any, found: dict[str, str], old: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what this package asks for under the device's Python, not under this one."""
    onnxruntime = ("onnxruntime>=1.25; python_version >= '3.11'", "onnxruntime>=1.19; python_version < '3.11'")
    ask_for(tmp_path, monkeypatch, "numpy>=1.24", "tensorrt>=10.1", *onnxruntime)
    device, probed = LocalDevice("ssh://nano", "python3"), Probe("Linux", "aarch64", "3.10.12", found)
    if old is None:
        check(device, probed, needed)
    else:
        with pytest.raises(InputError, match=rf"{old} .*on python3 of ssh://nano .*: update it there"):
            check(device, probed, needed)


def test_a_device_says_its_versions() -> None:
    found = probe(LocalDevice("local", sys.executable))
    for module in ("numpy", "onnxruntime", "cv2"):
        assert found.modules[module] == installed_version(module) != ""


def test_a_script_is_told_what_went_wrong() -> None:
    device = LocalDevice()
    with pytest.raises(DeviceError, match=r"^local failed while trying \(status 3\): the disk  ?is full$"):
        b"".join(talk(device, "printf 'the disk \\033[2Jis full\\n' | tr -d '[2J' >&2; exit 3", "trying", most=0))
    with pytest.raises(DeviceError, match="says more than it may"):
        b"".join(talk(device, "yes", "trying", most=100_000))
    with pytest.raises(DeviceError, match="silent for 1 sec"):
        b"".join(talk(device, "sleep 60", "trying", most=0, silence=1))
    with pytest.raises(DeviceError, match="took more than 1 sec"):
        b"".join(talk(device, "while :; do echo x; sleep 0.1; done", "trying", most=10_000, limit=1))
    assert readable(b"a\x1b[31m\xffb\nc\x9b") == "a [31m\ufffdb c\ufffd"


def test_a_file_that_shrinks_is_noticed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    content = Content.of(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"x" * 10)
    with pytest.raises(InputError, match="became shorter"):
        push(LocalDevice(), [content])
    (tmp_path / "file").write_bytes(b"y" * 1000)
    with pytest.raises(DeviceError, match="arrived damaged"):
        push(LocalDevice(), [content])
    assert [p.name for p in cache.rglob("*")] == ["objects"]


Answer = Callable[[dict[str, Any]], Any]


def lying(tmp_path: Path, answer: Any) -> Device:
    """A device whose Python says what it is, and then, whatever it is asked, `answer`."""
    python = tmp_path / "python"
    line = answer if isinstance(answer, str) else json.dumps({"facedeploy": answer})
    (tmp_path / "answer").write_text(f"noise\n{line}\n")
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\nread -r line\ncat {tmp_path / "answer"}\n'
    )
    python.chmod(0o755)
    return LocalDevice("liar", str(python))


DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            {"error": ["ArtifactError", "it \x1b]0;owned\x07 is\nbroken"]},
            ArtifactError,
            "^on liar: it  ]0;owned  is broken$",
        ),
        ({"error": ["SystemExit", "gone"]}, DeviceError, "on liar: gone"),
        ({"error": ["brief", "gone"]}, DeviceError, "on liar: gone"),
        ({"record": {"version": 1}}, InputError, "what liar answers: .* is missing; measure again"),
        ({"record": None}, InputError, "what liar answers is not a record of a benchmark: measure again"),
        ({"record": {"version": 99}}, InputError, "version 99"),
        ({"unknown": 1}, DeviceError, "cannot be read"),
        ('{"facedeploy": {', DeviceError, "cannot be read"),
        ('{"facedeploy": ' + "[" * 100_000, DeviceError, "cannot be read"),
        ("nothing of ours", InputError, "what liar answers is not a record of a benchmark: measure again"),
    ],
)
def test_no_answer_is_believed(
    answer: Any, kind: type[FacedeployError], message: str, cache: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        benchmark_on(lying(tmp_path, answer), [folder / "tiny"], [folder / "photo.png"], ONCE)


def face(**changes: Any) -> dict[str, Any]:
    return {"box": [1, 2, 3, 4], "score": 0.5, "landmarks": [[1, 2]], "yaw": 1, "pitch": None, "roll": None, **changes}


@pytest.mark.parametrize(
    "faces",
    [
        None,
        [],
        [[], []],
        [[face(score=float("nan"))]],
        [[face(box=[1, 2, 3, float("inf")])]],
        [[face(box=[1, 2, 3])]],
        [[face(landmarks=[[1, float("-inf")]])]],
        [[face(roll=float("nan"))]],
        [[face(score="0.5")]],
        [[face(name="x")]],
    ],
)
def test_no_face_is_believed(faces: Any, cache: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"does not answer with the faces of 1 pictures|answers what cannot be read"):
        detect_on(lying(tmp_path, {"faces": faces}), folder / "tiny", [folder / "photo.png"], ONCE)
    # The control.
    (right,) = detect_on(lying(tmp_path, {"faces": [[face()]]}), folder / "tiny", [folder / "photo.png"], ONCE)
    assert [f.landmarks for f in right] == [((1.0, 2.0),)]


def test_a_device_finds_the_faces_that_are_found_here(cache: Path, folder: Path) -> None:
    pictures = [folder / "photo.png", folder / "photo.png"]
    with load(folder / "tiny", threads=1) as pipeline:
        here = [pipeline.detect(read_picture(picture)) for picture in pictures]
    steps: list[str] = []
    assert detect_on(LocalDevice(), folder / "tiny", pictures, ONCE, progress=steps.append) == here
    assert any(here)
    assert steps[-1] == "local: picture 2 of 2"
    with pytest.raises(InputError, match="there is no picture to detect with"):
        detect_on(LocalDevice(), folder / "tiny", [], ONCE)


@pytest.mark.parametrize(
    "engines",
    [
        [],
        [{"network": "../network", "sha256": DIGEST, "size": 1}],
        [{"network": "network", "sha256": "../../../etc/passwd", "size": 1}],
        [{"network": "network", "sha256": f"{DIGEST} || touch here", "size": 1}],
        [{"network": "network", "sha256": DIGEST, "size": 1 << 60}],
        [{"network": "network", "sha256": DIGEST, "size": -1}],
        [{"network": "network", "sha256": DIGEST, "size": 1}],
    ],
)
def test_no_engine_is_believed(engines: list[Any], cache: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "pending", tmp_path / "trt")
    built = {"engines": engines, "tool": "tensorrt", "version": "10.3.0", "gpu": None, "kept": False}
    before = {p.name: p.read_bytes() for p in (tmp_path / "trt").iterdir()}
    with pytest.raises(DeviceError):
        build(tmp_path / "trt", builder=lying(tmp_path, {"built": built}))
    assert not (cache / "here").exists()
    assert {p.name: p.read_bytes() for p in (tmp_path / "trt").iterdir()} == before


def test_a_record_of_something_else_is_refused(cache: Path, folder: Path, tmp_path: Path) -> None:
    record = benchmark_on(LocalDevice(), [folder / "tiny"], [folder / "photo.png"], ONCE)
    told = {"record": to_plain(record)}
    asked = ([folder / "tiny"], [folder / "photo.png"], ONCE)
    assert benchmark_on(lying(tmp_path, told), *asked) == record
    other = to_plain(replace(record, measurements=(replace(record.measurements[0], digest=DIGEST),)))
    with pytest.raises(DeviceError, match="measured something else"):
        benchmark_on(lying(tmp_path, {"record": other}), *asked)


def test_a_probe_that_answers_nonsense(tmp_path: Path) -> None:
    for said in ("echo hello", "echo '{}'", ":"):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{said}\n")
        python.chmod(0o755)
        with pytest.raises(DeviceError, match="does not answer as Python does"):
            probe(LocalDevice("liar", str(python)))
