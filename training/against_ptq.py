"""Our int8 beside that of the usual tools, in one run: NNCF's default for OpenVINO, ONNX Runtime's `quantize_static`.

NNCF is no dependency of this project, and wants an environment of its own:

    python3 -m venv /tmp/ptq && /tmp/ptq/bin/pip install -e '.[onnx,export,openvino]' nncf
    /tmp/ptq/bin/python -m training.against_ptq --assets DIR --labels labels.jsonl

All start from the same float32 graphs and the same calibration pictures (of face_counting/train; 240, because our own
choice of 300 keeps a fifth back) and are judged on the same test pictures. The other tools take tensors, not pictures:
they get what each network really reads when the float pipeline runs over those pictures, at most 300 calls. A
deformable convolution stays the runtime's own operator: NNCF leaves it in float by itself, and `quantize_static` is
told to; both once also leave its offsets and mask in float, as ours does. Everything else is each tool's default. Ours
runs without a search for layers to keep in float.

accuracy: AP counts detections above 0.02 for MOS-tiny, and those of MTCNN's own thresholds. outputs: relative L2 from
float32 on the pictures that were kept back, with the inputs of the float pipeline; it says sooner than AP who rounds
more. speed: of a network alone in OpenVINO, one stream, float layers in float32; all take turns, and what is printed
is the median over rounds of float32's time over theirs. The input is the largest that the pipeline gave.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

import facedeploy
from facedeploy import pipelines
from facedeploy.artifact.manifest import PipelineEntry
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.calibration.session import Split, calibrate, choose_pictures
from facedeploy.calibration.table import write_table
from facedeploy.core.errors import BackendUnavailableError, FacedeployError, InputError
from facedeploy.core.images import read_picture
from facedeploy.core.network_spec import NetworkSpec
from facedeploy.core.optional_imports import onnx, openvino
from facedeploy.core.target import Precision
from facedeploy.export.compiler import Job
from facedeploy.export.openvino import compile_network
from facedeploy.graph.passes.deform_conv import find_deform_convs
from facedeploy.graph.passes.float16 import exact_nodes
from facedeploy.pipelines.base import Pipeline
from facedeploy.runtimes.base import Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.onnxruntime import OnnxRuntimeRuntime
from facedeploy.runtimes.openvino import OpenVinoRuntime
from facedeploy.runtimes.wrapped import Watched
from facedeploy.sources.open import open_source
from facedeploy.sources.source import Source
from training.evaluate import (
    LOW,
    PORTRAIT_SIZE,
    Labelled,
    boxes_of,
    evaluate_detection,
    evaluate_portraits,
    from_index,
    table,
)

Size = tuple[int, int]
Files = dict[str, Path]  # network -> the file that its runtime opens

SIZE: Size = (480, 640)
SUBSET = 300  # NNCF's default.
FLOAT, OURS = "float32", "facedeploy openvino-int8"
_THREADS = (1, 2)
_SLICE = 5e-3  # Seconds that a turn lasts at least, so that the clock does not matter.
_WARMUP = 5
_SEED = 0


@dataclass(frozen=True)
class Subject:
    """A model to quantise. accuracy: whether its weights are worth it. portraits: whether it knows poses."""

    model: str
    weights: Path | None
    options: Mapping[str, Any]
    threshold: Mapping[str, Any]  # For AP.
    accuracy: bool = True
    portraits: bool = False
    pictures: int | None = None  # To calibrate with, where accuracy does not matter.


@dataclass(frozen=True)
class Case:
    """A subject at one size. onnx_paths: its float32 graphs. calls: files of what its networks read on the calibration
    pictures, held: on those kept back; both by network. ranges: our table.
    """

    subject: Subject
    source: Source
    size: Size
    onnx_paths: Files
    calls: dict[str, list[Path]]
    held: dict[str, list[Path]]
    ranges: Path

    @property
    def specs(self) -> dict[str, NetworkSpec]:
        return {n.spec.name: n.spec for n in self.source.networks}


@dataclass(frozen=True)
class Contender:
    """A way to quantise. make: writes a file for each network into a new folder, for `backend`."""

    name: str
    backend: Literal["openvino", "onnxruntime"]
    precision: Precision
    make: Callable[[Case, Path], Files]
    timed: bool = True
    positions: bool = False  # Only for networks with deformable convolutions.

    def open(self, files: Files, specs: Mapping[str, NetworkSpec], name: str, options: RuntimeOptions) -> Runtime:
        if self.backend == "onnxruntime":
            return OnnxRuntimeRuntime(files[name], specs[name], options)
        return OpenVinoRuntime(files[name], self.precision, specs[name], options)


@dataclass(frozen=True)
class DetectionRow:
    """AP at IoU 0.5, in points, and how much of float32's was lost."""

    pictures: str
    model: str
    int8: str
    runs_in: str
    count: int
    points: float
    lost: float


