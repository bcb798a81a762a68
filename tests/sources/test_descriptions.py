"""Descriptions of heads that do not fit: each is refused in a sentence that names the setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facedeploy.core.errors import InputError
from facedeploy.export.exporter import export
from facedeploy.pipelines import runtime_options
from facedeploy.pipelines.custom import NETWORK
from facedeploy.sources import recognise
from facedeploy.sources.families import families
from facedeploy.sources.open import open_source
from tests.sources.test_custom import message
from tests.support.heads import HEADS

# A description of RetinaFace that fits.
RIGHT = """
[decode]
boxes = "loc"
scores = "conf[1]"
landmarks = "landms"
box = "deltas"
strides = [8, 16, 32]
sizes = [[16, 32], [64, 128], [256, 512]]
variances = [0.1, 0.2]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of each test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(head: str, toml: str, folder: Path, **options: Any) -> str:
    path = HEADS[head].write(folder / "face.onnx")
    if toml:
        path.with_suffix(".toml").write_text(toml)
    return message(InputError, lambda: export(str(path), "onnx-fp32", **options), folder)


def without(key: str) -> str:
    return "\n".join(line for line in RIGHT.splitlines() if not line.startswith(f"{key} "))


def test_a_description_by_hand_says_what_a_family_says(here: Path) -> None:
    path = HEADS["retinaface"].write(here / "face.onnx")
    by_itself = open_source(str(path)).settings["decode"]
    path.with_suffix(".toml").write_text(RIGHT)
    source = open_source(str(path))
    assert source.settings["decode"] == by_itself
    assert not source.recognised
    assert source.settings["family"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("strides = [8, 16, 32]", "strides = [8, 16, 30]"), "decode.strides"),
        (("strides = [8, 16, 32]", "strides = [8, 16, 64]"), "which does not hold"),
        (("strides = [8, 16, 32]", "strides = [8, 16, 0]"), "decode.strides must be"),
        (("strides = [8, 16, 32]", "strides = [8, 16]"), "decode.sizes must have an entry for each of the 2 strides"),
        (("strides = [8, 16, 32]", "strides = []"), "decode.strides is missing"),
        (("[[16, 32], [64, 128], [256, 512]]", "[[16, 32], [64, 128]]"), "decode.sizes must have an entry for each"),
        (("[256, 512]]", "[256, -1]]"), "decode.sizes must be positive"),
        (("[256, 512]]", "[]]"), "decode.sizes"),
        (('boxes = "loc"', 'boxes = "lok"'), "decode.boxes names 'lok', and the network's outputs are loc, conf"),
        (('boxes = "loc"', 'boxes = "conf"'), "decode.boxes must be 4 numbers a box, and holds 2"),
        (('boxes = "loc"', 'boxes = "loc[0:5]"'), "decode.boxes takes number 4 of a box, and 'loc' has 4"),
        (('boxes = "loc"', 'boxes = "loc[4:0]"'), "decode.boxes takes no number of a box"),
        (('boxes = "loc"', 'boxes = ["loc"]'), "decode.boxes must name an output for each of the 3 strides, not 1"),
        (('scores = "conf[1]"', 'scores = "conf[2]"'), "decode.scores takes number 2"),
        (('scores = "conf[1]"', 'scores = "conf"'), "decode.face_class must be that of a face, 0 to 1"),
        (('scores = "conf[1]"', 'scores = "conf"\nface_class = 2'), "decode.face_class must be that of a face, 0 to 1"),
        (('scores = "conf[1]"', 'scores = "conf"\nface_class = -1'), "decode.face_class must be the number of a class"),
        (('scores = "conf[1]"', 'scores = "conf[1]"\nobjectness = "conf"'), "decode.objectness must be 1 numbers"),
        (('scores = "conf[1]"', 'scores = "conf"\nscore_channels = "class"'), "decode.score_channels"),
        (('landmarks = "landms"', 'landmarks = "landms[0:9]"'), "decode.landmarks must be 2 numbers a point"),
        (('landmarks = "landms"', 'landmarks = "landms"\npoint_values = 3'), "decode.landmarks must be 3 numbers"),
        (('landmarks = "landms"', 'landmarks = "landms"\npoint_values = 4'), "decode.point_values must be one of"),
        (('box = "deltas"', 'box = "delta"'), "decode.box must be one of"),
        (('box = "deltas"', 'box = "deltas"\nbins = 16'), "decode.bins is for box"),
        (('box = "deltas"', 'box = "distances"\nbins = 16'), "decode.boxes must be 64 numbers a box, and holds 4"),
        (('box = "deltas"', 'box = "deltas"\nstride = 8'), "decode.stride is not a known key"),
        (('box = "deltas"', 'box = "deltas"\nanchors = 0'), "decode.anchors"),
        (("variances = [0.1, 0.2]", "variances = [0.1]"), "decode.variances must be a list of 2"),
        (("variances = [0.1, 0.2]", "variances = [0.1, inf]"), "decode.offset, offset_pixels, variances"),
    ],
    ids=lambda v: v[1] if isinstance(v, tuple) else "",
)
def test_a_wrong_setting_is_named(change: tuple[str, str], says: str, here: Path) -> None:
    assert change[0] in RIGHT
    assert says in refused("retinaface", RIGHT.replace(*change), here)


