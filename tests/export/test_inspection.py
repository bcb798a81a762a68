"""What `inspect` says of files: family with its reason, doubt, backends, and the TOML file that it writes."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tomllib
import torch
from onnx import TensorProto

import facedeploy
from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.core.terms import Terms
from facedeploy.export.inspection import Inspection, inspect
from facedeploy.export.takes import LACKS, BackendAnswer, ask_backends
from facedeploy.runtimes.tensorrt_api import trt_logger
from facedeploy.sources import families, recognise
from facedeploy.sources.behind import behind_detector
from facedeploy.sources.settings import NetworkSettings
from facedeploy.sources.settings_file import render
from tests.conftest import ASSETS
from tests.support import own_networks
from tests.support.own_networks import SIZE, convolution, node, plain, weights, write

SIDE = 64
CELLS = {8: 64, 16: 16, 32: 4}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of each test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answering(path: Path, values: Mapping[str, np.ndarray[Any, Any]], side: int = SIDE) -> Path:
    """A network that gives the same values for every picture, and reads the picture all the same."""
    nodes = [convolution("x", "c", "w"), node("ReduceMean", ["c", "axes"], ["m"], keepdims=0)]
    nodes += [node("Add", [f"k/{name}", "m"], [name]) for name in values]
    constants: dict[str, Any] = {f"k/{name}": np.asarray(v, np.float32) for name, v in values.items()}
    constants |= {"w": 0 * weights(4, 3, 3, 3), "axes": np.array([0, 1, 2, 3])}
    return write(path, nodes, constants, {k: v.shape for k, v in values.items()}, opset=18, shape=(1, 3, side, side))


def scrfd(path: Path, *, score: float = 0.9, names: str = "{role}_{stride}") -> Path:
    """SCRFD's nine outputs, with one face."""
    values = {}
    for role, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride, cells in CELLS.items():
            values[names.format(role=role, stride=stride)] = np.full((1, 2 * cells, width), float(role == "bbox"))
    next(iter(values.values()))[0, 5] = score
    return answering(path, values)


def asset(name: str) -> Path:
    path = ASSETS / "weights" / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


