"""How good the tiny face detector is, beside two published ones.

`python -m training.evaluate --assets DIR --labels labels.jsonl` prints the tables of docs/explanation/mos-tiny.md.

report: face_counting/test and face_mask, single scale, which no training saw; poses and landmarks of AFLW2000, both of
the pictures that `training.labels` held back and of all. val: what is looked at during training, held back as well.
AP counts detections above 0.02; landmarks, poses, detections where no face is, and times are at each model's own
default threshold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import facedeploy
from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import FacedeployError, InputError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.preprocess import Image
from facedeploy.metrics.average_precision import AveragePrecision, average_precision, boxes_and_scores
from facedeploy.metrics.landmarks import LandmarkError, landmark_error
from facedeploy.metrics.pose import PoseError, countable, labelled_face, pose_error
from facedeploy.models import registry
from facedeploy.runtimes import Substitute
from facedeploy.sources.published import load_reference
from training.baselines import BASELINES, Detector, Size, Ulfd, YuNet
from training.faceless import faceless
from training.labels import read_boxes

Floats = NDArray[np.float64]
Detect = Callable[[Image], list[Face]]

SIZES: tuple[Size, ...] = ((240, 320), (480, 640))
PORTRAIT_SIZE: Size = (320, 320)
LOW = 0.02  # Threshold for AP: of YuNet's evaluation on WIDER FACE, and of MOS's.
FACELESS = 20
_WARMUP = 5


@dataclass(frozen=True)
class Labelled:
    """A picture file and its labels: boxes (N, 4), ignored (M, 4), landmarks (N, 5, 2) and pose (N, 3) in degrees, NaN
    where not known.
    """

    path: Path
    boxes: Floats
    ignored: Floats
    landmarks: Floats
    pose: Floats

    def read(self) -> Image:
        return read_picture(self.path)


@dataclass(frozen=True)
class Contestant:
    """A model that can be opened for an input size, with a score threshold or with its own default."""

    name: str
    threshold: float
    sizes: tuple[Size, ...]
    open: Callable[[Size, float], contextlib.AbstractContextManager[Detector]]


@dataclass(frozen=True)
class DetectionRow:
    """ap: average precision at IoU 0.5. precision, recall, threshold: where F1 is highest. milliseconds: median of the
    whole call, picture in and faces out.
    """

    pictures: str
    size: str
    model: str
    count: int
    faces: int
    ap: float | None
    best_threshold: float | None
    precision: float | None
    recall: float | None
    milliseconds: float | None


@dataclass(frozen=True)
class PortraitRow:
    """Errors in degrees over the faces found above the threshold, and of the five points as a fraction of sqrt(w * h)
    of the labelled box; None for what a model does not give.
    """

    pictures: str
    size: str
    model: str
    count: int
    threshold: float
    detected: float | None
    yaw: float | None
    pitch: float | None
    roll: float | None
    pose_mean: float | None
    landmarks: float | None


@dataclass(frozen=True)
class FacelessRow:
    """Detections above the model's default threshold on generated pictures in which no face is."""

    size: str
    model: str
    count: int
    threshold: float
    detections: int
    highest: float


# ------------------------------------------------------------------------------------------------- measures


def evaluate_detection(detect: Detect, pictures: Iterable[Labelled], *, iou: float = 0.5) -> AveragePrecision:
    """Average precision over labelled pictures."""
    found, truths, ignored = [], [], []
    for picture in pictures:
        found.append(boxes_and_scores(detect(picture.read())))
        truths.append(picture.boxes)
        ignored.append(picture.ignored)
    return average_precision(found, truths, ignored, iou=iou)


def evaluate_portraits(detect: Detect, pictures: Iterable[Labelled]) -> tuple[PoseError, LandmarkError]:
    """Pose and landmarks of the one labelled face of each picture, where it was found and its pose counts."""
    mine = [p for p in pictures if countable(p.pose[0])]
    found = [labelled_face(detect(p.read()), p.boxes[0]) for p in mine]
    pairs = [(f.landmarks, p) for f, p in zip(found, mine, strict=True) if f is not None and f.landmarks is not None]
    landmarks = landmark_error(
        [m for m, _ in pairs], [p.landmarks[0] for _, p in pairs], [p.boxes[0] for _, p in pairs]
    )
    return pose_error(found, [p.pose[0] for p in mine]), landmarks


