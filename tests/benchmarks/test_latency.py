"""The latency protocol: who runs when, what counts, and what is written down."""

from __future__ import annotations

import functools
import itertools
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedeploy import pipelines
from facedeploy.artifact.folder import MANIFEST
from facedeploy.benchmarks.confidence import Rounds
from facedeploy.benchmarks.latency import protocol as rules
from facedeploy.benchmarks.latency import vendors
from facedeploy.benchmarks.latency.benchmark import benchmark
from facedeploy.benchmarks.latency.cold_start import measure_cold
from facedeploy.benchmarks.latency.protocol import make_protocol, measure, run_lap, warm_up
from facedeploy.benchmarks.latency.summarize import fastest
from facedeploy.benchmarks.record import PHASES, Protocol, Record
from facedeploy.benchmarks.record_file import read_record, write_record
from facedeploy.core.errors import ConversionError, FacedeployError, InputError
from facedeploy.core.face import Face
from facedeploy.core.hashing import sha256
from facedeploy.core.network_spec import NetworkSpec, TensorSpec
from facedeploy.core.preprocess import Image, Pixels
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.metrics.interval import Interval
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.load import load
from facedeploy.pipelines.mtcnn import MtcnnPipeline
from facedeploy.pipelines.recording import record_feeds
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions, available_cores
from facedeploy.runtimes.wrapped import Lap, Timed
from tests.conftest import SMALL, GetArtifact
from tests.support.exported import tiny
from tests.support.records import make_record

# With these the deterministic weights, which are no detector, answer to a drawn picture with a few boxes.
EAGER = {"thresholds": [0.5, 0.5, 0.5], "min_face": 24}
IMAGE = np.zeros((8, 8, 3), np.uint8)
RULES = Protocol(1, "", 1, 1, 1, 0.0, 4, 0.05, 3, 0.2, 0, {}, openings=2)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, (height, width) in {"a.png": (60, 120), "b.png": (72, 100)}.items():
        cv2.imwrite(str(folder / name), group_photo(np.random.default_rng(1), height, width, 2))
    return folder


@pytest.fixture(scope="module")
def record(artifact: GetArtifact, photos: Path) -> Record:
    """One run of three backends, the first of them twice."""
    paths = [artifact(t).path for t in ("onnx-fp32", "openvino-fp32", "ncnn-fp32", "onnx-fp32")]
    return benchmark(
        paths, [photos], threads=1, rounds=7, options=EAGER, cold=False, layers=True, progress=lambda step: None
    )


# --- phases ---


class Slow(Runtime):
    """Takes a while, whatever it is given."""

    backend = "slow"
    concurrent = False

    def __init__(self) -> None:
        super().__init__(NetworkSpec("network", (TensorSpec("x", (1,)),), (TensorSpec("y", (1,)),)), RuntimeOptions(1))

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        time.sleep(0.02)
        return {"y": np.zeros(1, np.float32)}

    def run_pictures(self, pictures: Iterable[Pixels]) -> list[Arrays]:
        return [self._run({}) for _ in pictures]

    def _close(self) -> None:
        pass


class Steps(Pipeline):
    """30 ms before the network, 20 ms in it, 30 between its first and its second input, 20 in it, 10 after it."""

    def _detect(self, image: Image) -> list[Face]:
        def feeds() -> Iterator[Pixels]:
            for _ in range(2):
                time.sleep(0.03)
                yield image[None]

        self.runtimes["network"].run_pictures(feeds())
        time.sleep(0.01)
        return []


def test_time_is_that_of_the_phase_that_took_it() -> None:
    """Sleep is never too short, so only lower bounds and sums are checked."""
    lap = Lap()
    whole, preprocess, network, postprocess = run_lap(Steps({"network": Timed(Slow(), lap)}), lap, IMAGE)
    assert whole == pytest.approx(preprocess + network + postprocess)
    assert preprocess >= 0.03
    assert network >= 0.04
    assert postprocess >= 0.03 + 0.01
    assert whole - network >= 0.07, "what makes the inputs is not the network's time"