def refused(folder: Path, *words: Any, **options: Any) -> str:
    """The sentence of a call that must fail and leave nothing."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(FacedeployError) as caught:
        inspect(*words, **options)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before
    return str(caught.value)


def test_a_detector_is_named_with_the_reason(here: Path) -> None:
    found = inspect(scrfd(here / "face.onnx"))
    assert (found.kind, found.refused, found.size, found.size_from) == ("detector", "", (SIDE, SIDE), "file")
    assert found.reason == "nine outputs at strides 8, 16, 32, two boxes a cell"
    assert found.settings is not None
    assert found.settings.family == "scrfd"
    assert found.settings.decode is not None
    assert found.settings.decode.boxes == ("bbox_8", "bbox_16", "bbox_32")
    assert found.work is not None
    assert found.work.macs == SIDE * SIDE * 4 * 27
    assert json.loads(json.dumps(to_plain(found)))["settings"]["family"] == "scrfd"


def test_what_cannot_be_true_of_a_family_is_said(here: Path) -> None:
    """Drawn weights: the shapes are right, and no face is found."""
    (fit,) = inspect(scrfd(here / "face.onnx", score=0.0)).fits
    assert fit.family == "scrfd"
    assert "no face is found on a photograph of one, which has 64x64 pixels here: give a larger" in fit.problem
    (fit,) = inspect(scrfd(here / "face.onnx", score=7.0)).fits
    assert "no probabilities" in fit.problem


@pytest.mark.parametrize("names", ["{role}_{stride}", 'Ünï {stride}"\\{role}\t#'])
def test_the_file_that_is_written_means_the_same(names: str, here: Path) -> None:
    path = scrfd(here / "face.onnx", names=names)
    itself = facedeploy.export(str(path), "onnx-fp32", output="itself")
    assert itself.manifest.recognised
    found = inspect(path, write="face.toml")
    assert found.written == "face.toml"
    assert found.settings == from_plain(NetworkSettings, tomllib.loads(Path("face.toml").read_text("utf-8")))
    again = facedeploy.export(str(path), "onnx-fp32", output="again")
    assert again.manifest.settings == itself.manifest.settings
    assert again.manifest.pipeline == itself.manifest.pipeline
    assert not again.manifest.recognised
    described = inspect(path)
    assert (described.kind, described.reason) == ("detector", f"{here / 'face.toml'} describes it")
    assert described.settings == found.settings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "size", "family"),
    [
        ("yunet/yunet_n_dynamic.onnx", (320, 320), "yunet"),
        ("yunet/yunet_n_320_320.onnx", None, "yunet"),
        ("centerface/centerface_bnmerged.onnx", (320, 320), "centerface"),
        ("retinaface_onnx/retinaface_mnet025_biubug6.onnx", (250, 330), "retinaface"),
        ("ulfd/version-RFB-320.onnx", None, "ulfd"),
        ("ulfd/version-RFB-320_without_postprocessing.onnx", None, "ulfd"),
    ],
)
def test_published_files_are_recognised_and_their_settings_come_back(
    file: str, size: tuple[int, int] | None, family: str, here: Path
) -> None:
    path = asset(file)
    found = inspect(path, input_size=size, write="face.toml")
    assert (found.kind, found.refused) == ("detector", "")
    assert {a.backend: a.takes for a in found.backends if a.takes is not None} == {
        a.backend: True for a in found.backends if a.takes is not None
    }
    itself = facedeploy.export(str(path), "onnx-fp32", output="itself", input_size=size)
    again = facedeploy.export(str(path), "onnx-fp32", output="again", config="face.toml")
    assert again.manifest.settings["family"] == family
    assert again.manifest.networks[0].spec == itself.manifest.networks[0].spec
    assert again.manifest.pipeline == itself.manifest.pipeline
    said = itself.manifest.settings["input"]
    asked = None if size is None else "{}x{}".format(*size)
    assert again.manifest.settings == {**itself.manifest.settings, "input": {**said, "size": asked}}


def tied(path: Path, shape: tuple[int | str, ...]) -> Path:
    """A network that runs on pictures of 112x112 only."""
    nodes = [convolution("x", "c", "w"), node("Flatten", ["c"], ["f"]), node("Gemm", ["f", "g"], ["y"])]
    constants = {"w": weights(4, 3, 3, 3), "g": weights(4 * 112 * 112, 3)}
    return write(path, nodes, constants, {"y": [1, 3]}, shape=shape)


def test_a_size_that_nobody_says_is_the_usual_one_or_one_that_runs(here: Path) -> None:
    usual = inspect(own_networks.opset10(here / "open.onnx"))
    assert (usual.size, usual.size_from) == ((640, 640), "nobody")
    assert usual.network is not None
    assert usual.network.outputs[0].shape == (1, 4, 640, 640)
    (here / "open.toml").write_text('[input]\nsize = "24x48"')
    assert (said := inspect("open.onnx")).size == (24, 48)
    assert said.size_from == "settings"
    assert (asked := inspect("open.onnx", input_size=SIZE)).size == SIZE
    assert asked.size_from == "caller"
    path = tied(here / "tied.onnx", ("N", 3, "height", "width"))
    assert inspect(path).size == (112, 112)
    path = plain(here / "half.onnx", shape=(1, 3, "height", 48))
    assert inspect(path).size == (640, 48)


def test_a_size_that_does_not_run_is_refused_with_what_is_in_the_file(here: Path) -> None:
    path = own_networks.opset10(here / "open.onnx")
    found = inspect(path, input_size=(33, 40))
    assert found.file is not None
    assert found.file.operators["Conv"] == 1
    assert "a picture of 33x40" in found.refused
    assert "multiples of 32" in found.refused
    assert (found.size, found.network, found.work, found.settings) == (None, None, None, None)
    found = inspect(tied(here / "one.onnx", (1, 3, 112, 112)), input_size=(320, 320))
    assert "the file says 112x112, so take that" in found.refused
    assert "the file says 112x112, so take that" in refused(here, "one.onnx", input_size=(320, 320), write="one.toml")


def test_what_is_changed_of_a_file_is_said(here: Path) -> None:
    path = plain(here / "ten.onnx", shape=(10, 3, *SIZE))
    found = inspect(path, input_size=(64, 64))
    assert (found.size, found.size_from) == ((64, 64), "caller")
    assert any("10 pictures at once" in note for note in found.notes)
    assert any("32x40, and nothing in it is seen to depend on that" in note for note in found.notes)
    assert inspect(path, input_size=SIZE).size_from == "file"


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families with the same outputs, of which one finds no face."""
    one = families.families()["scrfd"]
    head = dataclasses.replace(one.heads[0], decode={**one.heads[0].decode, "box": "deltas"})
    other = dataclasses.replace(one, heads=(head,))
    blind = dataclasses.replace(one, pipeline={**one.pipeline, "score_threshold": 0.95})
    known = {"one": one, "other": other, "blind": blind}
    monkeypatch.setattr(families, "families", lambda: known)
    monkeypatch.setattr(recognise, "families", lambda: known)


