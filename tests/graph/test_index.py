"""The index of a graph, and what writes one back."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facedeploy.graph.index import GraphIndex, attributes, infer_shapes, weight_names
from facedeploy.graph.rewrite import FreeNames, in_order, replace_nodes, replace_weights


def model() -> onnx.ModelProto:
    """A Conv of x makes a, a Relu of that y, and y + y is z; a and z are outputs."""
    nodes = [
        helper.make_node("Conv", ["x", "w", ""], ["a"], name="conv", group=1, strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["y"]),
        helper.make_node("Add", ["y", "y"], ["z"]),
    ]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "z")}
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in WEIGHTS.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [image], [*values.values()], weights))


WEIGHTS = {"w": (4, 3, 1, 1), "idle": (2,)}


def test_who_makes_and_who_reads() -> None:
    made = model()
    index = GraphIndex.of(made)
    conv, relu, add = made.graph.node
    assert index.producers == {"a": conv, "y": relu, "z": add}
    assert index.readers == {"x": (conv,), "w": (conv,), "a": (relu,), "y": (add, add)}
    assert index.outputs == {"a", "z"}
    assert [index.op_before(name) for name in ("a", "x", "w", "")] == ["Conv", "", "", ""]


def test_an_output_is_read_by_the_caller_and_a_tensor_read_twice_counts_twice() -> None:
    index = GraphIndex.of(model())
    assert {name: index.uses(name) for name in ("x", "w", "a", "y", "z", "idle", "")} == {
        "x": 1,
        "w": 1,
        "a": 2,
        "y": 2,
        "z": 1,
        "idle": 0,
        "": 0,
    }


def test_subgraphs_read_what_is_around_them() -> None:
    made = model()
    inner = helper.make_graph([helper.make_node("Mul", ["a", "idle"], ["b"])], "then", [], [])
    outer = helper.make_graph([], "else", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    made.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=outer))
    index = GraphIndex.of(made)
    assert {name: index.uses(name) for name in ("a", "idle", "y", "c")} == {"a": 3, "idle": 1, "y": 3, "c": 1}
    replace_weights(made, made.graph.initializer)
    assert [w.name for w in made.graph.initializer] == ["w", "idle"]


def test_weights_of_a_layer() -> None:
    made = model()
    assert not GraphIndex.of(made).has_own_weights(made.graph.node[0])  # Its bias is left out, not constant.
    made.graph.node[0].input.pop()
    index = GraphIndex.of(made)
    assert index.has_own_weights(made.graph.node[0])
    assert index.array("w").shape == WEIGHTS["w"]
    made.graph.node[1].input[0] = "w"
    assert not GraphIndex.of(made).has_own_weights(made.graph.node[0])  # Another node reads it.
    assert attributes(made.graph.node[0]) == {"group": 1, "strides": [2, 2]}


def test_sparse_weights_have_names_too() -> None:
    made = model()
    made.graph.sparse_initializer.add().values.name = "s"
    assert weight_names(made) == {"w", "idle", "s"}


def test_shapes_have_zero_for_what_is_not_known() -> None:
    shapes = infer_shapes(model())
    assert shapes["x"] == (0, 3, 8, 8)
    assert shapes["y"] == (0, 4, 4, 4)
    assert "w" not in shapes


def test_nodes_are_replaced_by_some_of_their_own() -> None:
    made = model()
    conv, relu, _ = made.graph.node
    conv.output[0] = "b"
    replace_nodes(made, [relu, conv])
    assert [node.op_type for node in made.graph.node] == ["Relu", "Conv"]
    assert made.graph.node[1].output == ["b"]
    replace_weights(made, made.graph.initializer)
    assert [w.name for w in made.graph.initializer] == ["w"]


def test_a_constant_among_the_outputs_stays() -> None:
    made = model()
    made.graph.output.add().name = "idle"
    replace_weights(made, made.graph.initializer)
    assert [w.name for w in made.graph.initializer] == ["w", "idle"]


def test_order_of_computation_keeps_what_stands_right() -> None:
    conv, relu, add = model().graph.node
    assert in_order([add, relu, conv]) == [conv, relu, add]
    assert in_order([conv, relu, add]) == [conv, relu, add]


def test_free_names() -> None:
    names = FreeNames(model())
    assert [names.free(wish) for wish in ("w", "w", "x", "z", "new", "new")] == ["w_", "w__", "x_", "z_", "new", "new_"]