def test_networks_that_are_called_one_by_one_are_watched_too() -> None:
    class Calls(Pipeline):
        def _detect(self, image: Image) -> list[Face]:
            for _ in range(3):
                self.runtimes["network"].run({"x": np.zeros(1, np.float32)})
            return []

    lap = Lap()
    whole, preprocess, network, postprocess = run_lap(Calls({"network": Timed(Slow(), lap)}), lap, IMAGE)
    assert network >= 0.06
    assert whole == pytest.approx(preprocess + network + postprocess)


def test_a_pipeline_that_runs_no_network_only_prepares() -> None:
    class Nothing(Pipeline):
        def _detect(self, image: Image) -> list[Face]:
            return []

    lap = Lap()
    whole, preprocess, network, postprocess = run_lap(Nothing({"network": Timed(Slow(), lap)}), lap, IMAGE)
    assert (network, postprocess, preprocess) == (0, 0, whole)


def test_phases_of_a_real_pipeline_are_its_whole(artifact: GetArtifact, photos: Path) -> None:
    image = cv2.imread(str(photos / "a.png"))
    assert image is not None
    lap = Lap()
    with (
        load(artifact("onnx-fp32"), threads=1, options=EAGER) as plain,
        load(artifact("onnx-fp32"), threads=1, options=EAGER, wrap=functools.partial(Timed, lap=lap)) as pipeline,
    ):
        for _ in range(3):
            whole, *parts = run_lap(pipeline, lap, image)  # type: ignore[arg-type]
            assert whole == pytest.approx(sum(parts))
            assert min(parts) > 0
        assert pipeline.detect(image) == plain.detect(image)  # type: ignore[arg-type]


# --- turns ---