def latencies(detects: Sequence[Detect], pictures: Sequence[Labelled]) -> list[float]:
    """Median milliseconds a picture of each; they take turns picture by picture, and who begins changes."""
    times: list[list[float]] = [[] for _ in detects]
    order = list(range(len(detects)))
    for number, picture in enumerate([*pictures[:_WARMUP], *pictures]):
        image = picture.read()
        for i in order[number % len(order) :] + order[: number % len(order)]:
            start = time.perf_counter()
            detects[i](image)
            times[i].append((time.perf_counter() - start) * 1e3)
    skipped = min(_WARMUP, len(pictures))
    return [float(np.median(t[skipped:])) for t in times]


# ------------------------------------------------------------------------------------------------- pictures


def boxes_of(folder: Path, boxes: Path) -> list[Labelled]:
    """All pictures of a folder, with the boxes of a .csv file; all labels count as faces."""
    labels = read_boxes(boxes)
    none = np.zeros((0, 4))
    return [
        Labelled(path, labels.get(path.name, none), none, np.zeros((0, 5, 2)), np.zeros((0, 3)))
        for path in sorted(folder.iterdir())
        if path.suffix in {".jpg", ".png"}
    ]


def from_index(labels: Path, images: Path, source: str, splits: Sequence[str]) -> list[Labelled]:
    """The pictures of a source and some splits, from the lines that `training.labels` writes."""
    if not labels.is_file():
        msg = f"there is no label index {labels}: write it with python -m training.labels"
        raise InputError(msg)
    records = [json.loads(line) for line in labels.read_text().splitlines()]
    return [_labelled(r, images) for r in records if r["source"] == source and r["split"] in splits]


def _labelled(record: dict[str, Any], images: Path) -> Labelled:
    faces = record["faces"]

    def known(name: str, shape: tuple[int, ...]) -> Floats:
        missing = np.full(shape, np.nan)
        return np.array([missing if f[name] is None else f[name] for f in faces], float).reshape(len(faces), *shape)

    ignored = np.array(record["ignore"], float).reshape(-1, 4)
    return Labelled(
        images / record["image"], known("box", (4,)), ignored, known("landmarks", (5, 2)), known("pose", (3,))
    )


# ------------------------------------------------------------------------------------------------- the models


def baseline(kind: type[YuNet] | type[Ulfd], assets: Path, threads: int) -> Contestant:
    def opened(size: Size, threshold: float) -> contextlib.AbstractContextManager[Detector]:
        return contextlib.nullcontext(kind(assets, size, threshold, threads))

    return Contestant(kind.name, kind.threshold, (*SIZES, PORTRAIT_SIZE), opened)


def reference(weights: Path | None, threads: int) -> Contestant:
    """MOS-tiny over PyTorch; None: with the weights in the package."""
    model = registry.get("mos-tiny")
    threshold = pipelines.configure(model.family, {}, model.options).config["score_threshold"]
    name = "mos-tiny torch" if weights is None else f"mos-tiny torch {weights.name}"

    def opened(size: Size, threshold: float) -> contextlib.AbstractContextManager[Detector]:
        options = {"score_threshold": threshold}
        return load_reference("mos-tiny", weights, specs=model.network_specs(size), threads=threads, options=options)

    return Contestant(name, threshold, (*SIZES, PORTRAIT_SIZE), opened)


