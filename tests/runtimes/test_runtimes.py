"""What every runtime promises, held against each of them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import facedeploy
from facedeploy.artifact.manifest import FileEntry
from facedeploy.core.errors import ConversionError, FacedeployError, InputError
from facedeploy.core.target import Target
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.verification import tensors as parity
from tests.conftest import GetArtifact

NETWORKS = ["pnet", "rnet", "onet"]
BACKENDS = {
    "torch-fp32": "torch",
    "onnx-fp32": "onnxruntime",
    "openvino-fp32": "openvino",
    "openvino-fp16": "openvino",
    "ncnn-fp32": "ncnn",
    "ncnn-fp16": "ncnn",
    "trt-fp32": "onnxruntime",
    "trt-fp16": "onnxruntime",
}
SHAPES = {
    "pnet": [(1, 3, 12, 12), (1, 3, 13, 37), (1, 3, 48, 64)],
    "rnet": [(n, 3, 24, 24) for n in (1, 2, 7)],
    "onet": [(n, 3, 48, 48) for n in (1, 2, 7)],
}
CASES = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]


def substitute(target: str) -> Substitute | None:
    """There is no GPU to rely on, so the graphs for TensorRT run in ONNX Runtime."""
    return "onnxruntime" if target.startswith("trt") else None


@pytest.fixture(scope="module", params=list(BACKENDS))
def target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def pipeline(target: str, artifact: GetArtifact) -> Iterator[Pipeline]:
    with facedeploy.load(artifact(target), threads=1, runtime=substitute(target)) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(artifact: GetArtifact) -> Iterator[Mapping[str, Runtime]]:
    with facedeploy.load(artifact("torch-fp32"), threads=1) as opened:
        yield opened.runtimes


@pytest.fixture
def rnet(pipeline: Pipeline) -> Runtime:
    return pipeline.runtimes["rnet"]


@pytest.fixture
def fresh(target: str, artifact: GetArtifact) -> Iterator[Runtime]:
    """R-Net in a runtime that a test may close."""
    with open_rnet(target, artifact) as runtime:
        yield runtime


def open_rnet(
    target: str,
    artifact: GetArtifact,
    options: RuntimeOptions = RuntimeOptions(1),  # noqa: B008  # frozen
    files: Mapping[str, Path] | None = None,
) -> Runtime:
    """Open R-Net, or what is in `files` in its place."""
    made = artifact(target)
    entry = made.manifest.network("rnet")
    placed = {role: FileEntry(str(path), "", 0) for role, path in (files or {}).items()}
    entry = replace(entry, files={**entry.files, **placed})
    return open_network("mtcnn", made.manifest.target, entry, made.path, options, substitute(target))


def network_files(target: str, artifact: GetArtifact, network: str) -> dict[str, Path]:
    made = artifact(target)
    return {role: made.path / f.path for role, f in made.manifest.network(network).files.items()}


def image(seed: int, *shape: int) -> dict[str, NDArray[np.float32]]:
    return {"image": np.random.default_rng(seed).random(shape, np.float32)}


def assert_close(have: Arrays, want: Arrays, target: str) -> None:
    tolerance = parity.TOLERANCES[Target.parse(target).precision]
    assert list(have) == list(want)
    for name, array in want.items():
        assert (have[name].dtype, have[name].shape) == (array.dtype, array.shape)
        difference = have[name].astype(np.float64) - array
        assert np.linalg.norm(difference) <= tolerance.relative * np.linalg.norm(array), name


def assert_same(have: Arrays, want: Arrays) -> None:
    """Equal but for the order of the sums, which may follow the batch and the threads."""
    assert have.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_allclose(have[name], array, rtol=1e-4, atol=1e-5)


# --- answers ---


@pytest.mark.parametrize(("network", "shape"), CASES, ids=lambda v: v if isinstance(v, str) else "x".join(map(str, v)))
def test_answers_are_those_of_pytorch(
    pipeline: Pipeline, reference: Mapping[str, Runtime], target: str, network: str, shape: tuple[int, ...]
) -> None:
    feed = image(sum(shape), *shape)
    assert_close(pipeline.runtimes[network].run(feed), reference[network].run(feed), target)


def test_answers_depend_on_the_input(rnet: Runtime) -> None:
    """Negative control for the comparisons here: other inputs and the other order of a batch are told apart."""
    one, other = rnet.run(image(1, 2, 3, 24, 24)), rnet.run(image(2, 2, 3, 24, 24))
    for name in one:
        assert np.abs(one[name] - other[name]).max() > 1e-3
        assert np.abs(one[name] - one[name][::-1]).max() > 1e-3


def test_half_precision_is_not_float32(pipeline: Pipeline, reference: Mapping[str, Runtime], target: str) -> None:
    feed = image(3, 7, 3, 48, 48)
    have, want = pipeline.runtimes["onet"].run(feed), reference["onet"].run(feed)
    difference = np.linalg.norm(have["landmarks"] - want["landmarks"]) / np.linalg.norm(want["landmarks"])
    assert (difference > 2e-5) == target.endswith("fp16")


def test_batch_is_its_pictures(rnet: Runtime) -> None:
    feed = image(4, 7, 3, 24, 24)
    together = rnet.run(feed)
    for i in range(7):
        alone = rnet.run({"image": feed["image"][i : i + 1]})
        assert_same(alone, {k: v[i : i + 1] for k, v in together.items()})


def test_run_many_is_run(pipeline: Pipeline) -> None:
    for network, shapes in SHAPES.items():
        runtime = pipeline.runtimes[network]
        feeds = [image(i, *shape) for i, shape in enumerate([*shapes, *reversed(shapes)])]
        answers = runtime.run_many(iter(feeds))
        assert len(answers) == len(feeds)
        for feed, answer in zip(feeds, answers, strict=True):
            assert_same(answer, runtime.run(feed))


def test_run_many_over_nothing(rnet: Runtime) -> None:
    assert rnet.run_many([]) == []


def test_run_many_reads_lazily(rnet: Runtime) -> None:
    read = []

    def feeds() -> Iterator[Arrays]:
        for batch in (1, 0, 2):
            read.append(batch)
            yield image(0, batch, 3, 24, 24)

    with pytest.raises(InputError):
        rnet.run_many(feeds())
    assert read == [1, 0]


def test_run_many_may_be_given_one_buffer_after_the_other(rnet: Runtime) -> None:
    """The feeds that were read are dropped by their maker while they may still be running."""
    wanted = [rnet.run(image(i, 2, 3, 24, 24)) for i in range(8)]
    for have, want in zip(rnet.run_many(image(i, 2, 3, 24, 24) for i in range(8)), wanted, strict=True):
        assert_same(have, want)


def test_error_of_the_feeds_leaves_the_runtime_usable(rnet: Runtime) -> None:
    class OutOfPicturesError(Exception):
        pass

    def feeds() -> Iterator[Arrays]:
        yield image(0, 1, 3, 24, 24)
        yield image(1, 2, 3, 24, 24)
        raise OutOfPicturesError

    before = rnet.run(image(2, 2, 3, 24, 24))
    for _ in range(3):
        with pytest.raises(OutOfPicturesError):
            rnet.run_many(feeds())
    assert_same(rnet.run(image(2, 2, 3, 24, 24)), before)
    assert_same(rnet.run_many([image(2, 2, 3, 24, 24)])[0], before)


# --- whose memory it is ---


@pytest.mark.parametrize("batch", [1, 3])
def test_inputs_are_not_modified(rnet: Runtime, batch: int) -> None:
    feed = image(5, batch, 3, 24, 24)
    before = feed["image"].copy()
    rnet.run(feed)
    rnet.run_many([feed, feed])
    assert list(feed) == ["image"]
    np.testing.assert_array_equal(feed["image"], before)


def test_read_only_input(rnet: Runtime) -> None:
    feed = image(5, 2, 3, 24, 24)
    want = rnet.run(feed)
    feed["image"].flags.writeable = False
    assert_same(rnet.run(feed), want)


@pytest.mark.parametrize("batch", [1, 3])
def test_results_belong_to_the_caller(rnet: Runtime, batch: int) -> None:
    feed, other = image(6, batch, 3, 24, 24), image(7, batch, 3, 24, 24)
    first = rnet.run(feed)
    copies = {k: v.copy() for k, v in first.items()}
    rnet.run(other)
    results = rnet.run_many([other, feed, other])
    for name, array in copies.items():
        np.testing.assert_array_equal(first[name], array)
        assert not np.shares_memory(first[name], results[1][name])
        assert not np.shares_memory(results[0][name], results[2][name])
        first[name][:] = -1
    assert_same(rnet.run(feed), copies)


def test_results_do_not_follow_the_input(rnet: Runtime) -> None:
    feed = image(8, 2, 3, 24, 24)
    result = rnet.run(feed)
    copies = {k: v.copy() for k, v in result.items()}
    feed["image"][:] = 0
    for name, array in copies.items():
        np.testing.assert_array_equal(result[name], array)


def test_results_outlive_the_runtime(target: str, artifact: GetArtifact, rnet: Runtime) -> None:
    feed = image(9, 2, 3, 24, 24)
    with open_rnet(target, artifact) as runtime:
        result, many = runtime.run(feed), runtime.run_many([feed])
    assert_same(result, rnet.run(feed))
    assert_same(many[0], rnet.run(feed))


# --- closing ---


def test_context_manager_closes(fresh: Runtime) -> None:
    feed = image(0, 1, 3, 24, 24)
    with fresh as opened:
        assert opened is fresh
        opened.run(feed)
    with pytest.raises(FacedeployError, match="rnet is closed"):
        fresh.run(feed)
    with pytest.raises(FacedeployError, match="rnet is closed"):
        fresh.run_many([feed])


def test_closing_twice_is_fine(fresh: Runtime) -> None:
    fresh.close()
    fresh.close()


def test_closes_when_the_block_raises(fresh: Runtime) -> None:
    with pytest.raises(KeyError), fresh:
        raise KeyError
    with pytest.raises(FacedeployError, match="closed"):
        fresh.run(image(0, 1, 3, 24, 24))


def test_closing_one_leaves_the_others(fresh: Runtime, rnet: Runtime) -> None:
    feed = image(0, 2, 3, 24, 24)
    want = fresh.run(feed)
    fresh.close()
    assert_same(rnet.run(feed), want)


# --- wrong inputs ---

GOOD = image(0, 2, 3, 24, 24)["image"]
WRONG: dict[str, dict[str, NDArray[Any]]] = {
    "nothing": {},
    "name": {"picture": GOOD},
    "one more": {"image": GOOD, "mask": GOOD},
    "float64": {"image": GOOD.astype(np.float64)},
    "float16": {"image": GOOD.astype(np.float16)},
    "uint8": {"image": (GOOD * 255).astype(np.uint8)},
    "other byte order": {"image": GOOD.astype(">f4")},
    "side": {"image": image(0, 2, 3, 24, 25)["image"]},
    "channels": {"image": image(0, 2, 4, 24, 24)["image"]},
    "rank": {"image": GOOD[0]},
    "scalar": {"image": np.array(1, np.float32)},
    "empty batch": {"image": GOOD[:0]},
    "transposed": {"image": GOOD.transpose(0, 1, 3, 2)},
    "strided": {"image": np.repeat(GOOD, 2, axis=3)[..., ::2]},
    "mirrored": {"image": GOOD[..., ::-1]},
    "channels last": {"image": np.ascontiguousarray(GOOD.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_refused(rnet: Runtime, wrong: str) -> None:
    with pytest.raises(InputError, match="rnet takes"):
        rnet.run(WRONG[wrong])
    with pytest.raises(InputError, match="rnet takes"):
        rnet.run_many([{"image": GOOD}, WRONG[wrong]])
    rnet.run({"image": GOOD})


@pytest.mark.parametrize("shape", [(1, 3, 11, 12), (1, 3, 12, 11), (1, 3, 0, 12), (2, 3, 12, 12)], ids=str)
def test_picture_too_small_for_pnet(pipeline: Pipeline, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="pnet takes image"):
        pipeline.runtimes["pnet"].run(image(0, *shape))


def test_larger_than_the_axes_say(pipeline: Pipeline, reference: Mapping[str, Runtime], target: str) -> None:
    """The maximum is compiled in by TensorRT only; for these it is a hint."""
    feed = image(0, reference["onet"].spec.max_batch + 1, 3, 48, 48)
    assert_close(pipeline.runtimes["onet"].run(feed), reference["onet"].run(feed), target)


# --- threads ---


def parametrize_options(*pairs: tuple[int, int]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", [RuntimeOptions(*p) for p in pairs], ids=[f"{t}-{s}" for t, s in pairs])


@parametrize_options((1, 1), (2, 1), (2, 2))
def test_threads(target: str, artifact: GetArtifact, reference: Mapping[str, Runtime], options: RuntimeOptions) -> None:
    feed = image(11, 7, 3, 24, 24)
    with open_rnet(target, artifact, options) as runtime:
        assert runtime.describe()["threads"] == options.threads
        assert_close(runtime.run(feed), reference["rnet"].run(feed), target)


@parametrize_options((1, 1), (2, 2))
def test_many_inputs_keep_their_order(target: str, artifact: GetArtifact, options: RuntimeOptions) -> None:
    """More inputs than any runtime keeps in the air; then the same with an error near their end."""

    class OutOfPicturesError(Exception):
        pass

    def feeds(stop: int) -> Iterator[Arrays]:
        for i in range(20):
            if i == stop:
                raise OutOfPicturesError
            yield image(i, 1 + i % 3, 3, 24, 24)

    with open_rnet(target, artifact, options) as runtime:
        wanted = [runtime.run(feed) for feed in feeds(20)]
        for stop in (20, 18, 20):
            if stop < 20:
                with pytest.raises(OutOfPicturesError):
                    runtime.run_many(feeds(stop))
                continue
            for have, want in zip(runtime.run_many(feeds(stop)), wanted, strict=True):
                assert_same(have, want)


@parametrize_options((1, 1), (2, 2))
def test_shared_by_threads(target: str, artifact: GetArtifact, options: RuntimeOptions) -> None:
    """Four callers, each with its own inputs, half of them over `run_many`."""
    feeds = [[image(100 * caller + i, 1 + (caller + i) % 3, 3, 24, 24) for i in range(8)] for caller in range(4)]
    with open_rnet(target, artifact, options) as runtime:
        assert runtime.concurrent is True
        wanted = [[runtime.run(feed) for feed in own] for own in feeds]
        start = threading.Barrier(len(feeds))

        def call(caller: int) -> list[Arrays]:
            start.wait()
            own = feeds[caller]
            return runtime.run_many(own) if caller % 2 else [runtime.run(feed) for feed in own]

        with ThreadPoolExecutor(len(feeds)) as pool:
            answers = list(pool.map(call, range(len(feeds))))
    for have, want in zip(answers, wanted, strict=True):
        for a, b in zip(have, want, strict=True):
            assert_same(a, b)


def test_networks_side_by_side(pipeline: Pipeline) -> None:
    calls = [(network, image(i, *shape)) for i, (network, shape) in enumerate(CASES)] * 3
    wanted = [pipeline.runtimes[network].run(feed) for network, feed in calls]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda call: pipeline.runtimes[call[0]].run(call[1]), calls))
    for have, want in zip(answers, wanted, strict=True):
        assert_same(have, want)


@pytest.mark.parametrize(("threads", "streams"), [(-1, 1), (-100, 1), (1, 0), (1, -1)])
def test_impossible_options_are_refused(threads: int, streams: int) -> None:
    with pytest.raises(InputError, match=f"not {threads} and {streams}"):
        RuntimeOptions(threads, streams)


def test_impossible_options_are_refused_when_loading(artifact: GetArtifact) -> None:
    with pytest.raises(InputError, match="threads"):
        facedeploy.load(artifact("torch-fp32"), threads=-1)


# --- what it says of itself ---


def test_description(rnet: Runtime, target: str) -> None:
    described = rnet.describe()
    assert described["backend"] == rnet.backend == BACKENDS[target]
    assert described["threads"] == 1
    assert described["version"]
    assert all(isinstance(v, str | int) for v in described.values())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_openvino_computes_in_what_the_target_says(precision: str, artifact: GetArtifact) -> None:
    """Left alone, a processor with bf16 uses it; asked for f16, one without f16 does the same."""
    openvino = pytest.importorskip("openvino")
    has_half = "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    with open_rnet(f"openvino-{precision}", artifact) as runtime:
        assert runtime.describe()["precision"] == ("f16" if has_half and precision == "fp16" else "f32")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_ncnn_says_its_precision(precision: str, artifact: GetArtifact) -> None:
    with open_rnet(f"ncnn-{precision}", artifact) as runtime:
        assert runtime.describe()["precision"] == precision


# --- damaged files ---

FILES = [("onnx-fp32", "onnx"), ("trt-fp16", "onnx"), ("openvino-fp32", "xml"), ("openvino-fp16", "bin")]
FILES += [("ncnn-fp32", "param"), ("ncnn-fp32", "bin"), ("ncnn-fp16", "bin"), ("torch-fp32", "rnet")]


@pytest.mark.parametrize("damage", ["garbage", "empty", "half", "short"])
@pytest.mark.parametrize(("damaged", "role"), FILES)
def test_damaged_file_is_refused(damaged: str, role: str, damage: str, artifact: GetArtifact, tmp_path: Path) -> None:
    paths = {r: tmp_path / path.name for r, path in network_files(damaged, artifact, "rnet").items()}
    for path in paths.values():
        shutil.copy(artifact(damaged).path / path.name, path)
    whole = paths[role].read_bytes()
    broken = {"garbage": b"\x13garbage" * 100, "empty": b"", "half": whole[: len(whole) // 2], "short": whole[:-8]}
    paths[role].write_bytes(broken[damage])
    with pytest.raises(FacedeployError) as refused:
        open_rnet(damaged, artifact, files=paths)
    assert isinstance(refused.value, ConversionError) or damaged == "torch-fp32"
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("damaged", ["ncnn-fp32", "openvino-fp32", "onnx-fp32"])
def test_files_without_an_output_of_the_network(damaged: str, artifact: GetArtifact) -> None:
    """R-Net has no landmarks; a graph that lost an output is found when it is loaded, not when it runs."""
    made = artifact(damaged)
    entry = replace(made.manifest.network("onet"), files=made.manifest.network("rnet").files)
    with pytest.raises(ConversionError, match="landmarks"):
        open_network("mtcnn", made.manifest.target, entry, made.path, RuntimeOptions(1))


def test_ncnn_graph_with_a_layer_that_ncnn_lacks(artifact: GetArtifact, tmp_path: Path) -> None:
    param = artifact("ncnn-fp32").file("rnet", "param").read_text()
    assert param.count("Reshape ") == 1
    broken = tmp_path / "rnet.param"
    broken.write_text(param.replace("Reshape ", "Reshapes"))
    with pytest.raises(ConversionError, match=r"rnet\.param"):
        open_rnet("ncnn-fp32", artifact, files={"param": broken})


# --- standing in ---


@pytest.mark.parametrize("other", ["openvino-fp32", "ncnn-fp32", "torch-fp32"])
def test_onnx_runtime_needs_an_onnx_file(other: str, artifact: GetArtifact) -> None:
    with pytest.raises(InputError, match=f"a {other} artifact holds no ONNX file"):
        facedeploy.load(artifact(other), runtime="onnxruntime")
