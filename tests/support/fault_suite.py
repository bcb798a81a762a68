"""Which wrong compiles are refused: every kind of fault in every network, on every target, and what it does to faces.

    python -m tests.support.fault_suite --work DIR [--only WORDS] [--targets openvino-fp16,ncnn-int8]

Each answer is kept in DIR/answers.json, so that a run can be cut and goes on. At the end it prints what was written
though it is harmful, what was refused though it is harmless, and how many of each.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx

import facedeploy
from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import FacedeployError
from facedeploy.core.face import Face
from facedeploy.core.network_spec import Size
from facedeploy.core.preprocess import Image
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.core.target import Backend
from facedeploy.export import compiler, exporter, one_network
from facedeploy.export.compiler import Compile, Compiled, Job
from facedeploy.pipelines.load import load
from facedeploy.verification.faces import FaceErrors, measure_faces
from tests.support.graph_faults import Change, graph_faults

TARGETS = (
    "onnx-fp32",
    *(f"{b}-{p}" for b in ("openvino", "ncnn", "trt") for p in ("fp32", "fp16", "int8")),
)
SIZE: Size = (240, 320)
_MODEL = "mos-tiny"
_PICTURES = 12
# In percent of the box and in degrees: from where a fault is harmful; fp32 promises more.
HARMFUL = {"fp32": (1.0, 0.5), "fp16": (3.0, 2.0), "int8": (3.0, 2.0)}


def harmful(effect: FaceErrors, precision: str) -> bool:
    """Whether a fault costs more than one face of a hundred, or moves what is found further than is promised."""
    percent, degrees = HARMFUL[precision]
    lost = 100 * max(effect.missing, effect.extra) / max(effect.total, 1)
    return lost > 1 or max(effect.box, effect.points) > percent or effect.degrees > degrees


@contextmanager
def compiled_wrong(network: str, change: Change) -> Iterator[list[bool]]:
    """A network of the model is compiled from a graph that was changed. Yields whether something was."""
    right, seen = compiler.find, []

    def find(backend: Backend) -> Compile:
        def compile_network(job: Job) -> Compiled:
            if job.spec.name != network:
                return right(backend)(job)
            model = onnx.load(job.onnx_path)
            seen.append(change(model))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "wrong.onnx"
                onnx.save(model, path)
                return right(backend)(replace(job, onnx_path=path))

        return compile_network

    with mock.patch.object(compiler, "find", find):
        yield seen


def attempt(model: str, network: str, target: str, change: Change) -> str:
    """Empty where the fault changes nothing, "written", or the words of the refusal."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(exporter, "against_fp32", lambda *_: 2.0),
        mock.patch.object(exporter, "with_blame", lambda error, *_: error),
        mock.patch.object(one_network, "with_blame", lambda error, *_: error),
        compiled_wrong(network, change) as changed,
    ):
        try:
            facedeploy.export(model, target, output=Path(folder) / "out", input_size=SIZE)
        except (FacedeployError, onnx.checker.ValidationError) as error:
            return f"{type(error).__name__}: {error}" if any(changed) else ""
        return "written" if any(changed) else ""


@dataclass(frozen=True)
class Sound:
    """The float network as it should be, and the faces that it finds in some pictures."""

    artifact: Artifact
    pictures: list[Image]
    faces: list[list[Face]]

    def effect(self, network: str, change: Change) -> FaceErrors | None:
        """What a change of its graph does to its faces; None where it does not run any more."""
        with tempfile.TemporaryDirectory() as work:
            copy = Artifact.open(shutil.copytree(self.artifact.path, Path(work) / "copy"))
            path = copy.file(network, "onnx")
            model = onnx.load(path)
            change(model)
            onnx.save(model, path)
            try:
                return measure_faces(self.faces, _look(copy, self.pictures))
            except FacedeployError:
                return None


def sound(model: str, folder: Path) -> Sound:
    """Export a model, unless the folder has it, and look at drawn group photos."""
    made = folder.is_dir()
    artifact = Artifact.open(folder) if made else facedeploy.export(model, "onnx-fp32", output=folder, input_size=SIZE)
    rng = np.random.default_rng(7)
    pictures = [group_photo(rng, *SIZE, faces) for faces in range(1, _PICTURES + 1)]
    return Sound(artifact, pictures, _look(artifact, pictures))


def _look(artifact: Artifact, pictures: Sequence[Image]) -> list[list[Face]]:
    with load(artifact) as pipeline:
        return [pipeline.detect(picture) for picture in pictures]


class Answers:
    """What was found, kept in a file after each question."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def ask(self, question: str, answer: Callable[[], Any]) -> Any:
        """The answer from the file, or a new one."""
        if question not in self.found:
            self.found[question] = answer()
            print(f"{question}: {str(self.found[question])[:150] or 'changes nothing'}", file=sys.stderr, flush=True)
            self.path.write_text(json.dumps(self.found, indent=1))
        return self.found[question]


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask what was not asked yet, and print what was judged otherwise than its effect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="a part of the names of faults")
    parser.add_argument("--targets", default=",".join(TARGETS))
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    answers = Answers(given.work / "answers.json")
    right = sound(_MODEL, given.work / "sound")
    counts: Counter[str] = Counter()
    for network, (name, change) in itertools.product(("detector", "pose"), graph_faults().items()):
        for target in given.targets.split(","):
            if given.only not in name:
                continue
            export = functools.partial(attempt, _MODEL, network, target, change)
            if not (answer := answers.ask(f"{network} | {name} | {target}", export)):
                break  # The network has no such operator.
            measured = answers.ask(f"{network} | {name}", functools.partial(_measured, right, network, change))
            harm = measured is None or harmful(FaceErrors(**measured), target.split("-")[1])
            kind = f"{'harmful' if harm else 'harmless'} and {'written' if answer == 'written' else 'refused'}"
            counts[kind] += 1
            if harm == (answer == "written"):
                print(f"{kind}: {network}, {name}, {target}: {measured}; {answer}")
    print("; ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return int(counts["harmful and written"] > 0)


def _measured(right: Sound, network: str, change: Change) -> dict[str, Any] | None:
    found = right.effect(network, change)
    return None if found is None else asdict(found)


if __name__ == "__main__":
    sys.exit(main())