def deployed(path: Path, threads: int) -> Contestant:
    """An artifact, which is for its own input size alone. That of TensorRT is judged by its graph, in ONNX Runtime.

    Raises:
        InputError: its pipeline has no score threshold, or its networks take any size. ArtifactError: it is none.
    """
    artifact = Artifact.open(path)
    manifest = artifact.manifest
    height, width = manifest.networks[0].spec.inputs[0].shape[2:]
    config = manifest.pipeline.config
    if not (isinstance(height, int) and isinstance(width, int) and "score_threshold" in config):
        msg = f"{path}: only a MOS of a fixed size can be evaluated: export it with --input-size HEIGHTxWIDTH"
        raise InputError(msg)

    def opened(size: Size, threshold: float) -> contextlib.AbstractContextManager[Detector]:
        runtime: Substitute | None = "onnxruntime" if manifest.target.backend == "trt" else None
        return facedeploy.load(artifact, threads=threads, runtime=runtime, options={"score_threshold": threshold})

    return Contestant(f"{manifest.model} {manifest.target}", config["score_threshold"], ((height, width),), opened)


# ------------------------------------------------------------------------------------------------- tables


def detection_rows(
    name: str, pictures: Sequence[Labelled], contestants: Sequence[Contestant], *, latency: bool
) -> Iterator[DetectionRow]:
    for size in SIZES:
        mine = [c for c in contestants if size in c.sizes]
        scores = []
        for contestant in mine:
            with contestant.open(size, LOW) as detector:
                shown = tqdm(pictures, f"{name} {_text(size)} {contestant.name}", disable=None, leave=False)
                scores.append(evaluate_detection(detector.detect, shown))
        times: list[float | None] = [None] * len(mine)
        if latency:
            with contextlib.ExitStack() as stack:
                detectors = [stack.enter_context(c.open(size, c.threshold)) for c in mine]
                times = [*latencies([d.detect for d in detectors], pictures)]
        for contestant, score, milliseconds in zip(mine, scores, times, strict=True):
            best = score.best
            yield DetectionRow(
                pictures=name,
                size=_text(size),
                model=contestant.name,
                count=len(pictures),
                faces=score.truths,
                ap=_known(score.value),
                best_threshold=best.threshold if best else None,
                precision=best.precision if best else None,
                recall=best.recall if best else None,
                milliseconds=milliseconds,
            )


def portrait_rows(
    name: str, pictures: Sequence[Labelled], contestants: Sequence[Contestant], threshold: float | None
) -> Iterator[PortraitRow]:
    for contestant in contestants:
        if PORTRAIT_SIZE not in contestant.sizes:
            continue
        used = contestant.threshold if threshold is None else threshold
        with contestant.open(PORTRAIT_SIZE, used) as detector:
            shown = tqdm(pictures, f"{name} {contestant.name}", disable=None, leave=False)
            pose, landmarks = evaluate_portraits(detector.detect, shown)
        yield PortraitRow(
            pictures=name,
            size=_text(PORTRAIT_SIZE),
            model=contestant.name,
            count=pose.faces,
            threshold=used,
            detected=_known(pose.detection_rate),
            yaw=_known(pose.yaw),
            pitch=_known(pose.pitch),
            roll=_known(pose.roll),
            pose_mean=_known(pose.mean),
            landmarks=_known(landmarks.mean),
        )


def faceless_rows(contestants: Sequence[Contestant]) -> Iterator[FacelessRow]:
    images = [faceless(number) for number in range(FACELESS)]
    for size in SIZES:
        for contestant in contestants:
            if size not in contestant.sizes:
                continue
            with contestant.open(size, LOW) as detector:
                scores = [face.score for image in images for face in detector.detect(image)]
            above = sum(score > contestant.threshold for score in scores)
            yield FacelessRow(
                _text(size), contestant.name, len(images), contestant.threshold, above, max(scores, default=0.0)
            )


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def table(rows: Sequence[Any]) -> str:
    """Rows of one dataclass as an aligned table, its field names on top."""
    if not rows:
        return "nothing"
    plain = [asdict(row) for row in rows]
    cells = [[name.replace("_", " ") for name in plain[0]], *([_cell(k, v) for k, v in row.items()] for row in plain)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    texts = [isinstance(value, str) for value in plain[0].values()]
    return "\n".join(
        "  ".join(c.ljust(w) if t else c.rjust(w) for c, w, t in zip(line, widths, texts, strict=True)).rstrip()
        for line in cells
    )


_DIGITS = {"ap": 3, "precision": 3, "recall": 3, "detected": 3, "landmarks": 4}


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.{_DIGITS.get(name, 2)}f}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------------- the script


