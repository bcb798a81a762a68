"""Verification and build where another place does the work: they ask for little, and know no device."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from facedeploy.artifact.folder import Artifact
from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.core.progress import Progress
from facedeploy.export.build import Engines, build
from facedeploy.pipelines.load import load
from facedeploy.runtimes import Substitute
from facedeploy.verification.verify import verify
from tests.conftest import GetArtifact


@dataclass
class Elsewhere:
    """Finds what is found here, moved by some pixels."""

    shift: float = 0.0
    name: str = "elsewhere"
    asked: list[dict[str, Any]] = field(default_factory=list)

    def detect(
        self,
        artifact: Artifact,
        images: Sequence[Path],
        *,
        threads: int,
        runtime: Substitute | None,
        options: Mapping[str, Any],
        progress: Progress,
    ) -> list[list[Face]]:
        from facedeploy.core.images import read_picture

        self.asked.append({"threads": threads, "runtime": runtime, "options": options})
        progress("asked")
        with load(artifact, threads=threads, runtime=runtime, options=options) as pipeline:
            found = [pipeline.detect(read_picture(image)) for image in images]
        return [[self._moved(face) for face in faces] for faces in found]

    def _moved(self, face: Face) -> Face:
        x1, y1, x2, y2 = face.box
        return dataclasses.replace(face, box=(x1 + self.shift, y1, x2 + self.shift, y2))

    def build(self, artifact: Artifact, progress: Progress) -> Engines:
        progress("built")
        return Engines({n.spec.name: b"engine" for n in artifact.manifest.networks}, "tensorrt", "10.3.0")


def test_faces_found_elsewhere_are_compared(real_artifact: GetArtifact, published: Path, crowd: Path) -> None:
    made = real_artifact("onnx-fp32")
    said: list[str] = []
    there = Elsewhere()
    found = verify(made, published, [crowd], device=there, threads=1, options={"min_face": 18}, progress=said.append)
    assert said == ["asked"]
    assert [(a["threads"], a["runtime"], a["options"]["min_face"]) for a in there.asked] == [(1, None, 18)]
    assert found.outputs == ()
    assert found.faces is not None
    assert found.faces.matched > 0
    assert found.problems == ()
    moved = verify(made, published, [crowd], device=Elsewhere(shift=2), threads=1)
    assert any("boxes are off by" in problem for problem in moved.problems)


def test_without_pictures_there_is_nothing_to_compare(artifact: GetArtifact, weights: Path) -> None:
    with pytest.raises(InputError, match="on elsewhere only faces are compared"):
        verify(artifact("onnx-fp32"), weights, device=Elsewhere())


def test_engines_built_elsewhere_are_added(artifact: GetArtifact, tmp_path: Path) -> None:
    said: list[str] = []
    shutil.copytree(artifact("trt-fp32").path, tmp_path / "trt")
    made = build(tmp_path / "trt", builder=Elsewhere(), progress=said.append)
    assert said == ["built"]
    assert {n.engine for n in made.manifest.networks} == {"ready"}
    assert made.file("pnet", "engine").read_bytes() == b"engine"
    assert made.manifest.tools["tensorrt"] == "10.3.0"
    with pytest.raises(InputError, match="needs no build"):
        build(artifact("onnx-fp32").path, builder=Elsewhere())


def test_neither_loads_anything_of_devices() -> None:
    code = (
        "import sys, facedeploy.verification.verify, facedeploy.export.build;"
        "print([m for m in sys.modules if m.startswith('facedeploy.devices')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
