"""The label index of the tiny face detector: one JSON line per picture, with boxes, five points and head pose.

Boxes are people's labels wherever there are any. What the labels lack comes from teachers: the five points from YuNet,
the head pose from FSA-Net. Landmarks are ordered left eye, right eye, nose, left and right mouth corner, as seen in the
picture of an upright face. Angles are yaw, pitch, roll in degrees, in the sense of AFLW2000-3D (see `geometry.py`).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facedeploy.core.boxes import iou_matrix
from facedeploy.metrics.box_matching import match_by_overlap
from training.teachers import FSANET, YUNET, Array, Detections, FsaNet, YuNet, read_image

IGNORE_SCORE = 0.6  # an unlabelled detection this sure is a face that nobody labelled
MATCH_IOU = 0.4  # face_counting's boxes are slightly loose
IGNORE_IOU = 0.3  # a detection that overlaps a label this much belongs to that label
GROUP_SCALES = (1.0, 2.0, 3.0)  # face_counting: 320 px pictures, faces mostly below 30 px, and some portraits
PORTRAIT_SCALES = (0.4, 0.8)  # aflw2000: one large face, which YuNet finds best when smaller
WIDER_SCALES = (1.0, 2.0)  # wider_face: 1024 px originals with small faces
POSE_SIDE = 20.0  # below this a crop is too blurred for FSA-Net
POSE_LIMIT = 99.0  # AFLW2000's fits beyond this are failures; evaluations leave them out
WIDER_SIDE = 6.0  # below this a WIDER FACE box is no training target
VAL_PICTURES = 200  # of each source that has a val split
EYES, NOSE, MOUTH = ((36, 42), (42, 48)), 30, (48, 54)  # in the 68-point scheme
ANNOTATED_POINTS = 0.5  # a detection holding this share of the 68 points is the annotated face


@dataclass
class Face:
    box: list[float]
    landmarks: list[list[float]] | None = None
    landmarks_from: str | None = None
    pose: list[float] | None = None
    pose_from: str | None = None


@dataclass
class Record:
    image: str
    split: str
    source: str
    faces: list[Face] = field(default_factory=list)
    ignore: list[list[float]] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------- geometry


def relation(source: Array, target: Array) -> Array:
    """(n,4) boxes and theirs in another convention -> (n,4): centre shift and size ratio in units of the source box."""
    size = source[:, 2:] - source[:, :2]
    shift = ((target[:, :2] + target[:, 2:]) - (source[:, :2] + source[:, 2:])) / 2 / size
    return np.concatenate([shift, (target[:, 2:] - target[:, :2]) / size], 1)


def apply_relation(box: Array, params: Array) -> Array:
    size = box[2:] - box[:2]
    centre = (box[:2] + box[2:]) / 2 + params[:2] * size
    half = params[2:] * size / 2
    return np.concatenate([centre - half, centre + half])


def clip_box(box: Array, width: int, height: int) -> Array:
    return np.clip(box, 0, [width, height, width, height])


def hull(points: Array) -> Array:
    return np.concatenate([points.min(0), points.max(0)])


def five_points(points: Array) -> Array:
    """(68,2) -> (5,2)."""
    eyes = [points[first:last].mean(0) for first, last in EYES]
    return np.stack([*eyes, points[NOSE], *(points[corner] for corner in MOUTH)])


# ------------------------------------------------------------------------------------------------- the sources


def val_names(names: Iterable[str]) -> set[str]:
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:VAL_PICTURES])


def rounded(values: Array) -> Any:
    return np.round(values, 2).tolist()


def stray_faces(found: Detections, labels: Array) -> list[list[float]]:
    """Sure detections that belong to no label: faces nobody labelled."""
    sure = found.boxes[found.scores >= IGNORE_SCORE]
    if len(sure) and len(labels):
        sure = sure[iou_matrix(sure, labels).max(1) < IGNORE_IOU]
    return list(rounded(sure))


def read_boxes(path: Path) -> dict[str, Array]:
    rows: dict[str, list[list[float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row["Name"]].append([float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")])
    return {name: np.array(boxes) for name, boxes in rows.items()}


def face_counting(images: Path, yunet: YuNet, fsanet: FsaNet) -> tuple[list[Record], Array]:
    """The records, and the relation of each labelled box to YuNet's."""
    folder = images / "face_counting" / "train"
    labels = read_boxes(images / "face_counting" / "train_bbox.csv")
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".jpg")
    val = val_names(names)
    records: list[Record] = []
    relations: list[Array] = []
    for name in tqdm(names, "face_counting"):
        image = read_image(folder / name)
        height, width = image.shape[:2]
        boxes = labels.get(name, np.zeros((0, 4)))
        found = yunet(image, GROUP_SCALES)
        pairs = dict(match_by_overlap(boxes, found.boxes, MATCH_IOU))
        record = Record(f"face_counting/train/{name}", "val" if name in val else "train", "face_counting")
        for index, box in enumerate(boxes):
            face = Face(rounded(clip_box(box, width, height)))
            if index in pairs:
                theirs = found.boxes[pairs[index]]
                relations.append(relation(theirs[None], box[None])[0])
                face.landmarks, face.landmarks_from = rounded(found.points[pairs[index]]), "teacher"
                if min(box[2:] - box[:2]) >= POSE_SIDE:
                    face.pose, face.pose_from = rounded(np.array(fsanet(image, theirs))), "teacher"
            record.faces.append(face)
        record.ignore = stray_faces(found, boxes)
        records.append(record)
    return records, np.array(relations)


