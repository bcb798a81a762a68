"""A user's own network: ONNX files of any age, callables, and the small TOML file that says what they mean."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.latency.benchmark import benchmark
from facedeploy.cli.app import main
from facedeploy.core.errors import (
    ArtifactError,
    CheckpointError,
    ConversionError,
    FacedeployError,
    InputError,
    ParityError,
)
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.core.terms import Terms
from facedeploy.export.exporter import export
from facedeploy.pipelines.custom import NETWORK
from facedeploy.pipelines.detect_files import detect_files
from facedeploy.pipelines.load import load
from facedeploy.sources.custom_network import model_id
from facedeploy.sources.settings import read_settings
from facedeploy.verification.verify import verify
from tests.artifact.test_artifact import tree
from tests.support import own_networks
from tests.support.manifests import edit
from tests.support.own_networks import BOXES, SCORES, SIZE, convolution, node, plain, weights, write

BACKENDS = ("onnx-fp32", "openvino-fp16", "ncnn-fp32", "trt-fp16")
FILES: dict[str, Callable[[Path], Path]] = {
    name: getattr(own_networks, name) for name in ("opset9", "opset11", "opset24", "plain")
}
BLACK = np.zeros((64, 160, 3), np.uint8)
OUTPUTS = """
[outputs]
boxes = "boxes"
scores = "scores"
boxes_in = "unit"
"""
# A network that is not for photographs.
TOML = f"check = false\n{OUTPUTS}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of each test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def require(target: str) -> str:
    backend = target.split("-")[0]
    for module in {"openvino": ["openvino"], "ncnn": ["ncnn", "pnnx"], "trt": ["tensorrt_rtx"]}.get(backend, []):
        pytest.importorskip(module)
    return target


def message(kind: type[FacedeployError], call: Callable[[], object], folder: Path, status: int = 2) -> str:
    """The sentence of a call that must fail, and leave nothing."""
    before = tree(folder)
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert caught.value.exit_status == status
    assert tree(folder) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal(path: Path, target: str = "onnx-fp32", **options: Any) -> str:
    return message(InputError, lambda: export(str(path), target, output=path.parent / "out", **options), path.parent)


def answers(path: Path, picture: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What ONNX Runtime makes of the file as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: picture}), strict=True))


@pytest.mark.parametrize("target", BACKENDS)
@pytest.mark.parametrize("name", FILES)
def test_files_of_any_age_compute_what_they_did(name: str, target: str, here: Path) -> None:
    path = FILES[name](here / f"{name}.onnx")
    made = export(str(path), require(target))
    assert made.path.name == f"{name}-{target}"
    picture = np.random.default_rng(3).uniform(0, 255, (1, 3, *SIZE)).astype(np.float32)
    want = answers(path, picture)
    substitute = "onnxruntime" if target.startswith("trt") else None
    with load(made, threads=1, runtime=substitute) as pipeline:  # type: ignore[arg-type]
        runtime = pipeline.runtimes[NETWORK]
        have = runtime.run({runtime.spec.inputs[0].name: picture})
    assert list(have) == list(want)
    for output, values in want.items():
        limit = 2e-2 if target.endswith("fp16") else 1e-4
        assert np.linalg.norm(have[output] - values) < limit * np.linalg.norm(values), output


def test_open_axes_need_a_size(here: Path) -> None:
    path = own_networks.opset10(here / "open.onnx")
    assert "--input-size" in refusal(path)
    assert "one size" in refusal(path, input_size="any")
    made = export(str(path), "onnx-fp32", input_size=SIZE)
    assert made.manifest.networks[0].spec.inputs[0].shape == (1, 3, *SIZE)
    export(str(path), require("ncnn-fp32"), output="ncnn", input_size=SIZE)
    (here / "open.toml").write_text('[input]\nsize = "24x48"')
    assert export(str(path), "onnx-fp32", output="b").manifest.networks[0].spec.outputs[0].shape == (1, 4, 24, 48)
    assert (
        export(str(path), "onnx-fp32", output="c", input_size=SIZE).manifest.networks[0].spec.inputs[0].shape[2] == 32
    )
    assert "cannot be used for a picture of 33x40" in refusal(path, input_size=(33, 40))


def test_a_file_of_one_size_takes_no_other(here: Path) -> None:
    nodes = [convolution("x", "c", "w"), node("Resize", ["c", "", "", "sizes"], ["y"])]
    constants = {"w": weights(4, 3, 3, 3), "sizes": np.array([1, 4, 8, 8])}
    path = write(here / "fixed.onnx", nodes, constants, {"y": [1, 4, 8, 8]})
    assert "32x40 and no other size, not 320x320" in refusal(path, input_size=(320, 320))
    assert export(str(path), "onnx-fp32", input_size=SIZE).manifest.networks[0].spec.inputs[0].shape[2:] == SIZE


def test_a_backend_that_is_wrong_is_caught_and_the_operator_named(here: Path) -> None:
    """Without a word, pnnx takes this Pad for one with zeros."""
    nodes = [convolution("x", "c", "w"), node("Pad", ["c", "pads"], ["p"], mode="wrap"), node("Relu", ["p"], ["y"])]
    constants = {"w": weights(4, 3, 3, 3), "pads": np.array([0, 0, 2, 2, 0, 0, 2, 2])}
    height, width = SIZE
    path = write(here / "pad.onnx", nodes, constants, {"y": [1, 4, height + 4, width + 4]}, opset=19, ir=9)
    text = message(ParityError, lambda: export(str(path), require("ncnn-fp32")), here, status=1)
    assert "the first operator that is off is Pad" in text


def test_an_operator_that_a_backend_lacks_is_named(here: Path) -> None:
    nodes = [convolution("x", "c", "w"), node("ArgMax", ["c"], ["y"], axis=1, keepdims=0)]
    path = write(
        here / "arg.onnx", nodes, {"w": weights(4, 3, 3, 3)}, {"y": [1, *SIZE]}, kinds={"y": TensorProto.INT64}
    )
    text = message(ConversionError, lambda: export(str(path), require("ncnn-fp32")), here, status=1)
    assert "ArgMax" in text
    assert export(str(path), "onnx-fp32").manifest.networks[0].spec.outputs[0].dtype == "float32"


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceL2"])
def test_ncnn_reduces_over_one_axis(op: str, axis: int, keepdims: int, here: Path) -> None:
    """Without its pass pnnx writes a reduction over nothing; and the first layer works in place."""
    shape = [1, 3, *SIZE]
    shape[axis : axis + 1] = [1] * keepdims
    nodes = [node("PRelu", ["x", "slope"], ["p"]), node(op, ["p", "axis"], ["y"], keepdims=keepdims)]
    constants = {"slope": weights(3, 1, 1), "axis": np.array([axis - 4])}
    path = write(here / "reduce.onnx", nodes, constants, {"y": shape}, opset=18)
    export(str(path), require("ncnn-fp32"))


def test_an_output_may_be_a_constant(here: Path) -> None:
    nodes = [convolution("x", "y", "w"), node("Identity", ["k"], ["anchors"])]
    constants = {"w": weights(4, 3, 3, 3), "k": weights(1, 5, 4)}
    path = write(here / "anchors.onnx", nodes, constants, {"y": [1, 4, *SIZE], "anchors": [1, 5, 4]})
    for target in ("onnx-fp32", "openvino-fp16", "trt-fp16"):
        export(str(path), require(target))


def test_weights_keep_their_names(here: Path) -> None:
    """Ranges and float layers are kept by these names, from run to run, and through merged normalisation."""
    path = own_networks.opset9(here / "old.onnx")
    graphs = [onnx.load(export(str(path), "onnx-fp32", output=name).file(NETWORK, "onnx")).graph for name in ("a", "b")]
    first, second = ({w.name: numpy_helper.to_array(w).tobytes() for w in g.initializer} for g in graphs)
    assert first == second
    assert {n.input[1] for n in graphs[0].node if n.op_type == "Conv"} == {"stem.conv.weight", "head.weight"}


@pytest.mark.parametrize("content", [b"", b"not a network", bytes(range(256)) * 8, pickle.dumps({"w": 1}), b"\x08\x07"])
def test_what_is_no_onnx_file(content: bytes, here: Path) -> None:
    path = here / "some.onnx"
    path.write_bytes(content)
    assert "is not an ONNX file" in refusal(path)


def test_other_mistakes_with_a_file(here: Path) -> None:
    assert "there is no file" in refusal(here / "none.onnx")
    checkpoint = here / "net.pth"
    checkpoint.write_bytes(b"PK")
    assert "give this to --weights" in refusal(checkpoint)
    path = plain(here / "a.onnx")
    assert "leave --weights out" in refusal(path, weights=path)
    assert "torch-fp32" in refusal(path, "torch-fp32")
    assert "cannot read" in refusal(path, config=here / "none.toml")
    text = message(InputError, lambda: export("mos-tiny", "onnx-fp32", config=path), here)
    assert "needs no --config" in text


def test_networks_that_cannot_be_used(here: Path) -> None:
    weight = {"w": weights(4, 3, 3, 3)}
    out = {"y": [1, 4, *SIZE]}
    broken = write(here / "broken.onnx", [convolution("nowhere", "y", "w")], weight, out)
    assert "nowhere" in refusal(broken)
    swirl = [convolution("x", "c", "w"), node("Swirl", ["c"], ["y"], domain="my.ops")]
    assert "my.ops:Swirl" in refusal(write(here / "custom.onnx", swirl, weight, out, domains=["my.ops"]))
    vector = write(here / "vector.onnx", [node("Relu", ["x"], ["y"])], {}, {"y": [1, 9]}, shape=(1, 9))
    assert "x (1, 9)" in refusal(vector)
    colours = write(here / "cmyk.onnx", [node("Relu", ["x"], ["y"])], {}, {"y": [1, 4, *SIZE]}, shape=(1, 4, *SIZE))
    assert "one picture" in refusal(colours)
    found = write(
        here / "found.onnx",
        [convolution("x", "c", "w"), node("NonZero", ["c"], ["y"])],
        weight,
        {"y": [4, "n"]},
        kinds={"y": TensorProto.INT64},
    )
    assert "depends on what is in the picture" in refusal(found)
    spaced = write(here / "spaced.onnx", [convolution("my input", "y", "w")], weight, out, image="my input")
    assert "'my input'" in refusal(spaced, require("ncnn-fp32"))


# Weights beside the file


def beside(folder: Path) -> Path:
    return plain(folder / "big.onnx", save={"save_as_external_data": True, "location": "big.data", "size_threshold": 0})


def relocate(path: Path, location: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    path.write_bytes(model.SerializeToString())


def test_weights_beside_the_file_are_read_and_belong_to_it(here: Path) -> None:
    path = beside(here / "in")
    made = export(str(path), "onnx-fp32")
    assert [s.name for s in made.manifest.source] == ["big.onnx", "big.data"]
    assert not verify(made, path, threads=1).problems
    data = path.with_name("big.data")
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\0")
    assert "big.data is not" in message(InputError, lambda: verify(made, path), here)


def test_weights_that_are_missing(here: Path) -> None:
    path = beside(here / "in")
    path.with_name("big.data").unlink()
    assert "big.data, which is not beside it" in refusal(path)


@pytest.mark.parametrize("how", ["up", "absolute", "link", "nul", "empty"])
def test_weights_outside_of_the_folder_are_refused(how: str, here: Path) -> None:
    path = beside(here / "in")
    data = path.with_name("big.data").rename(here / "secret")
    if how == "link":
        path.with_name("big.data").symlink_to(data)
    else:
        relocate(path, {"up": "../secret", "absolute": str(data), "nul": "a\0b", "empty": ""}[how])
    assert "outside of its folder" in refusal(path)


# What the outputs mean


def detector(folder: Path, toml: str = TOML, **options: Any) -> Path:
    path = own_networks.decoded(folder / "face.onnx", **options)
    path.with_suffix(".toml").write_text(toml)
    return path


@pytest.mark.parametrize("target", ["onnx-fp32", "openvino-fp32"])
def test_faces_of_a_decoded_network(target: str, here: Path) -> None:
    extra = 'landmarks = "points"\nyaw = "yaw"\n'
    path = detector(here, TOML + extra)
    with load(export(str(path), require(target)), threads=1) as pipeline:
        faces = pipeline.detect(BLACK)
        assert pipeline.detect(BLACK[:0]) == []
    # The second box overlaps the first, the fourth scores too low.
    assert [f.score for f in faces] == pytest.approx([SCORES[0], SCORES[2]], abs=1e-5)
    height, width = BLACK.shape[:2]
    scale = np.array([width, height, width, height])
    for face, which in zip(faces, (0, 2), strict=True):
        assert face.box == pytest.approx(np.array(BOXES[which]) * scale, abs=0.02)
        assert np.ravel(face.landmarks or ()) == pytest.approx(np.array(BOXES[which]) * scale, abs=0.02)
        assert face.yaw == pytest.approx(own_networks.ANGLES[which], abs=1e-3)
        assert face.pitch is None


@pytest.mark.parametrize("protocol", ["stretch", "fit"])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("classes", [0, 3])
def test_boxes_in_either_unit_and_scores_of_a_class(classes: int, unit: bool, protocol: str, here: Path) -> None:
    toml = TOML.replace('"unit"', '"unit"' if unit else '"pixels"')
    toml += f"face_class = {classes - 1}\n" if classes else ""
    path = detector(here, toml + f'[pipeline]\nprotocol = "{protocol}"\nnms = 1.0\n', classes=classes, unit=unit)
    with load(export(str(path), "onnx-fp32"), threads=1, options={"score_threshold": 0.1}) as pipeline:
        faces = pipeline.detect(BLACK)
    assert [f.score for f in faces] == pytest.approx(SCORES, abs=1e-4)
    # 64x160 fits 32x40 at a quarter; stretched, it is a half across down and a quarter across.
    scale = np.array([160, 64] * 2 if protocol == "stretch" else [160, 128] * 2)
    for face, box in zip(faces, BOXES, strict=True):
        assert face.box == pytest.approx(np.array(box) * scale, abs=0.2)


def test_box_drift_is_noticed(here: Path) -> None:
    """The overlap of likely boxes is measured for own networks as for published ones."""
    rows = export(str(detector(here)), require("openvino-fp32")).manifest.parity
    assert {r.output: r.overlap is not None for r in rows} == {
        "boxes": True,
        "scores": False,
        "points": False,
        "yaw": False,
    }


def test_the_picture_is_prepared_as_the_settings_say(here: Path) -> None:
    path = plain(here / "net.onnx")
    path.with_suffix(".toml").write_text('[input]\ncolours = "rgb"\nmean = [1, 2, 3]\nscale = [0.5, 0.25, 2]\n')
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    rgb = (picture[:, :, ::-1].astype(np.float32) - [1, 2, 3]) * [0.5, 0.25, 2]
    want = answers(path, rgb.transpose(2, 0, 1)[None].astype(np.float32))["y"]
    for target in ("onnx-fp32", "openvino-fp32"):
        with load(export(str(path), require(target)), threads=1) as pipeline:
            (outputs,) = pipeline.runtimes[NETWORK].run_pictures([picture[None]])
        assert np.abs(outputs["y"] - want).max() < 1e-3 * np.abs(want).max()


@pytest.mark.parametrize(
    ("toml", "terms"),
    [("", None), ('[source]\nlicence = "ours"\nproducts = "allowed"\n', Terms("ours", "allowed"))],
    ids=["silent", "said"],
)
def test_terms_of_the_weights_are_what_the_settings_say(toml: str, terms: Terms | None, here: Path) -> None:
    assert export(str(detector(here, TOML + toml)), "onnx-fp32").manifest.terms == terms


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[input]\nsiez = '32x40'", "input.siez is not a known key"),
        ("[inputs]\nsize = '32x40'", "inputs is not a known key"),
        ("[input]\nsize = '32'", "HEIGHTxWIDTH"),
        ("[input]\nsize = 32", "input.size must be"),
        ("[input]\ncolours = 'grb'", "input.colours must be one of"),
        ("[input]\nmean = [1, 2]", "input.mean must be a list of 3"),
        ("[input]\nmean = [nan, 0, 0]", "finite"),
        ("[input]\nscale = 0", "positive"),
        ("[input]\nscale = [1, 1, -1]", "positive"),
        ("[outputs]\nboxes = 'boxes'\nscores = 'scores'", "outputs.boxes_in is missing"),
        (TOML.replace("unit", "cm"), "outputs.boxes_in must be one of"),
        (TOML.replace('"boxes"', '"bxes"'), "outputs.boxes names 'bxes'"),
        (TOML.replace('scores = "scores"', 'scores = "boxes"'), "outputs.face_class must be"),
        (TOML + "face_class = 1", "0 to 0"),
        (TOML.replace('boxes = "boxes"', 'boxes = "scores"'), "(1, 4, 4)"),
        (TOML + "yaw = 'boxes'", "outputs.yaw must be (1, 4)"),
        (TOML + "[pipeline]\nnsm = 0.3", "no option 'nsm'"),
        (TOML + "[pipeline]\nnms = 3", "nms must lie between 0 and 1"),
        ("[input\n", "not valid TOML"),
        ('x = "\\ud800"', "not valid TOML"),
    ],
)
def test_settings_are_strict(toml: str, says: str, here: Path) -> None:
    assert says in refusal(detector(here, toml))


def test_settings_that_are_no_text(here: Path) -> None:
    path = here / "x.toml"
    path.write_bytes(b"\xff\xfe\0")
    assert "not valid TOML" in message(InputError, lambda: read_settings(path), here)
    path.write_bytes(b"#" * (1 << 21))
    assert "too large" in message(InputError, lambda: read_settings(path), here)


def test_several_scores_need_a_class(here: Path) -> None:
    assert "outputs.face_class must be that of a face, 0 to 2" in refusal(detector(here, classes=3))


# Without them


def test_tensors_are_no_faces(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = export(str(plain(here / "net.onnx")), "onnx-fp32")
    picture = here / "a.png"
    import cv2

    cv2.imwrite(str(picture), group_photo(np.random.default_rng(0), 60, 90, 2))
    with load(made, threads=1) as pipeline:
        assert pipeline.detect(BLACK) == []
    text = message(InputError, lambda: list(detect_files(made.path, [picture])), here)
    assert "[outputs]" in text
    (measured,) = benchmark([made.path], [picture], rounds=1, threads=1, cold=False).measurements
    assert (measured.found, measured.lost) == (((),), None)
    result = verify(made, here / "net.onnx", [picture], threads=1)
    assert result.faces is None
    assert not result.problems


def test_verify_takes_the_file_that_it_was_made_from(here: Path) -> None:
    path = detector(here)
    picture = here / "a.png"
    import cv2

    cv2.imwrite(str(picture), BLACK)
    made = export(str(path), require("openvino-fp16"))
    moved = path.rename(here / "elsewhere.onnx")
    result = verify(made, moved, [picture], threads=1)
    assert result.faces is not None
    assert result.faces.matched == 2
    assert not result.problems
    other = plain(here / "other.onnx")
    assert "is not the checkpoint of" in message(InputError, lambda: verify(made, other), here)
    assert "give --weights" in message(InputError, lambda: verify(made), here)
    assert "leave --factory out" in message(InputError, lambda: verify(made, moved, factory="a:b"), here)


# A callable


SOURCE = """
import torch
from pathlib import Path
Path("imported").touch()

