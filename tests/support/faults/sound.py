"""Is a right compile ever refused? Models, sizes and targets, each with several drawings of the probes.

    python -m tests.support.faults.sound --assets DIR --work DIR [--only WORDS]

Each artifact is then compared with its source on photographs, as `facedeploy verify --images` does. Each answer is kept
in DIR, a line each, so that a run can be cut and goes on.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from facedeploy.core.errors import FacedeployError
from facedeploy.core.network_spec import InputSize
from facedeploy.core.target import Target
from facedeploy.export import scenes
from facedeploy.sources import probes, source
from facedeploy.sources import published as published_source
from facedeploy.verification.verify import verify
from tests.support.faults.subject import TARGETS, Bench, Subject
from tests.support.remembered_torch import remembering

_SEEDS, _PICTURES = 5, 200
_SIZES = ((160, 160), (240, 320), (480, 640))
# Folder and file -> its input, where the file's own is an example.
_DETECTORS: dict[str, InputSize | None] = {
    "yunet/yunet_n_320_320.onnx": None,
    "yunet/yunet_n_640_640.onnx": None,
    "ulfd/version-RFB-320.onnx": None,
    "centerface/centerface_bnmerged.onnx": (320, 320),
    "retinaface_onnx/retinaface_mnet025_biubug6.onnx": (240, 320),
}
_LOOKERS = (
    "pfld_106/lite.onnx",
    "peppa_slim_68_pose/slim_160_latest.onnx",
    "fsanet/fsanet-1x1-iter-688590.onnx",
    "fsanet/fsanet-var-iter-688590.onnx",
)


def models(assets: Path) -> Iterator[Subject]:
    """All models whose weights are there, at each size."""
    weights = assets / "weights"
    sizes: tuple[InputSize, ...] = (*_SIZES, "any")
    for size in sizes:
        name = size if isinstance(size, str) else f"{size[0]}x{size[1]}"
        yield Subject(f"mos-tiny {name}", "mos-tiny", (), size)
        yield Subject(f"mtcnn {name}", "mtcnn", (), size, weights / "mtcnn_sysu", True, 2.0)
    for file, own in _DETECTORS.items():
        yield Subject(file, str(weights / file), (), own, None, True, 2.0)
    for file in _LOOKERS:
        yield Subject(file, str(weights / file), (), None, None, True, 2.0, looks=True)


@contextmanager
def drawn(seed: int) -> Iterator[None]:
    """The probes of an export are others."""
    with (
        mock.patch.object(scenes, "draw", functools.partial(scenes.draw, seed=seed)),
        mock.patch.object(source, "probe_inputs", functools.partial(probes.probe_inputs, seed=seed)),
    ):
        yield


def examine(bench: Bench, target: str, pictures: Sequence[Path]) -> list[str]:
    """What refuses a right compile: empty where nothing does."""
    wrong = []
    with tempfile.TemporaryDirectory() as work:
        for seed in range(_SEEDS):
            try:
                with drawn(seed):
                    made = bench.export(target, Path(work) / str(seed))
            except FacedeployError as error:
                wrong.append(f"seed {seed}: {type(error).__name__}: {error}")
        if len(wrong) == _SEEDS:
            return wrong
        subject = bench.subject
        weights = subject.weights or (None if subject.source == "mos-tiny" else subject.source)
        runtime = "onnxruntime" if target.startswith("trt") else None
        found = verify(made, weights, [] if subject.looks else pictures, runtime=runtime)  # type: ignore[arg-type]
        return [*wrong, *(f"verify: {problem}" for problem in found.problems)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine what was not examined yet, and print what is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="a part of the name of a model")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    kept = given.work / "sound.jsonl"
    done = {tuple(q): w for q, w in map(json.loads, kept.read_text().splitlines() if kept.is_file() else ())}
    pictures = sorted((given.assets / "images" / "face_counting" / "test").glob("*.jpg"))[:_PICTURES]
    for subject in models(given.assets):
        bench = Bench(subject, given.assets / "images")
        torch = remembering({}, subject.name)
        with mock.patch.object(published_source, "TorchRuntime", torch):
            for target in TARGETS:
                fixed = Target.parse(target).backend in ("ncnn", "trt")
                question = (subject.name, target)
                if given.only not in subject.name or question in done or (subject.input_size == "any" and fixed):
                    continue
                done[question] = examine(bench, target, pictures)
                with kept.open("a") as file:
                    file.write(json.dumps([question, done[question]]) + "\n")
                print(*question, done[question] or "is right", file=sys.stderr, flush=True)
    refused = {question: wrong for question, wrong in done.items() if wrong}
    for question, wrong in refused.items():
        print(*question, *wrong, sep="\n  ")
    print(f"{len(done)} exports with {_SEEDS} seeds, and {len(refused)} of them refused")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