def test_what_is_missing_or_too_much(here: Path) -> None:
    assert "decode.boxes is missing" in refused("retinaface", without("boxes"), here)
    assert "decode.scores is missing" in refused("retinaface", without("scores"), here)
    assert "decode.box is missing" in refused("retinaface", without("box"), here)
    both = RIGHT + '[outputs]\nboxes = "loc"\nscores = "conf"\nboxes_in = "unit"\n'
    assert "leave one" in refused("retinaface", both, here)
    assert "decoding is not a known key" in refused("retinaface", RIGHT.replace("[decode]", "[decoding]"), here)


def test_families_that_do_not_fit(here: Path) -> None:
    text = refused("scrfd", "", here, family="yunet")
    assert "the network is no yunet" in text
    assert "objectness (1 a box)" in text
    assert "448 (1120, 1)" in text
    assert "there is no family 'scrdf'; families are 6drepnet, arcface, blazeface, centerface" in refused(
        "scrfd", "", here, family="scrdf"
    )
    assert "there is no family 'yolo'" in refused("scrfd", 'family = "yolo"', here)
    assert "family must be a name" in refused("scrfd", "family = 3", here)
    text = refused("scrfd", 'family = "scrfd"', here, family="yunet")
    assert "--family says yunet, and the settings beside it scrfd" in text
    message(InputError, lambda: export("mos-tiny", "onnx-fp32", family="scrfd"), here)


def test_a_family_and_what_is_other_here(here: Path) -> None:
    """What the file beside the network says wins over its family."""
    path = HEADS["scrfd"].write(here / "face.onnx")
    path.with_suffix(".toml").write_text(
        'family = "scrfd"\n[decode]\noffset = 0.5\n[pipeline]\nscore_threshold = 0.6\n'
    )
    source = open_source(str(path))
    assert source.settings["decode"]["offset"] == 0.5
    assert source.settings["decode"]["anchors"] == 2
    assert source.pipeline.config["score_threshold"] == 0.6
    assert source.pipeline.config["nms"] == 0.4


def test_where_there_is_doubt_the_user_is_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = families()
    twin = replace(known["scrfd"], about="its twin")
    monkeypatch.setattr(recognise, "families", lambda: {**known, "scrfd-twin": twin})
    text = refused("scrfd", "", here)
    for said in ("may be scrfd", " or scrfd-twin", "six outputs at strides 8, 16, 32, two boxes a cell", "--family"):
        assert said in text
    assert open_source(str(here / "face.onnx"), family="scrfd").settings["family"] == "scrfd"


# Settings that fit the shapes and cannot be meant