class Logged(Pipeline):
    """Writes down when it is asked, and by which picture."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        super().__init__({})
        self.name, self.log = name, log

    def _detect(self, image: Image) -> list[Face]:
        self.log.append((self.name, int(image[0, 0, 0])))
        return []


def turns(names: str, pictures: int, protocol: Protocol, opening: int = 0) -> tuple[list[tuple[str, int]], Array]:
    log: list[tuple[str, int]] = []
    candidates = [(Logged(name, log), Lap()) for name in names]
    images = [np.full((1, 1, 3), i, np.uint8) for i in range(pictures)]
    return log, measure(candidates, images, protocol, opening)


def test_every_artifact_runs_every_picture_in_every_round() -> None:
    log, times = turns("abc", 11, RULES)
    assert times.shape == (3, len(PHASES), 2, 11), "half of the rounds in each of two openings"
    assert (times[:, 0] > 0).all()
    for name in "abc":
        seen = [picture for who, picture in log if who == name]
        # Two turns in a round, each with a run that does not count; and before all a turn of 8 with its own.
        assert len(seen) == 2 * (11 + 2) + 8 + 1
        assert all(seen.count(p) >= 2 for p in range(11))


def test_a_turn_begins_with_a_run_that_does_not_count() -> None:
    log, _ = turns("ab", 1, replace(RULES, rounds=200, openings=1))
    runs = [(who, len(list(group))) for who, group in _groups([who for who, _ in log])]
    # In its turn an artifact runs once to get into stride and once to be measured; it may be drawn twice in a row.
    assert {length for _, length in runs} == {2, 4}


def _groups(values: list[str]) -> Iterator[tuple[str, list[str]]]:
    group: list[str] = []
    for value in values:
        if group and value != group[0]:
            yield group[0], group
            group = []
        group.append(value)
    yield group[0], group


def test_the_order_is_drawn_and_the_seed_draws_it() -> None:
    many = replace(RULES, rounds=40, openings=1)
    order, again, other = ([who for who, _ in turns("abc", 1, replace(many, seed=s))[0]] for s in (1, 1, 2))
    assert order == again
    assert order != other
    assert turns("abc", 1, many, opening=0)[0] != turns("abc", 1, many, opening=1)[0]
    begins = [who for i, who in enumerate(order) if i == 0 or order[i - 1] != who]
    assert {a + b for a, b in itertools.pairwise(begins)} == {"ab", "ba", "ac", "ca", "bc", "cb"}


@pytest.mark.parametrize(("rounds", "openings", "lengths"), [(7, 5, [2, 2, 1, 1, 1]), (1, 1, [1]), (10, 5, [2] * 5)])
def test_rounds_are_shared_by_the_openings(rounds: int, openings: int, lengths: list[int]) -> None:
    protocol = replace(RULES, rounds=rounds, openings=openings)
    assert [turns("a", 1, protocol, i)[1].shape[2] for i in range(openings)] == lengths


def test_a_short_time_still_gives_enough_rounds() -> None:
    protocol = replace(RULES, rounds=None, seconds=1e-9, openings=5)
    assert sum(turns("a", 1, protocol, i)[1].shape[2] for i in range(5)) >= 6


def test_warm_up_ends_when_two_windows_agree() -> None:
    times = [9.0, 8, 7, 6, 5, 4, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    left = iter(times)
    assert warm_up(lambda: next(left), replace(RULES, cap=60.0))
    # Windows of three: 3, 3, 3 after 5, 4, 3 is not steady yet, and 3, 3, 3 after 4, 3, 3 is.
    assert len(list(left)) == 2


def test_warm_up_that_never_gets_steady_ends_by_its_cap() -> None:
    value = 1.0

    def slower() -> float:
        nonlocal value
        time.sleep(0.001)
        value *= 1.1
        return value

    assert not warm_up(slower, RULES)


def test_a_protocol_is_of_the_pictures(photos: Path) -> None:
    def make(**changes: Any) -> Protocol:
        asked: dict[str, Any] = {"threads": 1, "streams": 1, "seconds": 1.0, "rounds": None, "seed": 0, "options": {}}
        files = changes.pop("files", [photos / "a.png", photos / "b.png"])
        return make_protocol(files, **{**asked, **changes})

    assert make().digest == make().digest
    assert make(files=[photos / "b.png", photos / "a.png"]).digest != make().digest
    assert make(files=[photos / "a.png"]).digest != make().digest
    assert make(threads=0).threads == available_cores()
    # What is not used does not count.
    assert make(rounds=3, seconds=1.0).digest == make(rounds=3, seconds=2.0).digest
    assert make(seconds=1.0).digest != make(seconds=2.0).digest
    assert make(seconds=2).digest == make(seconds=2.0).digest


# --- records ---


def test_what_a_record_holds(record: Record, artifact: GetArtifact, tmp_path: Path) -> None:
    assert record.pictures == ("a.png", "b.png")
    assert record.openings == (2, 2, 1, 1, 1)
    assert record.protocol.options == EAGER
    names = [m.name for m in record.measurements]
    assert names == ["onnx-fp32", "openvino-fp32", "ncnn-fp32", "onnx-fp32#2"]
    for m in record.measurements:
        made = artifact(m.target)
        assert (m.model, m.size, m.digest) == ("mtcnn", made.size, sha256(made.path / MANIFEST))
        assert m.input_sizes == {}  # P-Net takes any size.
        assert m.runtime["threads"] == 1
        assert m.lost == 0
        assert m.cold is None
        assert m.throughput is None
        for phase in PHASES:
            samples = np.array(m.samples[phase])
            assert samples.shape == (7, 2)
            spread = m.spread[phase]
            assert spread.p50.value == pytest.approx(np.median(samples))
            assert spread.mean.value == pytest.approx(samples.mean())
            assert spread.p50.low <= spread.p50.value <= spread.p50.high
            assert samples.min() <= spread.p50.value <= spread.p90 <= spread.p99 <= samples.max()
        whole, *parts = (np.array(m.samples[phase]) for phase in PHASES)
        assert np.allclose(whole, sum(parts), atol=1e-3)
    write_record(record, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == record


def test_ratios_are_paired_by_rounds(record: Record) -> None:
    first, *others = (np.array(m.samples["whole"]).sum(axis=1) for m in record.measurements)
    assert record.measurements[0].ratio == Interval(1, 1, 1)
    for m, times in zip(record.measurements[1:], others, strict=True):
        assert m.ratio.value == pytest.approx(np.median(first / times))
        assert m.ratio.low <= m.ratio.value <= m.ratio.high


def test_faces_are_those_of_the_pipeline(record: Record, artifact: GetArtifact, photos: Path) -> None:
    with load(artifact("onnx-fp32"), threads=1, options=EAGER) as pipeline:
        for name, found in zip(record.pictures, record.measurements[0].found, strict=True):
            image = cv2.imread(str(photos / name))
            assert image is not None
            assert [(f.box, f.score) for f in pipeline.detect(image)] == [(f.box, f.score) for f in found]  # type: ignore[arg-type]
    assert sum(map(len, record.measurements[0].found)) > 0


def test_conditions_are_of_this_machine(record: Record) -> None:
    conditions = record.conditions
    assert conditions.seconds > conditions.warmed > 0
    assert conditions.machine.packages["onnxruntime"]
    assert conditions.before.time <= conditions.after.time


def test_layers_are_those_that_the_backend_ran(record: Record) -> None:
    by_target = {m.target: m for m in record.measurements}
    onnx, openvino, ncnn = (by_target[t] for t in ("onnx-fp32", "openvino-fp32", "ncnn-fp32"))
    assert (ncnn.executed, ncnn.layers) == ({}, ())
    assert set(onnx.executed) == {"float"}
    assert openvino.executed["f32"] > 10
    for m in (onnx, openvino):
        assert {v.network for v in m.layers} == {"pnet", "rnet", "onet"}
        assert "Conv" in {v.kind[:4] for v in m.layers}
        times = [v.milliseconds for v in m.layers]
        assert times == sorted(times, reverse=True)
        assert min(times) >= 0 < max(times)


@pytest.mark.slow
def test_precision_is_what_was_run_and_not_what_was_asked_for() -> None:
    """An artifact's name says int8; the layers say where that is so."""
    pytest.importorskip("openvino")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = (
            shutil.copytree(tiny(f"openvino-{precision}", SMALL).path, Path(folder) / precision[0])
            for precision in ("fp32", "int8")
        )
        picture = Path(folder) / "p.png"
        cv2.imwrite(str(picture), group_photo(np.random.default_rng(1), 96, 128, 2))
        one, other = benchmark([fp32, int8], [picture], threads=1, rounds=1, cold=False).measurements
    integers = {
        name: sum(n for p, n in m.executed.items() if p in ("u8", "i8")) for name, m in (("f", one), ("i", other))
    }
    assert integers["i"] > integers["f"] + 10
    assert other.executed["f32"] > 0, "some layers are not int8, whatever the artifact is called"