def read_mat(path: Path) -> tuple[Array, Array]:
    """AFLW2000-3D: (68,3) points, and yaw, pitch, roll in degrees."""
    from scipy.io import loadmat

    content = loadmat(str(path))
    pitch, yaw, roll = np.degrees(content["Pose_Para"][0, :3].astype(float))
    return content["pt3d_68"].T.astype(float), np.array([yaw, pitch, roll])


def annotated(found: Detections, points: Array) -> int | None:
    """Index of the detection that holds most of the points, the tightest hull first; none below half."""
    if not len(found.boxes):
        return None
    inside = (points[None] >= found.boxes[:, None, :2]) & (points[None] <= found.boxes[:, None, 2:])
    share = inside.all(2).mean(1)
    best = int(np.argmax(share + iou_matrix(found.boxes, hull(points)[None])[:, 0]))
    return best if share[best] >= ANNOTATED_POINTS else None


def aflw2000(images: Path, yunet: YuNet, params: Array) -> tuple[list[Record], Array]:
    """The records, and the relation of the boxes to the hulls of the points, one row per picture where YuNet worked."""
    names = sorted(path.stem for path in (images / "aflw2000").glob("*.mat"))
    val = val_names(names)
    records: list[Record] = []
    relations: list[Array] = []
    boxless: list[tuple[Record, Array, Array]] = []
    for name in tqdm(names, "aflw2000"):
        image = read_image(images / "aflw2000" / f"{name}.jpg")
        points, angles = read_mat(images / "aflw2000" / f"{name}.mat")
        found = yunet(image, PORTRAIT_SCALES)
        chosen = annotated(found, points[:, :2])
        limit = np.array([image.shape[1], image.shape[0]])
        face = Face([], rounded(five_points(points[:, :2])), "label")
        if np.abs(angles).max() <= POSE_LIMIT:
            face.pose, face.pose_from = rounded(angles), "label"
        record = Record(f"aflw2000/{name}.jpg", "val" if name in val else "train", "aflw2000", [face])
        records.append(record)
        if chosen is None:
            boxless.append((record, hull(points[:, :2]), limit))
            record.ignore = stray_faces(found, hull(points[:, :2])[None])
            continue
        box = apply_relation(found.boxes[chosen], params)
        relations.append(relation(hull(points[:, :2])[None], box[None])[0])
        face.box = rounded(clip_box(box, *limit))
        record.ignore = stray_faces(found, np.stack([found.boxes[chosen], box]))
    fitted = np.median(relations, axis=0)
    for record, outline, limit in boxless:
        record.faces[0].box = rounded(clip_box(apply_relation(outline, fitted), *limit))
    return records, np.array(relations)


