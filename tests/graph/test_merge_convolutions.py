"""Two convolutions become one where that is less work, and stay two where it is more or not the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from facedeploy.graph.passes.merge_convolutions import merge_convolutions
from tests.graph.test_float16 import FLOAT, Array, model, node, run

SHAPE = ("batch", None, None, None)


def weights(*shapes: tuple[str, tuple[int, ...]]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes}


def graph(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, Array], outputs: Sequence[str] = ("map",)
) -> onnx.ModelProto:
    return model(nodes, [(name, FLOAT, SHAPE) for name in outputs], arrays)  # type: ignore[misc]


def pair(
    inner: tuple[int, int, int] = (3, 12, 1),
    out: int = 4,
    *,
    biases: str = "both",
    **attributes: dict[str, Any],
) -> onnx.ModelProto:
    """Convolutions from image to map; inner is channels, channels and side of its kernel."""
    channels, middle, side = inner
    group = attributes.get("first", {}).get("group", 1)
    arrays = weights(
        ("a.weight", (middle, channels // group, side, side)),
        ("a.bias", (middle,)),
        ("b.weight", (out, middle, *attributes.get("second", {}).get("kernel_shape", (1, 1)))),
        ("b.bias", (out,)),
    )
    first = "image a.weight" + (" a.bias" if biases in ("both", "first") else "")
    second = "a b.weight" + (" b.bias" if biases in ("both", "second") else "")
    used = {n: v for n, v in arrays.items() if n in f"{first} {second}".split()}
    nodes = [
        node("Conv", first, "a", **attributes.get("first", {})),
        node("Conv", second, "map", **attributes.get("second", {})),
    ]
    return graph(nodes, used)


def merged(original: onnx.ModelProto) -> onnx.ModelProto:
    """A merged copy, which is a valid graph and gives the same."""
    result = onnx.ModelProto()
    result.CopyFrom(original)
    merge_convolutions(result)
    onnx.checker.check_model(result, full_check=True)
    image = np.random.default_rng(1).normal(size=(2, 3, 8, 12)).astype(np.float32)
    want, have = run(original, image=image), run(result, image=image)
    assert have.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_allclose(have[name], array, rtol=1e-4, atol=1e-4)
    return result


def count(made: onnx.ModelProto) -> int:
    return [n.op_type for n in made.graph.node].count("Conv")


@pytest.mark.parametrize("biases", ["both", "first", "second", "none"])
@pytest.mark.parametrize(
    ("side", "first"),
    [
        (1, {}),
        (3, {"pads": [1, 1, 1, 1]}),
        (3, {"strides": [2, 2], "pads": [1, 0, 1, 0]}),
        (2, {"dilations": [2, 1]}),
    ],
    ids=["1x1", "padded", "strided", "dilated"],
)
def test_pair_becomes_one(side: int, first: dict[str, Any], biases: str) -> None:
    result = merged(pair((3, 40, side), biases=biases, first=first))
    assert count(result) == 1
    assert {tuple(w.dims) for w in result.graph.initializer} == {(4, 3, side, side), (4,)}


def test_merged_weight_has_the_name_of_the_first() -> None:
    """What keeps the first in float32 keeps both."""
    assert {w.name for w in merged(pair()).graph.initializer} == {"a.weight", "a.weight.bias"}


def test_products_are_not_rounded_twice() -> None:
    original = pair((3, 12, 1), biases="none")
    arrays = {w.name: numpy_helper.to_array(w).astype(np.float64) for w in original.graph.initializer}
    exact = np.einsum("om,mi->oi", arrays["b.weight"][:, :, 0, 0], arrays["a.weight"][:, :, 0, 0])
    (weight,) = [w for w in merged(original).graph.initializer if w.name == "a.weight"]
    np.testing.assert_array_equal(numpy_helper.to_array(weight)[:, :, 0, 0], exact.astype(np.float32))


def test_chain_of_three_becomes_one() -> None:
    arrays = weights(("a", (12, 3, 1, 1)), ("b", (10, 12, 1, 1)), ("c", (2, 10, 1, 1)))
    nodes = [node("Conv", "image a", "x"), node("Conv", "x b", "y"), node("Conv", "y c", "map")]
    assert count(merged(graph(nodes, arrays))) == 1


@pytest.mark.parametrize(
    "original",
    [
        pair((3, 2, 3), out=16),
        pair(second={"strides": [2, 2]}),
        pair(second={"pads": [1, 1, 1, 1]}),
        pair(second={"kernel_shape": (3, 3)}),
        pair((3, 12, 1), first={"group": 3}),
    ],
    ids=["more work", "strided", "padded", "3x3", "groups"],
)
def test_pair_that_stays(original: onnx.ModelProto) -> None:
    assert merged(original) == original


def test_what_is_read_elsewhere_stays() -> None:
    arrays = weights(("a", (12, 3, 1, 1)), ("b", (4, 12, 1, 1)))
    nodes = [node("Conv", "image a", "x"), node("Conv", "x b", "map")]
    assert count(merged(graph([*nodes, node("Relu", "x", "other")], arrays, ("map", "other")))) == 2
    assert count(merged(graph(nodes, arrays, ("map", "x")))) == 2
    assert count(merged(graph(nodes, arrays))) == 1


def test_shared_weights_stay() -> None:
    arrays = weights(("a", (12, 3, 1, 1)), ("b", (4, 12, 1, 1)))
    nodes = [
        node("Conv", "image a", "x"),
        node("Conv", "x b", "map"),
        node("Conv", "image a", "y"),
        node("Relu", "y", "other"),
    ]
    assert count(merged(graph(nodes, arrays, ("map", "other")))) == 3


def test_pair_with_something_between_stays() -> None:
    arrays = weights(("a", (12, 3, 1, 1)), ("b", (4, 12, 1, 1)))
    nodes = [node("Conv", "image a", "x"), node("Relu", "x", "y"), node("Conv", "y b", "map")]
    assert count(merged(graph(nodes, arrays))) == 2


def test_weight_that_is_computed_stays() -> None:
    arrays = weights(("a", (12, 3, 1, 1)), ("b", (4, 12, 1, 1)))
    nodes = [node("Conv", "image a", "x"), node("Neg", "b", "c"), node("Conv", "x c", "map")]
    assert count(merged(graph(nodes, arrays))) == 2
