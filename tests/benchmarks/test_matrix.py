"""`facedeploy matrix`: a strict file, and nothing that is done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.matrix.cells import key
from facedeploy.benchmarks.matrix.plan import read_plan
from facedeploy.benchmarks.record_file import read_record
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.cli.app import main
from facedeploy.core.errors import ArtifactError, InputError
from tests.support.own_networks import SIZE, convolution, decoded, node, weights, write

CONFIG = """
check = false

[outputs]
boxes = "boxes"
scores = "scores"
boxes_in = "unit"
"""
FILE = """
title = "two"
targets = ["onnx-fp32", "openvino-fp32"]
images = ["photos"]
seconds = 0.05
threads = 1

[[models]]
model = "face.onnx"
config = "face.toml"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a detector of known answers, two pictures, and a matrix of them."""
    decoded(tmp_path / "face.onnx")
    (tmp_path / "face.toml").write_text(CONFIG)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = rng.integers(0, 256, (64, 80, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), picture)
    (tmp_path / "two.toml").write_text(FILE)
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    """Exit status of `facedeploy matrix two.toml` in a process of its own."""
    command = [sys.executable, "-m", "facedeploy", "matrix", str(folder / "two.toml"), "-o", str(folder / "out")]
    return subprocess.run([*command, *arguments], check=False, cwd=folder, timeout=300).returncode


def stamps(folder: Path) -> dict[Path, int]:
    """When each file of a folder was written."""
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------- the file


def test_paths_are_relative_to_the_file_and_name_variables(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS", "photos")
    text = FILE.replace('"photos"', '"$PHOTOS"') + 'calibration = "${PHOTOS}/a.png"\ntargets = ["openvino-int8"]\n'
    (here / "two.toml").write_text(text)
    plan = read_plan(here / "two.toml")
    assert plan.images == (here / "photos",)
    (cell,) = plan.cells
    assert cell.int8 == Int8Options(here / "photos" / "a.png")
    assert (cell.name, cell.config) == ("face-openvino-int8", here / "face.toml")


def test_paths_of_data_sets_are_relative_to_the_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELS", "labels")
    (here / "two.toml").write_text(FILE.replace("[[m", 'datasets = ["csv:$LABELS/a.csv,images=photos"]\n[[m'))
    assert read_plan(here / "two.toml").datasets == (f"csv:{here}/labels/a.csv,images={here}/photos",)


def test_sizes_and_targets_of_a_model_multiply(here: Path) -> None:
    text = 'targets = ["onnx-fp32", "ncnn-fp16"]\nimages = ["photos"]\n'
    text += '[[models]]\nmodel = "mos-tiny"\ninput_sizes = ["96x128", "64x64"]\n'
    (here / "two.toml").write_text(text)
    names = [cell.name for cell in read_plan(here / "two.toml").cells]
    tails = [f"{size}-{target}" for size in ("96x128", "64x64") for target in ("onnx-fp32", "ncnn-fp16")]
    assert names == [f"mos-tiny-{tail}" for tail in tails]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("title", "titel"), "titel"),
        (lambda t: t.replace('"face.onnx"', '"mos-huge"'), "mos-huge"),
        (lambda t: t.replace("openvino-fp32", "openvino-fp64"), "openvino-fp64"),
        (lambda t: t.replace('"photos"', '"holiday"'), "holiday"),
        (lambda t: t.replace('"photos"', '"$NO_SUCH_PLACE"'), "NO_SUCH_PLACE"),
        (lambda t: t.replace('["photos"]', "[]"), "images is empty"),
        (lambda t: t.replace("0.05", "-1"), "seconds"),
        (lambda t: t.replace("0.05", "nan"), "seconds"),
        (lambda t: t.replace("threads = 1", "threads = -1"), "threads"),
        (lambda t: t + 'input_sizes = ["480*640"]', "480*640"),
        (lambda t: t + '[[models]]\nmodel = "face.onnx"', "face-onnx-fp32 twice"),
        (lambda t: t.replace("=", ":"), "TOML"),
        (lambda t: t + 'weights = "nothing.pth"', "nothing.pth"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(here: Path, change: Callable[[str], str], words: str) -> None:
    (here / "two.toml").write_text(change(FILE))
    with pytest.raises(InputError, match=words.replace("*", r"\*")) as caught:
        read_plan(here / "two.toml")
    assert "\n" not in str(caught.value)


def test_a_wrong_file_ends_the_command_with_status_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "two.toml").write_text(FILE.replace("title", "titel"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["facedeploy", "matrix", str(here / "two.toml"), "-o", str(here / "out")])
        main()
    assert stopped.value.code == 2
    assert "titel" in capsys.readouterr().err
    assert not (here / "out").exists()


# ------------------------------------------------------------------------------------------------- the key


def test_the_key_of_a_cell_is_that_of_its_contents(here: Path) -> None:
    cell = read_plan(here / "two.toml").cells[0]
    copied = here / "copy.onnx"
    shutil.copy(cell.model, copied)
    assert key(replace(cell, model=str(copied))) == key(cell)
    changed = [
        replace(cell, options={"score_threshold": 0.25}),
        replace(cell, input_size=(64, 64)),
        replace(cell, int8=Int8Options(max_drop=0.5)),
        replace(cell, config=None),
        replace(cell, int8=Int8Options(here / "photos")),
        read_plan(here / "two.toml").cells[1],
    ]
    decoded(copied, classes=2)
    changed.append(replace(cell, model=str(here / "." / "copy.onnx")))
    assert len({key(cell), *map(key, changed)}) == len(changed) + 1


# ------------------------------------------------------------------------------------------------- the run


@pytest.mark.slow
def test_a_second_run_does_nothing_twice(here: Path) -> None:
    pytest.importorskip("openvino")
    assert run(here) == 0
    out = here / "out"
    before = stamps(out)
    (record,) = (read_record(p) for p in (out / "records").glob("*.json"))
    assert [m.target for m in record.measurements] == ["onnx-fp32", "openvino-fp32"]
    assert {"index.html", "report.json", "report.md"} <= {p.name for p in (out / "report").iterdir()}
    assert run(here) == 0
    after = stamps(out)
    mine = [p for p in before if p.parts[0] in ("cells", "records")]
    assert mine
    assert {p: after[p] for p in mine} == {p: before[p] for p in mine}
    # The control: with another budget it is measured again, and nothing is exported again.
    (here / "two.toml").write_text(FILE.replace("0.05", "0.06"))
    assert run(here) == 0
    assert len(list((out / "records").glob("*.json"))) == 2
    assert {p: t for p, t in stamps(out).items() if p.parts[0] == "cells"} == {
        p: t for p, t in before.items() if p.parts[0] == "cells"
    }


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(here: Path) -> None:
    pytest.importorskip("openvino")
    out = here / "out"
    command = [sys.executable, "-m", "facedeploy", "matrix", str(here / "two.toml"), "-o", str(out)]
    process = subprocess.Popen(command, cwd=here)
    end = time.monotonic() + 200
    while not list(out.glob("cells/*.json")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {p: t for p, t in stamps(out).items() if not any(part.startswith(".") for part in p.parts)}
    assert any(p.suffix == ".json" and p.parts[0] == "cells" and len(p.parts) == 2 for p in done)
    assert not (out / "report").exists()
    assert run(here) == 0
    after = stamps(out)
    # What was complete is untouched: a cell is complete when its JSON file stands.
    complete = {p.stem for p in done if len(p.parts) == 2}
    kept = [p for p in done if p.parts[0] == "cells" and (p.stem in complete or p.parts[1] in complete)]
    assert kept
    assert {p: after[p] for p in kept} == {p: done[p] for p in kept}
    assert (out / "report" / "index.html").exists()


@pytest.mark.slow
def test_a_damaged_artifact_is_made_anew(here: Path) -> None:
    pytest.importorskip("openvino")
    assert run(here) == 0
    (model,) = here.glob("out/cells/face-onnx*/*.onnx")
    model.write_bytes(model.read_bytes()[:-1])
    folder = model.parent
    with pytest.raises(ArtifactError):
        Artifact.open(folder)
    assert run(here) == 0
    Artifact.open(folder)


@pytest.mark.slow
def test_a_cell_that_a_backend_refuses_leaves_the_others(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    nodes = [convolution("x", "c", "w"), node("ArgMax", ["c"], ["y"], axis=1, keepdims=0)]
    kinds = {"y": onnx.TensorProto.INT64}
    write(here / "odd.onnx", nodes, {"w": weights(4, 3, 3, 3)}, {"y": [1, *SIZE]}, kinds=kinds)
    text = FILE.replace("face.onnx", "odd.onnx").replace('config = "face.toml"\n', "")
    (here / "two.toml").write_text(text.replace("openvino-fp32", "ncnn-fp32"))
    assert run(here, "--json") == 1
    printed = capfd.readouterr()
    assert "odd-ncnn-fp32 was refused" in printed.err
    cells = json.loads(printed.out)["cells"]
    assert [bool(c["refused"]) for c in cells] == [False, True]
    assert "ArgMax" in cells[1]["refused"]
    # It is not tried again.
    before = stamps(here / "out" / "cells")
    assert run(here) == 1
    assert stamps(here / "out" / "cells") == before
    report = (here / "out" / "report" / "report.md").read_text()
    assert "odd-ncnn-fp32" in report
