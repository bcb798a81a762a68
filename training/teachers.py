"""Published networks that give what labels lack: five points (YuNet) and head pose (FSA-Net)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from facedeploy.core.boxes import iou_matrix

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

YUNET = "weights/yunet/yunet_n_dynamic.onnx"  # the dynamic export takes any multiple of 32
FSANET = ("weights/fsanet/fsanet-1x1-iter-688590.onnx", "weights/fsanet/fsanet-var-iter-688590.onnx")  # averaged
STRIDES = (8, 16, 32)  # YuNet's output levels
NMS_IOU = 0.45  # YuNet's own evaluation setting
MATCH_SCORE = 0.3  # a label vouches for the face, so a weak detection may still give its points
CROP_MARGIN = 0.2  # FSA-Net's square crop beyond YuNet's box: smallest error on AFLW2000 (flat from 0.15 to 0.3)
CROP_SIZE = 64  # FSA-Net's input


@dataclass
class Detections:
    """YuNet's findings in pixels of the picture: (n,4) corners, (n,) scores, (n,5,2) points."""

    boxes: Array
    scores: Array
    points: Array

    def pick(self, index: Any) -> Detections:
        return Detections(self.boxes[index], self.scores[index], self.points[index])


def read_image(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        msg = f"no picture: {path}"
        raise FileNotFoundError(msg)
    return np.asarray(image, dtype=np.uint8)


class YuNet:
    def __init__(self, path: Path) -> None:
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def at_scale(self, image: Image, scale: float) -> Detections:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        resized = cv2.resize(image, (width, height), interpolation=way) if scale != 1 else image
        padded = cv2.copyMakeBorder(resized, 0, -height % 32, 0, -width % 32, cv2.BORDER_CONSTANT)
        blob = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32)
        outputs = dict(zip(self.names, self.session.run(None, {"input": blob}), strict=True))
        parts = [decode_level(outputs, stride, padded.shape[1] // stride) for stride in STRIDES]
        true = np.array([image.shape[1] / width, image.shape[0] / height])
        boxes = np.concatenate([part.boxes for part in parts]) * np.tile(true, 2)
        points = np.concatenate([part.points for part in parts]) * true
        return Detections(boxes, np.concatenate([part.scores for part in parts]), points)

    def __call__(self, image: Image, scales: Sequence[float]) -> Detections:
        parts = [self.at_scale(image, scale) for scale in scales]
        return nms(
            Detections(
                np.concatenate([part.boxes for part in parts]),
                np.concatenate([part.scores for part in parts]),
                np.concatenate([part.points for part in parts]),
            )
        )


def decode_level(outputs: dict[str, Any], stride: int, columns: int) -> Detections:
    cls, obj, bbox, kps = (outputs[f"{name}_{stride}"][0].astype(float) for name in ("cls", "obj", "bbox", "kps"))
    scores = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
    keep = np.flatnonzero(scores >= MATCH_SCORE)
    cells = np.stack([keep % columns, keep // columns], 1)
    centre = (cells + bbox[keep, :2]) * stride
    half = np.exp(bbox[keep, 2:]) * stride / 2
    points = (cells[:, None] + kps[keep].reshape(-1, 5, 2)) * stride
    return Detections(np.concatenate([centre - half, centre + half], 1), scores[keep], points)


class FsaNet:
    def __init__(self, paths: Iterable[Path]) -> None:
        self.sessions = [ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in paths]

    def __call__(self, image: Image, box: Array, margin: float = CROP_MARGIN) -> list[float]:
        """Yaw, pitch, roll of the face in YuNet's box."""
        tile = (crop(image, box, margin).astype(np.float32) - 127.5) / 128
        blob = np.ascontiguousarray(tile.transpose(2, 0, 1)[None])
        answers = [session.run(None, {session.get_inputs()[0].name: blob})[0][0] for session in self.sessions]
        return [float(angle) for angle in np.mean(answers, 0)]


def crop(image: Image, box: Array, margin: float) -> Image:
    """A square about the box, wider by `margin` of the longer side all round, at FSA-Net's size; black outside."""
    size = float((box[2:] - box[:2]).max()) * (1 + 2 * margin)
    corner = (box[:2] + box[2:]) / 2 - size / 2
    scale = size / CROP_SIZE
    if scale > 2:  # a warp does not average: shrink first
        small = 2 / scale
        image = np.asarray(cv2.resize(image, None, fx=small, fy=small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        corner, scale = corner * small, scale * small
    matrix = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, (CROP_SIZE, CROP_SIZE), flags=flags), dtype=np.uint8)


def nms(found: Detections, limit: float = NMS_IOU) -> Detections:
    order = np.argsort(-found.scores, kind="stable")
    overlap = iou_matrix(found.boxes, found.boxes)
    keep: list[int] = []
    for index in order:
        if not keep or overlap[index, keep].max() < limit:
            keep.append(int(index))
    return found.pick(keep)
