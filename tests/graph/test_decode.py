"""Heads in the graph, against decoders in NumPy that were written from what the heads' authors published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.serialization import from_plain
from facedeploy.graph.decode.attach import attach
from facedeploy.graph.decode.build import build, decoded_spec, raw_feed, raw_name
from facedeploy.graph.decode.description import Decode, parse, runs
from facedeploy.graph.passes.float16 import compute_float16
from facedeploy.sources.recognise import as_family, matches
from tests.support.heads import HEADS, StandIn

Arrays = Mapping[str, NDArray[Any]]


def spec_of(outputs: Arrays, size: tuple[int, int]) -> NetworkSpec:
    specs = tuple(TensorSpec(name, value.shape) for name, value in outputs.items())
    return NetworkSpec("network", (TensorSpec("image", (1, 3, *size)),), specs)


def close(have: NDArray[Any], want: NDArray[Any]) -> None:
    """The same pixels, as far as float32 goes."""
    np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-3)


def run(decode: Decode, outputs: Arrays, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """What the head's graph makes of raw outputs."""
    head = build(spec_of(outputs, size), decode)
    session = onnxruntime.InferenceSession(head.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = raw_feed(head, {name: value.astype(np.float32) for name, value in outputs.items()})
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


# What tells forms of the same shape apart.
FORMS: dict[str, tuple[str, Any]] = {"retinaface-logits": ("activation", "softmax"), "ulfd-raw": ("even", True)}


def decode_of(head: StandIn) -> Decode:
    """How the family reads the outputs of a stand-in."""
    found = [match.settings["decode"] for match in as_family(head.family, spec_of(head.arrays(), head.size))]
    key, value = FORMS.get(head.name, ("box", found[0]["box"]))
    return from_plain(Decode, next(decode for decode in found if decode.get(key) == value))


def noise(head: StandIn) -> dict[str, NDArray[np.float32]]:
    """Raw outputs that nobody meant: every number of every box is another."""
    rng = np.random.default_rng(5)
    found = {}
    for name, value in head.arrays().items():
        found[name] = (value + rng.uniform(0, 0.3, value.shape)).astype(np.float32)
    return found


@pytest.mark.parametrize("head", HEADS.values(), ids=str)
def test_a_family_decodes_as_published(head: StandIn) -> None:
    raw = noise(head)
    have = run(decode_of(head), raw, head.size)
    want = head.oracle(list(raw.values()), head.size)
    close(have["boxes"][0], want.boxes)
    np.testing.assert_allclose(have["scores"][0], want.scores, atol=2e-6)
    assert ("landmarks" in have) == (head.points > 0)
    if head.points:
        close(have["landmarks"][0], want.points)
        assert want.points.shape == (len(want.boxes), 2 * head.points)


# One setting of each head that its numbers hang on, and what else it could be.
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("scrfd-points", {"offset": 0.5}),
    ("scrfd-points", {"points_offset": 0.5}),
    ("yunet", {"offset": 0.5}),
    ("yunet", {"product": "product"}),
    ("yunet", {"objectness": None}),
    ("retinaface", {"variances": (0.1, 0.1)}),
    ("retinaface", {"variances": (0.2, 0.2)}),
    ("retinaface", {"offset": 0.0}),
    ("retinaface", {"scores": "conf[0]"}),
    ("retinaface-logits", {"activation": "sigmoid"}),
    ("retinaface-logits", {"face_class": 0}),
    ("retinaface-mxnet", {"offset_pixels": 8.0}),
    ("retinaface-mxnet", {"inclusive": False}),
    ("retinaface-mxnet", {"face_class": 0}),
    ("retinaface-mxnet", {"score_channels": "anchor"}),
    ("retinaface-slim", {"sizes": ((10, 16, 24), (32, 48), (64, 96), (128, 192, 250))}),
    ("yolov5-face-raw", {"activation": "none"}),
    ("yolov5-face-raw", {"points_offset": 0.5}),
    ("yolov7-face-raw", {"points": "prior"}),
    ("yolov8-face", {"point_values": 2, "landmarks": "output0[5:15]"}),
    ("yolov8-face", {"box": "corners"}),
    ("yolov8-face-raw", {"offset": 0.0, "points_offset": 0.0}),
    ("yolov8-face-raw", {"points_scale": 1.0}),
    ("centerface", {"boxes": ("539[1,0] + 538",)}),
    ("centerface", {"boxes": ("539 + 538[1,0]",)}),
    ("centerface", {"points": "prior"}),
    ("blazeface-front", {"anchors": (2, 6), "strides": (8, 16), "offset": 0.0}),
    ("ulfd", {"unit": "pixels"}),
    ("ulfd-raw", {"even": False}),
    ("ulfd-raw", {"clip": False}),
]


