"""Make the page docs/reference/detectors.md: every network that is known, on every target.

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
import torch

from facedeploy.artifact.folder import Artifact
from facedeploy.calibration.quantize_plan import Int8Options
from facedeploy.core.errors import FacedeployError
from facedeploy.core.network_spec import Size
from facedeploy.core.synthetic_faces import group_photo
from facedeploy.export.exporter import export
from facedeploy.metrics.face_matching import FaceDifference
from facedeploy.models import registry
from facedeploy.models.checkpoint import read_state_dict
from facedeploy.verification.verify import verify
from tests.support.crop_networks import CROP_FAMILIES, crop_network
from tests.support.facenet_cascade import from_sysu
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
INTRODUCTION = """# Known networks, on every target

What `export` makes of the networks that people deploy, and what becomes of their faces, against the file as it came.
Of a detector the number is how far a coordinate of a box is off, of a network that looks at faces what its own unit
says: points in percent of the box's size, degrees, cosine. It is that of the worst face of five photographs. Of faces
with a score near the threshold int8 may find a few more or fewer, which the cell says. A number in brackets is a note
below the table: what was refused, in the words of the refusal, or what differs.

Names in *italics* are stand-ins: files with the published outputs and known faces in them, where the weights are not
free to use. Networks without italics have their published weights.

`python -m tests.support.detector_table --assets DIR --work DIR` makes this page.

"""
_PICTURES, _CALIBRATED = 5, 40


@dataclass(frozen=True)
class Row:
    """A network. source: what `export` is given. real: whether its weights are the published ones. crop: whether it
    looks at faces. max_drop: of int8.
    """

    name: str
    source: str
    real: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    crop: bool = False
    max_drop: float | None = None


def rows(assets: Path, work: Path) -> Iterator[Row]:
    """The published networks, then the stand-ins: detectors, then what looks at faces."""
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
    mtcnn = {
        "MTCNN (sysu), `--max-drop 1`": weights / "mtcnn_sysu",
        "MTCNN (facenet-pytorch), `--max-drop 1`": _facenet(weights / "mtcnn_sysu", work / "facenet"),
    }
    for name, folder in mtcnn.items():
        yield Row(name, "mtcnn", True, {"weights": folder}, max_drop=1.0)
    stand_ins = work / "stand-ins"
    stand_ins.mkdir(parents=True, exist_ok=True)
    for head in HEADS.values():
        path = stand_ins / f"{head.name}.onnx"
        head.write(path)
        yield Row(head.name, str(path), False)
    for name, file in (
        ("PFLD, 106 points", "pfld_106/lite.onnx"),
        ("Peppa, 68 points", "peppa_slim_68_pose/slim_160_latest.onnx"),
        ("FSA-Net 1x1", "fsanet/fsanet-1x1-iter-688590.onnx"),
        ("FSA-Net var", "fsanet/fsanet-var-iter-688590.onnx"),
    ):
        yield Row(name, str(weights / file), True, crop=True)
    for name in ("6drepnet", "arcface"):
        size, answer = CROP_FAMILIES[name]
        yield Row(name, str(crop_network(stand_ins / f"{name}.onnx", {"out": answer}, size)), False, crop=True)


def _facenet(published: Path, folder: Path) -> Path:
    """MTCNN's weights in the layout of facenet-pytorch."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {name: read_state_dict(file) for name, file in registry.get("mtcnn").find_files(published).items()}
    for name, state in from_sysu(states).items():
        torch.save(state, folder / f"{name}.pt")
    return folder


def cell(row: Row, target: str, pictures: Sequence[Path], calibration: Path, output: Path) -> str:
    """What comes of one export, in a few words."""
    int8 = Int8Options(calibration, count=_CALIBRATED, max_drop=row.max_drop) if target.endswith("int8") else None
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
    if found.problems:
        return "; ".join(found.problems) + ("; take fp16" if int8 else "")
    if row.crop:
        return _off(faces)
    lost = "" if faces.same_faces else f", {faces.missing} fewer, {faces.extra} more"
    return f"{faces.box:.2g} px{lost}"


def _off(faces: FaceDifference) -> str:
    """How far what was said of faces is off, in its own unit."""
    if faces.cosine < 1:
        return f"cosine {faces.cosine:.5f}"
    return f"{faces.angle:.2g} degrees" if faces.angle else f"{faces.points:.2g} %"


def render(rows_: Sequence[tuple[str, bool]], cells: Mapping[str, Mapping[str, str]]) -> str:
    """The table in Markdown, with what was refused in footnotes."""
    lines = ["| network | " + " | ".join(TARGETS) + " |", "|---" * (len(TARGETS) + 1) + "|"]
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
    images = given.assets / "images"
    groups = sorted((images / "face_counting/test").glob("*.jpg"))[:_PICTURES], images / "face_counting/train"
    portraits = sorted((images / "aflw2000").glob("*.jpg"))
    close = portraits[:_PICTURES], _linked(portraits[_PICTURES : 5 * _CALIBRATED], work / "portraits")
    drawn = _drawn(work / "drawn")
    kept = work / "cells.json"
    cells: dict[str, dict[str, str]] = json.loads(kept.read_text()) if kept.is_file() else {}
    shown = []
    for row in rows(given.assets, work):
        shown.append((row.name, row.real))
        for target in TARGETS:
            if target in cells.setdefault(row.name, {}) or given.only not in row.name:
                continue
            real = close if row.crop else groups
            pictures, calibration = real if row.real else (drawn[:2], drawn[0].parent)
            output = work / "artifacts" / row.name.replace(" ", "-").replace("/", "-") / target
            cells[row.name][target] = cell(row, target, pictures, calibration, output)
            print(row.name, target, cells[row.name][target], file=sys.stderr, flush=True)
            kept.write_text(json.dumps(cells, indent=1))
    if all(target in cells[name] for name, _ in shown for target in TARGETS):
        PAGE.write_text(INTRODUCTION + render(shown, cells))
    return 0


def _linked(files: Sequence[Path], folder: Path) -> Path:
    """A folder with links to some files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / file.name
        if not link.is_symlink():
            link.symlink_to(file.resolve())
    return folder


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
