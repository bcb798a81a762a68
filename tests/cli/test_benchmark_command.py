"""`facedeploy benchmark` with labels, a gate and a report: what a team runs before it ships."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedeploy.benchmarks.record import Record
from facedeploy.cli.app import main
from facedeploy.core.serialization import from_plain
from facedeploy.export.exporter import export
from facedeploy.metrics.interval import Interval, Unbounded
from tests.benchmarks.test_matrix import CONFIG
from tests.support.own_networks import BOXES, decoded

HEIGHT, WIDTH = 80, 100
# The surest detection and the least sure, which is under the network's own threshold; between them is one of nothing.
FACES = (BOXES[0], BOXES[3])
Run = Callable[..., int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts of a detector of known answers, pictures, and labels that are those answers."""
    folder = tmp_path_factory.mktemp("benchmark")
    decoded(folder / "face.onnx")
    (folder / "face.toml").write_text(CONFIG)
    for name in ("one", "two"):
        export(str(folder / "face.onnx"), "onnx-fp32", output=folder / name)
    (folder / "photos").mkdir()
    lines = ["image,x1,y1,x2,y2"]
    for name in ("a.png", "b.png", "c.png"):
        assert cv2.imwrite(str(folder / "photos" / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        lines += [f"{name},{x1 * WIDTH},{y1 * HEIGHT},{x2 * WIDTH},{y2 * HEIGHT}" for x1, y1, x2, y2 in FACES]
    (folder / "faces.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit status of `facedeploy benchmark` over both artifacts."""

    def call(*more: object) -> int:
        artifacts = [str(folder / name) for name in ("one", "two")]
        common = ["--images", str(folder / "photos"), "--rounds", "6", "--no-cold", "--processes", "1"]
        monkeypatch.setattr(sys, "argv", ["facedeploy", "benchmark", *artifacts, *common, *map(str, more)])
        try:
            main()
        except SystemExit as stopped:
            return int(stopped.code or 0)
        return 0

    return call


def labels(folder: Path) -> tuple[str, str]:
    return "--dataset", f"csv:{folder / 'faces.csv'},images={folder / 'photos'}"


def test_scores_are_in_the_record_and_in_the_report(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*labels(folder), "--json", "--report", tmp_path / "report", "--answers", tmp_path / "answers") == 0
    record = from_plain(Record, json.loads(capsys.readouterr().out))
    assert [(s.artifact, s.measure) for s in record.scores] == [("one", "AP"), ("two", "AP")]
    first, second = record.scores
    assert (first.change, second.faces) == (None, 6)
    assert second.change == Interval(0.0, 0.0, 0.0)
    assert isinstance(second.value, Unbounded)  # Of three pictures.
    # Precision 1, then 2 of 3.
    assert first.value.value == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"index.html", "report.json", "report.md"}
    # The two are the same but for their names, so what they find is computed once.
    assert len(list((tmp_path / "answers").glob("*.jsonl"))) == 1
    text = (tmp_path / "report" / "report.md").read_text()
    assert "83.3" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "status", "words"),
    [
        ("max_size = 1", 0, ""),
        ("max_size = 0.0001", 1, "MB in files"),
        ("max_lost = 0.5", 0, ""),
        ("min_speedup = 50", 1, "times as fast as one"),
        ("[max_drop]\nAP = 0.5", 0, ""),
    ],
)
def test_the_gate_decides(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limits: str, status: int, words: str
) -> None:
    (tmp_path / "gate.toml").write_text(limits)
    assert run(*labels(folder), "--gate", tmp_path / "gate.toml") == status
    printed = capsys.readouterr()
    assert words in printed.err
    assert "AP" in printed.out
    assert "(too few pictures)" in printed.out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--gate", "none.toml"), "none.toml"),
        (("--dataset", "faces:here"), "faces"),
        (("--dataset", "csv:none.csv"), "none.csv"),
        (("--report", "photos"), "photos"),
        (("--gate", "drop.toml"), "--dataset"),
        (("--gate", "odd.toml"), "max_dorp"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    run: Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "drop.toml").write_text("[max_drop]\nAP = 0.5\n")
    (folder / "odd.toml").write_text("max_dorp = 1\n")
    # So long that a test that measures first does not end.
    assert run(*more, "--rounds", 10**9) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""