@pytest.mark.slow
def test_bf16_is_seen_where_the_processor_has_it(artifact: GetArtifact, photos: Path) -> None:
    pytest.importorskip("openvino")
    try:
        path = artifact("openvino-bf16").path
    except FacedeployError as error:
        pytest.skip(str(error))
    (m,) = benchmark([path], [photos / "a.png"], threads=1, rounds=1, cold=False, options=EAGER).measurements
    assert m.executed["bf16"] > 0


# --- who is fastest ---


def ranked(ratios: list[float], noise: float, rounds: int = 30, lost: list[float | None] | None = None) -> str | None:
    draw = np.random.default_rng(1)
    base = make_record(("openvino-fp32", "openvino-int8", "ncnn-fp16")).measurements
    made = []
    for i, ratio in enumerate(ratios):
        samples = 10 / ratio * np.exp(draw.normal(0, noise, (rounds, 1)))
        points = 0.0 if lost is None else lost[i]
        kept: dict[str, Any] = {phase: tuple(map(tuple, samples.tolist())) for phase in PHASES}
        made.append(replace(base[i], samples=kept, ratio=Interval(ratio, ratio, ratio), lost=points))
    return fastest(made, Rounds((rounds,)), 0.5)


def test_fastest_is_beyond_doubt_or_nobody_is() -> None:
    names = [m.name for m in make_record(("openvino-fp32", "openvino-int8", "ncnn-fp16")).measurements]
    assert ranked([1, 2, 1.5], 0.02) == names[1]
    assert ranked([1, 1.502, 1.5], 0.02) is None, "the first two are inside each other's noise"
    assert ranked([1, 2, 1.5], 0.02, rounds=5) is None, "five rounds prove nothing"
    assert ranked([1, 2, 1.5], 0.02, lost=[0.0, 0.6, 0.5]) == names[2], "who loses too much does not count"
    assert ranked([1, 2, 1.5], 0.02, lost=[None, None, None]) is None
    assert ranked([1], 0.02) == names[0]


