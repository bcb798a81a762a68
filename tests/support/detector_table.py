"""Make the page docs/reference/detectors.md: every detector with a known head, on every target.

    python -m tests.support.detector_table --assets ../shared/assets --work build/detectors

Where weights are to be had the faces are those of photographs, else those that a stand-in has in its outputs. Each cell
is kept in the folder of work, so that a run can be cut and goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facedeploy.artifact.folder import Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.errors import FacedeployError
from facedeploy.core.network_spec import Size
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.export.exporter import export
from facedeploy.verification.verify import verify
from tests.support.heads import HEADS

TARGETS = (
    "onnx-fp32",
    "openvino-fp32",
    "openvino-fp16",
    "openvino-int8",
    "ncnn-fp32",
    "ncnn-fp16",
    "ncnn-int8",
    "trt-fp16",
    "trt-int8",
)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "detectors.md"
INTRODUCTION = """# Detectors with a known head, on every target

What `export` makes of the networks that people deploy, and what becomes of their faces. A number is how far a
coordinate of a box is from the file as it came, the worst face of five photographs; every face was found. A number in
brackets is a note below the table: what was refused, in the words of the refusal, or what differs.

Names in *italics* are stand-ins: files with the published outputs and known faces in them, where the weights are not
free to use. Networks without italics have their published weights.

`python -m tests.support.detector_table --assets DIR --work DIR` makes this page.

"""
_PICTURES, _CALIBRATED = 5, 40


@dataclass(frozen=True)
class Row:
    """A detector. source: what `export` is given. real: whether its weights are the published ones."""

    name: str
    source: str
    real: bool
    options: Mapping[str, Any] = field(default_factory=dict)


def rows(assets: Path, work: Path) -> Iterator[Row]:
    """The published detectors, then the stand-ins."""
    weights = assets / "weights"
    square: dict[str, Size] = {"input_size": (320, 320)}
    retinaface = weights / "retinaface_onnx/retinaface_mnet025_biubug6.onnx"
    yield Row("YuNet-n, 320x320", str(weights / "yunet/yunet_n_320_320.onnx"), True)
    yield Row("YuNet-n, 640x640", str(weights / "yunet/yunet_n_640_640.onnx"), True)
    yield Row("YuNet-n, open size", str(weights / "yunet/yunet_n_dynamic.onnx"), True, square)
    yield Row("ULFD RFB-320", str(weights / "ulfd/version-RFB-320.onnx"), True)
    yield Row("RetinaFace MobileNet-0.25", str(retinaface), True, square)
    for name, made, file in (
        ("Face-Detector-1MB, MobileNet-0.25", "RetinaFace", "mobilenet0.25_Final.pth"),
        ("Face-Detector-1MB, slim", "Slim", "slim_Final.pth"),
    ):
        options = {**square, "weights": weights / "retinaface_1mb" / file}
        yield Row(name, f"tests.support.retinaface_modules:{made}", True, options)
    yield Row("CenterFace", str(weights / "centerface/centerface_bnmerged.onnx"), True, square)
    yield Row("MTCNN (sysu)", "mtcnn", True, {"weights": weights / "mtcnn_sysu"})
    for head in HEADS.values():
        path = work / "stand-ins" / f"{head.name}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        head.write(path)
        yield Row(head.name, str(path), False)


def cell(row: Row, target: str, pictures: Sequence[Path], calibration: Path, output: Path) -> str:
    """What comes of one export, in a few words."""
    int8 = Int8Options(calibration, count=_CALIBRATED) if target.endswith("int8") else None
    made = output / "artifact" / "manifest.json"
    try:
        options = dict(row.options)
        weights = options.pop("weights", None)
        artifact = (
            Artifact.open(made.parent)
            if made.is_file()
            else export(row.source, target, weights, made.parent, int8=int8, **options)
        )
        runtime = "onnxruntime" if target.startswith("trt") else None
        origin = artifact.manifest.origin
        found = verify(
            artifact,
            row.source if origin == "onnx" else weights,
            pictures,
            factory=row.source if origin == "factory" else None,
            runtime=runtime,  # type: ignore[arg-type]
        )
    except FacedeployError as error:
        return f"refused: {error}"
    assert found.faces is not None
    faces = found.faces
    if not faces.same_faces:
        return f"{faces.missing} faces fewer, {faces.extra} more, of {faces.matched + faces.missing}"
    return "; ".join(found.problems) or f"{faces.box:.2g} px"


def render(rows_: Sequence[tuple[str, bool]], cells: Mapping[str, Mapping[str, str]]) -> str:
    """The table in Markdown, with what was refused in footnotes."""
    lines = ["| detector | " + " | ".join(TARGETS) + " |", "|---" * (len(TARGETS) + 1) + "|"]
    notes: list[str] = []
    for name, real in rows_:
        texts = []
        for target in TARGETS:
            text = cells[name][target]
            if len(text) > 24:
                notes.append(f"{len(notes) + 1}. {name}, {target}: {text}")
                text = f"[{len(notes)}]"
            texts.append(text)
        lines.append(f"| {name if real else f'*{name}*'} | " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", *notes, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the cells that are missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="")
    given = parser.parse_args(arguments)
    work: Path = given.work
    photos = sorted((given.assets / "images/face_counting/test").glob("*.jpg"))[:_PICTURES]
    drawn = _drawn(work / "drawn")
    kept = work / "cells.json"
    cells: dict[str, dict[str, str]] = json.loads(kept.read_text()) if kept.is_file() else {}
    shown = []
    for row in rows(given.assets, work):
        shown.append((row.name, row.real))
        for target in TARGETS:
            if target in cells.setdefault(row.name, {}) or given.only not in row.name:
                continue
            pictures, calibration = (
                (photos, given.assets / "images/face_counting/train") if row.real else (drawn[:2], drawn[0].parent)
            )
            output = work / "artifacts" / row.name.replace(" ", "-").replace("/", "-") / target
            cells[row.name][target] = cell(row, target, pictures, calibration, output)
            print(row.name, target, cells[row.name][target], file=sys.stderr, flush=True)
            kept.write_text(json.dumps(cells, indent=1))
    if all(target in cells[name] for name, _ in shown for target in TARGETS):
        PAGE.write_text(INTRODUCTION + render(shown, cells))
    return 0


def _drawn(folder: Path) -> list[Path]:
    """Generated pictures of groups."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files = [folder / f"{i:02}.png" for i in range(20)]
    for file in files:
        cv2.imwrite(str(file), group_photo(rng, 240, 320, 3))
    return files


if __name__ == "__main__":
    sys.exit(main())