@pytest.mark.parametrize(("name", "change"), WRONG, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_another_setting_gives_other_numbers(name: str, change: dict[str, Any]) -> None:
    head = HEADS[name]
    raw = noise(head)
    have = run(replace(decode_of(head), **change), raw, head.size)
    want = head.oracle(list(raw.values()), head.size)
    pixels = [np.abs(have["boxes"][0] - want.boxes).max()]
    if head.points and have["landmarks"][0].shape == want.points.shape:
        pixels.append(np.abs(have["landmarks"][0] - want.points).max())
    assert max(pixels) > 0.4 or np.abs(have["scores"][0] - want.scores).max() > 0.01


# What a reference and a layout are


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=5), min_size=1, max_size=3))
@settings(max_examples=50)
def test_references_are_read_as_they_are_written(parts: list[list[int]]) -> None:
    text = " + ".join(f"out/{i}:0[{', '.join(map(str, columns))}]" for i, columns in enumerate(parts))
    found = parse(text, "boxes")
    assert [part.output for part in found] == [f"out/{i}:0" for i in range(len(parts))]
    assert [list(part.columns or ()) for part in found] == parts
    for columns in parts:
        assert [c for start, stop in runs(columns) for c in range(start, stop)] == columns


def test_ranges_and_whole_outputs() -> None:
    (part,) = parse("a[0:4,7]", "boxes")
    assert part.columns == (0, 1, 2, 3, 7)
    assert [p.columns for p in parse("a + b[1,0]", "boxes")] == [None, (1, 0)]
    assert parse("a.b/c[x]", "boxes")[0].output == "a.b/c[x]"


@pytest.mark.parametrize("text", ["", "a[:4]", "a[4:4]", "a[5:2]", "a[1:]", "a[,]", "a[0:99999999]"])
def test_references_that_mean_nothing(text: str) -> None:
    with pytest.raises(InputError, match=r"decode\.boxes"):
        Decode(boxes=text, scores="s", box="corners").parts("boxes")


LAYOUTS = ("rows", "batch", "columns", "flat columns", "map", "channels last", "grid")


