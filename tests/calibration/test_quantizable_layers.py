"""What int8 must never touch, and that it takes all the rest: read from the graphs that TensorRT is given."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facedeploy.calibration.observed_graph import Graph, open_graphs
from facedeploy.calibration.quantizable_layers import DECODING, FINAL, POSITIONS, QuantizableLayer, choose, find_layers
from facedeploy.calibration.quantize_plan import Int8Options, plan_of
from facedeploy.calibration.table import RangeTable
from facedeploy.core.errors import InputError
from facedeploy.export.compiler import Job
from facedeploy.export.exporter import export
from facedeploy.export.tensorrt import compile_network
from facedeploy.graph.lowering import DeformConvForm
from facedeploy.graph.passes.insert_qdq import insert_qdq
from facedeploy.graph.ranges import Range
from facedeploy.sources.open import open_source
from facedeploy.sources.source import Source
from tests.conftest import SMALL, GetWeights

RANGE = Range(-8, 8, 8, -8, 8)
LAYERS = ("Conv", "Gemm", "MatMul")
PAIR = ("QuantizeLinear", "DequantizeLinear")
MODELS = ("mos-tiny", "mos-m", "mos-s", "mtcnn")
# What is int8 of each network in either form of its deformable convolutions, and the float layers by reason.
COUNTS = {
    ("mos-tiny", "detector", "gridsample"): (21, 1, 3, 0),
    ("mos-tiny", "pose", "gridsample"): (1, 0, 1, 1),
    ("mos-m", "detector", "gridsample"): (70, 17, 3, 0),
    ("mos-s", "detector", "gridsample"): (75, 17, 3, 0),
    ("mos-m", "pose", "gridsample"): (1, 0, 1, 1),
    ("mos-s", "pose", "gridsample"): (1, 0, 1, 1),
    ("mtcnn", "pnet", "gridsample"): (3, 0, 2, 0),
    ("mtcnn", "rnet", "gridsample"): (4, 0, 2, 0),
    ("mtcnn", "onet", "gridsample"): (5, 0, 3, 0),
    ("mos-tiny", "detector", "native"): (20, 1, 3, 0),
    ("mos-m", "detector", "native"): (53, 17, 3, 0),
    ("mos-s", "detector", "native"): (58, 17, 3, 0),
}

GetGraphs = Callable[[str], tuple[Source, dict[str, Graph]]]


@pytest.fixture(scope="module")
def graphs(mos_weights: GetWeights, weights: Path) -> GetGraphs:
    """The float32 graphs of a model, traced once."""

    @functools.cache
    def get(model: str) -> tuple[Source, dict[str, Graph]]:
        files = {"mos-tiny": None, "mtcnn": weights}
        size = None if model == "mtcnn" else SMALL
        source = open_source(model, files[model] if model in files else mos_weights(model), input_size=size)
        return source, open_graphs(source)

    return get


def table_for(graphs: dict[str, Graph]) -> RangeTable:
    ranges = {name: {layer.name: RANGE for layer in graph.layers} for name, graph in graphs.items()}
    return RangeTable("any", {}, "minmax", 10, "", ranges)


@pytest.fixture(scope="module")
def compiled(
    graphs: GetGraphs, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, DeformConvForm], onnx.ModelProto]:
    """The graph that TensorRT is given for a network in int8, with every layer that the rules allow."""
    folder = tmp_path_factory.mktemp("trt")

    @functools.cache
    def get(model: str, network: str, form: DeformConvForm) -> onnx.ModelProto:
        source, made = graphs(model)
        plan = plan_of(made, table_for(made))
        place = folder / f"{model}-{network}-{form}"
        place.mkdir()
        float32 = place / "float32.onnx"
        (part,) = (n for n in source.networks if n.spec.name == network)
        part.write(float32)
        with pytest.MonkeyPatch.context() as patch:
            # The engine is none of this file's business, and TensorRT-RTX would refuse the native form.
            for module in ("tensorrt", "tensorrt_rtx"):
                patch.setitem(sys.modules, module, None)
            job = Job(part.spec, float32, "int8", place, deform_conv=form, int8=plan[network])
            result = compile_network(job)
        loaded = onnx.load(place / result.files["onnx"])
        assert set(result.lowerings.values()) <= {form}
        return loaded

    return get


# --- what the graph says, without the package's own rules ---


class Walk:
    """A graph, read from its samplers upwards."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}

    def samplers(self) -> Iterator[str]:
        """Tensors that say where, and how much, is sampled."""
        for node in self.nodes:
            if node.op_type == "GridSample":
                yield node.input[1]
            if node.op_type == "DeformConv":
                yield from (node.input[k] for k in (2, 4) if k < len(node.input))
            if node.op_type == "Mul":
                made = [self.producer.get(name) for name in node.input]
                sampled = [m is not None and m.op_type == "GridSample" for m in made]
                yield from (name for name, other in zip(node.input, reversed(sampled), strict=True) if other)

    def offsets(self) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
        """The convolutions that offsets and masks come from, and all that stands between those and the samplers."""
        todo, ends, between = list(self.samplers()), [], []
        while todo:
            node = self.producer.get(todo.pop())
            if node is None or node in between or node in ends:
                continue
            if node.op_type == "Conv":
                ends.append(node)
            else:
                between.append(node)
                todo += [n for n in node.input if n]
        return ends, between

    def is_integer(self, node: onnx.NodeProto) -> bool:
        """Whether a layer reads rounded values, and weights of 8 bits."""
        above = [self.producer.get(name) for name in node.input[:2]]
        kinds = [m is not None and m.op_type == "DequantizeLinear" for m in above]
        assert len(set(kinds)) == 1, f"{node.name} is half in int8"
        if kinds[1]:
            assert above[1] is not None
            assert self.constants[above[1].input[0]].dtype == np.int8
        return all(kinds)

    def source(self, name: str) -> str:
        node = self.producer.get(name)
        while node is not None and node.op_type in ("Reshape", "Transpose", "Flatten", "Squeeze", *PAIR):
            node = self.producer.get(node.input[0])
        return node.op_type if node is not None else ""

    def layers(self) -> list[onnx.NodeProto]:
        return [n for n in self.nodes if n.op_type in LAYERS]

    def is_last(self, node: onnx.NodeProto) -> bool:
        """Whether no layer comes after, but for those that decode probabilities."""
        reached = set(node.output)
        for other in self.nodes[self.nodes.index(node) + 1 :]:
            if reached & set(other.input):
                if other.op_type in (*LAYERS, "DeformConv") and self.source(other.input[0]) != "Softmax":
                    return False
                reached |= set(other.output)
        return True

    def check_positions(self) -> int:
        """Check that nothing rounds a position; the number of convolutions that make them."""
        ends, between = self.offsets()
        for node in between:
            assert node.op_type not in PAIR, f"{node.name} rounds a sampling position"
        for node in ends:
            assert not self.is_integer(node), f"{node.name}, which makes sampling positions, is int8"
        return len(ends)


