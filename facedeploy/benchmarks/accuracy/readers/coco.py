"""Boxes, and points, in one JSON file as COCO has it (Lin et al. 2014; cocodataset.org, "Data format")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facedeploy.benchmarks.accuracy.pose_and_landmarks import Portraits
from facedeploy.benchmarks.accuracy.tasks import BoxTask, Task
from facedeploy.core.errors import InputError
from facedeploy.core.serialization import from_plain
from facedeploy.metrics.labelled_images import Floats, LabelledImage, check_boxes, check_pictures, find_picture
from facedeploy.metrics.landmark_schemes import DEFAULT, NORMALISATIONS, SIZES, Normalisation, hull, scale_of

_FACE = "face"
_MAX_BYTES = 2 << 30
_Annotations = list[dict[str, Any]]


def read_coco(path: Path, options: Mapping[str, str]) -> tuple[tuple[LabelledImage, ...], Task]:
    """Read the boxes of a COCO file. Where one is marked iscrowd or ignore, a detection counts as neither right nor
    wrong.

    Args:
        path: The JSON file.
        options: images: the folder of the pictures; category: where the file has several and none is called face.

    Returns:
        The labelled pictures, and what is measured on them.

    Raises:
        InputError: something is missing or not what it must be.
    """
    pictures = []
    for image, mine in _read(path, options):
        boxes = [_box(path, image, a) for a in mine]
        crowd = np.array([bool(a.get("iscrowd") or a.get("ignore")) for a in mine], bool)
        every = np.array(boxes, np.float64).reshape(-1, 4)
        pictures.append(_picture(path, options, image, every[~crowd], ignored=every[crowd]))
    if not any(len(p.boxes) for p in pictures):
        msg = f"{path} labels no face, so there is nothing to find"
        raise InputError(msg)
    return check_pictures(pictures, path, "give their folder with images="), BoxTask()


def read_landmarks(path: Path, options: Mapping[str, str]) -> tuple[tuple[LabelledImage, ...], Task]:
    """Read `keypoints` of 5, 68 or 106 points a face (x, y, visible). Faces without any are left out.

    Args:
        path: The JSON file.
        options: images and category, as in `read_coco`; normalise: what errors are divided by, see
            `landmark_schemes.Normalisation`.

    Returns:
        The labelled pictures, and what is measured on them.

    Raises:
        InputError: something is missing or not what it must be.
    """
    labelled = [
        (image, mine) for image, all_ in _read(path, options) if (mine := [a for a in all_ if any(_points(path, a))])
    ]
    sizes = {len(_points(path, a)) // 3 for _, mine in labelled for a in mine}
    if len(sizes) != 1 or not sizes <= set(SIZES):
        have = ", ".join(map(str, sorted(sizes))) or "no"
        msg = f"{path} has faces of {have} points; all must have {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}"
        raise InputError(msg)
    (size,) = sizes
    normalisation = _normalisation(options.get("normalise", DEFAULT[size]))
    pictures = []
    for image, mine in labelled:
        values = np.array([_points(path, a) for a in mine], np.float64).reshape(len(mine), size, 3)
        points = np.where(values[..., 2:] > 0, values[..., :2], np.nan)
        boxes = np.array([_box(path, image, a) if "bbox" in a else _around(points[i]) for i, a in enumerate(mine)])
        scale = scale_of(points, boxes, normalisation)
        if scale is None:
            msg = f"{size} points have no {normalisation}: give normalise={DEFAULT[size]}"
            raise InputError(msg)
        if not (scale > 0).all():
            msg = (
                f"{path}: a face of {image['file_name']} has no {normalisation} to divide by, as points are missing "
                "or coincide: give another normalise="
            )
            raise InputError(msg)
        pictures.append(_picture(path, options, image, boxes, points=points, scale=scale))
    return check_pictures(pictures, path, "give their folder with images="), Portraits(
        normalisation=normalisation, required=True
    )


def _picture(
    path: Path, options: Mapping[str, str], image: dict[str, Any], boxes: Floats, **labels: Any
) -> LabelledImage:
    folder = Path(options.get("images", path.parent))
    name = image["file_name"]
    size = (image["width"], image["height"]) if "width" in image and "height" in image else None
    picture = replace(LabelledImage(find_picture(folder, name, path), name, boxes, size=size), **labels)
    check_boxes(name, np.concatenate([picture.boxes, picture.ignored]), size, path)
    return picture


def _normalisation(name: str) -> Normalisation:
    for known in NORMALISATIONS:
        if name == known:
            return known
    msg = f"normalise takes {', '.join(NORMALISATIONS)}, not {name!r}"
    raise InputError(msg)


def _around(points: Floats) -> list[float]:
    box: list[float] = hull(points[None, ~np.isnan(points[:, 0])])[0].tolist()
    return box


def _read(path: Path, options: Mapping[str, str]) -> list[tuple[dict[str, Any], _Annotations]]:
    """Every picture with its annotations of the one category."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            msg = f"{path} is too large to be a file of annotations"
            raise InputError(msg)
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"cannot read the annotations {path}: {error}"
        raise InputError(msg) from error
    try:
        images = {i["id"]: _image(i) for i in data["images"]}
        grouped: dict[Any, _Annotations] = {key: [] for key in images}
        wanted = _category(data.get("categories", []), options.get("category"))
        for annotation in data["annotations"]:
            if wanted is None or annotation.get("category_id") == wanted:
                grouped[annotation["image_id"]].append(annotation)
    except KeyError as error:
        msg = f"{path} is no file of COCO's format: {error} is missing, or names a picture that is not in it"
        raise InputError(msg) from error
    except (TypeError, AttributeError, InputError) as error:
        msg = f"{path} is no file of COCO's format: {error}"
        raise InputError(msg) from error
    return [(image, grouped[key]) for key, image in images.items()]


def _image(image: dict[str, Any]) -> dict[str, Any]:
    return {
        "file_name": from_plain(str, image["file_name"], "file_name"),
        **{k: from_plain(int, image[k], k) for k in ("width", "height") if k in image},
    }


def _category(categories: list[dict[str, Any]], name: str | None) -> Any:
    """Id of the category to measure; None for all, where there is only one."""
    names = {c["name"]: c["id"] for c in categories}
    if name is None and len(names) < 2:
        return None
    if (name or _FACE) not in names:
        msg = f"its categories are {', '.join(map(str, names))}: give category= with one of them"
        raise InputError(msg)
    return names[name or _FACE]


def _box(path: Path, image: dict[str, Any], annotation: dict[str, Any]) -> list[float]:
    """From x, y, w, h."""
    x, y, w, h = _numbers(path, annotation, "bbox", 4, image["file_name"])
    return [x, y, x + w, y + h]


def _points(path: Path, annotation: dict[str, Any]) -> list[float]:
    return _numbers(path, annotation, "keypoints", None, f"annotation {annotation.get('id')}")


def _numbers(path: Path, annotation: dict[str, Any], key: str, count: int | None, where: str) -> list[float]:
    values = annotation.get(key, [] if count is None else None)
    numbers = isinstance(values, list) and all(isinstance(v, (int, float)) for v in values)
    if not isinstance(values, list) or not numbers or (len(values) % 3 if count is None else len(values) != count):
        what = "whole triples of numbers" if count is None else f"{count} numbers"
        msg = f"{path}: {key} of {where} must be {what}"
        raise InputError(msg)
    return [float(v) for v in values]