class Net(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, 2, 1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.answer = answer

    def forward(self, image):
        x = self.norm(self.stem(image * 0.01))
        a, b = x.mean((2, 3)), x.flatten(2)
        return {"dict": {"means": a, "maps": b}, "nested": [(a, b)], "one": b}[self.answer]

def as_dict(): return Net("dict")
def nested(): return Net("nested")
def one(): return Net("one")
def wrong(): return [Net("one")]
def fails(): raise RuntimeError("out of luck")
constant = 3
"""


@pytest.fixture
def package(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current folder, and a checkpoint of what it makes. Returns the checkpoint."""
    (here / "nets").mkdir()
    (here / "nets" / "face.py").write_text(SOURCE)
    for name in [m for m in sys.modules if m.split(".")[0] == "nets"]:
        monkeypatch.delitem(sys.modules, name)
    torch.manual_seed(0)
    stem, norm = torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.BatchNorm2d(4)
    state = {f"stem.{k}": v for k, v in stem.state_dict().items()}
    state |= {f"norm.{k}": v for k, v in norm.state_dict().items()}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, here / "net.pth")
    return here / "net.pth"


@pytest.mark.parametrize(
    ("name", "outputs"),
    [("as_dict", ["means", "maps"]), ("nested", ["output0", "output1"]), ("one", ["output"])],
)
def test_a_callable_and_its_checkpoint(name: str, outputs: list[str], package: Path) -> None:
    path = list(sys.path)
    made = export(f"nets.face:{name}", "onnx-fp32", package, input_size=SIZE)
    assert sys.path == path
    manifest = made.manifest
    assert (manifest.model, manifest.origin) == (f"face-{name}", "factory")
    assert [t.name for t in manifest.networks[0].spec.outputs] == outputs
    assert "nets" not in (made.path / "manifest.json").read_text()
    assert not verify(made, package, factory=f"nets.face:{name}", threads=1).problems
    assert "--factory" in message(InputError, lambda: verify(made, package), package.parent)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nets.none:make", "cannot import nets.none: ModuleNotFoundError"),
        ("nets.face:none", "has no none"),
        ("nets.face:constant", "is not callable"),
        ("nets.face:wrong", "must return a torch.nn.Module, not list"),
        ("nets.face:fails", "fails: RuntimeError: out of luck"),
        ("nets.face:", "is not package.module:callable"),
        (":make", "is not package.module:callable"),
    ],
)
def test_mistakes_with_a_callable(name: str, says: str, package: Path) -> None:
    with pytest.raises(InputError, match=says.replace(".", r"\.")):
        export(name, "onnx-fp32", package, input_size=SIZE)