def laid_out(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """(rows, columns, anchors, n) as an output."""
    rows, columns, anchors, n = values.shape
    flat = values.reshape(-1, n)
    made: dict[str, Callable[[], NDArray[Any]]] = {
        "rows": lambda: flat,
        "batch": lambda: flat[None],
        "columns": lambda: flat.T[None],
        "flat columns": lambda: flat.T,
        "map": lambda: values.transpose(2, 3, 0, 1).reshape(1, anchors * n, rows, columns),
        "channels last": lambda: values.reshape(1, rows, columns, anchors * n),
        "grid": lambda: values.transpose(2, 0, 1, 3)[None],
    }
    return made[layout]()


@given(
    rows=st.integers(3, 5),
    columns=st.integers(6, 8),
    anchors=st.sampled_from([1, 2, 3]),
    layout=st.sampled_from(LAYOUTS),
    picked=st.permutations(range(7)),
)
@settings(max_examples=40)
def test_every_layout_holds_the_same_boxes(
    rows: int, columns: int, anchors: int, layout: str, picked: Sequence[int]
) -> None:
    rng = np.random.default_rng(rows * columns * anchors)
    levels = [rng.uniform(0, 1, (rows * k, columns * k, anchors, 7)) for k in (2, 1)]
    size = (rows * 16, columns * 16)
    outputs = {f"out{i}": laid_out(v, layout) for i, v in enumerate(levels)}
    chosen = [f"out{i}[{', '.join(map(str, picked[:4]))}]" for i in range(2)]
    scores = [f"out{i}[{picked[4]}]" for i in range(2)]
    decode = Decode(tuple(chosen), tuple(scores), "corners", strides=(8, 16), anchors=anchors)
    have = run(decode, outputs, size)
    want = np.concatenate([v.reshape(-1, 7) for v in levels]).astype(np.float32)
    assert np.array_equal(have["boxes"][0], want[:, picked[:4]])
    assert np.array_equal(have["scores"][0], want[:, picked[4]])


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_boxes_of_all_levels_in_one_output(turned: bool, batch: bool) -> None:
    rng = np.random.default_rng(0)
    size = (32, 48)
    values = rng.uniform(0, 1, (2 * (4 * 6 + 2 * 3), 5))
    out = values.T if turned else values
    outputs = {"all": out[None] if batch else out, "list": values[None, :, 4] if batch else values[:, 4]}
    decode = Decode("all[0:4]", "list", "distances", strides=(8, 16), anchors=2, offset=0.25)
    have = run(decode, outputs, size)
    i = 0
    for stride in (8, 16):
        for y in range(size[0] // stride):
            for x in range(size[1] // stride):
                for _ in range(2):
                    left, top, right, bottom = values[i, :4] * stride
                    cx, cy = (x + 0.25) * stride, (y + 0.25) * stride
                    assert have["boxes"][0, i] == pytest.approx(
                        [cx - left, cy - top, cx + right, cy + bottom], abs=1e-4
                    )
                    i += 1
    assert i == len(values)
    assert have["scores"][0] == pytest.approx(values[:, 4])


def test_incomplete_cells_at_the_edge_count() -> None:
    outputs = {"b": np.zeros((1, 4, 4, 5)), "s": np.zeros((1, 1, 4, 5))}
    have = run(Decode("b", "s", "deltas", strides=(32,)), outputs, (100, 130))
    assert have["boxes"][0, -1] == pytest.approx([128, 96, 160, 128])


def test_points_and_box_may_be_the_same_output() -> None:
    """Nobody may lose an output that is called something else in the end."""
    corners = np.random.default_rng(0).uniform(0, 50, (1, 9, 4))
    have = run(Decode("boxes", "s", "corners", landmarks="boxes"), {"boxes": corners, "s": np.ones((1, 9))}, (64, 64))
    assert np.allclose(have["boxes"], corners)
    assert np.allclose(have["landmarks"], corners)


# The numbers' limits


def test_numbers_at_the_limits_stay_numbers() -> None:
    """A sigmoid that ends at 0 and 1, logits far off, and a product of zeros under a root."""
    heads: list[tuple[str, float]] = [("blazeface-front", 1e4), ("yolov5-face-raw", 60.0), ("yolov8-face-raw", 1e3)]
    for name, far in heads:
        head = HEADS[name]
        raw = {n: np.where(v > 0, far, -far).astype(np.float32) for n, v in head.arrays().items()}
        have = run(decode_of(head), raw, head.size)
        assert all(np.isfinite(v).all() for v in have.values()), name
        assert have["scores"].min() >= 0
        assert have["scores"].max() <= 1
    head = HEADS["yunet"]
    have = run(decode_of(head), {n: np.zeros_like(v) for n, v in head.arrays().items()}, head.size)
    assert not have["scores"].any()


@pytest.mark.parametrize("name", ["yunet", "scrfd-points", "yolov8-face", "yolov8-face-raw", "retinaface-mxnet"])
def test_what_decodes_is_in_float32_wherever_the_network_is_in_half(name: str, tmp_path: Path) -> None:
    head = HEADS[name]
    network = onnx.load(head.write(tmp_path / "network.onnx"))
    version = network.opset_import[0].version
    joined = attach(network, build(spec_of(head.arrays(), head.size), decode_of(head)))
    joined.opset_import[0].version = max(version, 18)
    half = compute_float16(joined)
    graph = onnx.shape_inference.infer_shapes(half, strict_mode=True).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    computed = ("Mul", "Add", "Sub", "Exp", "Sqrt", "Sigmoid", "Softmax", "ReduceSum")
    decoding = [n for n in graph.node if n.name.startswith("decode/") and n.op_type in computed]
    own = [n for n in graph.node if n.op_type == "Add" and n.name.startswith("node_")]  # What the file adds itself.
    assert decoding
    assert own
    for node in (*decoding, *own):
        assert kinds[node.output[0]] == onnx.TensorProto.FLOAT, node.name
    layers = [kinds[n.output[0]] for n in graph.node if n.op_type in ("Conv", "Relu")]
    assert set(layers) == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("name", "most"),
    [("yunet", 20), ("scrfd-points", 11), ("scrfd", 7), ("ulfd", 3), ("yolov8-face", 14), ("retinaface", 14)],
)
def test_a_head_is_a_few_steps(name: str, most: int) -> None:
    """Every step costs every backend on every picture. What changes nothing is not written."""
    head = HEADS[name]
    nodes = build(spec_of(head.arrays(), head.size), decode_of(head)).graph.node
    assert len(nodes) <= most, [n.op_type for n in nodes]


def test_outputs_that_have_our_names_already() -> None:
    """ULFD calls its raw outputs what ours are called."""
    head = HEADS["ulfd-raw"]
    spec = spec_of(head.arrays(), head.size)
    built = build(spec, decode_of(head))
    assert [v.name for v in built.graph.input] == [raw_name("boxes"), raw_name("scores")]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, *head.size])
    values = head.arrays()
    nodes = [
        onnx.helper.make_node("Constant", [], [n], value=onnx.numpy_helper.from_array(v)) for n, v in values.items()
    ]
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, v.shape) for n, v in values.items()]
    network = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [image], outputs),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=8,
    )
    joined = attach(network, built)
    onnx.checker.check_model(joined, full_check=True)
    session = onnxruntime.InferenceSession(joined.SerializeToString(), providers=["CPUExecutionProvider"])
    boxes, scores = session.run(["boxes", "scores"], {"image": np.zeros((1, 3, *head.size), np.float32)})
    want = head.oracle(list(values.values()), head.size)
    close(boxes[0], want.boxes)
    np.testing.assert_allclose(scores[0], want.scores, atol=1e-6)
    assert [t.name for t in decoded_spec(spec, built).outputs] == ["boxes", "scores"]