@pytest.mark.usefixtures("twins")
def test_in_doubt_the_families_that_fit_are_named_and_the_user_decides(here: Path) -> None:
    path = scrfd(here / "face.onnx")
    found = inspect(path)
    assert (found.kind, found.settings) == ("doubt", None)
    assert [fit.family for fit in found.fits if not fit.problem] == ["one", "other"]
    assert [fit.family for fit in found.fits if "no face is found" in fit.problem] == ["blind"]
    assert found.families == ("one", "other")
    assert "nine outputs at strides 8, 16, 32" in found.reason
    with pytest.raises(InputError, match=r"may be one or other \(nine outputs .*\): say which with --family"):
        facedeploy.export(str(path), "onnx-fp32", output="out")
    sentence = refused(here, path, write="face.toml")
    assert "may be one or other: say which with --family" in sentence
    chosen = inspect(path, family="other", write="face.toml")
    assert chosen.settings is not None
    assert chosen.settings.family == "other"
    assert 'box = "deltas"' in Path("face.toml").read_text()


def test_a_family_that_does_not_fit_says_what_it_has(here: Path) -> None:
    sentence = refused(here, scrfd(here / "face.onnx"), family="yunet")
    assert "the network is no yunet: that has scores (1 a box), objectness (1 a box)" in sentence
    assert "one box a cell" in sentence
    assert "there is no family 'face'" in refused(here, "face.onnx", family="face")
    (here / "face.toml").write_text('family = "scrfd"')
    assert "--family says yunet" in refused(here, "face.onnx", family="yunet")


def test_a_network_that_is_none_of_these_is_to_be_described(here: Path) -> None:
    found = inspect(plain(here / "plain.onnx"))
    assert (found.kind, found.reason, found.fits, found.settings) == ("unknown", "", (), None)
    assert "of no known family: describe its head under [decode]" in refused(here, "plain.onnx", write="plain.toml")


@pytest.mark.parametrize(
    ("side", "shapes", "said"),
    [
        (112, [(1, 212)], "106 points"),
        (160, [(1, 143)], "points and something else"),
        (112, [(1, 64, 28, 28), (1, 212)], "106 points"),
        (64, [(1, 3)], "yaw, pitch and roll"),
        (112, [(1, 512)], "an embedding"),
        (96, [(1, 2)], "classes"),
        (96, [(1, 1, 1, 136)], "68 points"),
        # Not these: a map, rows of boxes, a large picture.
        (112, [(1, 64, 28, 28)], ""),
        (112, [(1, 4420, 2), (1, 4420, 4)], ""),
        (320, [(1, 212)], ""),
    ],
)
def test_what_seems_to_look_at_a_face(side: int, shapes: list[tuple[int, ...]], said: str) -> None:
    outputs = tuple(TensorSpec(f"y{i}", shape) for i, shape in enumerate(shapes))
    reason = behind_detector(NetworkSpec("network", (TensorSpec("x", (1, 3, side, side)),), outputs))
    assert said in reason
    assert bool(reason) == bool(said)