# --- throughput, cold, vendors ---


def test_throughput_is_of_backends_with_streams(artifact: GetArtifact, photos: Path) -> None:
    pytest.importorskip("openvino")
    paths = [artifact(t).path for t in ("onnx-fp32", "openvino-fp32")]
    if available_cores() < 2:
        pytest.skip("one core has no streams")
    made = benchmark(paths, [photos], threads=2, streams=2, rounds=1, cold=False, options=EAGER)
    onnx, openvino = (m.throughput for m in made.measurements)
    assert onnx is None
    assert openvino is not None
    assert openvino.streams == 2
    rate = openvino.pictures_per_second
    assert 0 < rate.low <= rate.value <= rate.high


def test_a_fresh_process_opens_the_artifact(artifact: GetArtifact, photos: Path) -> None:
    found = measure_cold(artifact("onnx-fp32").path, photos / "a.png", threads=1, runtime=None, options=EAGER)
    assert found.load > 0
    assert found.first > 0
    if Path("/proc/self/status").exists():
        assert found.memory is not None
        assert 1 << 20 < found.memory < 1 << 32


def test_a_fresh_process_that_fails_says_why(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(FacedeployError, match="is not an artifact") as said:
        measure_cold(tmp_path, photos / "a.png", threads=1, runtime=None, options={})
    assert "\n" not in str(said.value)


def test_feeds_are_what_the_networks_get(artifact: GetArtifact, photos: Path) -> None:
    image = cv2.imread(str(photos / "a.png"))
    with load(artifact("onnx-fp32"), threads=1, options=EAGER) as pipeline:
        assert isinstance(pipeline, MtcnnPipeline)
        with pytest.raises(TypeError):
            pipeline.runtimes["pnet"] = pipeline.runtimes["rnet"]  # type: ignore[index]
        entry = pipelines.reconfigure(artifact("onnx-fp32").manifest.pipeline, EAGER)
        feeds = record_feeds(entry, pipeline.runtimes, [image, image])  # type: ignore[list-item]
    assert {len(f.seconds) - len(f.inputs) for f in feeds.values()} == {0}
    assert all(p.dtype == np.uint8 and p.shape[3] == 3 for f in feeds.values() for p in f.inputs)
    half = len(feeds["pnet"].inputs) // 2
    assert [p.shape for p in feeds["pnet"].inputs[:half]] == [p.shape for p in feeds["pnet"].inputs[half:]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "tools"),
    [
        ("openvino-fp32", ["benchmark_app", "a bare loop of openvino"]),
        ("onnx-fp32", ["a bare loop of onnxruntime"]),
        ("ncnn-fp32", ["a bare loop of ncnn"]),
        ("torch-fp32", []),
    ],
)
def test_vendors(target: str, tools: list[str], real_artifact: GetArtifact, crowd: Path, monkeypatch: Any) -> None:
    """One short turn each. Whether the two agree is not a question for a busy machine."""
    monkeypatch.setattr(vendors, "_PAIRS", 1)
    monkeypatch.setattr(vendors, "_SECONDS", 1)
    made = real_artifact(target)
    with load(made, threads=1) as pipeline:
        seen = [cv2.imread(str(crowd))]
        feeds = record_feeds(made.manifest.pipeline, pipeline.runtimes, seen)  # type: ignore[arg-type]
    checks = vendors.check_vendor(made, feeds, 1, None)
    assert [check.tool for check in checks] == tools
    for check in checks:
        assert check.network in ("pnet", "rnet", "onet")
        assert check.ours > 0
        assert check.theirs > 0
        assert check.ratio.value == pytest.approx(check.ours / check.theirs)


