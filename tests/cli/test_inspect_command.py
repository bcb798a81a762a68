"""`facedeploy inspect`: what it prints where, how it ends, and what the pages say of families and of face.toml."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tomllib

from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.serialization import from_plain
from facedeploy.graph.decode.description import Decode
from facedeploy.sources.families import families
from facedeploy.sources.recognise import matches
from facedeploy.sources.settings import NetworkSettings
from tests.cli.test_cli import Run, run  # noqa: F401  # The fixture.
from tests.cli.test_readme import ROOT
from tests.support.exported import tiny
from tests.support.own_networks import SIZE, convolution, node, plain, weights, write

FACE_TOML = (ROOT / "docs" / "reference" / "face-toml.md").read_text(encoding="utf-8")
CELLS = {8: 6400, 16: 1600, 32: 400}


def test_a_network_is_told_in_a_page(run: Run, tmp_path: Path) -> None:  # noqa: F811
    result = run("inspect", plain(tmp_path / "plain.onnx"))
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == f"{tmp_path / 'plain.onnx'}: ONNX of opset 13, not quantised"
    assert re.search(r"^input +x +float32 +\(1, 3, 32, 40\) +\(1, 3, 32, 40\)$", result.out, re.MULTILINE)
    assert "size: 32x40, as the file says" in lines
    assert "parameters: 108; MACs: 0.1 million" in lines
    assert "operators: Conv 1, Relu 1" in lines
    assert any(line.startswith("taken by: onnx") for line in lines)
    assert lines[-1] == "family: none that is known: describe its head under [decode] in a TOML file"


def test_json_has_the_same(run: Run, tmp_path: Path) -> None:  # noqa: F811
    result = run("inspect", plain(tmp_path / "plain.onnx"), "--json")
    found = json.loads(result.out)
    assert (found["kind"], found["size"], found["work"]["parameters"]) == ("unknown", [32, 40], 108)
    assert found["file"]["operators"] == {"Conv": 1, "Relu": 1}
    assert {a["backend"] for a in found["backends"]} == {"onnx", "openvino", "ncnn", "trt"}


def test_a_family_is_named_and_its_file_written(run: Run, tmp_path: Path) -> None:  # noqa: F811
    """One output of five numbers a box: YOLOv8's without points, whose drawn weights find nothing."""
    nodes = [convolution("x", "c", "w"), node("ReduceMean", ["c", "axes"], ["m"], keepdims=0)]
    nodes += [node("Add", ["k", "m"], ["out"])]
    constants = {"w": weights(4, 3, 3, 3), "axes": np.array([0, 1, 2, 3]), "k": np.zeros((1, 5, 84), np.float32)}
    path = write(tmp_path / "v8.onnx", nodes, constants, {"out": [1, 5, 84]}, opset=18, shape=(1, 3, 64, 64))
    result = run("inspect", path, "--write", tmp_path / "v8.toml")
    assert result.status == 0
    assert "family: yolov8-face: one output of 84 boxes, for strides 8, 16, 32, one box a cell" in result.out
    assert "yolov8-face: the outputs fit (" in result.out
    assert result.err.startswith(f"{tmp_path / 'v8.toml'}: written")
    assert 'scores = "out[4]"' in (tmp_path / "v8.toml").read_text()
    again = run("inspect", path, "--write", tmp_path / "v8.toml")
    assert (again.status, again.out) == (2, "")
    assert again.err == f"facedeploy: {tmp_path / 'v8.toml'} exists: choose another name, or remove it\n"


def test_a_file_that_cannot_be_deployed_is_told_all_the_same(run: Run, tmp_path: Path) -> None:  # noqa: F811
    path = plain(tmp_path / "odd.onnx", shape=(1, 7, *SIZE))
    result = run("inspect", path)
    assert result.status == 2
    assert "operators: Conv 1, Relu 1" in result.out
    assert result.err.startswith(f"facedeploy: {path} takes x (1, 7, 32, 40)")
    assert result.err.count("\n") == 1
    missing = run("inspect", tmp_path / "none.onnx")
    assert (missing.status, missing.out, missing.err) == (2, "", f"facedeploy: there is no file {tmp_path}/none.onnx\n")


