"""Wherever a path is taken, text does: for one path, for several, and one where several may be."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facedeploy
from facedeploy.artifact.folder import Artifact, find_chain
from facedeploy.benchmarks.accuracy.datasets import parse_dataset
from facedeploy.benchmarks.accuracy.evaluate import evaluate
from facedeploy.benchmarks.gate import read_gate
from facedeploy.benchmarks.matrix import plan as matrix
from facedeploy.benchmarks.matrix.run import run
from facedeploy.benchmarks.record_file import read_record, write_record
from facedeploy.benchmarks.report import write_report
from facedeploy.calibration.chart import write_chart
from facedeploy.calibration.report import calibrate_chain, calibrate_model
from facedeploy.calibration.table import read_table, write_table
from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.images import expand, read_picture
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.export.build import build
from facedeploy.package.bundle import package_android, package_cpp, package_ios
from facedeploy.pipelines.detect_files import detect_files
from facedeploy.pipelines.make_chain import make_chain
from facedeploy.verification.verify import verify
from tests.support.crop_networks import colour_network
from tests.support.exported import tiny

SIZE = (128, 160)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pictures/, looker.onnx and looker.toml, a network that looks at faces."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "pictures").mkdir()
    for i in range(2):
        photo = group_photo(np.random.default_rng(i), 160, 200, 1)
        assert cv2.imwrite(str(folder / "pictures" / f"{i}.png"), photo)
    colour_network(folder / "looker.onnx")
    (folder / "looker.toml").write_text("[meaning.embedding]\noutput = 'mean'\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def artifact() -> str:
    return str(tiny("onnx-fp32", SIZE).path)


@pytest.fixture(scope="module")
def looker(place: Path) -> str:
    made = facedeploy.export(str(place / "looker.onnx"), "onnx-fp32", output=str(place / "looking"))
    return str(made.path)


@pytest.fixture(scope="module")
def record(place: Path, artifact: str) -> Any:
    return facedeploy.benchmark(artifact, str(place / "pictures"), threads=1, rounds=2, cold=False)


def test_one_call_and_load(place: Path, artifact: str, looker: str) -> None:
    picture = str(place / "pictures" / "0.png")
    faces = facedeploy.detect(artifact, picture)
    assert faces
    assert facedeploy.detect(artifact, [picture]) == [faces]
    with facedeploy.load(artifact) as pipeline, facedeploy.load(artifact, with_=looker) as both:
        assert pipeline.detect(read_picture(picture)) == faces
        assert all(face.embedding for face in both.detect(read_picture(picture)))
    assert all(face.embedding for face in facedeploy.detect(artifact, picture, with_=looker))
    assert str(Artifact.open(artifact).path) == artifact


def test_files(place: Path, artifact: str, looker: str) -> None:
    one, two = detect_files(artifact, str(place / "pictures"), save=str(place / "drawn"), with_=looker)
    assert one.faces
    assert (place / "drawn" / "1.png").is_file()
    assert list(detect_files(Artifact.open(artifact), [str(two.path)], with_=looker)) == [two]
    assert expand(str(place / "pictures")) == expand([place / "pictures"]) == [one.path, two.path]


def test_verify_and_inspect(place: Path, artifact: str) -> None:
    assert not verify(artifact, images=[str(place / "pictures")]).problems
    assert facedeploy.inspect(str(place / "looker.onnx"), write=str(place / "written.toml")).name
    assert (place / "written.toml").is_file()


def test_export(place: Path, tmp_path: Path) -> None:
    """`weights`, `config` and `output`; an ONNX file may be a path as well."""
    config = str(place / "looker.toml")
    made = facedeploy.export(place / "looker.onnx", "onnx-fp32", output=str(tmp_path / "a"), config=config)  # type: ignore[arg-type]
    assert made.path == tmp_path / "a"
    with pytest.raises(InputError, match=r"there is no file .*none\.pth"):
        facedeploy.export("mos-tiny", "onnx-fp32", str(tmp_path / "none.pth"), str(tmp_path / "b"))


def test_int8_options_hold_paths() -> None:
    options = facedeploy.Int8Options(calibration="table.json", detector="finder", count=7)
    assert (options.calibration, options.detector) == (Path("table.json"), Path("finder"))
    assert options == facedeploy.Int8Options(Path("table.json"), detector=Path("finder"), count=7)
    assert options != facedeploy.Int8Options("table.json", count=7)
    assert len({options, replace(options), pickle.loads(pickle.dumps(options))}) == 1
    assert facedeploy.Int8Options().calibration is facedeploy.Int8Options().detector is None
    assert "calibration=PosixPath('table.json')" in repr(options) or "WindowsPath" in repr(options)
    with pytest.raises(FrozenInstanceError):
        options.calibration = "other"  # type: ignore[misc]


def test_int8_calibrates_on_the_folder_that_text_names(place: Path, tmp_path: Path) -> None:
    options = facedeploy.Int8Options(calibration=str(place / "pictures"), force=True)
    with pytest.raises(InputError, match="pictures"):  # So it was read: two are too few.
        facedeploy.export("mos-tiny", "openvino-int8", output=str(tmp_path / "out"), input_size=SIZE, int8=options)


def test_records_and_reports(place: Path, record: Any) -> None:
    write_record(record, str(place / "record.json"))
    assert read_record(str(place / "record.json")) == record
    pytest.importorskip("jinja2")
    images = {"0.png": str(place / "pictures" / "0.png")}
    write_report([record], str(place / "report"), title="Here", images=images)
    assert (place / "report" / "index.html").is_file()


def test_accuracy_gate_and_matrix(place: Path, artifact: str, tmp_path: Path) -> None:
    rows = "0.png,10,10,60,60\n1.png,10,10,60,60\n"
    (place / "faces.csv").write_text("image,x1,y1,x2,y2\n" + rows, encoding="utf-8")
    dataset = parse_dataset(f"csv:{place / 'faces.csv'},images={place / 'pictures'}")
    assert evaluate(artifact, [dataset], processes=1, work=str(tmp_path / "work"))
    (place / "gate.toml").write_text("max_lost = 1\n", encoding="utf-8")
    assert read_gate(str(place / "gate.toml")).max_lost == 1
    (place / "matrix.toml").write_text(
        'targets = ["onnx-fp32"]\nimages = ["pictures"]\n[[models]]\nmodel = "nobody"\n', encoding="utf-8"
    )
    with pytest.raises(InputError, match="there is no model 'nobody'"):
        run(matrix.read_plan(str(place / "matrix.toml")), str(tmp_path / "out"), progress=print)


def test_chains_and_packages(place: Path, artifact: str, looker: str, tmp_path: Path) -> None:
    chain = make_chain(artifact, looker, str(tmp_path / "chain"))
    assert chain.parts
    assert find_chain(str(chain.path)) is not None
    for package in (package_cpp, package_android, package_ios):
        with pytest.raises(InputError, match="ncnn"):
            package(artifact, str(tmp_path / "package"))
    with pytest.raises(FacedeployError, match="needs no build"):
        build(artifact)
    with pytest.raises(InputError, match="pictures"):
        calibrate_chain(str(chain.path), str(place / "pictures"), str(place / "looker.onnx"), sensitivity=False)


@pytest.mark.slow
def test_calibration(place: Path, tmp_path: Path) -> None:
    for i in range(2, 12):
        assert cv2.imwrite(str(place / "pictures" / f"{i}.png"), group_photo(np.random.default_rng(i), 160, 200, 1))
    report = calibrate_model("mos-tiny", str(place / "pictures"), input_size=SIZE, sensitivity=False)
    write_table(report.table, str(tmp_path / "table.json"))
    assert read_table(str(tmp_path / "table.json")) == report.table
    write_chart(report, str(tmp_path / "chart.png"))
    options = facedeploy.Int8Options(calibration=str(tmp_path / "table.json"), force=True)
    made = facedeploy.export("mos-tiny", "openvino-int8", output=str(tmp_path / "out"), input_size=SIZE, int8=options)
    assert made.manifest.calibration is not None