def test_a_callable_needs_its_size_and_its_weights(package: Path) -> None:
    with pytest.raises(InputError, match="--input-size"):
        export("nets.face:one", "onnx-fp32", package)
    with pytest.raises(InputError, match="--weights"):
        export("nets.face:one", "onnx-fp32", input_size=SIZE)
    with pytest.raises(InputError, match="torch-fp32"):
        export("nets.face:one", "torch-fp32", package, input_size=SIZE)
    (package.parent / "own.toml").write_text('[input]\nsize = "32x40"')
    export("nets.face:one", "onnx-fp32", package, config="own.toml")


def test_weights_of_a_callable_are_strict_and_plain(package: Path) -> None:
    state = torch.load(package, weights_only=True)["state_dict"]
    torch.save({k: v for k, v in state.items() if "stem.bias" not in k}, package)
    with pytest.raises(CheckpointError, match=r"missing stem\.bias"):
        export("nets.face:one", "onnx-fp32", package, input_size=SIZE)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(package.parent / "evil"),)

    torch.save({"stem.weight": Evil()}, package)
    with pytest.raises(CheckpointError, match="run code"):
        export("nets.face:one", "onnx-fp32", package, input_size=SIZE)
    assert not (package.parent / "evil").exists()


# Artifacts of strangers


