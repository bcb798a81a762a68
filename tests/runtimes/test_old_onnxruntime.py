"""ONNX Runtime before 1.25, which is what Python 3.10 has: without DeformConv.

It cannot be installed beside the one that the tests run, so that one refuses the operator here, in the words of 1.24.4.
What runs in its place is real. Where Python 3.10 is at hand the tests can be run on the real one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from facedeploy.core.errors import BackendUnavailableError, ConversionError
from facedeploy.runtimes.onnxruntime import open_session

SAID = (
    "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for DeformConv(19) node with name 'd'"
)
SHAPES = {"image": (1, 4, 12, 10), "offset": (1, 18, 12, 10), "mask": (1, 9, 12, 10)}

# Relative L2, as wherever the forms are compared.
TOLERANCE, BROKEN = 1e-4, 1e-2


def distance(found: Any, want: Any) -> float:
    return float(np.linalg.norm(found - want) / np.linalg.norm(want))


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnxruntime.InferenceSession

    def session(model: str | bytes, *arguments: Any, **options: Any) -> Any:
        graph = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
        if any(n.op_type == "DeformConv" for n in graph.graph.node):
            raise NotImplementedError(SAID)
        return real(model, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """One deformable convolution, whose offsets and mask are inputs."""
    weight = np.random.default_rng(1).standard_normal((6, 4, 3, 3)).astype(np.float32)
    made = helper.make_graph(
        [helper.make_node("DeformConv", ["image", "w", "offset", "b", "mask"], ["map"], name="d", pads=[1] * 4)],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in SHAPES.items()],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, (1, 6, 12, 10))],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(np.ones(6, np.float32), "b")],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def feeds() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    found = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {**found, "offset": 3 * found["offset"], "mask": np.abs(found["mask"])}


@pytest.mark.parametrize("as_bytes", [False, True], ids=["file", "bytes"])
def test_deformable_convolutions_run_as_gridsample(graph: Path, as_bytes: bool, request: pytest.FixtureRequest) -> None:
    given = feeds()
    (want,) = open_session(graph, 1).run(None, given)
    request.getfixturevalue("old")
    (found,) = open_session(graph.read_bytes() if as_bytes else graph, 1).run(None, given)
    assert distance(found, want) < TOLERANCE
    swapped = {**given, "offset": given["offset"][:, ::-1].copy()}
    (other,) = open_session(graph, 1).run(None, swapped)
    assert distance(other, want) > BROKEN


def test_without_onnx_it_says_what_to_do(graph: Path, old: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _refuse)
    with pytest.raises(
        BackendUnavailableError, match=r"pip install 'facedeploy\[onnx\]'.*--deform-conv gridsample"
    ) as told:
        open_session(graph, 1)
    assert f"ONNX Runtime {onnxruntime.__version__} has no DeformConv, which {graph} needs" in str(told.value)


def test_another_refusal_stays_one(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.write_bytes(b"nothing")
    with pytest.raises(ConversionError, match="ONNX Runtime does not load"):
        open_session(graph, 1)


def _refuse(*_: Any, **__: Any) -> Any:
    raise NotImplementedError(SAID)