@dataclass(frozen=True)
class PortraitRow:
    """Errors of `training.evaluate`; five points in percent of sqrt(w * h) of the box."""

    model: str
    int8: str
    runs_in: str
    count: int
    detected: float
    yaw: float
    pitch: float
    roll: float
    pose_mean: float
    five_points: float


@dataclass(frozen=True)
class OutputRow:
    """relative: L2 of the difference from float32 over L2 of float32, in percent."""

    model: str
    size: str
    output: str
    int8: str
    runs_in: str
    relative: float


@dataclass(frozen=True)
class SpeedRow:
    """least: milliseconds of the fastest round. times: how many times faster than float32; ours: how many times faster
    than our int8; medians over the rounds.
    """

    model: str
    network: str
    input: str
    int8: str
    threads: int
    milliseconds: float
    least: float
    times: float
    ours: float


# ------------------------------------------------------------------------------------------------- what is read


class _Calls:
    """A float32 network in ONNX Runtime, and files of what it read."""

    def __init__(self, onnx_path: Path, spec: NetworkSpec, folder: Path) -> None:
        self._onnx_path, self._spec, self._folder = onnx_path, spec, folder
        folder.mkdir(parents=True)
        self.files: list[Path] = []

    def open(self, options: RuntimeOptions) -> Runtime:
        return Watched(OnnxRuntimeRuntime(self._onnx_path, self._spec, options), self._write)

    def _write(self, inputs: Mapping[str, Any], _: Arrays) -> None:
        path = self._folder / f"{len(self.files):05d}.npz"
        with path.open("wb") as file:
            np.savez(file, **inputs)
        self.files.append(path)


def _read(path: Path) -> Arrays:
    with np.load(path) as stored:
        return dict(stored)