def test_no_manifest_makes_anything_import(package: Path) -> None:
    """An artifact is data: what it says of where it comes from is never run."""
    made = export("nets.face:one", "onnx-fp32", package, input_size=SIZE)
    marker = package.parent / "imported"
    marker.unlink()
    del sys.modules["nets.face"]

    def claims(model: str, **rest: Any) -> Callable[[dict[str, Any]], None]:
        return lambda data: data.update(model=model, **rest)

    for origin in ("factory", "onnx"):
        edit(made.path, claims("nets.face:one", origin=origin))
        with load(made.path, threads=1):
            pass
        with pytest.raises(InputError):
            verify(made.path)
    edit(made.path, claims("nets.face:one", origin="registry"))
    with pytest.raises(InputError, match="there is no model"):
        load(made.path)
    assert not marker.exists()
    assert "nets.face" not in sys.modules


def test_manifests_of_own_networks_are_checked(here: Path) -> None:
    made = export(str(detector(here)), "onnx-fp32").path
    text = (made / "manifest.json").read_text()

    def network(data: dict[str, Any]) -> Any:
        return data["networks"][0]

    edits: list[Callable[[dict[str, Any]], object]] = [
        lambda d: d["target"].update(backend="torch"),
        lambda d: d["pipeline"].update(family="mtcnn", config={}),
        lambda d: d.update(source=[]),
        lambda d: d["networks"].append(network(d)),
        lambda d: network(d)["spec"].update(name="../other"),
        lambda d: network(d)["spec"]["inputs"][0].update(shape=[1, 3, "height", 40]),
        lambda d: network(d)["spec"]["inputs"][0].update(shape=[1, 3, 0, 40]),
        lambda d: network(d)["spec"].update(inputs=[]),
        lambda d: network(d)["files"].clear(),
        lambda d: d["pipeline"]["config"]["outputs"].update(boxes="none"),
        lambda d: d.update(origin="elsewhere"),
    ]
    for change in edits:
        (made / "manifest.json").write_text(text)
        edit(made, change)
        with pytest.raises((ArtifactError, InputError)):
            load(made)
    (made / "manifest.json").write_text(text)
    edit(made, lambda d: d.pop("origin"))  # As releases before it wrote; the model is then a published one.
    with pytest.raises(InputError, match="there is no model 'face'"):
        load(made)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("yunet_n_320", "yunet_n_320"), ("a b/c:d", "a-b-c-d"), ("..", "model"), ("-x-", "x"), ("é", "model")],
)
def test_model_ids_are_safe_names(name: str, safe: str) -> None:
    assert model_id(name) == safe


