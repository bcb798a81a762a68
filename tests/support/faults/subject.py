"""What faults are injected into: a model, its right artifacts, and pictures that say what a fault does to faces."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.benchmarks.accuracy.readers.aflw2000 import read_aflw2000
from facedeploy.benchmarks.accuracy.readers.boxes_csv import read_csv
from facedeploy.calibration.quantize_plan import Int8Options, Quantisation, quantisation
from facedeploy.core.errors import FacedeployError, ParityError
from facedeploy.core.face import Face
from facedeploy.core.images import read_picture
from facedeploy.core.network_spec import InputSize
from facedeploy.core.preprocess import Image
from facedeploy.core.target import Target
from facedeploy.export import check_faces, check_network, exporter, one_network
from facedeploy.metrics.average_precision import average_precision, boxes_and_scores
from facedeploy.metrics.face_matching import angle_distances, match, point_distances, side
from facedeploy.metrics.labelled_images import LabelledImage
from facedeploy.pipelines.base import Looker, Pipeline
from facedeploy.pipelines.load import load
from facedeploy.sources.open import open_source
from facedeploy.sources.source import Source
from tests.support.faults.inject import Fault, injected

TARGETS = (
    "onnx-fp32",
    *(f"{b}-{p}" for b in ("openvino", "ncnn", "trt") for p in ("fp32", "fp16", "int8")),
)
Question = tuple[str, str, str, str]  # Subject, network, fault, target.
Found = list[list[Face]]
_ASKED = 0.05  # The threshold for average precision.
# From where a fault is harmful: points of AP, percent of the faces, percent of the box, degrees. fp32 promises more.
_HARMFUL = {"fp32": (1.0, 1.0, 1.0, 0.5), "fp16": (1.0, 1.0, 3.0, 2.0), "int8": (1.0, 3.0, 3.0, 2.0)}
_CHOSEN_OTHERWISE = 0.02
_MANY = 400
_PORTRAITS = 0.3  # Share of the pictures that show one large face.


@dataclass(frozen=True)
class Subject:
    """A model that faults are injected into.

    source: what `export` is given. networks: those of its networks that are made wrong.
    """

    name: str
    source: str
    networks: tuple[str, ...]
    input_size: InputSize | None
    weights: Path | None = None
    calibrated: bool = False
    max_drop: float | None = None
    looks: bool = False


def subjects(assets: Path) -> dict[str, Subject]:
    """Name -> a published model that comes with its weights, a cascade, a detector and a crop network of a user's."""
    weights = assets / "weights"
    all_of_them = (
        Subject("mos-tiny", "mos-tiny", ("detector", "pose"), (240, 320)),
        Subject("mtcnn", "mtcnn", ("pnet", "rnet", "onet"), (240, 320), weights / "mtcnn_sysu", True, 2.0),
        Subject("yunet", str(weights / "yunet" / "yunet_n_320_320.onnx"), ("network",), None, None, True),
        Subject("pfld", str(weights / "pfld_106" / "lite.onnx"), ("network",), None, None, True, looks=True),
    )
    return {s.name: s for s in all_of_them}


@dataclass(frozen=True)
class Effect:
    """What a fault does to the faces of real pictures.

    The wrong artifact against the right one of the same target. ap: points of AP that are lost. faces: percent of them
    that come or go at the threshold. worst: percent of the box for its corners and for the points, and degrees, of the
    worst face but for a fiftieth.
    """

    ap: float
    faces: float
    worst: tuple[float, ...]

    def harmful(self, precision: str) -> bool:
        ap, faces, *off = _HARMFUL[precision]
        return not (np.array([self.ap, self.faces, *self.worst]) <= [ap, faces, off[0], *off]).all()

    def worse(self, other: Effect) -> Effect:
        return Effect(max(self.ap, other.ap), max(self.faces, other.faces), tuple(map(max, self.worst, other.worst)))


@dataclass(frozen=True)
class Attempt:
    """What came of an export with a fault in it.

    refusal: the words; empty where it was written. effect: None where it was refused before it could run, or fails.
    """

    refusal: str
    effect: Effect | None

    def harmful(self, target: str) -> bool:
        return self.effect is None or self.effect.harmful(Target.parse(target).precision)

    def verdict(self, target: str) -> str:
        """Such as "harmful and refused"."""
        return f"{'harmful' if self.harmful(target) else 'harmless'} and {'refused' if self.refusal else 'written'}"


