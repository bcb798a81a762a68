"""From pictures to the table of ranges, which layers int8 hurts, and what is said of input that is no use."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.torch import load_file, save_file

from facedeploy import pipelines
from facedeploy.artifact.loss import Loss
from facedeploy.calibration.chart import chart, write_chart
from facedeploy.calibration.layer_replay import Capture, Variant, open_variant
from facedeploy.calibration.observed_graph import Graph, open_graphs
from facedeploy.calibration.quantize_plan import plan_of
from facedeploy.calibration.report import CalibrationReport, LayerRow
from facedeploy.calibration.sensitivity import (
    LayerLoss,
    Sensitivity,
    fit,
    judge_on,
    measure_loss,
    measure_sensitivity,
)
from facedeploy.calibration.session import FEWEST, Plan, Session, Split, calibrate, choose_pictures
from facedeploy.calibration.table import FORMAT, Method, RangeTable, check_table, read_table, write_table
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.hashing import sha256
from facedeploy.core.images import read_picture
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.export.ncnn.ncnn2table import find_tables, read_tables
from facedeploy.graph.ranges import Range
from facedeploy.metrics.face_loss import Judge, Prediction
from facedeploy.models import registry
from facedeploy.runtimes.base import Arrays, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.sources.open import open_source
from facedeploy.sources.source import Source
from tests.artifact.test_artifact import one_sentence, tree
from tests.cli import test_cli
from tests.cli.test_cli import Run
from tests.conftest import GetWeights
from tests.support import own_networks
from training.faceless import faceless

SIZE = (96, 128)
WEIGHTS = Path(__file__).parents[2] / "facedeploy" / "models" / "weights" / "mos-tiny.safetensors"
ONE_THREAD = RuntimeOptions(threads=1)
# It sees faces of 64 pixels, as those of the pictures are.
RUINED = "mos.context.1.near.0.weight"

run = test_cli.run  # The fixture.


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of fifteen drawn pictures, of one and of two faces, which the default model finds."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for i in range(15):
        cv2.imwrite(str(folder / f"{i:02}.png"), group_photo(rng, *SIZE, 1 + i % 2))
    return folder


@pytest.fixture(scope="module")
def tiny() -> Source:
    return open_source(registry.DEFAULT, input_size=SIZE)


@pytest.fixture(scope="module")
def graphs(tiny: Source) -> dict[str, Graph]:
    return open_graphs(tiny)


@pytest.fixture(scope="module")
def split(pictures: Path) -> Split:
    return choose_pictures([pictures])


@pytest.fixture(scope="module")
def session(tiny: Source, split: Split) -> Session:
    return calibrate(tiny, split, threads=1)


@pytest.fixture(scope="module")
def table(session: Session) -> RangeTable:
    return session.table


def table_of(source: Source, files: Sequence[Path], method: Method = "mse") -> RangeTable:
    """What a calibration on some pictures leaves."""
    return calibrate(source, Split(tuple(files), ()), method=method, threads=1).table


def blank_pictures(folder: Path, *images: Image, count: int = 12) -> Path:
    """A folder of so many pictures, the given ones in turn."""
    folder.mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:02}.png"), images[i % len(images)])
    return folder


BLACK = np.zeros((*SIZE, 3), np.uint8)


def refusal(call: Callable[[], object], *words: str) -> str:
    """The sentence of a call that is the user's mistake."""
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.exit_status == 2
    message = one_sentence(str(caught.value))
    for word in words:
        assert word in message
    return message


# --- pictures ---


def test_a_fifth_of_the_pictures_is_held_back(pictures: Path, split: Split) -> None:
    assert (len(split.calibration), len(split.held_back)) == (12, 3)
    assert {*split.calibration, *split.held_back} == set(pictures.glob("*.png"))


def test_pictures_are_drawn_by_the_seed_and_not_by_their_order(pictures: Path) -> None:
    files = sorted(pictures.glob("*.png"))
    assert choose_pictures([pictures], 12) == choose_pictures([pictures], 12)
    assert choose_pictures(files[::-1], 12) == choose_pictures([pictures], 12)
    assert choose_pictures([*files, *files], 12) == choose_pictures([pictures], 12)
    drawn = {choose_pictures([pictures], 12, seed) for seed in range(4)}
    assert len(drawn) == 4
    assert {len(s.calibration) + len(s.held_back) for s in drawn} == {12}