def test_an_artifact_says_what_it_is(run: Run, tmp_path: Path) -> None:  # noqa: F811
    artifact = tiny("onnx-fp32", (240, 320))  # As other tests have it made.
    result = run("inspect", artifact.path)
    assert result.status == 0
    assert f"artifact: {artifact.path}\nmodel: mos-tiny\ntarget: onnx-fp32\n" in result.out
    assert json.loads(run("inspect", artifact.path, "--json").out)["target"] == "onnx-fp32"
    empty = run("inspect", tmp_path)
    assert empty.status == 2
    assert empty.err.count("\n") == 1


def test_the_page_of_families_is_that_of_the_data() -> None:
    """A family's line is the comment at the top of its file."""
    page = (ROOT / "docs" / "reference" / "families.md").read_text(encoding="utf-8")
    wanted = {}
    for name in families():
        text = (ROOT / "facedeploy" / "sources" / "families" / f"{name}.toml").read_text(encoding="utf-8")
        comment = re.match(r"(?:#.*\n)+", text)
        assert comment is not None, f"{name}.toml does not begin with what it is"
        wanted[name] = " ".join(line.removeprefix("#").strip() for line in comment[0].splitlines())
    rows = "\n".join(f"| `{name}` | {about} |" for name, about in wanted.items())
    assert page.endswith(f"|---|---|\n{rows}\n"), f"the table must be\n{rows}"


def test_the_page_of_settings_has_every_key() -> None:
    section = FACE_TOML.partition("## [decode]")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == sorted(
        (f.name for f in dataclasses.fields(Decode)),
        key=re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE).index,
    )
    first = tomllib.loads(re.findall(r"```toml\n(.*?)```", FACE_TOML, re.DOTALL)[0])
    looks = FACE_TOML.partition("## A network that looks at a face")[2]
    second = tomllib.loads(re.findall(r"```toml\n(.*?)```", looks, re.DOTALL)[0])
    for name, field in {f.name: f for f in dataclasses.fields(NetworkSettings)}.items():
        assert name in first or name in second or name == "decode", field


def example(title: str, number: int = 0) -> dict[str, object]:
    section = FACE_TOML.partition(f"### {title}\n")[2]
    plain_data: dict[str, object] = tomllib.loads(re.findall(r"```toml\n(.*?)```", section, re.DOTALL)[number])
    return plain_data


@pytest.mark.parametrize(
    ("title", "number", "family", "outputs"),
    [
        (
            "SCRFD",
            0,
            "scrfd",
            {f"{n}_{s}": (1, 2 * c, w) for n, w in (("score", 1), ("bbox", 4), ("kps", 10)) for s, c in CELLS.items()},
        ),
        ("YOLOv8", 0, "yolov8-face", {"output0": (1, 20, 8400)}),
        ("YOLOv8", 1, "yolov8-face", {f"p{i}": (1, 65, 640 >> i, 640 >> i) for i in (3, 4, 5)}),
    ],
    ids=["scrfd", "yolov8", "yolov8 in maps"],
)
def test_the_worked_examples_are_the_families(
    title: str, number: int, family: str, outputs: dict[str, tuple[int, ...]]
) -> None:
    spec = NetworkSpec(
        "network", (TensorSpec("x", (1, 3, 640, 640)),), tuple(TensorSpec(k, v) for k, v in outputs.items())
    )
    (match,) = matches(spec)
    assert match.family == family
    written = from_plain(NetworkSettings, example(title, number))
    ours = from_plain(NetworkSettings, match.settings)
    assert written.decode == ours.decode
    if number == 0:
        assert (written.input, written.pipeline) == (ours.input, ours.pipeline)