def test_a_network_behind_a_detector_is_said_to_be_one(here: Path) -> None:
    found = inspect(answering(here / "points.onnx", {"y": np.zeros((1, 136))}, 112))
    assert found.kind == "behind"
    assert found.reason == "for a picture of 112x112 it gives 136 numbers, as 68 points have"


# Operator -> the nodes after a convolution that use it, and constants.
ONE_EACH: dict[str, tuple[list[Any], dict[str, Any]]] = {
    **{op: ([node(op, ["c"], ["y"], axis=1)], {}) for op in ("ArgMax", "ArgMin")},
    "CumSum": ([node("CumSum", ["c", "a"], ["y"])], {"a": np.array(1)}),
    "GatherND": ([node("GatherND", ["c", "a"], ["y"])], {"a": np.array([[0, 1]])}),
    "ScatterND": (
        [node("ScatterND", ["c", "a", "b"], ["y"])],
        {"a": np.array([[0, 1]]), "b": np.zeros((1, *SIZE), np.float32)},
    ),
    "NonZero": ([node("NonZero", ["c"], ["y"])], {}),
    "OneHot": (
        [node("Cast", ["c"], ["i"], to=TensorProto.INT64), node("OneHot", ["i", "a", "b"], ["y"])],
        {"a": np.array(4), "b": np.array([0, 1], np.float32)},
    ),
    "TopK": ([node("TopK", ["c", "a"], ["y", "i"], axis=1)], {"a": np.array([2])}),
    "NonMaxSuppression": (
        [
            node("Reshape", ["c", "a"], ["r"]),
            node("Reshape", ["c", "b"], ["s"]),
            node("NonMaxSuppression", ["r", "s", "n", "t"], ["y"]),
        ],
        {"a": np.array([1, -1, 4]), "b": np.array([1, 4, -1]), "n": np.array([5]), "t": np.array([0.4], np.float32)},
    ),
    **{
        op: ([node(op, ["c", "a"], ["b"]), node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)], {"a": np.float32(0)})
        for op in ("Greater", "Less", "Equal")
    },
    "Where": ([node("Where", ["a", "c", "b"], ["y"])], {"a": np.eye(40)[:32] > 0, "b": np.float32(0)}),
}


def asked(path: Path, operator: str) -> BackendAnswer:
    """What ncnn says of a network with one operator."""
    pytest.importorskip("pnnx")
    nodes, constants = ONE_EACH[operator]
    integers = {"y": TensorProto.INT64} if operator in ("ArgMax", "ArgMin", "NonZero", "NonMaxSuppression") else {}
    outputs: dict[str, Any] = {"y": []}
    made = write(
        path,
        [convolution("x", "c", "w"), *nodes],
        {"w": weights(4, 3, 3, 3), **constants},
        outputs,
        opset=18,
        kinds=integers,
    )
    model = onnx.load(made)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(model), made)
    spec = NetworkSpec("network", (TensorSpec("x", (1, 3, *SIZE)),), (TensorSpec("y", ()),))
    return next(a for a in ask_backends(spec, made) if a.backend == "ncnn")


@pytest.mark.parametrize(
    "operator", [pytest.param(op, marks=[] if op == "TopK" else pytest.mark.slow) for op in sorted(LACKS["ncnn"])]
)
def test_what_ncnn_is_said_to_lack_it_lacks(operator: str, here: Path) -> None:
    answer = asked(here / "one.onnx", operator)
    assert answer.takes is False
    assert operator in answer.operators
    assert "\x1b" not in answer.reason
    assert answer.advice


def test_what_tensorrt_is_said_to_lack_it_lacks() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    network = trt.Builder(trt_logger(trt)).create_network(0)
    parser = trt.OnnxParser(network, trt_logger(trt))
    assert not [op for op in LACKS["trt"] if parser.supports_operator(op)]
    assert parser.supports_operator("TopK")