def record(source: Source, onnx_paths: Files, pictures: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """What each network reads when the float pipeline runs over pictures; of many calls some, drawn evenly."""
    calls = {n.spec.name: _Calls(onnx_paths[n.spec.name], n.spec, folder / n.spec.name) for n in source.networks}
    with pipelines.open_pipeline(source.pipeline, {name: call.open for name, call in calls.items()}) as pipeline:
        for path in tqdm(pictures, f"record {source.model}", disable=None, leave=False):
            pipeline.detect(read_picture(path))
    chosen = {}
    for name, call in calls.items():
        files = list(call.files)
        random.Random(_SEED).shuffle(files)
        chosen[name] = files[:SUBSET]
        for path in files[SUBSET:]:
            path.unlink()
    return chosen


def prepare(subject: Subject, size: Size, pictures: Split, work: Path) -> Case:
    """The float32 graphs, what they read, and our table of ranges."""
    source = open_source(subject.model, subject.weights, input_size=size, options=subject.options)
    work.mkdir(parents=True)
    onnx_paths = {n.spec.name: work / f"{n.spec.name}.onnx" for n in source.networks}
    for network in source.networks:
        network.write(onnx_paths[network.spec.name])
    chosen = pictures.calibration[: subject.pictures]
    calls = record(source, onnx_paths, chosen, work / "calibration")
    held = record(source, onnx_paths, pictures.held_back[: subject.pictures], work / "held")
    ranges = work / "ranges.json"

    def watch(files: Sequence[Path], title: str) -> Iterable[Path]:
        shown: Iterable[Path] = tqdm(files, f"{title} {subject.model}", disable=None, leave=False)
        return shown

    write_table(calibrate(source, Split(tuple(chosen), ()), watch=watch).table, ranges)
    return Case(subject, source, size, onnx_paths, calls, held, ranges)


# ------------------------------------------------------------------------------------------------- contenders


def exported(target: str) -> Callable[[Case, Path], Files]:
    """Ours."""

    def make(case: Case, folder: Path) -> Files:
        # Slower than float, or far off it, is what this is to find out, and no reason to stop.
        int8 = Int8Options(calibration=case.ranges, force=True) if target.endswith("int8") else None
        subject = case.subject
        artifact = facedeploy.export(
            subject.model,
            target,
            subject.weights,
            folder,
            input_size=case.size,
            options=subject.options,
            int8=int8,
        )
        role = "xml" if target.startswith("openvino") else "onnx"
        return {name: artifact.file(name, role) for name in case.specs}

    return make


def nncf_quantized(preset: Literal["PERFORMANCE", "MIXED"], *, exact: bool = False) -> Callable[[Case, Path], Files]:
    """NNCF's post-training quantisation of the float32 IR. Its default preset is PERFORMANCE. exact: sampling positions
    stay in float, as in ours.
    """

    def make(case: Case, folder: Path) -> Files:
        nncf, ov = _nncf(), openvino
        made = {}
        for name, spec in case.specs.items():
            model = ov.Core().read_model(str(compiled(case.onnx_paths[name], spec, folder / "float32")))
            graph = onnx.load(case.onnx_paths[name])
            positions = {graph.graph.node[i].name for i in exact_nodes(graph)} if exact else set()
            # OpenVINO calls the parts of an ONNX node by its name, a slash and more.
            ignored = [op.friendly_name for op in model.get_ops() if op.friendly_name.split("/")[0] in positions]
            quantized = nncf.quantize(
                model,
                nncf.Dataset(case.calls[name], _read),
                preset=getattr(nncf.QuantizationPreset, preset),
                subset_size=SUBSET,
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
            )
            made[name] = folder / f"{name}.xml"
            ov.save_model(quantized, str(made[name]), compress_to_fp16=False)
        return made

    return make


def statically_quantized(
    activations: Literal["QInt8", "QUInt8"], *, openvino: bool, exact: bool = False
) -> Callable[[Case, Path], Files]:
    """`onnxruntime.quantization.quantize_static`: Q/DQ, min-max, int8 weights by channel. Signed activations are made
    symmetric, which is what TensorRT reads. exact: sampling positions stay in float, as in ours.
    """

    def make(case: Case, folder: Path) -> Files:
        from onnxruntime import quantization
        from onnxruntime.quantization import shape_inference

        made = {}
        folder.mkdir(parents=True)
        for name, spec in case.specs.items():
            model = onnx.load(case.onnx_paths[name])
            positions = exact_nodes(model) if exact else ()
            excluded = [n.name for i, n in enumerate(model.graph.node) if n.op_type == "DeformConv" or i in positions]
            path, ready = folder / f"{name}.onnx", folder / f"{name}_float32.onnx"
            # As its documentation asks; the symbolic part is for graphs whose shapes ONNX cannot infer.
            shape_inference.quant_pre_process(str(case.onnx_paths[name]), str(ready), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(ready),
                str(path),
                _Reader(case.calls[name]),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=getattr(quantization.QuantType, activations),
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=excluded,
                extra_options={"ActivationSymmetric": activations == "QInt8"},
            )
            made[name] = compiled(path, spec, folder / "openvino") if openvino else path
        return made

    return make


def compiled(onnx_path: Path, spec: NetworkSpec, folder: Path) -> Path:
    """OpenVINO's file of an ONNX graph, whatever is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / compile_network(Job(spec, onnx_path, "fp32", folder)).files["xml"]


class _Reader:
    """What `quantize_static` calls a CalibrationDataReader."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = iter(files)

    def get_next(self) -> Arrays | None:
        path = next(self._files, None)
        return None if path is None else _read(path)


def _nncf() -> Any:
    try:
        nncf = importlib.import_module("nncf")
        nncf.set_log_level(logging.ERROR)
        return nncf
    except ImportError as error:
        msg = f"this comparison needs NNCF, in an environment of its own ({error}); see the top of this script"
        raise BackendUnavailableError(msg) from error


CONTENDERS = (
    Contender(FLOAT, "openvino", "fp32", exported("openvino-fp32")),
    Contender("bf16", "openvino", "bf16", exported("openvino-fp32")),
    Contender(OURS, "openvino", "int8", exported("openvino-int8")),
    Contender("nncf default", "openvino", "int8", nncf_quantized("PERFORMANCE")),
    Contender("nncf mixed", "openvino", "int8", nncf_quantized("MIXED")),
    Contender("nncf mixed, positions float", "openvino", "int8", nncf_quantized("MIXED", exact=True), positions=True),
    Contender("quantize_static u8", "openvino", "int8", statically_quantized("QUInt8", openvino=True)),
    Contender(
        "quantize_static u8, positions float",
        "openvino",
        "int8",
        statically_quantized("QUInt8", openvino=True, exact=True),
        positions=True,
    ),
    Contender("quantize_static s8", "openvino", "int8", statically_quantized("QInt8", openvino=True)),
    Contender("facedeploy trt-int8", "onnxruntime", "int8", exported("trt-int8"), timed=False),
    Contender("quantize_static s8", "onnxruntime", "int8", statically_quantized("QInt8", openvino=False), timed=False),
)
Made = Sequence[tuple[Contender, Files]]


def quantise(case: Case, work: Path, *, accuracy: bool) -> Made:
    """Every contender's files."""
    positions = any(find_deform_convs(onnx.load(path)) for path in case.onnx_paths.values())
    mine = [c for c in CONTENDERS if (accuracy or c.timed) and (positions or not c.positions)]
    made = []
    for number, contender in enumerate(tqdm(mine, f"quantise {case.subject.model}", disable=None, leave=False)):
        with contextlib.redirect_stdout(sys.stderr):  # Others report their progress there.
            made.append((contender, contender.make(case, work / str(number))))
    return made


# ------------------------------------------------------------------------------------------------- measures


@contextlib.contextmanager
def opened(case: Case, contender: Contender, files: Files, threads: int, more: Mapping[str, Any]) -> Iterator[Pipeline]:
    """The pipeline over a contender's networks, with some options changed."""
    entry: PipelineEntry = pipelines.configure(case.source.pipeline.family, more, case.source.pipeline.config)
    with contextlib.ExitStack() as stack:
        runtimes = {}
        for name in case.specs:
            options = pipelines.runtime_options(entry, name, threads)
            runtimes[name] = stack.enter_context(contender.open(files, case.specs, name, options))
        yield pipelines.make(entry, runtimes)


def detection_rows(
    case: Case, made: Made, groups: Mapping[str, Sequence[Labelled]], threads: int
) -> Iterator[DetectionRow]:
    for group, pictures in groups.items():
        reference = 0.0
        for contender, files in made:
            with opened(case, contender, files, threads, case.subject.threshold) as pipeline:
                shown = tqdm(pictures, f"{group} {contender.name}", disable=None, leave=False)
                points = 100 * evaluate_detection(pipeline.detect, shown).value
            if contender.name == FLOAT:
                reference = points
            yield DetectionRow(
                group,
                case.subject.model,
                contender.name,
                contender.backend,
                len(pictures),
                points,
                reference - points,
            )


def portrait_rows(case: Case, made: Made, pictures: Sequence[Labelled], threads: int) -> Iterator[PortraitRow]:
    for contender, files in made:
        with opened(case, contender, files, threads, {}) as pipeline:
            shown = tqdm(pictures, f"aflw2000 {contender.name}", disable=None, leave=False)
            pose, landmarks = evaluate_portraits(pipeline.detect, shown)
        yield PortraitRow(
            case.subject.model,
            contender.name,
            contender.backend,
            pose.faces,
            pose.detection_rate,
            pose.yaw,
            pose.pitch,
            pose.roll,
            pose.mean,
            100 * landmarks.mean,
        )


def output_rows(case: Case, made: Made, threads: int) -> Iterator[OutputRow]:
    (reference, reference_files), *others = made
    for name, spec in case.specs.items():
        if not case.held[name]:
            continue
        options = RuntimeOptions(threads)
        with reference.open(reference_files, case.specs, name, options) as runtime:
            want = [runtime.run(_read(path)) for path in case.held[name]]
        for contender, files in others:
            with contender.open(files, case.specs, name, options) as runtime:
                have = [runtime.run(_read(path)) for path in case.held[name]]
            for output in (t.name for t in spec.outputs):
                off = sum(float(np.square(h[output] - w[output]).sum()) for h, w in zip(have, want, strict=True))
                all_ = sum(float(np.square(w[output]).sum()) for w in want)
                percent = 100 * float(np.sqrt(off / all_)) if all_ else 0.0
                yield OutputRow(
                    case.subject.model,
                    _text(case.size),
                    f"{name}.{output}",
                    contender.name,
                    contender.backend,
                    percent,
                )


def speed_rows(case: Case, made: Made, rounds: int) -> Iterator[SpeedRow]:
    timed = [(contender, files) for contender, files in made if contender.timed]
    for name in case.specs:
        if not case.calls[name]:
            continue
        feed = max(map(_read, case.calls[name]), key=lambda arrays: sum(a.size for a in arrays.values()))
        shape = "x".join(map(str, next(iter(feed.values())).shape))
        for threads in _THREADS:
            with contextlib.ExitStack() as stack:
                runtimes = [
                    stack.enter_context(c.open(files, case.specs, name, RuntimeOptions(threads))) for c, files in timed
                ]
                times = take_turns(runtimes, feed, rounds)
            ours = times[[c.name for c, _ in timed].index(OURS)]
            for (contender, _), mine in zip(timed, times, strict=True):
                yield SpeedRow(
                    case.subject.model,
                    name,
                    shape,
                    contender.name,
                    threads,
                    1e3 * statistics.median(mine),
                    1e3 * min(mine),
                    statistics.median(f / m for f, m in zip(times[0], mine, strict=True)),
                    statistics.median(o / m for o, m in zip(ours, mine, strict=True)),
                )


def take_turns(runtimes: Sequence[Runtime], feed: Arrays, rounds: int) -> list[list[float]]:
    """Seconds of a call, of each runtime in each round; who begins changes."""
    repeats = []
    for runtime in runtimes:
        for _ in range(_WARMUP):
            begin = time.perf_counter()
            runtime.run(feed)
            took = time.perf_counter() - begin
        repeats.append(max(1, round(_SLICE / took)))
    times: list[list[float]] = [[] for _ in runtimes]
    order = list(range(len(runtimes)))
    for number in range(rounds):
        start = number % len(order)
        for i in order[start:] + order[:start]:
            begin = time.perf_counter()
            for _ in range(repeats[i]):
                runtimes[i].run(feed)
            times[i].append((time.perf_counter() - begin) / repeats[i])
    return times


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


# ------------------------------------------------------------------------------------------------- the script


def subjects(arguments: argparse.Namespace) -> list[Subject]:
    """The models that were asked for.

    Raises:
        InputError: MOS-M without weights.
    """
    known = {
        "mos-tiny": Subject("mos-tiny", None, {}, {"score_threshold": LOW}, portraits=arguments.labels is not None),
        "mtcnn": Subject("mtcnn", arguments.assets / "weights" / "mtcnn_sysu", {"min_face": 20.0}, {}),
        # The published weights cannot be had: any will do for speed, if the pose heads get something to read.
        "mos-m": Subject(
            "mos-m", arguments.mos_m, {"score_threshold": 0.0, "keep": 64}, {}, accuracy=False, pictures=10
        ),
    }
    if "mos-m" in arguments.model and arguments.mos_m is None:
        msg = "--model mos-m needs --mos-m FILE: its weights, which may be random, because it is only timed"
        raise InputError(msg)
    return [known[name] for name in arguments.model or ("mos-tiny", "mtcnn")]


def compare(arguments: argparse.Namespace, work: Path) -> Iterator[tuple[str, list[Any]]]:
    """The name and the rows of each table, as soon as they are known: it takes long.

    Raises:
        FacedeployError: something that was named is missing, or not what it must be.
    """
    images: Path = arguments.assets / "images"
    if not images.is_dir():
        msg = f"{arguments.assets} must be the folder with images/ and weights/"
        raise InputError(msg)
    _nncf()
    chosen = choose_pictures([images / "face_counting" / "train"], arguments.count)
    counting, mask = images / "face_counting", images / "face_mask"
    cut = slice(arguments.limit)
    groups = {
        "face_counting/test": boxes_of(counting / "test", counting / "test_bbox.csv")[cut],
        "face_mask": boxes_of(mask / "images", mask / "boxes.csv")[cut],
    }
    for subject in subjects(arguments):
        accuracy = subject.accuracy and not arguments.no_accuracy
        case = prepare(subject, SIZE, chosen, work / subject.model)
        made = quantise(case, work / f"{subject.model}-int8", accuracy=accuracy)
        # The machine is warm and nothing else of this process runs.
        if not arguments.no_speed:
            yield "speed", list(speed_rows(case, made, arguments.rounds))
        if accuracy:
            yield "outputs", list(output_rows(case, made, arguments.threads))
            yield "detection", list(detection_rows(case, made, groups, arguments.threads))
        if accuracy and subject.portraits:
            portraits = from_index(arguments.labels, images, "aflw2000", ["train", "val"])
            random.Random(_SEED).shuffle(portraits)
            case = prepare(subject, PORTRAIT_SIZE, chosen, work / f"{subject.model}-portraits")
            made = quantise(case, work / f"{subject.model}-portraits-int8", accuracy=True)
            mine = portraits[: arguments.portraits][cut]
            yield "portraits", list(portrait_rows(case, made, mine, arguments.threads))


TITLES = {
    "speed": "Speed in OpenVINO, network only: milliseconds (median), and times faster than float32 (median of rounds)",
    "outputs": "Relative L2 from float32 in percent, on the calibration pictures that were kept back",
    "detection": "AP at IoU 0.5 in points, and points lost against float32",
    "portraits": "AFLW2000: mean absolute error in degrees, and of five points in percent of sqrt(w * h)",
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--assets", type=Path, required=True, help="the folder with images/ and weights/")
    made.add_argument("--labels", type=Path, help="labels.jsonl of training.labels; without it AFLW2000 is left out")
    made.add_argument("--model", action="append", choices=("mos-tiny", "mtcnn", "mos-m"), default=[])
    made.add_argument("--mos-m", type=Path, metavar="FILE", help="weights of MOS-M, which is timed only")
    made.add_argument("--count", type=int, default=SUBSET, help="pictures to calibrate with, and to keep a fifth of")
    made.add_argument("--portraits", type=int, default=300, help="pictures of AFLW2000")
    made.add_argument("--limit", type=int, help="only so many test pictures of each set")
    made.add_argument("--rounds", type=int, default=60, help="of the timing")
    made.add_argument("--threads", type=int, default=2, help="where time is not measured")
    made.add_argument("--no-speed", action="store_true")
    made.add_argument("--no-accuracy", action="store_true")
    made.add_argument("--keep", type=Path, metavar="DIR", help="new folder that the quantised networks are left in")
    made.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    return made


def main() -> int:
    arguments = parser().parse_args()
    found: dict[str, list[Any]] = {name: [] for name in TITLES}
    try:
        with contextlib.ExitStack() as stack:
            work = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for name, rows in compare(arguments, work):
                found[name] += rows
                if not arguments.json:
                    print(f"{TITLES[name]}\n{table(rows)}\n", flush=True)
    except FacedeployError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    if arguments.json:
        plain = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        print(json.dumps({"version": 1, "count": arguments.count, **plain}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