def test_too_few_pictures(pictures: Path, tmp_path: Path) -> None:
    one = next(iter(pictures.glob("*.png")))
    refusal(lambda: choose_pictures([one]), "1 picture is too few", f"at least {FEWEST}")
    refusal(lambda: choose_pictures([one] * 20), "1 picture is too few")
    refusal(lambda: choose_pictures([pictures], 9), "9 pictures are too few")
    refusal(lambda: choose_pictures([]), "0 pictures are too few")
    refusal(lambda: choose_pictures([tmp_path]), str(tmp_path), "holds no picture")
    refusal(lambda: choose_pictures([tmp_path / "none"]), "there is no file or folder")


# --- the table ---


def test_calibration_is_deterministic(tiny: Source, split: Split, table: RangeTable) -> None:
    assert table_of(tiny, split.calibration) == table


def test_ranges_do_not_depend_on_the_order_of_the_pictures(tiny: Source, split: Split, table: RangeTable) -> None:
    turned = table_of(tiny, split.calibration[::-1])
    assert turned.networks == table.networks


def test_table_names_every_layer_and_what_it_was_made_from(
    graphs: dict[str, Graph], split: Split, table: RangeTable
) -> None:
    for name, graph in graphs.items():
        assert list(table.networks[name]) == [layer.name for layer in graph.layers]
    assert (table.model, table.method, table.pictures) == ("mos-tiny", "mse", len(split.calibration))
    assert list(table.source) == ["mos"]
    # Pixels less the mean, for one range that is known; faces have white in their eyes.
    pixels = table.networks["detector"]["mos.stem.0.0.weight"]
    assert -123 <= pixels.low < -50
    assert 50 < pixels.high <= 151