@pytest.mark.parametrize(("model", "network", "form"), COUNTS, ids=lambda v: str(v))
def test_no_position_is_rounded_and_all_that_may_be_int8_is(
    model: str,
    network: str,
    form: DeformConvForm,
    compiled: Callable[[str, str, DeformConvForm], onnx.ModelProto],
) -> None:
    walk = Walk(compiled(model, network, form))
    integers, positions, final, decoding = COUNTS[model, network, form]
    assert walk.check_positions() == positions
    ends, _ = walk.offsets()
    found = {"int8": 0, POSITIONS: 0, FINAL: 0, DECODING: 0}
    for layer in walk.layers():
        reason = ""
        if layer in ends:
            reason = POSITIONS
        elif walk.source(layer.input[0]) == "Softmax":
            reason = DECODING
        elif walk.is_last(layer):
            reason = FINAL
        assert walk.is_integer(layer) == (not reason), f"{layer.name}: {reason or 'may be int8'}"
        found[reason or "int8"] += 1
    assert tuple(found.values()) == (integers, positions, final, decoding)
    samplers = [n for n in walk.nodes if n.op_type in ("GridSample", "DeformConv")]
    kind = "GridSample" if form == "gridsample" else "DeformConv"
    assert {n.op_type for n in samplers} == ({kind} if positions else set())


def test_exported_graph_is_the_same(graphs: GetGraphs, tmp_path: Path) -> None:
    """The whole way, with the embedded table."""
    pytest.importorskip("tensorrt_rtx")
    made = export("mos-tiny", "trt-int8", output=tmp_path / "out", input_size=SMALL, int8=Int8Options(force=True))
    for network, (integers, positions) in {"detector": (21, 1), "pose": (1, 0)}.items():
        walk = Walk(onnx.load(made.file(network, "onnx")))
        assert walk.check_positions() == positions
        assert sum(map(walk.is_integer, walk.layers())) == integers
        assert len(made.manifest.network(network).int8) == integers
        assert made.manifest.network(network).engine == "ready"


@pytest.mark.parametrize("model", ["mos-tiny", "mos-m"])
def test_an_int8_offset_is_seen(model: str, graphs: GetGraphs) -> None:
    """The control: quantised against the rules, an offset branch does not pass."""
    _, made = graphs(model)
    plan = plan_of(made, table_for(made), allow=["*offset*"])
    assert Walk(insert_qdq(made["detector"].model, {}, "symmetric")).check_positions() >= 1
    with pytest.raises(AssertionError, match="makes sampling positions, is int8"):
        Walk(insert_qdq(made["detector"].model, plan["detector"], "symmetric")).check_positions()


