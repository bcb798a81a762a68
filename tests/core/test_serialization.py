"""Dataclasses to plain data and back, strictly."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.artifact.manifest import FileEntry, Manifest, NetworkEntry, Parity, PipelineEntry, SourceFile
from facedeploy.core.errors import InputError
from facedeploy.core.network_spec import Axis, NetworkSpec, TensorSpec
from facedeploy.core.preprocess import Preprocess
from facedeploy.core.serialization import from_plain, to_plain
from facedeploy.core.target import TARGETS, Target
from facedeploy.pipelines.mtcnn import MtcnnConfig

SPEC = NetworkSpec(
    "pnet",
    inputs=(TensorSpec("image", (1, 3, "height", "width")),),
    outputs=(TensorSpec("score", (1, 1, "rows", "columns")),),
    axes=(Axis("height", 12, 640, 1080), Axis("width", 12, 640, 1920)),
)
MANIFEST = Manifest(
    model="mtcnn",
    target=Target("trt", "fp16"),
    networks=(
        NetworkEntry(
            SPEC,
            {"onnx": FileEntry("pnet.onnx", "ab" * 32, 123), "engine": FileEntry("pnet.engine", "cd" * 32, 0)},
            engine="ready",
            lowerings={"DeformConv": "native"},
            float32=("", "pre_layer.0."),
        ),
        NetworkEntry(NetworkSpec("bare", (), ()), {}),
    ),
    pipeline=PipelineEntry("mtcnn", to_plain(MtcnnConfig())),
    source=(SourceFile("pnet", "pnet_epoch_20.pt", "ef" * 32),),
    tools={"torch": "2.9"},
    parity=(
        Parity("pnet", "score", "onnxruntime", 1e-7, 2.5e-8, 1.0),
        Parity("pnet", "boxes", "onnxruntime", 1e-7, 2.5e-8, 1.0, overlap=0.99),
    ),
)

text = st.text(max_size=8)
size = st.integers(0, 2**40)
number = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


def tuples(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


files = st.builds(FileEntry, text, text, size)
tensors = st.builds(TensorSpec, text, tuples(st.integers() | text), text)
specs = st.builds(NetworkSpec, text, tuples(tensors), tuples(tensors), tuples(st.builds(Axis, text, size, size, size)))
networks = st.builds(
    NetworkEntry,
    specs,
    st.dictionaries(text, files, max_size=3),
    st.sampled_from([None, "ready", "pending"]),
    st.dictionaries(text, text, max_size=3),
    tuples(text),
)
manifests = st.builds(
    Manifest,
    model=text,
    target=st.sampled_from(TARGETS),
    networks=tuples(networks),
    pipeline=st.builds(PipelineEntry, text, st.dictionaries(text, json_values, max_size=3)),
    source=tuples(st.builds(SourceFile, text, text, text)),
    tools=st.dictionaries(text, text, max_size=3),
    parity=tuples(st.builds(Parity, text, text, text, number, number, number, st.none() | number)),
    version=st.integers(0, 9),
)
three = st.tuples(*[st.floats(0, 1)] * 3)
configs = st.builds(
    MtcnnConfig,
    min_face=st.floats(1, 1e6),
    thresholds=three,
    scale_factor=st.floats(0.01, 0.99),
    preprocess=st.builds(Preprocess, colours=st.sampled_from(["bgr", "rgb"]), mean=three, scale=st.floats(0.001, 2)),
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(to_plain(value), allow_nan=False))


def places(data: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every value below the document itself, but not the free-form configuration."""
    if where:
        yield where
    if where == ("pipeline", "config"):
        return
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*where, key))


def written(where: tuple[Any, ...]) -> str:
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in where).lstrip(".")


def changed(where: tuple[Any, ...], value: Any) -> Any:
    document = holder = through_json(MANIFEST)
    for key in where[:-1]:
        holder = holder[key]
    holder[where[-1]] = value
    return document


PLACES = list(places(through_json(MANIFEST)))


def test_manifest_round_trip() -> None:
    assert from_plain(Manifest, through_json(MANIFEST)) == MANIFEST


@settings(max_examples=60)
@given(manifests)
def test_any_manifest_round_trip(manifest: Manifest) -> None:
    assert from_plain(Manifest, through_json(manifest)) == manifest


@settings(max_examples=60)
@given(configs)
def test_any_config_round_trip(config: MtcnnConfig) -> None:
    assert from_plain(MtcnnConfig, through_json(config)) == config