def evaluate(arguments: argparse.Namespace) -> dict[str, list[Any]]:
    """The rows of every table, by its name.

    Raises:
        FacedeployError: something that was named is missing, or not what it must be.
    """
    images: Path = arguments.assets / "images"
    if not images.is_dir():
        msg = f"{arguments.assets} must be the folder with images/ and weights/"
        raise InputError(msg)
    contestants = [baseline(kind, arguments.assets, arguments.threads) for kind in BASELINES]
    if not arguments.only_baselines:
        contestants = [*_own(arguments), *contestants]

    report = arguments.split == "report"
    portraits: dict[str, list[Labelled]] = {}
    if arguments.labels is not None:
        index = (arguments.labels, images)
        portraits["aflw2000, val (held back)"] = from_index(*index, "aflw2000", ["val"])
        if report:
            portraits["aflw2000, all (val, and train that MOS-tiny saw)"] = from_index(
                *index, "aflw2000", ["train", "val"]
            )
    elif not report:
        msg = "--split val needs --labels: the file that training.labels wrote"
        raise InputError(msg)
    if report:
        counting, mask = images / "face_counting", images / "face_mask"
        groups = {
            "face_counting/test": boxes_of(counting / "test", counting / "test_bbox.csv"),
            "face_mask": boxes_of(mask / "images", mask / "boxes.csv"),
        }
    else:
        groups = {"face_counting, val": from_index(arguments.labels, images, "face_counting", ["val"])}

    cut = slice(arguments.limit)
    detection = [
        row
        for name, pictures in groups.items()
        for row in detection_rows(name, pictures[cut], contestants, latency=not arguments.no_latency)
    ]
    portrait = [
        row
        for name, pictures in portraits.items()
        for row in portrait_rows(name, pictures[cut], contestants, arguments.threshold)
    ]
    return {"detection": detection, "portraits": portrait, "faceless": list(faceless_rows(contestants))}


def _own(arguments: argparse.Namespace) -> list[Contestant]:
    threads = arguments.threads
    given = [reference(p, threads) for p in arguments.weights] + [deployed(p, threads) for p in arguments.artifact]
    return given or [reference(None, threads)]


TITLES = {
    "detection": f"Boxes: AP at IoU 0.5 (scores above {LOW}), single scale; milliseconds: median of the whole call at "
    "the model's default threshold, models taking turns",
    "portraits": "AFLW2000, labels of at most 99 degrees: mean absolute error in degrees, and of five points in "
    "sqrt(w * h) of the box, over the faces detected",
    "faceless": "Generated pictures without faces: detections above the default threshold, and the highest score",
}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")  # noqa: EM101
    return value


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--assets", type=Path, required=True, help="the folder with images/ and weights/")
    made.add_argument("--labels", type=Path, help="labels.jsonl of training.labels; without it AFLW2000 is left out")
    made.add_argument("--weights", type=Path, action="append", default=[], help="of MOS-tiny; repeatable")
    made.add_argument("--artifact", type=Path, action="append", default=[], help="of a fixed input size; repeatable")
    made.add_argument("--only-baselines", action="store_true", help="the published detectors alone")
    made.add_argument("--split", choices=("report", "val"), default="report")
    made.add_argument("--limit", type=_positive, help="only so many pictures of each set")
    made.add_argument("--threshold", type=float, help="for AFLW2000, instead of each model's default")
    made.add_argument("--threads", type=_positive, default=2, help="of each network; 1 on a busy machine")
    made.add_argument("--no-latency", action="store_true")
    made.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    return made


def main() -> int:
    arguments = parser().parse_args()
    try:
        found = evaluate(arguments)
    except FacedeployError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    if arguments.json:
        plain = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        print(json.dumps({"version": 1, "split": arguments.split, "threads": arguments.threads, **plain}, indent=1))
    else:
        print("\n\n".join(f"{TITLES[name]}\n{table(rows)}" for name, rows in found.items() if rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
