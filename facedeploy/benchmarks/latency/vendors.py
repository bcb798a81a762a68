"""Are our times those of the vendor's own tool? The heaviest network of an artifact, timed by us and by it, in turns.

Theirs is the bare loop over the Python API that anybody would write, with the same settings, and of OpenVINO also
`benchmark_app`, which runs in processes of its own. Both sides get the same input; ours is what a pipeline calls, with
its checks and with outputs that the caller may keep.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.record import VendorCheck
from facedeploy.core.errors import FacedeployError
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import require
from facedeploy.core.preprocess import Pixels
from facedeploy.metrics.interval import Interval
from facedeploy.pipelines.load import substitute_for
from facedeploy.runtimes import Substitute, open_network
from facedeploy.runtimes.base import Array, Arrays, RuntimeOptions
from facedeploy.runtimes.ncnn import ncnn_options
from facedeploy.runtimes.onnxruntime import open_session
from facedeploy.runtimes.wrapped import Feeds

TOLERANCE = 0.03
# Of as many pairs, the least and the largest ratio enclose the median with 97 % (the sign test: 1 - 2 * 0.5^6).
_PAIRS = 6
_SECONDS = 2  # Of a turn; benchmark_app takes whole ones.
_LIMIT = 300.0  # Seconds until benchmark_app, whose start compiles the network, is given up.
_FEWEST = 10  # Runs in a turn.
_SHORTEST = 0.1  # Milliseconds: benchmark_app reports hundredths.

Turn = Callable[[], float]
Run = Callable[[], object]


def check_vendor(
    artifact: Artifact, feeds: Mapping[str, Feeds], threads: int, runtime: Substitute | None
) -> tuple[VendorCheck, ...]:
    """Time the heaviest network of an artifact on its heaviest input; empty where there is nothing to compare with, or
    nothing was run.

    Raises:
        FacedeployError: the vendor's tool failed.
    """
    if not any(f.inputs for f in feeds.values()):
        return ()
    name, given = _heaviest(feeds)
    whole = artifact
    artifact, entry = next((part, network) for n, part, network in whole.compiled() if n == name)
    runtime = substitute_for(whole, artifact, runtime)
    manifest = artifact.manifest
    backend = "onnx" if runtime else manifest.target.backend
    files = {role: artifact.path / file.path for role, file in entry.files.items()}
    spec = entry.spec
    feed = given if isinstance(given, Mapping) else _tensors(artifact, spec, given)

    @contextmanager
    def opened() -> Iterator[Run]:
        settings = RuntimeOptions(threads)
        with open_network(manifest.model, manifest.target, entry, artifact.path, settings, runtime) as ours:
            yield lambda: ours.run(feed)

    with tempfile.TemporaryDirectory() as folder:
        theirs: dict[str, Turn] = {}
        if backend == "openvino":
            with open_network(manifest.model, manifest.target, entry, artifact.path, RuntimeOptions(threads)) as ours:
                precision, dynamic = ours.describe()["precision"], bool(spec.axes)
            theirs["benchmark_app"] = _benchmark_app(files["xml"], precision, threads, dynamic, feed, Path(folder))
            theirs["a bare loop of openvino"] = _loop(_bare_openvino(files["xml"], precision, threads, feed))
        elif backend == "onnx":
            theirs["a bare loop of onnxruntime"] = _loop(_bare_onnxruntime(files["onnx"], spec, feed, threads))
        elif backend == "ncnn":
            options = {"num_threads": threads, **ncnn_options(manifest.target.precision)}
            theirs["a bare loop of ncnn"] = _loop(_bare_ncnn(files["param"], files["bin"], spec, feed, options))
        return tuple(_compare(name, tool, _loop(opened), turn) for tool, turn in theirs.items())


def _heaviest(feeds: Mapping[str, Feeds]) -> tuple[str, Any]:
    """The network that takes most of the time, and the input that took it longest."""
    name = max(feeds, key=lambda n: sum(feeds[n].seconds))
    slowest = int(np.argmax(feeds[name].seconds))
    return name, feeds[name].inputs[slowest]


def _tensors(artifact: Artifact, spec: NetworkSpec, pixels: Pixels) -> Arrays:
    """What a network that is run on pictures is given where it is run on tensors."""
    return {spec.inputs[0].name: pipelines.preprocess(artifact.manifest.pipeline).tensor(pixels)}


def _compare(network: str, tool: str, ours: Turn, theirs: Turn) -> VendorCheck:
    times: list[tuple[float, float]] = []
    for i in range(_PAIRS):
        if i % 2:
            second = theirs()
            times.append((ours(), second))
        else:
            times.append((ours(), theirs()))
    if min(min(pair) for pair in times) < _SHORTEST:
        msg = f"a run of {network} is too short for {tool} to measure: leave --vendors out"
        raise FacedeployError(msg)
    ratios = [a / b for a, b in times]
    interval = Interval(statistics.median(ratios), min(ratios), max(ratios))
    return VendorCheck(
        network, tool, statistics.median(a for a, _ in times), statistics.median(b for _, b in times), interval
    )


def _loop(opened: Callable[[], AbstractContextManager[Run]]) -> Turn:
    """A turn of a loop in this process: median milliseconds. Opened anew each time, as a tool in a process is."""

    def turn() -> float:
        with opened() as run:
            run()
            times: list[float] = []
            begun = time.perf_counter()
            while len(times) < _FEWEST or time.perf_counter() - begun < _SECONDS:
                start = time.perf_counter()
                run()
                times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)

    return turn


def _benchmark_app(
    xml: Path, precision: str, threads: int, dynamic: bool, feed: Mapping[str, Array], folder: Path
) -> Turn:
    """A turn of OpenVINO's benchmark_app, told to do what our runtime does: median milliseconds."""
    for i, array in enumerate(feed.values()):
        np.save(folder / f"{i}.npy", array)
    command = [
        *(sys.executable, "-c", "from openvino.tools.benchmark.main import main; main()", "-m", str(xml)),
        *("-d", "CPU", "-api", "sync", "-hint", "none", "-nstreams", "1", "-nthreads", str(threads)),
        *("-infer_precision", precision, "-ip", "f32", "-t", str(_SECONDS)),
        *("-i", ",".join(f"{name}:{folder / f'{i}.npy'}" for i, name in enumerate(feed))),
        *("-json_stats", "-report_type", "no_counters", "-report_folder", str(folder)),
    ]
    if dynamic:
        command += ["-data_shape", ",".join(f"{k}[{','.join(map(str, v.shape))}]" for k, v in feed.items())]

    def turn() -> float:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_LIMIT, check=False, stdin=subprocess.DEVNULL
            )
            report = json.loads((folder / "benchmark_report.json").read_text(encoding="utf-8"))
            return float(report["execution_results"]["latency (ms)"])
        except subprocess.TimeoutExpired as error:
            msg = f"benchmark_app took more than {_LIMIT:.0f} seconds on {xml}"
            raise FacedeployError(msg) from error
        except (OSError, ValueError, KeyError) as error:
            said = (done.stdout.strip() or done.stderr.strip() or "it said nothing").splitlines()[-1]
            msg = f"benchmark_app does not run {xml}: {said}"
            raise FacedeployError(msg) from error

    return turn