@dataclass
class Bench:
    """A subject on the bench: its source is read once, it is calibrated once, and each right artifact is made once."""

    subject: Subject
    images: Path
    pictures: int = 50
    _right: dict[str, Found] = field(default_factory=dict)

    @functools.cached_property
    def source(self) -> Source:
        return open_source(self.subject.source, self.subject.weights, input_size=self.subject.input_size)

    @functools.cached_property
    def labelled(self) -> list[tuple[Image, LabelledImage]]:
        single, _ = read_aflw2000(self.images / "aflw2000", {})
        large = round(_PORTRAITS * self.pictures)
        chosen = [*_spread(self._train, self.pictures - large), *_spread(single, large)]
        pictures = [(read_picture(p.path), p) for p in chosen]
        return [_close_up(*pair) if i % 2 and pair[1] in single else pair for i, pair in enumerate(pictures)]

    @functools.cached_property
    def quantised(self) -> Quantisation:
        options = Int8Options()
        if not self.subject.calibrated:
            return quantisation(self.source, options)
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "pictures"
            folder.mkdir()
            for picture in _spread(self._train[1:], 100):
                (folder / picture.name).symlink_to(picture.path.resolve())
            detector = None
            if self.subject.looks:
                with mock.patch.object(exporter, "open_source", open_source):
                    detector = facedeploy.export("mos-tiny", "onnx-fp32", output=Path(work) / "detector").path
            options = Int8Options(folder, count=100, max_drop=self.subject.max_drop, detector=detector)
            return quantisation(self.source, options)

    @functools.cached_property
    def wider(self) -> Bench:
        """The same with many pictures."""
        other = Bench(self.subject, self.images, _MANY)
        vars(other).update(source=self.source, quantised=self.quantised)
        return other

    @functools.cached_property
    def _train(self) -> Sequence[LabelledImage]:
        table = self.images / "face_counting" / "train_bbox.csv"
        return read_csv(table, {"images": str(table.parent / "train")})[0]

    def export(self, target: str, output: Path) -> Artifact:
        """As `facedeploy.export`, with the source, the calibration and the speed from before."""
        with self._settled():
            return facedeploy.export(self.subject.source, target, self.subject.weights, output)

    def sound(self, target: str) -> str:
        """Empty where the model can be exported, or why not."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.export(target, Path(folder) / "out")
            except FacedeployError as error:
                return str(error)
        return ""

    def attempt(self, network: str, fault: Fault, target: str, *, effect: bool = True) -> Attempt | None:
        """Export with a fault; None where it changes nothing. effect: whether to look at pictures too."""
        if effect:  # Before anything is wrong.
            self._right_faces(TARGETS[0])
            self._right_faces(target)
        with tempfile.TemporaryDirectory() as folder, injected(network, fault) as changed:
            refusals: list[str] = []
            with _asked(refusals) if effect else ExitStack():
                try:
                    made = self.export(target, Path(folder) / "out")
                except Exception as error:  # What a wrong graph does to a compiler is not known before.
                    words = [*refusals, f"{type(error).__name__}: {error}"]
                    return Attempt(words[0], None) if any(changed) else None
            if not any(changed):
                return None
            return Attempt(refusals[0] if refusals else "", self._effect(made, fault, target) if effect else None)

    def _effect(self, made: Artifact, fault: Fault, target: str) -> Effect | None:
        right = self._right_faces(target)
        try:
            found = self._look(made)
            effect = self._compare(right, found)
            if fault.opening is not None:
                effect = effect.worse(self._compare(right, self._look(made, threads=1)))
        except Exception:
            return None
        return effect

    def _right_faces(self, target: str) -> Found:
        if target not in self._right:
            with tempfile.TemporaryDirectory() as folder:
                self._right[target] = self._look(self.export(target, Path(folder) / "out"))
        return self._right[target]

    def _look(self, made: Artifact, threads: int = 0) -> Found:
        lower = {"score_threshold": _ASKED} if "score_threshold" in made.manifest.pipeline.config else {}
        runtime: Any = "onnxruntime" if made.manifest.target.backend == "trt" else None
        with load(made, threads=threads, runtime=runtime, options=lower) as pipeline:
            return [_look(pipeline, image, labels) for image, labels in self.labelled]

    def _compare(self, right: Found, found: Found) -> Effect:
        """What a wrong artifact costs beyond the right one, which may cost something against float too."""
        floats = self._right_faces(TARGETS[0])
        costs = np.subtract(self._costs(floats, found), self._costs(floats, right))
        ap, faces, *off = np.nan_to_num(costs, nan=np.inf, posinf=np.inf).round(3).tolist()
        return Effect(ap, faces, tuple(off))

    def _costs(self, floats: Found, found: Found) -> list[float]:
        threshold = self.source.pipeline.config.get("score_threshold", 0.0)
        want, have = ([[f for f in p if f.score >= threshold] for p in each] for each in (floats, found))
        pairs = [pair for a, b in zip(want, have, strict=True) for pair in match(a, b)]
        total = sum(map(len, want))
        alone = max(total, sum(map(len, have))) - len(pairs)
        measures = (_corners, point_distances, angle_distances)
        lost = 0.0 if self.subject.looks else -100 * self._ap(found)
        return [lost, 100 * alone / max(total, 1), *(_worst(pairs, measure) for measure in measures)]

    def _ap(self, found: Found) -> float:
        return average_precision([boxes_and_scores(f) for f in found], [p.boxes for _, p in self.labelled]).value

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """What is the same in each export is done once."""
        with (
            mock.patch.object(exporter, "open_source", lambda *_, **__: self.source),
            mock.patch.object(exporter, "_quantisation", lambda *_: self.quantised),
            mock.patch.object(exporter, "against_fp32", lambda *_: 2.0),
            mock.patch.object(exporter, "with_blame", lambda error, *_: error),
            mock.patch.object(one_network, "with_blame", lambda error, *_: error),
        ):
            yield


def _corners(a: Face, b: Face) -> list[float]:
    return [100 * abs(p - q) / side(a) for p, q in zip(a.box, b.box, strict=True)]


def _worst(pairs: Sequence[tuple[Face, Face]], measure: Callable[[Face, Face], Sequence[float]]) -> float:
    """What the worst face has but for a fiftieth: rounding may choose another box of a face."""
    off = sorted(max(values) for a, b in pairs if (values := measure(a, b)))
    if not all(map(math.isfinite, off)):
        return math.inf
    kept = off[: len(off) - math.ceil(_CHOSEN_OTHERWISE * len(off))]
    return kept[-1] if kept else 0.0


def _spread(pictures: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    return [pictures[i * len(pictures) // count] for i in range(count)]


def _close_up(image: Image, labels: LabelledImage) -> tuple[Image, LabelledImage]:
    """The face that fills the picture."""
    x1, y1, x2, y2 = labels.boxes[0]
    margin = 0.2 * max(x2 - x1, y2 - y1)
    left, top = (max(0, round(v - margin)) for v in (x1, y1))
    right, bottom = round(x2 + margin), round(y2 + margin)
    cut = np.ascontiguousarray(image[top:bottom, left:right])
    return cut, replace(labels, boxes=labels.boxes - [left, top, left, top])


def _look(pipeline: Pipeline, image: Image, labels: LabelledImage) -> list[Face]:
    if isinstance(pipeline, Looker):
        return pipeline.locate(image, [Face(tuple(box), 1.0) for box in labels.boxes.tolist()])
    return pipeline.detect(image)


@contextmanager
def _asked(refusals: list[str]) -> Iterator[None]:
    """What the checks of an export refuse is noted, and the export goes on: so it can be seen what it would do."""

    def noting(check: Callable[..., Any], otherwise: Any) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            try:
                return check(*arguments)
            except ParityError as error:
                refusals.append(f"{type(error).__name__}: {error}")
                return otherwise

        return noted

    with (
        mock.patch.object(one_network, "check_compiled", noting(check_network.check_compiled, ())),
        mock.patch.object(exporter, "check_on_scenes", noting(check_faces.check_on_scenes, check_faces.Limits())),
    ):
        yield