def test_plain_data_is_what_json_reads_back() -> None:
    assert to_plain(MANIFEST) == through_json(MANIFEST)


def test_defaults_may_be_left_out() -> None:
    assert from_plain(MtcnnConfig, {}) == MtcnnConfig()
    assert from_plain(TensorSpec, {"name": "image", "shape": [1, "batch"]}) == TensorSpec("image", (1, "batch"))


def test_reading_does_not_change_the_document() -> None:
    document = through_json(MANIFEST)
    before = copy.deepcopy(document)
    from_plain(Manifest, document)
    assert document == before


@pytest.mark.parametrize("where", PLACES, ids=written)
def test_value_of_another_type_is_refused_by_its_place(where: tuple[Any, ...]) -> None:
    """An empty list of lists is the right type of nothing in a manifest."""
    with pytest.raises(InputError) as refused:
        from_plain(Manifest, changed(where, [[]]))
    assert written(where) in str(refused.value)


@pytest.mark.parametrize("where", PLACES, ids=written)
def test_true_is_no_number_and_no_text(where: tuple[Any, ...]) -> None:
    with pytest.raises(InputError) as refused:
        from_plain(Manifest, changed(where, True))
    assert written(where) in str(refused.value)


@pytest.mark.parametrize(
    "where",
    [("networks", 0, "files", "onnx"), ("target",), ("networks", 0, "spec", "axes", 1), ("parity", 0), ("pipeline",)],
)
def test_unknown_and_missing_keys_are_named(where: tuple[Any, ...]) -> None:
    holder: Any = through_json(MANIFEST)
    for key in where:
        holder = holder[key]
    with pytest.raises(InputError) as unknown:
        from_plain(Manifest, changed((*where, "surprise"), 1))
    assert f"{written(where)}.surprise is not a known key" in str(unknown.value)
    for name in holder.keys() - {"overlap"}:
        document = changed(where, {k: v for k, v in holder.items() if k != name})
        with pytest.raises(InputError) as missing:
            from_plain(Manifest, document)
        assert str(missing.value) == f"{written(where)}.{name} is missing"


def test_key_with_a_default_may_be_missing() -> None:
    document = through_json(MANIFEST)
    del document["parity"][1]["overlap"]
    assert from_plain(Manifest, document).parity[1] == replace(MANIFEST.parity[1], overlap=None)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("networks", 0, "files", "onnx", "size"), 1.0),
        (("networks", 0, "files", "onnx", "size"), "1"),
        (("networks", 0, "files", "onnx", "size"), None),
        (("networks", 0, "files"), [["onnx", "pnet.onnx"]]),
        (("networks", 0, "engine"), "soon"),
        (("networks", 0, "spec", "inputs", 0, "shape", 2), 1.5),
        (("networks", 0, "float32"), "pre_layer"),
        (("networks",), {"0": {}}),
        (("target", "backend"), "TensorRT"),
        (("target",), "trt-fp16"),
        (("parity", 0, "cosine"), "1.0"),
        (("version",), "1"),
        (("pipeline", "config"), []),
    ],
)
def test_near_misses_are_refused_by_their_place(where: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(InputError) as refused:
        from_plain(Manifest, changed(where, value))
    assert written(where) in str(refused.value)


@pytest.mark.parametrize("document", [None, [], "manifest", 1, True])
def test_document_must_be_an_object(document: Any) -> None:
    with pytest.raises(InputError, match="the document must be an object"):
        from_plain(Manifest, document)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_tuple_of_fixed_length(count: int) -> None:
    with pytest.raises(InputError, match="thresholds must be a list of 3"):
        from_plain(MtcnnConfig, {"thresholds": [0.5] * count})


def test_whole_number_is_read_as_a_float() -> None:
    config = from_plain(MtcnnConfig, {"min_face": 20, "thresholds": [0, 1, 0.5]})
    assert config == MtcnnConfig(min_face=20.0, thresholds=(0.0, 1.0, 0.5))
    assert [type(v) for v in (config.min_face, *config.thresholds)] == [float] * 4


def test_number_too_large_for_a_float_is_refused() -> None:
    """JSON has whole numbers of any length."""
    with pytest.raises(InputError, match="min_face"):
        from_plain(MtcnnConfig, {"min_face": 10**400})


@pytest.mark.parametrize("value", [float("nan"), 0.5, -3])
def test_dataclass_still_checks_its_values(value: float) -> None:
    with pytest.raises(InputError, match="min_face"):
        from_plain(MtcnnConfig, {"min_face": value})


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no plain form"):
        to_plain({"a": [{1}]})