def _bare_openvino(
    xml: Path, precision: str, threads: int, feed: Mapping[str, Array]
) -> Callable[[], AbstractContextManager[Run]]:
    openvino = require("openvino", "openvino")
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}

    @contextmanager
    def opened() -> Iterator[Run]:
        request = openvino.Core().compile_model(xml, "CPU", settings).create_infer_request()
        yield lambda: request.infer(feed, share_inputs=True, share_outputs=True)

    return opened


def _bare_onnxruntime(
    path: Path, spec: NetworkSpec, feed: Mapping[str, Array], threads: int
) -> Callable[[], AbstractContextManager[Run]]:
    @contextmanager
    def opened() -> Iterator[Run]:
        session = open_session(path, threads)
        names = [t.name for t in spec.outputs]
        yield lambda: session.run(names, feed)

    return opened


def _bare_ncnn(
    param: Path, weights: Path, spec: NetworkSpec, feed: Mapping[str, Array], options: Mapping[str, Any]
) -> Callable[[], AbstractContextManager[Run]]:
    ncnn = require("ncnn", "ncnn")

    @contextmanager
    def opened() -> Iterator[Run]:
        net = ncnn.Net()
        for name, value in options.items():
            if hasattr(net.opt, name):
                setattr(net.opt, name, value)
        net.load_param(str(param))
        net.load_model(str(weights))

        def run() -> object:
            with net.create_extractor() as extractor:
                for name, array in feed.items():
                    mat = ncnn.Mat(array[0]) if len(array) == 1 else ncnn.Mat(array, batch_index=0)
                    extractor.input(name, mat.clone())
                return [np.array(extractor.extract(t.name)[1]) for t in spec.outputs]

        yield run
        net.clear()

    return opened
