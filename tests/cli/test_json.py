"""What --json prints is what docs/reference/output.schema.json says, for every command, and one line a document."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy.benchmarks.record_file import write_record
from facedeploy.cli.app import OPTIONS
from tests.benchmarks.test_matrix import FILE as MATRIX
from tests.cli.test_cli import Run, run  # noqa: F401  # The fixture.
from tests.cli.test_readme import ROOT
from tests.pipelines.test_chain import Kit, kit  # noqa: F401  # The fixture.
from tests.support.exported import tiny
from tests.support.measured import export_pending, export_tiny
from tests.support.output_schema import FILE, Schema, as_text, objections, schema
from tests.support.records import make_record

WHOLE = json.loads(FILE.read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
LINES = {"models", "detect", "doctor"}  # JSON Lines; of all others there is one document.
Objects = list[dict[str, Any]]


def checked(run: Run, *words: object, status: int = 0) -> Objects:  # noqa: F811
    """The documents of a call, each as the schema of its command says."""
    result = run(*words, "--json")
    assert result.status == status, result
    documents = result.objects
    command = str(words[0])
    assert len(documents) == 1 or command in LINES
    for document in documents:
        assert next(iter(document)) == "version"
        assert not list(objections(document, WHOLE["$defs"][command], WHOLE, command))
    return documents


def test_the_file_is_what_the_code_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == as_text(schema()), "run python -m tests.support.output_schema"


def test_every_command_has_a_schema_and_a_place_on_the_page() -> None:
    for command, options in OPTIONS.items():
        assert "json" in options
        section = PAGE.partition(f"## `{command}`\n")[2].partition("\n## ")[0]
        assert section, f"the page does not explain {command}"
        for name in names(WHOLE["$defs"][command]):
            assert f"`{name}`" in section or name == "version", f"{command} prints {name}"
        assert ("JSON Lines" in section) == (command in LINES)


def names(kind: Schema) -> Iterator[str]:
    if "$ref" in kind:
        kind = WHOLE["$defs"][kind["$ref"].rpartition("/")[2]]
    for one in kind.get("anyOf", ()):
        yield from names(one)
    yield from kind.get("properties", ())


@pytest.mark.slow
def test_models(run: Run) -> None:  # noqa: F811
    assert len(checked(run, "models")) > 3


def test_doctor(run: Run) -> None:  # noqa: F811
    assert len(checked(run, "doctor")) == 5


def test_inspect(run: Run, kit: Kit) -> None:  # noqa: F811
    assert checked(run, "inspect", kit.folder / "finder.onnx")[0]["settings"]
    assert checked(run, "inspect", kit.detector)[0]["target"] == "onnx-fp32"


def test_export_verify_detect_chain(run: Run, kit: Kit, tmp_path: Path) -> None:  # noqa: F811
    checked(run, "export", kit.folder / "points.onnx", "--target", "onnx-fp32", "-o", tmp_path / "points")
    checked(run, "verify", kit.detector, "--weights", kit.folder / "finder.onnx", "--images", kit.picture)
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (120, 64))
    writer.write(np.zeros((64, 120, 3), np.uint8))
    writer.release()
    picture, frame = checked(run, "detect", kit.chain, kit.picture, clip)
    assert {"landmarks", "embedding"} <= set(picture["faces"][0])
    assert frame["frame"] == 0
    checked(run, "chain", kit.detector, "--with", kit.points, "-o", tmp_path / "chain")


def test_calibrate(run: Run, kit: Kit, tmp_path: Path) -> None:  # noqa: F811
    rng = np.random.default_rng(0)
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 256, (64, 80, 3), np.uint8))
    words = ("--images", tmp_path)
    (report,) = checked(run, "calibrate", kit.folder / "points.onnx", *words, "-o", tmp_path / "points.json")
    assert report["rows"]
    files = [word for file in kit.files for word in ("--weights", file)]
    pictures = ("--images", kit.picture.parent)
    assert kit.picture.is_file()
    for i in range(10):
        cv2.imwrite(str(kit.picture.with_name(f"more{i}.png")), cv2.imread(str(kit.picture))[i:])  # type: ignore[index]
    call = ("calibrate", kit.chain, *pictures, *files, "--no-sensitivity", "-o", tmp_path / "ranges")
    assert list(checked(run, *call)[0]["parts"]) == ["detector", "points", "who"]


def test_benchmark_and_compare(run: Run, kit: Kit, tmp_path: Path) -> None:  # noqa: F811
    labels = tmp_path / "labels.csv"
    labels.write_text(f"image,x1,y1,x2,y2\n{kit.picture.name},1,1,50,50\n")
    dataset = f"csv:{labels},images={kit.picture.parent}"
    words = ("--rounds", "2", "--layers", "--streams", "2", "--threads", "2", "--processes", "1", "--dataset", dataset)
    (report,) = checked(run, "benchmark", kit.detector, kit.chain, "--images", kit.picture, *words)
    assert report["scores"]
    for i in (0, 1):
        write_record(make_record(seed=i), tmp_path / f"{i}.json")
    checked(run, "compare", tmp_path / "0.json", tmp_path / "1.json")


@pytest.mark.slow
def test_matrix(run: Run, tmp_path: Path) -> None:  # noqa: F811
    export_tiny(tmp_path)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((64, 80, 3), np.uint8))
    (tmp_path / "two.toml").write_text(MATRIX.replace(', "openvino-fp32"', ""))
    (tmp_path / "gate.toml").write_text("max_size = 0.000001\n")
    call = ("matrix", tmp_path / "two.toml", "-o", tmp_path / "out", "--gate", tmp_path / "gate.toml")
    (report,) = checked(run, *call, status=1)
    assert report["gate"]
    assert len(report["cells"]) == 1


def test_build(run: Run, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("tensorrt_rtx")
    export_tiny(tmp_path)
    pending = export_pending(tmp_path, tmp_path / "pending")
    assert checked(run, "build", pending.path)[0]["networks"] == ["network"]


def test_package(run: Run, tmp_path: Path) -> None:  # noqa: F811
    artifact = tiny("ncnn-fp16", (96, 128))
    call = ("package", artifact.path, "--android", tmp_path / "a", "--cpp", tmp_path / "c")
    assert checked(run, *call)[0]["written"] == [str(tmp_path / "a"), str(tmp_path / "c")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("image"), "detect.image is missing"),
        (lambda d: d.update(extra=1), "detect.extra is not known"),
        (lambda d: d.update(width="1"), "detect.width: '1' is no integer"),
        (lambda d: d.update(width=True), "detect.width: True is no integer"),
        (lambda d: d.update(version=2), "detect.version: 2 is not 1"),
        (lambda d: d["faces"][0]["box"].pop(), "detect.faces[0].box: it has 3 items"),
        (lambda d: d["faces"][0].update(box=[0, 0, 1, "1"]), "detect.faces[0].box[3]: '1' is no number"),
        (lambda d: d["faces"][0].update(nose=1), "detect.faces[0].nose is not known"),
        (lambda d: d.update(faces=None), "detect.faces: None is no array"),
    ],
)
def test_a_wrong_document_is_refused(change: Any, said: str) -> None:
    """The checker itself."""
    right = {"version": 1, "image": "a", "width": 1, "height": 1, "faces": [{"box": [0, 0, 1, 1], "score": 0.5}]}
    kind = WHOLE["$defs"]["detect"]
    assert not list(objections(right, kind, WHOLE, "detect"))
    wrong = copy.deepcopy(right)
    change(wrong)
    assert list(objections(wrong, kind, WHOLE, "detect")) == [said]