def test_a_rounded_offset_is_seen(graphs: GetGraphs) -> None:
    """The control: so does a pair between the convolution and the sampler."""
    _, made = graphs("mos-tiny")
    model = onnx.ModelProto()
    model.CopyFrom(made["detector"].model)
    (sampler,) = (n for n in model.graph.node if n.op_type == "GridSample")
    for name, value in {"s": np.float32(0.1), "z": np.int8(0)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", [sampler.input[1], "s", "z"], ["q"], name="q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["rounded"], name="dq"),
        ]
    )
    sampler.input[1] = "rounded"
    with pytest.raises(AssertionError, match="rounds a sampling position"):
        Walk(model).check_positions()


# --- the rules, and who overrides them ---


def reasons(graph: Graph) -> dict[str, str]:
    return {layer.name: layer.reason for layer in graph.layers}


def test_reasons_are_said(graphs: GetGraphs) -> None:
    _, made = graphs("mos-tiny")
    detector, pose = reasons(made["detector"]), reasons(made["pose"])
    assert {k: v for k, v in detector.items() if v} == {
        "mos.merge.conv.conv_offset_mask.weight.planar": POSITIONS,
        **{f"mos.heads.{i}.weight": FINAL for i in range(3)},
    }
    (product,) = (k for k, v in pose.items() if v == DECODING)
    assert pose == {"heads.hidden.0.weight": "", "heads.bins.weight": FINAL, product: DECODING}


def test_patterns_keep_and_allow(graphs: GetGraphs) -> None:
    layers = graphs("mos-tiny")[1]["detector"].layers
    usual = choose(layers)
    assert len(usual) == 21
    assert set(usual) - set(choose(layers, ["mos.stem.*"])) == {"mos.stem.0.0.weight", "mos.stem.1.0.weight"}
    assert set(choose(layers, allow=["*heads.1*"])) - set(usual) == {"mos.heads.1.weight"}
    # Whoever keeps a layer has the last word.
    assert choose(layers, ["*heads*"], ["*heads*"]) == usual
    assert choose(layers, ["*"]) == ()


@pytest.mark.parametrize("which", ["keep_float", "allow"])
def test_a_pattern_that_matches_nothing_is_a_mistake(which: str, graphs: GetGraphs) -> None:
    _, made = graphs("mos-tiny")
    with pytest.raises(
        InputError, match=r"no layer matches 'mos\.stam\.\*'; layers are mos\.stem\.0\.0\.weight"
    ) as said:
        plan_of(made, table_for(made), **{which: ["mos.stam.*"]})
    assert "\n" not in str(said.value)


def test_a_pattern_may_be_of_one_network(graphs: GetGraphs) -> None:
    _, made = graphs("mos-tiny")
    plan = plan_of(made, table_for(made), keep_float=["heads.hidden.*"])
    assert plan["pose"] == {}
    assert len(plan["detector"]) == 21


def layer(name: str, reason: str = "") -> QuantizableLayer:
    return QuantizableLayer(name, 0, "x", reason)


def model_of(*nodes: onnx.NodeProto, **weights: tuple[int, ...]) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    value = functools.partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=[1, 4, 8, 8])
    outputs = [value(nodes[-1].output[0])]
    made = helper.make_graph(nodes, "test", [value("x")], outputs, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_layers_of_one_name_in_two_networks_are_two_layers(graphs: GetGraphs) -> None:
    """`conv.weight` is hidden in one network and final in the other."""
    spec = graphs("mos-tiny")[1]["pose"].spec
    empty = model_of(helper.make_node("Relu", ["x"], ["y"]))
    made = {"one": Graph(spec, empty, (layer("conv"),)), "two": Graph(spec, empty, (layer("conv", FINAL),))}
    assert plan_of(made, table_for(made)) == {"one": {"conv": RANGE}, "two": {}}


def test_a_weight_of_two_layers_is_int8_only_where_both_may_be() -> None:
    """Positions are computed with the same weight as features."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], name="hidden"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w"], ["y"], name="last"),
    ]
    layers = find_layers(model_of(*nodes, w=(4, 4, 1, 1)))
    assert [v.reason for v in layers] == ["", FINAL]
    assert choose(layers) == ()
    assert choose(layers, allow=["w"]) == ("w",)


def test_layers_without_constant_weights_are_none() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "x"], ["y"], name="product"),
    ]
    assert find_layers(model_of(*nodes)) == ()
