"""Rows of equal score may come in any order, and at the end of a TopK others may come; nothing else may differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facedeploy.core.errors import ParityError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.export.exporter import export
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.verification import tensors as parity
from tests.support.own_networks import node, weights, write

CANDIDATES, KEPT = 9, 5
# Of nine candidates, in the order of their scores: one that is best, four that are equal, of which three are kept,
# one more that is worse than those but first of the rest by its place in the test below.
SCORES = np.array([0.2, 0.5, 0.5, 0.9, 0.1, 0.5, 0.5, 0.7, 0.0], np.float32)
BOXES = np.arange(CANDIDATES * 4, dtype=np.float32).reshape(1, CANDIDATES, 4) / 10
SPEC = NetworkSpec(
    "network", (TensorSpec("x", (1, 3, 8, 8)),), (TensorSpec("rows", (1, KEPT, 5)), TensorSpec("labels", (1, KEPT)))
)
FEED: Arrays = {"x": np.zeros((1, 3, 8, 8), np.float32)}


def detector(path: Path, top: bool = True) -> Path:
    """Rows (box, score), and which candidate each is, as a number; without `top`, the same rows as constants."""
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0),
        node("Mul", ["m", "zero"], ["z"]),
        node("Add", ["scores", "z"], ["s"]),
        node("TopK", ["s", "k"], ["v", "i"], axis=1),
        node("Unsqueeze", ["i", "two"], ["u"]),
        node("Expand", ["u", "e"], ["g"]),
        node("GatherElements", ["boxes", "g"], ["b"], axis=1),
        node("Unsqueeze", ["v", "two"], ["c"]),
        node("Concat", ["b", "c"], ["rows"], axis=2),
        node("GatherElements", ["names", "i"], ["labels"], axis=1),
    ]
    constants = {
        "zero": np.float32(0),
        "scores": SCORES[None],
        "k": np.array([KEPT]),
        "two": np.array([2]),
        "e": np.array([1, KEPT, 4]),
        "boxes": BOXES,
        "names": np.arange(CANDIDATES, dtype=np.float32)[None] + 1,
    }
    if not top:
        nodes = [*nodes[:2], node("Add", ["r", "z"], ["rows"]), node("Add", ["l", "z"], ["labels"])]
        constants = {"zero": np.float32(0), **dict(zip("rl", shown(VALID[0]).values(), strict=True))}
    outputs = {"rows": [1, KEPT, 5], "labels": [1, KEPT]}
    return write(path, nodes, constants, outputs, shape=(1, 3, 8, 8))


def shown(order: list[int]) -> Arrays:
    rows = np.concatenate([BOXES[0, order], SCORES[order][:, None]], axis=1)[None]
    return {"rows": rows, "labels": np.array([order], np.float32) + 1}


# Candidates 1, 2, 5 and 6 are equal.
VALID = [[3, 7, 1, 2, 5], [3, 7, 6, 5, 2], [3, 7, 5, 1, 6]]


class Answer(Runtime):
    """A compiled network that gives what it is told to."""

    backend = "told"
    concurrent = True

    def __init__(self, answer: Arrays) -> None:
        super().__init__(SPEC, RuntimeOptions(1))
        self._answer = answer

    def _run(self, inputs: object) -> Arrays:
        return self._answer

    def _close(self) -> None:
        pass


def check(path: Path, answer: Arrays) -> None:
    with OnnxRuntimeRuntime(path, SPEC, RuntimeOptions(1)) as reference:
        parity.check(parity.measure(reference, Answer(answer), [FEED], "fp32"), "fp32")


@pytest.mark.parametrize("order", VALID, ids=str)
def test_equal_scores_may_come_in_any_order(order: list[int], tmp_path: Path) -> None:
    check(detector(tmp_path / "n.onnx"), shown(order))


def changed(change: Callable[[Array], None], order: list[int] = VALID[1], name: str = "rows") -> Arrays:
    answer = shown(order)
    change(answer[name])
    return answer


def move(rows: Array) -> None:
    rows[0, 3, 0] += 0.1


def rescore(rows: Array) -> None:
    rows[0, 3, 4] += 0.01


def swap(labels: Array) -> None:
    labels[0, [2, 3]] = labels[0, [3, 2]]


WRONG: dict[str, Arrays] = {
    "a wrong box": changed(move),
    "a wrong score": changed(rescore),
    "the same row twice": shown([3, 7, 1, 1, 2]),
    "another order elsewhere": shown([7, 3, 1, 2, 5]),
    "a worse one kept": shown([3, 7, 1, 2, 0]),
    "the best one lost": shown([7, 1, 2, 5, 6]),
    "boxes of one, labels of another": changed(swap, name="labels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_everything_else_must_be_right(name: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"network\.(rows|labels) in told"):
        check(detector(tmp_path / "n.onnx"), WRONG[name])


@pytest.mark.parametrize("order", VALID[1:], ids=str)
def test_without_a_topk_the_order_is_fixed(order: list[int], tmp_path: Path) -> None:
    path = detector(tmp_path / "n.onnx", top=False)
    check(path, shown(VALID[0]))
    with pytest.raises(ParityError):
        check(path, shown(order))


def test_a_head_whose_scores_saturate_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More candidates of score 1 than are kept: backends keep others of them."""
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    nodes = [
        node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1] * 4, strides=[8, 8]),
        node("Reshape", ["c", "shape"], ["q"]),
        node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        node("Sigmoid", ["t"], ["p"]),
        node("Split", ["p", "parts"], ["b", "sc"], axis=2),
        node("Squeeze", ["sc", "two"], ["s"]),
        node("TopK", ["s", "k"], ["v", "i"], axis=1),
        node("Unsqueeze", ["i", "two"], ["u"]),
        node("Expand", ["u", "e"], ["g"]),
        node("GatherElements", ["b", "g"], ["boxes"], axis=1),
        node("Unsqueeze", ["v", "two"], ["scores"]),
        node("Concat", ["boxes", "scores"], ["rows"], axis=2),
    ]
    constants = {"w": weights(5, 3, 3, 3), "shape": np.array([1, 5, -1]), "parts": np.array([4, 1])}
    constants |= {"two": np.array([2]), "k": np.array([20]), "e": np.array([1, 20, 4])}
    path = write(tmp_path / "n.onnx", nodes, constants, {"rows": [1, 20, 5]}, shape=(1, 3, 64, 64))
    rows = export(str(path), "openvino-fp32").manifest.parity
    assert max(row.relative_l2 for row in rows) < 1e-3