def read_wider(path: Path) -> Iterator[tuple[str, Array]]:
    """WIDER's text: (name, (n,10) x y w h blur expression illumination invalid occlusion pose)."""
    lines = iter(path.read_text().splitlines())
    for name in lines:
        count = int(next(lines))
        rows = [[float(value) for value in next(lines).split()[:10]] for _ in range(max(count, 1))]
        yield name.strip(), np.array(rows[:count]).reshape(-1, 10)


def wider_face(images: Path, yunet: YuNet) -> list[Record]:
    folder = images / "wider_face" / "images"
    records: list[Record] = []
    for name, rows in read_wider(images / "wider_face" / "wider_subset_train_bbx_gt.txt"):
        found = yunet(read_image(folder / name), WIDER_SCALES)
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
        usable = (rows[:, 7] == 0) & (rows[:, 2:4].min(1) >= WIDER_SIDE)
        pairs = dict(match_by_overlap(boxes, found.boxes, MATCH_IOU))
        record = Record(f"wider_face/images/{name}", "train", "wider_face")
        for index, box in enumerate(boxes):
            if not usable[index]:
                record.ignore.append(rounded(box))
                continue
            face = Face(rounded(box))
            if index in pairs:
                face.landmarks, face.landmarks_from = rounded(found.points[pairs[index]]), "teacher"
            record.faces.append(face)
        record.ignore += stray_faces(found, boxes)
        records.append(record)
    return records


# ------------------------------------------------------------------------------------------------- the script


def counts(records: Iterable[Record]) -> dict[tuple[str, str], Counter[str]]:
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for record in records:
        row = table[record.source, record.split]
        row["pictures"] += 1
        row["faces"] += len(record.faces)
        row["landmarks"] += sum(face.landmarks is not None for face in record.faces)
        row["pose"] += sum(face.pose is not None for face in record.faces)
        row["ignore"] += len(record.ignore)
    return table


def check(records: Iterable[Record]) -> None:
    """Nothing in the index is malformed: finite numbers, boxes with an area."""
    for record in records:
        for box in [face.box for face in record.faces] + record.ignore:
            if not (all(map(math.isfinite, box)) and box[2] > box[0] and box[3] > box[1]):
                msg = f"{record.image}: bad box {box}"
                raise ValueError(msg)


def report(title: str, relations: Array) -> None:
    for line, value in (("median", np.median(relations, 0)), ("mean", relations.mean(0)), ("std", relations.std(0))):
        print(f"{title}: {line} of shift x, shift y, ratio w, ratio h = {np.round(value, 4).tolist()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, required=True, help="the folder with images/ and weights/")
    parser.add_argument("--out", type=Path, required=True, help="the JSON lines file to write")
    arguments = parser.parse_args()
    images = arguments.assets / "images"
    yunet = YuNet(arguments.assets / YUNET)
    fsanet = FsaNet(arguments.assets / path for path in FSANET)
    group, group_relations = face_counting(images, yunet, fsanet)
    report("label box from YuNet box", group_relations)
    portrait, portrait_relations = aflw2000(images, yunet, np.median(group_relations, axis=0))
    report("box from hull of 68 points", portrait_relations)
    records = [*group, *portrait, *wider_face(images, yunet)]
    check(records)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w") as file:
        file.writelines(json.dumps(asdict(record)) + "\n" for record in records)
    for key, row in counts(records).items():
        print(*key, dict(row))


if __name__ == "__main__":
    main()