# The command line


def run(capfd: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    sys.argv = ["facedeploy", *map(str, args)]
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int | None)
    return ended.value.code or 0, *capfd.readouterr()


def test_the_command_line(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    with contextlib.suppress(ValueError):
        monkeypatch.setattr("signal.signal", lambda *_: None)
    path = detector(here)
    status, out, _ = run(capfd, "export", path, "--target", "onnx-fp32")
    assert status == 0
    assert out.startswith("face-onnx-fp32: 1 network, ")
    assert "the ONNX file" in out
    assert run(capfd, "verify", "face-onnx-fp32", "--weights", path)[0] == 0
    path.with_suffix(".toml").write_text("[input]\nsiez = 1")
    status, out, error = run(capfd, "export", path, "--target", "onnx-fp32", "-o", "b")
    assert (status, out) == (2, "")
    assert error.startswith("facedeploy: ")
    assert "siez" in error
    status, _, error = run(capfd, "export", path, "--target", "onnx-fp32", "-o", "b", "--config", here / "no.toml")
    assert status == 2
    assert "no.toml" in error


# Published files


PUBLISHED = {
    "yunet/yunet_n_320_320": "",
    "fsanet/fsanet-var-iter-688590": "mean = [127.5, 127.5, 127.5]\nscale = 0.0078125",
    "pfld_106/lite": "scale = 0.0039215686",
}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["openvino-fp16", "ncnn-fp16", "trt-fp16"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files(name: str, target: str, assets: Path, here: Path) -> None:
    path = assets / "weights" / f"{name}.onnx"
    (here / "config.toml").write_text(f"[input]\n{PUBLISHED[name]}\n")
    made = export(str(path), require(target), config="config.toml")
    assert made.manifest.model == path.stem
    kept = made.manifest.networks[0].float32
    # Halves move the angles of one drawn head by 0.8 degrees in FSA-Net, 2.02 %: it stays as it is.
    assert kept == ("",) if name.startswith("fsanet") else all(part.startswith("decode/") for part in kept)


def test_ulfd_finds_the_same_faces_everywhere(assets: Path, here: Path) -> None:
    """Opset 9, weights among the inputs, unit corners, two scores a box."""
    path = assets / "weights" / "ulfd" / "version-RFB-320.onnx"
    config = here / "ulfd.toml"
    settings = '[input]\ncolours = "rgb"\nmean = [127, 127, 127]\nscale = 0.0078125\n'
    config.write_text(settings + OUTPUTS + "face_class = 1\n[pipeline]\nscore_threshold = 0.7\n")
    pictures = [assets / "images" / "samples" / "mtcnn_mid.png"]
    for target in ("openvino-fp16", "ncnn-fp16"):
        made: Artifact = export(str(path), require(target), config=config)
        result = verify(made, path, pictures, threads=1)
        assert not result.problems
        assert result.faces is not None
        assert result.faces.matched > 20