def constants(folder: Path, **outputs: np.ndarray[Any, Any]) -> Path:
    """A network that gives these, whatever it sees."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"{name}_values", "nothing"], [name]) for name in outputs),
    ]
    weights = [numpy_helper.from_array(v.astype(np.float32), f"{name}_values") for name, v in outputs.items()]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in outputs.items()]
    graph = helper.make_graph(
        nodes,
        "constants",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 320, 320])],
        values,
        [*weights, numpy_helper.from_array(np.array(0, np.float32), "zero")],
    )
    path = folder / "wrong.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def centred(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return np.concatenate([rng.uniform(40, 280, (1, 50, 2)), rng.uniform(10, 30, (1, 50, 2))], 2)


def corners(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    low = rng.uniform(0, 250, (1, 50, 2))
    return np.concatenate([low, low + rng.uniform(10, 60, (1, 50, 2))], 2)


def likely(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return np.concatenate([rng.uniform(0, 0.1, (1, 49)), np.full((1, 1), 0.9)], 1)


Make = Callable[[np.random.Generator], "np.ndarray[Any, Any]"]
OUTPUTS = '[outputs]\nboxes = "boxes"\nscores = "scores"\nboxes_in = "{}"\n'
DECODE = '[decode]\nboxes = "boxes"\nscores = "scores"\nbox = "{}"\n'


@pytest.mark.parametrize(
    ("boxes", "scores", "toml", "says"),
    [
        (
            centred,
            lambda r: r.normal(0, 4, (1, 50)),
            OUTPUTS.format("unit"),
            "set activation under [decode]",
        ),
        (centred, likely, OUTPUTS.format("pixels"), "have x2 < x1 or y2 < y1"),
        (centred, likely, DECODE.format("corners"), 'with another box, such as "centre-size"'),
        (corners, likely, OUTPUTS.format("unit"), 'set outputs.boxes_in to "pixels"'),
        (corners, likely, DECODE.format("corners") + 'unit = "unit"', "decode.unit"),
        (lambda r: corners(r) / 320, likely, OUTPUTS.format("pixels"), 'set outputs.boxes_in to "unit"'),
        (lambda r: corners(r) / 320, likely, DECODE.format("corners"), 'set decode.unit to "unit"'),
        (corners, lambda r: 1 - likely(r), OUTPUTS.format("pixels"), "outputs.face_class is that of the background"),
        (corners, lambda r: r.uniform(0, 0.2, (1, 50)), OUTPUTS.format("pixels"), "no face is found on a photograph"),
        (lambda r: corners(r) * np.nan, likely, OUTPUTS.format("pixels"), "not finite"),
    ],
    ids=["logits", "centred", "centred-decode", "pixels", "pixels-decode", "unit", "unit-decode", "all", "none", "nan"],
)
def test_what_cannot_be_meant_is_refused(boxes: Make, scores: Make, toml: str, says: str, here: Path) -> None:
    rng = np.random.default_rng(0)
    path = constants(here, boxes=boxes(rng), scores=scores(rng))
    path.with_suffix(".toml").write_text(toml)
    assert says in message(InputError, lambda: export(str(path), "onnx-fp32"), here)


def test_the_root_of_logits_is_refused(here: Path) -> None:
    rng = np.random.default_rng(0)
    path = constants(here, boxes=corners(rng), scores=rng.normal(0, 4, (1, 50)), seen=likely(rng))
    path.with_suffix(".toml").write_text(DECODE.format("corners") + 'objectness = "seen"\nproduct = "root"\n')
    assert "decode.activation is missing" in message(InputError, lambda: export(str(path), "onnx-fp32"), here)


def test_what_can_be_meant_is_taken(here: Path) -> None:
    rng = np.random.default_rng(0)
    path = constants(here, boxes=centred(rng), scores=likely(rng))
    path.with_suffix(".toml").write_text(DECODE.format("centre-size"))
    assert open_source(str(path)).pipeline.family == "boxes"
    path = constants(here, boxes=corners(rng), scores=rng.uniform(0, 0.2, (1, 50)))
    path.with_suffix(".toml").write_text("check = false\n" + OUTPUTS.format("pixels"))
    assert open_source(str(path)).pipeline.family == "boxes"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("", ""), ""),
        (('"unit"', '"pixels"'), 'set outputs.boxes_in to "unit"'),
        (("face_class = 1", "face_class = 0"), "outputs.face_class is that of the background"),
    ],
    ids=["right", "pixels", "background"],
)
def test_a_published_network_with_settings_that_mean_something_else(
    change: tuple[str, str], says: str, assets: Path, here: Path
) -> None:
    toml = """
        [input]
        colours = "rgb"
        mean = [127, 127, 127]
        scale = 0.0078125
        [outputs]
        boxes = "boxes"
        boxes_in = "unit"
        scores = "scores"
        face_class = 1
    """
    (here / "ulfd.toml").write_text(toml.replace(*change))
    path = assets / "weights" / "ulfd" / "version-RFB-320.onnx"
    if not says:
        assert open_source(str(path), config=here / "ulfd.toml").pipeline.family == "boxes"
        return
    call = lambda: export(str(path), "onnx-fp32", config=here / "ulfd.toml")  # noqa: E731
    assert says in message(InputError, call, here)


def test_a_published_head_decodes_as_its_twin_does(assets: Path) -> None:
    """ULFD is published twice: with its decoding in the file, and without."""
    folder = assets / "weights" / "ulfd"
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, 240, 320)).astype(np.float32)
    found = []
    for name in ("version-RFB-320.onnx", "version-RFB-320_without_postprocessing.onnx"):
        source = open_source(str(folder / name))
        (network,) = source.networks
        with network.reference(runtime_options(source.pipeline, NETWORK, 1)) as runtime:
            found.append(runtime.run({network.spec.inputs[0].name: picture}))
    assert np.abs(found[0]["boxes"] - found[1]["boxes"]).max() < 1e-3
    assert np.array_equal(found[0]["scores"], found[1]["scores"])
