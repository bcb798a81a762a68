"""Published heads of no family, described by hand: against their authors' definitions in NumPy, box by box."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from math import copysign, e, exp, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.serialization import from_plain
from facedeploy.export.exporter import export
from facedeploy.export.inspection import inspect
from facedeploy.graph.decode.build import build, raw_feed
from facedeploy.graph.decode.description import Decode
from facedeploy.pipelines.load import load
from tests.cli.test_readme import ROOT
from tests.support.heads import HEADS

Arrays = dict[str, NDArray[np.float32]]
SIZE = (96, 160)
STRIDES = (4, 8, 16, 32)
TINAFACE = [[4 * s * 2 ** ((1 + i) / 3) for i in range(3)] for s in (1, 2, 4, 8)]  # Sides before the ratio.

GUIDE = (ROOT / "docs" / "guides" / "own-model.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("## A network that is no family")[2].partition("\n## ")[0]

# What stands for DBFace: the same outputs, from a picture that hardly counts.
DBFACE = """
import numpy as np
import torch

class DBFace(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Conv2d(3, 15, 3, 4, 1, bias=False)
        self.register_buffer("known", torch.zeros(1, 15, 16, 24))

    def forward(self, x):
        out = 1e-6 * self.body(x) + self.known
        return out[:, :1].sigmoid(), out[:, 1:5].exp(), out[:, 5:]
"""


def cells(stride: int) -> Iterator[tuple[int, int]]:
    for row in range(SIZE[0] // stride):
        for column in range(SIZE[1] // stride):
            yield row, column


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def run(decode: dict[str, Any], outputs: Arrays) -> dict[str, NDArray[Any]]:
    specs = tuple(TensorSpec(name, value.shape) for name, value in outputs.items())
    spec = NetworkSpec("network", (TensorSpec("image", (1, 3, *SIZE)),), specs)
    head = build(spec, from_plain(Decode, decode))
    session = onnxruntime.InferenceSession(head.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, raw_feed(head, outputs)), strict=True))


def tinaface() -> Arrays:
    """vedadet, iou_aware_retina_head.py: three maps a level, three anchors a cell."""
    rng = np.random.default_rng(3)
    found = {}
    for s in STRIDES:
        grid = SIZE[0] // s, SIZE[1] // s
        for role, width in (("cls", 3), ("bbox", 12), ("iou", 3)):
            found[f"{role}_{s}"] = rng.normal(0, 1.5, (1, width, *grid)).astype(np.float32)
    return found


def as_tinaface(**change: Any) -> dict[str, Any]:
    sizes = [[[side / sqrt(1.3), side * sqrt(1.3)] for side in level] for level in TINAFACE]
    roles = {"scores": "cls", "boxes": "bbox", "objectness": "iou"}
    return {
        **{key: [f"{name}_{s}" for s in STRIDES] for key, name in roles.items()},
        "box": "deltas",
        "strides": list(STRIDES),
        "sizes": sizes,
        "offset": 0,
        "variances": [0.1, 0.2],
        "activation": "sigmoid",
        "powers": [0.8, 1.2],
        **change,
    }


def of_tinaface(raw: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    """vedadet, bbox_anchor_meshgrid.py, delta_xywh_bbox_coder.py and iou_bbox_anchor_converter.py, alpha 0.4."""
    boxes, scores = [], []
    for s, sides in zip(STRIDES, TINAFACE, strict=True):
        for row, column in cells(s):
            for a, side in enumerate(sides):
                width, height = side / sqrt(1.3), side * sqrt(1.3)
                dx, dy, dw, dh = raw[f"bbox_{s}"][0, 4 * a : 4 * a + 4, row, column].astype(np.float64)
                x, y = column * s + 0.1 * dx * width, row * s + 0.1 * dy * height
                w, h = width * exp(0.2 * dw), height * exp(0.2 * dh)
                boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                face, good = (sigmoid(raw[f"{role}_{s}"][0, a, row, column]) for role in ("cls", "iou"))
                scores.append(face**0.8 * good**1.2)
    return np.array(boxes), np.array(scores)


def test_tinaface_scores_are_a_product_of_powers() -> None:
    raw = tinaface()
    have, (boxes, scores) = run(as_tinaface(), raw), of_tinaface(raw)
    np.testing.assert_allclose(have["boxes"][0], boxes, rtol=2e-5, atol=2e-3)
    np.testing.assert_allclose(have["scores"][0], scores, atol=2e-6)
    for other in ({"powers": [1, 1]}, {"powers": [1.2, 0.8]}, {"powers": [1, 1], "product": "root"}):
        assert np.abs(run(as_tinaface(**other), raw)["scores"][0] - scores).max() > 0.05


def test_powers_and_the_root_are_one_after_the_other() -> None:
    raw = tinaface()
    have = run(as_tinaface(powers=[1, 2], product="root"), raw)["scores"][0]
    np.testing.assert_allclose(have, run(as_tinaface(powers=[0.5, 1]), raw)["scores"][0], atol=1e-6)


def test_the_power_of_nothing_is_nothing() -> None:
    raw = {name: np.full_like(value, -500 if "bbox" not in name else 0) for name, value in tinaface().items()}
    assert not run(as_tinaface(), raw)["scores"].any()


@pytest.mark.parametrize(
    "change", [{"powers": [0, 1]}, {"powers": [1, 9]}, {"powers": [float("nan"), 1]}, {"objectness": None}]
)
def test_powers_that_cannot_be_meant(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"decode\.powers are for a head with objectness, and lie above 0, up to 8"):
        from_plain(Decode, as_tinaface(**change))


def test_eresfd_has_one_oblong_anchor_a_cell() -> None:
    """EResFD, prior_box.py and bbox_utils.py: loc and conf of all levels, before its softmax."""
    rng = np.random.default_rng(4)
    count = sum(len(list(cells(s))) for s in STRIDES)
    raw = {name: rng.normal(0, 1.5, (1, count, n)).astype(np.float32) for name, n in (("loc", 4), ("conf", 2))}
    decode = {
        "boxes": "loc",
        "scores": "conf",
        "box": "deltas",
        "strides": list(STRIDES),
        "sizes": [[[4 * s, 5 * s]] for s in STRIDES],
        "variances": [0.1, 0.2],
        "activation": "softmax",
        "face_class": 1,
    }
    have = run(decode, raw)
    height, width = SIZE
    i = 0
    for s in STRIDES:
        for row, column in cells(s):
            cx, cy, w, h = (column + 0.5) * s / width, (row + 0.5) * s / height, 4 * s / width, 4 * s / height * 1.25
            dx, dy, dw, dh = raw["loc"][0, i].astype(np.float64)
            x, y, w, h = cx + dx * 0.1 * w, cy + dy * 0.1 * h, w * exp(0.2 * dw), h * exp(0.2 * dh)
            unit = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            np.testing.assert_allclose(have["boxes"][0, i], unit * np.tile([width, height], 2), rtol=2e-5, atol=2e-3)
            no, yes = raw["conf"][0, i].astype(np.float64)
            assert have["scores"][0, i] == pytest.approx(sigmoid(yes - no), abs=2e-6)
            i += 1
    assert i == count
    with pytest.raises(InputError, match=r"does not hold 2\d+ boxes: .*decode\.sizes"):
        run({**decode, "sizes": [[4 * s, 5 * s] for s in STRIDES]}, raw)


def published_exp(v: float) -> float:
    """DBFace, common.py."""
    return v * e if abs(v) < 1 else copysign(exp(abs(v)), v)


def test_the_guide_describes_dbface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module, its TOML file and its command, as they stand there."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "DBFace.py").write_text(DBFACE)
    (module,) = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)
    (toml,) = re.findall(r"```toml\n(.*?)```", SECTION, flags=re.DOTALL)
    (tmp_path / "detector.py").write_text(module)
    (tmp_path / "dbface.toml").write_text(toml)
    assert "facedeploy inspect detector:Readable --weights dbface.pth --config dbface.toml --input-size" in SECTION

    network = importlib.import_module("detector").Readable()
    rng = np.random.default_rng(5)
    known = np.full((15, 16, 24), -9.0)
    known[5:] = rng.uniform(-0.5, 0.5, (10, 16, 24))  # On both sides of where the function changes.
    faces = [(3, 4, 0.9), (10, 17, 0.7)]
    for row, column, score in faces:
        known[0, row, column] = np.log(score / (1 - score))
        known[1:5, row, column] = np.log(rng.uniform(1, 3, 4))
    network.network.known[:] = torch.tensor(known)
    torch.save(network.state_dict(), "dbface.pth")

    options: dict[str, Any] = {"config": "dbface.toml", "input_size": (64, 96)}
    found = inspect("detector:Readable", "dbface.pth", **options)
    assert (found.kind, found.refused) == ("detector", "")
    artifact = export("detector:Readable", "onnx-fp32", weights=Path("dbface.pth"), output="art", **options)
    with load(artifact) as pipeline:
        have = pipeline.detect(np.zeros((64, 96, 3), np.uint8))
    assert len(have) == 2
    for face, (row, column, score) in zip(have, faces, strict=True):
        left, top, right, bottom = np.exp(known[1:5, row, column])
        want = np.array([column - left, row - top, column + right, row + bottom]) * 4
        points = [published_exp(4 * v) for v in known[5:, row, column]]
        pairs = [((points[k] + column) * 4, (points[k + 5] + row) * 4) for k in range(5)]
        assert face.score == pytest.approx(score, abs=1e-4)
        np.testing.assert_allclose(face.box, want, atol=0.01)
        np.testing.assert_allclose(np.array(face.landmarks), np.array(pairs), atol=0.01)


def test_inspect_refuses_what_export_would(tmp_path: Path) -> None:
    head = HEADS["centerface"]
    path = head.write(tmp_path / "face.onnx")
    toml = """
        [decode]
        boxes = "539[1,0] + 538[1,0]"
        scores = "537"
        box = "corners"
        strides = [4]
    """
    path.with_suffix(".toml").write_text(toml)
    found = inspect(path)
    assert "face.toml: " in found.refused
    with pytest.raises(InputError) as caught:
        export(str(path), "onnx-fp32", output=str(tmp_path / "art"))
    assert str(caught.value).partition(": ")[2] == found.refused.partition(": ")[2]
    path.with_suffix(".toml").write_text(toml.replace("strides = [4]", ""))
    for look in (lambda: inspect(path), lambda: export(str(path), "onnx-fp32", output=str(tmp_path / "art"))):
        with pytest.raises(InputError, match=r"decode\.strides is missing: the output '539' .* is a map of cells"):
            look()