def test_ranges_are_those_of_what_the_layers_read(
    tiny: Source, graphs: dict[str, Graph], split: Split, tmp_path: Path
) -> None:
    """One layer in the middle, against all that ONNX Runtime computes there."""
    found = table_of(tiny, split.calibration, "minmax").networks["detector"]
    layer = next(v for v in graphs["detector"].layers if v.name == RUINED)
    model = onnx.ModelProto()
    model.CopyFrom(graphs["detector"].model)
    model.graph.output.append(onnx.ValueInfoProto(name=layer.input))
    onnx.save(model, tmp_path / "watched.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "watched.onnx"), providers=["CPUExecutionProvider"])
    high = 0.0
    for file in split.calibration:
        feed = feed_of(tiny, file)
        (values,) = session.run([layer.input], feed)
        high = max(high, float(values.max()))
    assert found[RUINED].maximum == pytest.approx(high, rel=1e-5)  # Another number of threads, another order of sums.
    assert found[RUINED].threshold == found[RUINED].maximum


def feed_of(source: Source, file: Path) -> Arrays:
    """What the detector sees of a picture."""
    # The pictures have the network's size, so that nothing is resized.
    return {"image": pipelines.preprocess(source.pipeline).tensor(read_picture(file)[None])}


def test_digest_changes_with_a_byte_of_a_picture(tiny: Source, split: Split, table: RangeTable, tmp_path: Path) -> None:
    files = [Path(shutil.copy(file, tmp_path)) for file in split.calibration]
    assert table_of(tiny, files).digest == table.digest
    # After the end of the picture, so that its pixels stay what they are.
    files[3].write_bytes(files[3].read_bytes() + b"\0")
    changed = table_of(tiny, files)
    assert changed.digest != table.digest
    assert changed.networks == table.networks


@pytest.mark.parametrize("method", ["minmax", "percentile", "kl", "mse"])
def test_methods_are_those_of_the_clips(method: Method, tiny: Source, split: Split, table: RangeTable) -> None:
    found = table_of(tiny, split.calibration, method)
    assert found.method == method
    detector = found.networks["detector"]
    full = [v.threshold == max(-v.minimum, v.maximum) for v in detector.values()]
    assert all(full) if method == "minmax" else not all(full)
    assert (detector == table.networks["detector"]) == (method == "mse")


def test_table_survives_its_file(table: RangeTable, tmp_path: Path) -> None:
    write_table(table, tmp_path / "t.json")
    assert read_table(tmp_path / "t.json") == table
    write_table(table, tmp_path / "t.json")  # One that is there is replaced.
    assert tree(tmp_path) == {"t.json"}
    data = json.loads((tmp_path / "t.json").read_text())
    assert (data["format"], data["version"]) == (FORMAT, 1)


def test_factors_survive_the_file_too(table: RangeTable, tmp_path: Path) -> None:
    changed = dataclasses.replace(table, networks={"n": {"w": Range(-1, 2, 2, -1, 2, (0.5, 2.0))}})
    write_table(changed, tmp_path / "t.json")
    assert read_table(tmp_path / "t.json") == changed


def damage(table: RangeTable, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    write_table(table, path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


FIRST = "mos.stem.0.0.weight"
DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another format": (lambda d: d.update(format="table"), "is not a table of ranges"),
    "another version": (lambda d: d.update(version=2), "has version 2 and this release reads version 1"),
    "NaN": (lambda d: d["networks"]["detector"][FIRST].update(threshold=float("nan")), "NaN is no number"),
    "infinity": (lambda d: d["networks"]["detector"][FIRST].update(high=float("inf")), "Infinity is no number"),
    "below zero": (lambda d: d["networks"]["detector"][FIRST].update(threshold=-1.0), "no range"),
    "zero outside": (lambda d: d["networks"]["detector"][FIRST].update(low=1.0), "no range"),
    "a factor of zero": (lambda d: d["networks"]["detector"][FIRST].update(divided=[1.0, 0.0]), "no range"),
    "text for a number": (lambda d: d["networks"]["detector"][FIRST].update(low="low"), "low"),
    "a key too few": (lambda d: d["networks"]["detector"][FIRST].pop("low"), "low"),
    "a list": (lambda d: d.update(networks=[1]), "networks"),
    "an unknown method": (lambda d: d.update(method="luck"), "method"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_table_is_refused(kind: str, table: RangeTable, tmp_path: Path) -> None:
    change, words = DAMAGES[kind]
    path = damage(table, tmp_path / "t.json", change)
    refusal(lambda: read_table(path), str(path), words)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_range_is_made_of_numbers(value: float, table: RangeTable) -> None:
    good = table.networks["detector"][FIRST]
    for wrong in ({"threshold": value}, {"high": value}):
        with pytest.raises(InputError, match="no range"):
            dataclasses.replace(good, **wrong)  # type: ignore[arg-type]  # each is a float


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "3", '{"format": "x"}', "[" * 100_000, "\x00\xff"])
def test_what_is_no_table_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(text.encode("latin-1"))
    refusal(lambda: read_table(path), str(path), "facedeploy calibrate")


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refusal(lambda: read_table(tmp_path / "t.json"), "cannot read the table")
    refusal(lambda: read_table(tmp_path), "cannot read the table")


def test_a_table_of_another_model_or_of_other_weights_is_refused(table: RangeTable) -> None:
    check_table(table, "mos-tiny", table.source)
    refusal(lambda: check_table(table, "mos-m", table.source), "for mos-tiny, not for mos-m")
    refusal(lambda: check_table(table, "mos-tiny", {"mos": "0" * 64}), "other weights of mos-tiny")
    refusal(lambda: check_table(table, "mos-tiny", {}), "other weights of mos-tiny")


def test_embedded_table_is_for_the_embedded_weights(tiny: Source, graphs: dict[str, Graph], tmp_path: Path) -> None:
    path = tiny.ranges
    assert path is not None
    found = read_table(path)
    check_table(found, "mos-tiny", {"mos": sha256(WEIGHTS)})
    assert {k: set(v) for k, v in found.networks.items()} == {
        k: {layer.name for layer in graph.layers} for k, graph in graphs.items()
    }
    assert registry.get("mos-m").embedded_ranges is None
    assert open_source(str(own_model(tmp_path / "mine.onnx"))).ranges is None


# --- what cannot be calibrated ---


def test_black_pictures_show_nothing(tiny: Source, tmp_path: Path) -> None:
    folder = blank_pictures(tmp_path / "black", BLACK, np.full_like(BLACK, 7))
    files = choose_pictures([folder]).calibration
    refusal(lambda: table_of(tiny, files), "of a single colour", "faces")


def test_pictures_without_a_face_never_reach_the_second_network(tiny: Source, tmp_path: Path) -> None:
    folder = blank_pictures(tmp_path / "faceless", *(cv2.resize(faceless(i), SIZE[::-1]) for i in range(4)))  # type: ignore[arg-type]
    files = choose_pictures([folder]).calibration
    refusal(lambda: table_of(tiny, files), "pose never ran", "faces")


def test_a_file_that_is_no_picture_is_named(tiny: Source, split: Split, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    files = [*split.calibration, tmp_path / "bad.png"]
    refusal(lambda: table_of(tiny, files), "bad.png is not a picture")


def test_held_back_pictures_without_a_face_judge_nothing(session: Session, tmp_path: Path) -> None:
    folder = blank_pictures(tmp_path / "black", BLACK)
    blind = dataclasses.replace(session, held_back=tuple(sorted(folder.iterdir())[:2]))
    plan = plan_of(session.graphs, session.table)
    said = refusal(lambda: measure_sensitivity(blind, plan), "no face on 2")
    assert refusal(lambda: judge_on(blind)) == said


def test_values_that_are_not_finite_name_the_layer_and_the_picture(split: Split, tmp_path: Path) -> None:
    """A weight that float32 holds, and whose products it does not."""
    state = load_file(WEIGHTS)
    state["stem.1.0.weight"] = state["stem.1.0.weight"] * 1e38
    save_file(state, tmp_path / "mos.safetensors")
    source = open_source("mos-tiny", tmp_path / "mos.safetensors", input_size=SIZE)
    made = open_graphs(source)
    message = refusal(lambda: table_of(source, split.calibration), "not finite", "of detector")
    named = next(v.name for v in made["detector"].layers if v.name in message)
    assert named not in ("mos.stem.0.0.weight", "mos.stem.1.0.weight")
    assert str(split.calibration[0]) in message


def own_model(path: Path, weight: float = 1.0) -> Path:
    """Two convolutions without any meaning; the channels between are of very different size."""
    first = own_networks.weights(4, 3, 3, 3) * np.array([1, 1, 0.01, 100], np.float32).reshape(-1, 1, 1, 1)
    second = own_networks.weights(6, 4, 3, 3)
    second[0, 0, 0, 0] *= weight
    nodes = [
        own_networks.convolution("x", "c", "first"),
        own_networks.node("Relu", ["c"], ["r"]),
        own_networks.convolution("r", "d", "second"),
        own_networks.node("Relu", ["d"], ["s"]),
        own_networks.convolution("s", "y", "third"),
    ]
    constants = {"first": first, "second": second, "third": own_networks.weights(5, 6, 3, 3)}
    return own_networks.write(path, nodes, constants, {"y": [1, 5, *own_networks.SIZE]})


def test_a_weight_that_is_no_number_is_named(split: Split, tmp_path: Path) -> None:
    """In a checkpoint of ours it is refused at once; an ONNX file is run as it is."""
    source = open_source(str(own_model(tmp_path / "mine.onnx", float("nan"))))
    refusal(lambda: table_of(source, split.calibration), "third", "not finite")


def test_own_network_is_calibrated_by_its_outputs(split: Split, tmp_path: Path) -> None:
    source = open_source(str(own_model(tmp_path / "mine.onnx")))
    found, plain = (calibrate(source, split, threads=1, equalised=equalised) for equalised in (True, False))
    (network,) = found.table.networks.values()
    assert list(network) == ["first", "second", "third"]
    # One channel is ten thousand times as large as another, so that they are made alike.
    assert len(network["second"].divided) == 4
    assert not any(v.divided for layers in plain.table.networks.values() for v in layers.values())
    losses = []
    for each in (found, plain):
        plan = plan_of(each.graphs, each.table)
        measured = measure_sensitivity(each, plan)
        assert [row.layer for row in measured.layers] == ["first", "second"]  # The third is the last.
        assert all(row.loss.ap is None for row in measured.layers)
        assert all(0 < (row.loss.outputs or 0) < 1 for row in measured.layers)
        losses.append(measure_loss(each, plan, measured.judge))
    assert (losses[0].outputs or 0) > 0
    assert (losses[0].outputs or 0) <= (losses[1].outputs or 0)


def test_a_weight_that_two_layers_share_has_a_range_for_both(split: Split, tmp_path: Path) -> None:
    """The second of them reads values a hundred times as large as the first."""
    weight = own_networks.weights(3, 3, 3, 3)
    last = own_networks.weights(2, 3, 3, 3)
    nodes = [
        own_networks.convolution("x", "c", "big"),
        own_networks.node("Relu", ["c"], ["r"]),
        own_networks.convolution("r", "a", "shared"),
        own_networks.convolution("x", "b", "shared"),
        own_networks.node("Add", ["a", "b"], ["sum"]),
        own_networks.convolution("sum", "y", "last"),
    ]
    constants = {"big": weight * 100, "shared": weight, "last": last}
    path = own_networks.write(tmp_path / "mine.onnx", nodes, constants, {"y": [1, 2, *own_networks.SIZE]})
    source = open_source(str(path))
    (found,) = table_of(source, split.calibration, "minmax").networks.values()
    # Pixels from 0 to 255, and what `big` makes of them.
    assert found["big"].maximum <= 255
    assert found["shared"].maximum > 10 * found["big"].maximum
    assert found["shared"].high == found["shared"].maximum


# --- sensitivity ---


@pytest.fixture(scope="module")
def floats(session: Session, graphs: dict[str, Graph]) -> Session:
    """With the graphs as they were before their channels were made alike."""
    return dataclasses.replace(session, graphs=graphs)


@pytest.fixture(scope="module")
def plan(graphs: dict[str, Graph], table: RangeTable) -> dict[str, dict[str, Range]]:
    return plan_of(graphs, table)


@pytest.mark.parametrize(
    "layer",
    [
        "mos.stem.0.0.weight",
        "mos.middle.1.conv.0.weight",
        "mos.lateral.1.0.weight",
        "mos.merge.conv.weight.columns",
        "mos.context.0.far.1.0.weight",
    ],
)
def test_replay_equals_the_whole_network(
    layer: str, tiny: Source, graphs: dict[str, Graph], plan: Plan, split: Split, tmp_path: Path
) -> None:
    graph = graphs["detector"]
    ranges = {layer: plan["detector"][layer]}
    variant = Variant(graph, ranges)
    onnx.save(graph.quantised(ranges).model, tmp_path / "whole.onnx")
    first, second = (feed_of(tiny, file) for file in split.held_back[:2])
    capture = Capture(graph, variant.boundary)
    with (
        capture.open(ONE_THREAD) as watched,
        capture.open_replayed(ONE_THREAD) as recalled,
        open_variant(variant, capture, ONE_THREAD) as replayed,
        OnnxRuntimeRuntime(tmp_path / "whole.onnx", graph.spec, ONE_THREAD) as whole,
    ):
        exact = watched.run(first)
        want = whole.run(first)
        have = replayed.run(first)
        for name, values in recalled.run(first).items():
            np.testing.assert_array_equal(values, exact[name])
        assert list(have) == list(want)
        for name, values in want.items():
            # The same operations on the same numbers; ONNX Runtime may lay a shorter graph out in another way.
            assert np.abs(have[name] - values).max() <= 1e-5 * np.abs(values).max()
        # What comes after the layer has changed, and what does not depend on it is the float network's own.
        changed = {name for name in exact if not np.array_equal(exact[name], have[name])}
        assert changed == set(variant.outputs)
        assert "boxes" in changed
        # What the capture has not seen is computed in whole.
        for name, values in whole.run(second).items():
            np.testing.assert_array_equal(replayed.run(second)[name], values)
        capture.forget()
        for name, values in want.items():
            np.testing.assert_array_equal(replayed.run(first)[name], values)


def test_a_late_layer_is_replayed_from_the_middle(graphs: dict[str, Graph], plan: Plan) -> None:
    late = Variant(graphs["detector"], {RUINED: plan["detector"][RUINED]})
    early = Variant(graphs["detector"], {FIRST: plan["detector"][FIRST]})
    assert len(late.suffix().graph.node) < len(early.suffix().graph.node) / 2
    assert early.boundary == ("image",)
    assert "image" not in late.boundary
    assert "features8" not in late.outputs
    assert "features16" in late.outputs


@pytest.fixture(scope="module")
def ruined(plan: dict[str, dict[str, Range]]) -> dict[str, dict[str, Range]]:
    """A plan in which one layer clips all but a thousandth of what it reads."""
    values = plan["detector"][RUINED]
    small = dataclasses.replace(values, threshold=values.threshold * 1e-3, low=0.0, high=values.high * 1e-3)
    return {**plan, "detector": {**plan["detector"], RUINED: small}}


@pytest.fixture(scope="module")
def sensitivity(floats: Session, ruined: Plan) -> Sensitivity:
    return measure_sensitivity(floats, ruined)


def test_a_ruined_layer_is_ranked_first(sensitivity: Sensitivity, ruined: Plan) -> None:
    assert [(v.network, v.layer) for v in sensitivity.layers] == [
        (n, k) for n, layers in ruined.items() for k in layers
    ]
    worst, second, *_ = sensitivity.worst_first
    assert worst.layer == RUINED
    assert (worst.loss.ap or 0) > 20
    assert (second.loss.ap or 0) < 1
    assert worst.loss.score > 10 * second.loss.score


def test_layers_of_the_second_network_are_measured_in_degrees(sensitivity: Sensitivity) -> None:
    (pose,) = (row for row in sensitivity.layers if row.network == "pose")
    assert pose.loss.ap == 0
    assert pose.loss.landmarks == 0
    assert 0 < (pose.loss.degrees or 0) < 2


def test_only_the_ruined_layer_stays_in_float(
    floats: Session, ruined: Plan, plan: Plan, sensitivity: Sensitivity
) -> None:
    asked: list[int] = []

    def measure(some: Plan) -> Loss:
        asked.append(sum(map(len, some.values())))
        return measure_loss(floats, some, sensitivity.judge)

    left, loss = fit(ruined, sensitivity, 0.5, measure)
    assert left == {name: {k: v for k, v in layers.items() if k != RUINED} for name, layers in ruined.items()}
    assert loss.points <= 0.5
    assert asked == [22, 21]
    assert measure(ruined).points > 20
    # Where the budget is met at once, nothing stays in float.
    assert fit(plan, sensitivity, 0.5, measure)[0] == plan


def test_layers_leave_in_the_order_of_their_harm_until_the_budget_is_met() -> None:
    losses = {"a": 1.0, "b": 3.0, "c": 2.0}
    rows = tuple(LayerLoss("n", k, Loss(ap=v)) for k, v in losses.items())
    plan = {"n": dict.fromkeys(losses, Range(0, 1, 1, 0, 1))}

    def measure(some: Plan) -> Loss:
        return Loss(ap=sum(losses[k] for k in some["n"]))

    kept = []
    for budget in (6, 3, 1.5, 0.5, 0):
        left, loss = fit(plan, Sensitivity(Judge((), 0.5), rows), budget, measure)
        assert loss.points <= budget
        kept.append("".join(left["n"]))
    assert kept == ["abc", "ac", "a", "", ""]
    assert set(plan["n"]) == set(losses)


# --- the judge ---


def face(x: float, score: float = 0.9, shift: float = 0.0, **angles: Any) -> Prediction:
    points = tuple((x + shift + k, 20.0 + k) for k in range(5))
    return Prediction((Face((x, 10, x + 40, 50), score, points, **angles),))


def test_float_against_itself_loses_nothing(floats: Session, sensitivity: Sensitivity) -> None:
    judge = sensitivity.judge
    assert judge.loss(judge.truth) == Loss(ap=0, landmarks=0, degrees=0)
    none: Plan = {name: {} for name in floats.graphs}
    assert measure_loss(floats, none, judge).points == 0


def test_a_missing_face_costs_its_share() -> None:
    answers = tuple(face(10.0 * k) for k in range(8))
    judge = Judge(answers, 0.5)
    found = [Prediction(()), *answers[1:]]
    assert judge.loss(found).ap == pytest.approx(100 / 8)
    assert judge.loss([Prediction(())] * 8) == Loss(ap=100)


def test_a_false_face_costs_and_a_doubtful_one_does_not() -> None:
    doubtful = Face((200, 10, 240, 50), 0.3)
    truth = Prediction((*face(0).faces, doubtful))
    judge = Judge((truth, face(0)), 0.5)
    assert judge.loss([truth, face(0)]).ap == 0
    # Below the threshold in the float pipeline: it may come and go.
    assert judge.loss([face(0), face(0)]).ap == 0
    wrong = Prediction((*face(0).faces, Face((300, 10, 340, 50), 0.99)))
    assert (judge.loss([wrong, face(0)]).ap or 0) > 10


def test_landmarks_are_in_percent_of_the_face_and_angles_in_degrees() -> None:
    judge = Judge((face(0, yaw=179.0, pitch=0.0, roll=10.0),), 0.5)
    loss = judge.loss([face(0, shift=2.0, yaw=-178.0, pitch=0.0, roll=10.0)])
    assert loss.ap == 0
    assert loss.landmarks == pytest.approx(100 * 2 / 40)
    assert loss.degrees == pytest.approx(3 / 3)  # 179 and -178 are 3 apart, of three angles.
    assert judge.loss([face(0, yaw=179.0, pitch=0.0, roll=10.0)]) == Loss(ap=0, landmarks=0, degrees=0)
    bare = Prediction((Face((0, 10, 40, 50), 0.9),))
    assert Judge((bare,), 0.5).loss([bare]) == Loss(ap=0)


def test_outputs_are_compared_where_no_faces_come_out() -> None:
    want = Prediction((), ({"y": np.array([3, 4], np.float32), "z": np.array([1], np.float32)},))
    have = Prediction((), ({"y": np.array([3, 4.5], np.float32), "z": np.array([1], np.float32)},))
    judge = Judge((want, want), 0.0)
    assert judge.loss([want, have]) == Loss(outputs=0.1)
    assert judge.loss([want, have]).points == pytest.approx(10)
    judge.check()


def test_nothing_to_judge_on_is_said() -> None:
    refusal(Judge((face(0, 0.3), Prediction(())), 0.5).check, "finds no face on 2 held-back pictures")


# --- the chart ---


def report(table: RangeTable, losses: list[Loss | None]) -> CalibrationReport:
    rows = tuple(LayerRow("net", f"layer{i}.weight", loss, "" if loss else "a rule") for i, loss in enumerate(losses))
    return CalibrationReport(table, rows, Loss(), 3)


def bars(image: Image) -> int:
    return int((image == (190, 120, 40)).all(axis=2).sum())


def test_chart_has_a_row_a_layer_and_a_column_a_unit(table: RangeTable) -> None:
    full = chart(report(table, [Loss(1.0, 2.0, 3.0), Loss(0.5, 1.0, 0.0), None]))
    assert full.dtype == np.uint8
    assert bars(full) > 1000
    fewer = chart(report(table, [Loss(1.0, 2.0, 3.0), None]))
    assert fewer.shape[0] < full.shape[0]
    assert fewer.shape[1] == full.shape[1]
    one = chart(report(table, [Loss(outputs=0.1), None]))
    assert one.shape[1] < full.shape[1]
    assert bars(one) > 500
    # Twice the loss is twice the bar, but for its frame of a pixel.
    twice = [bars(chart(report(table, [Loss(2.0), Loss(v)]))) for v in (2.0, 1.0)]
    assert twice[1] == pytest.approx(twice[0] * 0.75, rel=0.02)


def test_chart_without_losses_has_no_bars(table: RangeTable, tmp_path: Path) -> None:
    empty = chart(report(table, [None, None]))
    assert empty.size > 0
    assert bars(empty) == 0
    assert (empty < 255).any()
    zero = chart(report(table, [Loss(0.0, 0.0, 0.0)]))
    assert bars(zero) < 200
    write_chart(report(table, [Loss(1.0)]), tmp_path / "c.png")
    read = cv2.imread(str(tmp_path / "c.png"))
    assert read is not None
    assert read.shape == chart(report(table, [Loss(1.0)])).shape


# --- mistakes at the command line ---


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(run: Run, folder: Path, *args: object) -> str:
    """The sentence of a command that must fail, and leave nothing."""
    before = tree(folder)
    result = run(*args)
    message = result.refused()
    assert [line for line in result.err.splitlines() if line] == [message]
    assert tree(folder) == before
    return one_sentence(message)


@pytest.mark.parametrize("command", ["calibrate", "export"])
def test_pictures_that_are_no_use_are_refused_at_the_command_line(
    command: str, run: Run, here: Path, pictures: Path
) -> None:
    start: tuple[object, ...] = ("calibrate", "--input-size", "96x128", "--images")
    if command == "export":
        start = ("export", "--target", "trt-int8", "--input-size", "96x128", "--calibration")
    (here / "empty").mkdir()
    one = here / "one"
    one.mkdir()
    shutil.copy(pictures / "00.png", one)
    black = blank_pictures(here / "black", BLACK)
    plain = blank_pictures(here / "plain", *(cv2.resize(faceless(i), SIZE[::-1]) for i in range(4)))  # type: ignore[arg-type]
    assert "there is no file or folder" in refused(run, here, *start, "nowhere")
    assert "holds no picture" in refused(run, here, *start, here / "empty")
    assert "1 picture is too few" in refused(run, here, *start, one)
    assert "of a single colour" in refused(run, here, *start, black)
    assert "pose never ran" in refused(run, here, *start, plain)
    assert "--method takes mse, kl, percentile or minmax, not 'luck'" in refused(
        run, here, *start, pictures, "--method", "luck"
    )


def test_calibrate_needs_one_size_and_a_place_for_its_files(run: Run, here: Path, pictures: Path) -> None:
    start = ("calibrate", "--images", pictures)
    assert "needs one size" in refused(run, here, *start, "--input-size", "any")
    assert "must end in .json" in refused(run, here, *start, "-o", "t.txt")
    assert "must end in .png" in refused(run, here, *start, "--chart", "c.jpg")
    assert "cannot write" in refused(run, here, *start, "-o", "nowhere/t.json")
    assert run("calibrate").status == 2


def test_a_table_that_does_not_fit_is_refused_at_the_command_line(
    run: Run, here: Path, table: RangeTable, pictures: Path
) -> None:
    start = ("export", "--target", "trt-int8", "--input-size", "96x128", "--calibration")
    tables = {
        "model": ((lambda d: d.update(model="mos-m")), "for mos-m, not for mos-tiny"),
        "weights": ((lambda d: d.update(source={"mos": "0" * 64})), "other weights of mos-tiny"),
        "layer": ((lambda d: d["networks"]["detector"].pop(RUINED)), f"no layer {RUINED} in detector"),
        "network": ((lambda d: d["networks"].pop("pose")), "no layer heads.hidden.0.weight in pose"),
        "version": ((lambda d: d.update(version=7)), "has version 7"),
    }
    for name, (change, words) in tables.items():
        path = damage(table, here / f"{name}.json", change)
        assert words in refused(run, here, *start, path)
    (here / "broken.json").write_text("{")
    assert "is not valid JSON" in refused(run, here, *start, here / "broken.json")
    good = damage(table, here / "good.json", lambda d: d)
    assert "--max-drop needs pictures" in refused(run, here, *start, good, "--max-drop", "0.5")
    assert "--max-drop takes points" in refused(run, here, *start, pictures, "--max-drop", "-1")
    assert "no layer matches 'nothing*'" in refused(run, here, *start, good, "--float-layer", "nothing*")
    assert "no layer matches 'nothing*'" in refused(run, here, *start, good, "--int8-layer", "nothing*")


def test_calibration_is_for_int8_targets_alone(run: Run, here: Path, pictures: Path) -> None:
    for option in (["--calibration", str(pictures)], ["--max-drop", "1"], ["--force"], ["--float-layer", "*"]):
        message = refused(run, here, "export", "--target", "onnx-fp32", "--input-size", "96x128", *option)
        assert "onnx-fp32 has no use for" in message


def test_a_model_without_a_table_asks_for_pictures(run: Run, here: Path, mos_weights: GetWeights) -> None:
    message = refused(
        run, here, "export", "mos-m", "--weights", mos_weights("mos-m"), "--target", "trt-int8", "--input-size", "32x32"
    )
    assert "mos-m has no table of ranges: give --calibration a folder of pictures" in message


def test_a_table_of_ncnn2table_must_fit(tiny: Source, here: Path) -> None:
    pytest.importorskip("pnnx")
    text = "{0}_param_0 127.0\n{0} 12.7\n"

    def plan_from(path: Path) -> object:
        return read_tables(tiny, find_tables(path))

    (here / "other.table").write_text(text.format("conv_0"))
    refusal(lambda: plan_from(here / "other.table"), "named after a network of mos-tiny: detector, pose")
    (here / "pose.table").write_text(text.format("conv_of_another_network"))
    refusal(lambda: plan_from(here / "pose.table"), "conv_of_another_network", "no layer of pose")
    (here / "detector.table").write_text("conv_0 -3\n")
    refusal(lambda: plan_from(here / "detector.table"), "detector.table, line 1: -3 is no scale")