# Which family it is, by shapes alone


def cells(size: int, *strides: int) -> list[int]:
    return [(size // s) ** 2 for s in strides]


A, B, C = cells(640, 8, 16, 32)
P = A + B + C
FRONT = [[1, 896, 16], [1, 896, 1]]
# As their authors publish them, at the size that they publish.
PUBLISHED: dict[str, tuple[str, int | tuple[int, int], list[list[int]]]] = {
    "scrfd_10g_bnkps": ("scrfd", 640, [[n * 2, k] for k in (1, 4, 10) for n in (A, B, C)]),
    "scrfd_500m": ("scrfd", 640, [[1, n * 2, k] for k in (1, 4) for n in (A, B, C)]),
    "face_detection_yunet_2023mar": ("yunet", 640, [[1, n, k] for k in (1, 1, 4, 10) for n in (A, B, C)]),
    "FaceDetector (biubug6)": ("retinaface", 640, [[1, 2 * P, k] for k in (4, 2, 10)]),
    "yolov5s-face": ("yolov5-face", 640, [[1, 3 * P, 16]]),
    "yolov5s-face, raw": ("yolov5-face", 640, [[1, 3, 640 // s, 640 // s, 16] for s in (8, 16, 32)]),
    "yolov7-lite-e": ("yolov5-face", 640, [[1, 3 * P, 21]]),
    "yolov7-lite-e, with grids": (
        "yolov5-face",
        640,
        [[1, 3 * P, 21], *([1, 3, 640 // s, 640 // s, 21] for s in (8, 16, 32))],
    ),
    "yolov8n-face": ("yolov8-face", 640, [[1, 20, P]]),
    "yolov8-lite-t, for OpenCV": ("yolov8-face", 640, [[1, 80, 640 // s, 640 // s] for s in (8, 16, 32)]),
    "yolov11n-face": ("yolov8-face", 640, [[1, 5, P]]),
    "centerface": ("centerface", 640, [[1, k, 160, 160] for k in (1, 2, 2, 10)]),
    "cface.1k": ("centerface", 640, [[1, k, 160, 160] for k in (1, 2, 2)]),
    "blazeface front": ("blazeface", 128, FRONT),
    "blazeface back": ("blazeface", 256, FRONT),
    "blazeface, level by level": ("blazeface", 128, [[1, n, k] for k in (16, 1) for n in (512, 384)]),
    "blazeface full range": ("blazeface", 192, [[1, 2304, 16], [1, 2304, 1]]),
    "version-RFB-320": ("ulfd", (240, 320), [[1, 4420, 2], [1, 4420, 4]]),
    "version-RFB-640": ("ulfd", (480, 640), [[1, 17640, 2], [1, 17640, 4]]),
    "slim, of 1MB": ("retinaface", 640, [[1, 23500, k] for k in (4, 2, 10)]),
    "mnet.25": ("retinaface-mxnet", 640, [[1, k, 640 // s, 640 // s] for s in (32, 16, 8) for k in (4, 8, 20)]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_name_their_family(name: str) -> None:
    family, side, shapes = PUBLISHED[name]
    size = (side, side) if isinstance(side, int) else side
    outputs = tuple(TensorSpec(f"{100 + i}", tuple(shape)) for i, shape in enumerate(shapes))
    found = matches(NetworkSpec("network", (TensorSpec("input", (1, 3, *size)),), outputs))
    assert {match.family for match in found} == {family}


def test_other_shapes_name_none() -> None:
    image = (TensorSpec("input", (1, 3, 640, 640)),)
    for shapes in ([[1, 1000]], [[1, P, 7]], [[1, 2 * P - 1, 4], [1, 2 * P - 1, 2], [1, 2 * P - 1, 10]], FRONT):
        outputs = tuple(TensorSpec(str(i), tuple(shape)) for i, shape in enumerate(shapes))
        assert matches(NetworkSpec("network", image, outputs)) == ()
