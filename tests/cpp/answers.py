"""ncnn artifacts for the stand-in of ncnn in tests/cpp/ncnn: for tests only, real ncnn does not load them.

Their networks compute nothing. The .bin holds the numbers of the outputs, and the .param says which they are; a part of
them moves with the picture. The manifest is as real ones are. `open_pipeline` runs the same files in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from facedeploy import pipelines
from facedeploy.artifact.folder import Artifact, write_manifest
from facedeploy.artifact.manifest import FileEntry, Manifest, NetworkEntry, Origin, PipelineEntry, SourceFile
from facedeploy.core.hashing import sha256
from facedeploy.core.network_spec import NetworkSpec, Size, TensorSpec
from facedeploy.core.target import Precision, Target
from facedeploy.models import registry
from facedeploy.package.constants import constants
from facedeploy.package.model_text import NAME, model_text
from facedeploy.pipelines.base import Pipeline
from facedeploy.pipelines.custom import NETWORK
from facedeploy.runtimes.base import Array, Arrays, Runtime, RuntimeOptions
from facedeploy.runtimes.ncnn import ncnn_options
from tests.cpp import stream

INCLUDES = Path(__file__).with_name("ncnn")
RUNNER = stream.ROOT / "mobile" / "runner"
_FIRST = "facedeploy-stand-in 1"
_CELL = 16  # Pixels of the network's input from a face to the next.


@dataclass(frozen=True)
class Network:
    """What a network answers. numbers: of each output. add: what of the first number of the first input is added to an
    output, by its name. more: lines of the .param beside these, see net.h.
    """

    spec: NetworkSpec
    numbers: Arrays
    add: Mapping[str, float] = field(default_factory=dict)
    more: Sequence[str] = ()


def write_artifact(
    folder: Path,
    family: Literal["mos", "boxes"] = "mos",
    *,
    size: Size = (64, 96),
    faces: int = 3,
    seed: int = 0,
    precision: Precision = "fp32",
    more: Sequence[str] = (),
) -> Artifact:
    """Write an artifact that finds so many faces in every picture. seed: where, and with which scores and angles.

    more: lines for the .param of the first network, such as "wait 0.01" (seconds of each call).
    """
    if family == "mos":
        networks = make_mos(size, faces, seed, more)
        entry = pipelines.configure("mos", {})
        return write(folder, networks, "mos-tiny", entry, precision)
    outputs = {"outputs": {"boxes": "b", "scores": "s", "boxes_in": "pixels", "landmarks": "l", "yaw": "y"}}
    return write(folder, make_boxes(size, faces, seed, more), "own", pipelines.configure("boxes", outputs), precision)


def make_mos(size: Size, faces: int, seed: int, more: Sequence[str] = ()) -> list[Network]:
    rng = np.random.default_rng(seed)
    detector, pose = registry.get("mos-tiny").network_specs(size)
    numbers: Arrays = {t.name: rng.normal(0, 1, _shape(t)).astype(np.float32) for t in detector.outputs}
    count = numbers["scores"].shape[1]
    boxes, scores = _faces(rng, count, size, faces)
    points = boxes[:, None, :2] + rng.uniform(0, 10, (count, 5, 2))
    landmarks = points.reshape(1, count, 10).astype(np.float32)
    numbers |= {"boxes": boxes[None], "scores": scores[None], "landmarks": landmarks}
    angles = {"angles": rng.normal(0, 30, (1, *_shape(pose.outputs[0])[1:])).astype(np.float32)}
    return [
        Network(detector, numbers, {"boxes": 0.01, "landmarks": 0.01, "features8": 1.0, "features16": 1.0}, more),
        Network(pose, angles, {"angles": 0.1}),
    ]


def make_boxes(size: Size, faces: int, seed: int, more: Sequence[str] = ()) -> list[Network]:
    rng = np.random.default_rng(seed)
    count = max(30, 2 * faces)
    boxes, scores = _faces(rng, count, size, faces)
    points = (boxes[:, None, :2] + rng.uniform(0, 10, (count, 2, 2))).reshape(count, 4)
    values = {"b": boxes, "s": scores, "l": points, "y": rng.normal(0, 30, count)}
    numbers = {name: v[None].astype(np.float32) for name, v in values.items()}
    outputs = tuple(TensorSpec(name, v.shape) for name, v in numbers.items())
    spec = NetworkSpec(NETWORK, (TensorSpec("image", (1, 3, *size)),), outputs)
    return [Network(spec, numbers, {"b": 0.01, "y": 0.1}, more)]


def write(
    folder: Path, networks: Sequence[Network], model: str, pipeline: PipelineEntry, precision: Precision = "fp32"
) -> Artifact:
    """Write an artifact of these networks."""
    folder.mkdir(parents=True)
    entries = tuple(_write_network(folder, n, precision) for n in networks)
    published = pipeline.family == "mos"
    parts = registry.get(model).source_parts if published else ("onnx",)
    source = tuple(SourceFile(part, f"{part} of a stand-in", "0" * 64) for part in parts)
    origin: Origin = "registry" if published else "onnx"
    target = Target.parse(f"ncnn-{precision}")
    write_manifest(folder, Manifest(model, target, entries, pipeline, source, {}, (), origin=origin))
    return Artifact.open(folder)


def write_model_text(artifact: Artifact, **options: object) -> Path:
    """Write model.txt beside the files of an artifact, which is all that the runner needs. options: of the pipeline."""
    manifest = artifact.manifest
    entry = pipelines.configure(manifest.pipeline.family, options, manifest.pipeline.config)
    text = model_text(manifest, constants([n.spec for n in manifest.networks], entry))
    (artifact.path / NAME).write_text(text, encoding="utf-8")
    return artifact.path


def compile_runner(output: Path, *flags: str, compiler: str = "g++", source: Path = RUNNER / "main.cpp") -> Path:
    """The runner, or a part of it, over the stand-in; a warning is an error."""
    included = ("-pthread", f"-I{INCLUDES}", f"-I{RUNNER}")
    return stream.compile_driver(output, *included, *flags, compiler=compiler, source=source)


def open_pipeline(artifact: Artifact) -> Pipeline:
    """The Python pipeline of an artifact of `write`, over what its files answer."""
    entry = artifact.manifest.pipeline
    names = [n.spec.name for n in artifact.manifest.networks]
    return pipelines.make(
        entry, {name: _Files(artifact, name, pipelines.runtime_options(entry, name, 1)) for name in names}
    )


class _Files(Runtime):
    """What the files of a network answer."""

    backend = "none"
    concurrent = True

    def __init__(self, artifact: Artifact, name: str, options: RuntimeOptions) -> None:
        super().__init__(artifact.manifest.network(name).spec, options)
        lines = artifact.file(name, "param").read_text(encoding="utf-8").splitlines()
        assert lines[0] == _FIRST
        numbers = np.fromfile(artifact.file(name, "bin"), "<f4")
        self._answers: dict[str, tuple[Array, np.float32]] = {}
        for _, output, _, add, *sides in (line.split() for line in lines if line.startswith("output ")):
            shape = tuple(int(s) for s in reversed(sides))
            count = int(np.prod(shape))
            self._answers[output] = (numbers[:count].reshape(shape), np.float32(add))
            numbers = numbers[count:]

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        given = inputs[self.spec.inputs[0].name]
        first = given.reshape(len(given), -1)[:, 0].astype(np.float32)
        return {
            name: np.stack([numbers + add * value for value in first]).astype(np.float32)
            for name, (numbers, add) in self._answers.items()
        }

    def _close(self) -> None:
        pass


def _shape(tensor: TensorSpec) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else 1 for d in tensor.shape)


def _faces(rng: np.random.Generator, count: int, size: Size, faces: int) -> tuple[Array, Array]:
    """Boxes (count, 4) of which so many are of faces, apart from each other, and scores (count,)."""
    rows, columns = size[0] // _CELL, size[1] // _CELL
    assert faces <= min(count, rows * columns), "there is no room for so many faces"
    corner = rng.uniform(0, 1, (count, 2)) * size[::-1]
    scores = rng.uniform(0, 0.4, count)
    chosen = rng.permutation(count)[:faces]
    cells = rng.permutation(rows * columns)[:faces]
    corner[chosen] = np.stack([cells % columns, cells // columns], axis=1) * _CELL
    scores[chosen] = rng.uniform(0.6, 0.99, faces)
    return np.hstack([corner, corner + rng.uniform(9, 13, (count, 2))]).astype(np.float32), scores.astype(np.float32)


def _write_network(folder: Path, network: Network, precision: Precision) -> NetworkEntry:
    name = network.spec.name
    lines = [_FIRST, *(f"input {t.name}" for t in network.spec.inputs)]
    for output, values in network.numbers.items():
        sides = " ".join(map(str, reversed(values.shape[1:])))
        lines.append(f"output {output} 4 {network.add.get(output, 0.0)} {sides}")
    param, data = folder / f"{name}.param", folder / f"{name}.bin"
    param.write_text("\n".join([*lines, *network.more, ""]), encoding="utf-8")
    data.write_bytes(b"".join(v.astype("<f4").tobytes() for v in network.numbers.values()))
    files = {role: FileEntry(f.name, sha256(f), f.stat().st_size) for role, f in (("param", param), ("bin", data))}
    return NetworkEntry(network.spec, files, options=ncnn_options(precision))