def test_a_vendors_tool_that_fails_says_why(artifact: GetArtifact, photos: Path, monkeypatch: Any) -> None:
    pytest.importorskip("openvino")
    made = artifact("openvino-fp32")
    with load(made, threads=1, options=EAGER) as pipeline:
        entry = pipelines.reconfigure(made.manifest.pipeline, EAGER)
        feeds = record_feeds(entry, pipeline.runtimes, [cv2.imread(str(photos / "a.png"))])  # type: ignore[list-item]
    monkeypatch.setattr(vendors, "_SECONDS", 0)  # benchmark_app wants a positive one.
    with pytest.raises(FacedeployError, match="benchmark_app does not run") as said:
        vendors.check_vendor(made, feeds, 1, None)
    assert "\n" not in str(said.value)


# --- mistakes ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 0}, "rounds"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"threads": -1}, "threads"),
        ({"streams": 0}, "streams"),
        ({"streams": 2, "threads": 1}, "at least 2 threads"),
        ({"options": {"nose": 1}}, "nose"),
    ],
)
def test_wrong_numbers(changes: dict[str, Any], said: str, artifact: GetArtifact, photos: Path) -> None:
    with pytest.raises(InputError, match=said) as error:
        benchmark([artifact("onnx-fp32").path], [photos], **changes)
    assert "\n" not in str(error.value)


def test_nothing_to_measure(artifact: GetArtifact, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no artifact"):
        benchmark([], [photos])
    with pytest.raises(InputError, match="no picture"):
        benchmark([artifact("onnx-fp32").path], [])
    with pytest.raises(InputError, match="no picture"):
        benchmark([artifact("onnx-fp32").path], [tmp_path])


def test_artifacts_are_all_checked_before_any_is_measured(artifact: GetArtifact, photos: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(artifact("onnx-fp32").path, tmp_path / "broken"))
    (broken / "rnet.onnx").write_bytes(b"")
    with pytest.raises(FacedeployError, match=r"rnet\.onnx"):
        benchmark([artifact("onnx-fp32").path, broken], [photos], rounds=10**9)


def test_a_run_that_fails_closes_what_it_opened(artifact: GetArtifact, photos: Path, monkeypatch: Any) -> None:
    closed: list[str] = []
    close = Pipeline.close

    def watched(self: Pipeline) -> None:
        closed.append(type(self).__name__)
        close(self)

    def fail(*_: object) -> None:
        msg = "stop"
        raise ConversionError(msg)

    monkeypatch.setattr(Pipeline, "close", watched)
    monkeypatch.setattr("facedeploy.benchmarks.latency.benchmark.warm_up", fail)
    with pytest.raises(ConversionError):
        benchmark([artifact("onnx-fp32").path] * 2, [photos], rounds=1, options=EAGER)
    assert closed == ["MtcnnPipeline"] * 2


def test_the_rules_are_documented() -> None:
    """The numbers of the document are those of the code."""
    text = (Path(__file__).parents[2] / "docs" / "explanation" / "latency.md").read_text(encoding="utf-8")
    for words in (
        f"opened {rules.OPENINGS} times",
        f"{rules.TURN} pictures",
        f"{rules.WINDOW} runs",
        f"{rules.STEADY:.0%}".replace("%", " %"),
        f"{rules.CAP:g} seconds",
        f"{rules.SECONDS:g} seconds an artifact",
    ):
        assert words in text, words