def test_an_operator_that_a_backend_lacks_is_named_with_the_way_out(here: Path) -> None:
    pytest.importorskip("pnnx")
    pytest.importorskip("openvino")
    nodes = [convolution("x", "c", "w"), node("TopK", ["c", "k"], ["y", "i"], axis=1)]
    constants = {"w": weights(4, 3, 3, 3), "k": np.array([2])}
    path = write(here / "top.onnx", nodes, constants, {"y": [1, 2, *SIZE]}, opset=18)
    answers = {a.backend: a for a in inspect(path).backends}
    assert [b for b, a in answers.items() if a.takes is False] == ["ncnn"]
    assert answers["ncnn"].operators == ("TopK",)
    assert answers["ncnn"].advice.startswith("export the network without its suppression")
    assert "take onnx or openvino" in answers["ncnn"].advice
    assert all(a.takes is not False for a in inspect(plain(here / "plain.onnx")).backends)


def test_a_backend_that_is_not_installed_is_judged_by_what_is_known(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pnnx", "openvino", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    nodes = [convolution("x", "c", "w"), node("TopK", ["c", "k"], ["y", "i"], axis=1)]
    constants = {"w": weights(4, 3, 3, 3), "k": np.array([2])}
    path = write(here / "top.onnx", nodes, constants, {"y": [1, 2, *SIZE]}, opset=18)
    answers = {a.backend: (a.takes, a.operators) for a in inspect(path).backends}
    assert answers == {"onnx": (True, ()), "openvino": (None, ()), "ncnn": (False, ("TopK",)), "trt": (None, ())}


def test_a_checkpoint_is_said_to_be_one(here: Path) -> None:
    torch.save({"state_dict": {"a.weight": torch.zeros(3, 4), "a.bias": torch.zeros(3)}}, "face.pth")
    sentence = refused(here, "face.pth")
    assert "is a checkpoint of 2 tensors with 15 numbers, and has no network in it" in sentence
    assert "package.module:callable" in sentence
    with warnings.catch_warnings():  # PyTorch has given it up; such files are still about.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), "script.pt")
    assert "is a TorchScript file" in refused(here, "script.pt")
    Path("text.pth").write_text("no weights")
    assert "no weights that can be read" in refused(here, "text.pth")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.onnx", "words", "is not an ONNX file"),
        ("nothing.onnx", None, "there is no file nothing.onnx"),
        ("words", None, "there is no file words"),
        ("nets:make", None, "give --weights"),
    ],
)
def test_what_is_no_network_is_said_in_a_sentence(name: str, content: str | None, said: str, here: Path) -> None:
    if content is not None:
        Path(name).write_text(content)
    assert said in refused(here, name)


def test_nothing_is_overwritten_and_nothing_written_in_vain(here: Path) -> None:
    path = scrfd(here / "face.onnx")
    Path("mine.toml").write_text("# mine")
    assert "mine.toml exists" in refused(here, path, write="mine.toml")
    assert Path("mine.toml").read_text() == "# mine"
    assert "must end in .toml" in refused(here, path, write="face.json")
    assert "cannot write in the folder" in refused(here, path, write="none/face.toml")
    assert "leave --weights out" in refused(here, path, "face.pth")


FACTORY = """
from torch import nn

class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.inner(x)

def make():
    return Head()
"""


def test_a_callable_is_looked_at_as_a_file_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("nets_to_inspect.py").write_text(FACTORY)
    torch.save(torch.nn.ModuleDict({"inner": torch.nn.Conv2d(3, 4, 3)}).state_dict(), "head.pth")
    found: Inspection = facedeploy.inspect("nets_to_inspect:make", "head.pth", input_size=SIZE)
    assert (found.file, found.size, found.size_from, found.kind) == (None, SIZE, "caller", "unknown")
    assert found.work is not None
    assert (found.work.macs, found.work.parameters) == (32 * 40 * 4 * 27, 4 * 27 + 4)
    assert next(a for a in found.backends if a.backend == "onnx").takes


def test_settings_without_a_word_to_say_are_an_empty_file() -> None:
    assert render(NetworkSettings(), "nothing\nto say") == "# nothing to say\n"
    settings = NetworkSettings(check=False, pipeline={"nms": 0.25, "odd key": [1, 2.5]}, source=Terms("ours"))
    assert from_plain(NetworkSettings, tomllib.loads(render(settings, ""))) == settings
