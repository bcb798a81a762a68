"""WIDER FACE: the official lists of its validation pictures, or its text file of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from facedeploy.benchmarks.accuracy.matfile import Value, read_mats
from facedeploy.benchmarks.accuracy.tasks import Task, WiderFace
from facedeploy.core.errors import InputError
from facedeploy.metrics.labelled_images import Bools, Floats, LabelledImage, check_pictures, find_picture

WHERE = (
    "WIDER FACE is had from its project page: unpack WIDER_val.zip (pictures) and eval_tools.zip (lists of easy, "
    "medium and hard) into one folder"
)
SETTINGS = ("easy", "medium", "hard")
_LIST = "wider_{}_val.mat"
_TEXT = "wider_face_val_bbx_gt.txt"
_LABELS = ("", "eval_tools/ground_truth", "ground_truth", "wider_face_split", "gt")
_PICTURES = ("WIDER_val/images", "images", "")
_INVALID = 7  # Column of the text file: x, y, w, h, blur, expression, illumination, invalid, occlusion, pose.
_COLUMNS = 10


def read_widerface(path: Path, options: Mapping[str, str]) -> tuple[tuple[LabelledImage, ...], Task]:
    """Read the validation pictures of WIDER FACE.

    Args:
        path: A folder with the four lists wider_{face,easy,medium,hard}_val.mat, or with the text file alone, which
            does not know the settings; or such a text file of any part of WIDER FACE.
        options: images: the folder with the folders of events.

    Returns:
        The labelled pictures, and what is measured on them.

    Raises:
        InputError: something is missing or not what it must be.
    """
    home = path.parent if path.is_file() else path
    if not path.exists():
        msg = f"there is no file or folder {path}: {WHERE}"
        raise InputError(msg)
    lists = None if path.is_file() else _first(home, _LABELS, _LIST.format("face"))
    text = path if path.is_file() else _first(home, _LABELS, _TEXT)
    if lists is None and text is None:
        msg = f"{path} holds neither {_LIST.format('face')} nor {_TEXT}: {WHERE}"
        raise InputError(msg)
    source = lists or text
    assert source is not None
    labels = _read_lists(lists.parent) if lists else _read_text(source)
    folder = _picture_folder(home, options, labels)
    pictures = [
        LabelledImage(find_picture(folder, name, source), name, boxes, kept=kept) for name, boxes, kept in labels
    ]
    if not any(mask.any() for p in pictures for mask in p.kept.values()):
        msg = f"{source} labels no face that counts: {WHERE}"
        raise InputError(msg)
    return check_pictures(pictures, source, f"give their folder with images=, or get them: {WHERE}"), WiderFace()


_Labels = list[tuple[str, Floats, dict[str, Bools]]]


def _first(home: Path, folders: Sequence[str], name: str) -> Path | None:
    return next((home / f / name for f in folders if (home / f / name).is_file()), None)


def _picture_folder(home: Path, options: Mapping[str, str], labels: _Labels) -> Path:
    if "images" in options:
        return Path(options["images"])
    first = labels[0][0] if labels else ""
    return next((home / f for f in _PICTURES if first and (home / f / first).parent.is_dir()), home / _PICTURES[0])


def _read_lists(folder: Path) -> _Labels:
    """Names, boxes, and for each setting which faces count. Its lists number faces from 1."""
    main = folder / _LIST.format("face")
    lists = {s: folder / _LIST.format(s) for s in SETTINGS}
    faces, *others = read_mats(
        [
            (main, ("event_list", "file_list", "face_bbx_list")),
            *((path, ("gt_list", "file_list")) for path in lists.values()),
        ]
    )
    kept = dict(zip(lists, others, strict=True))
    for setting, content in kept.items():
        if content["file_list"] != faces["file_list"]:
            msg = f"{lists[setting]} is of other pictures than {main}: {WHERE}"
            raise InputError(msg)
    events = faces["event_list"]
    try:
        return [
            (
                f"{event}/{name}.jpg",
                _corners(boxes),
                {s: _mask(c["gt_list"][e][n], len(_corners(boxes))) for s, c in kept.items()},
            )
            for e, event in enumerate(events)
            for n, (name, boxes) in enumerate(zip(faces["file_list"][e], faces["face_bbx_list"][e], strict=True))
        ]
    except (TypeError, IndexError, ValueError, AttributeError) as error:
        msg = f"the lists in {folder} are not those of WIDER FACE: {WHERE}"
        raise InputError(msg) from error


def _corners(boxes: Value) -> Floats:
    """From x, y, w, h."""
    values = np.asarray(boxes, np.float64)
    values = values.reshape(0, 4) if values.size == 0 else values
    if values.ndim != 2 or values.shape[1] != 4 or not np.isfinite(values).all():
        msg = "boxes are not x, y, w, h"
        raise ValueError(msg)
    return np.concatenate([values[:, :2], values[:, :2] + values[:, 2:]], axis=1)


def _mask(numbers: Value, faces: int) -> Bools:
    rows = np.asarray(numbers, np.float64).ravel()
    if ((rows < 1) | (rows > faces) | (rows != np.round(rows))).any():
        msg = "a face that does not exist is listed"
        raise ValueError(msg)
    mask = np.zeros(faces, bool)
    mask[rows.astype(np.intp) - 1] = True
    return mask


def _read_text(path: Path) -> _Labels:
    """Blocks of a name, a number of boxes, and that many lines; a picture without a box has one line of zeros.

    All faces count that are not marked invalid.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found: _Labels = []
    at = 0
    while at < len(lines):
        name = lines[at].strip()
        if not name and at == len(lines) - 1:
            break
        try:
            count = int(lines[at + 1])
            rows = [[float(v) for v in line.split()[:_COLUMNS]] for line in lines[at + 2 : at + 2 + max(count, 1)]]
            values = np.array(rows, np.float64).reshape(max(count, 1), _COLUMNS)[: max(count, 0)]
            boxes = _corners(values[:, :4])
        except (ValueError, IndexError) as error:
            msg = f"{path}, line {at + 1}: the block of {name[:80]!r} is no block of WIDER FACE ({error})"
            raise InputError(msg) from error
        found.append((name, boxes, {"all": values[:, _INVALID] == 0}))
        at += 2 + max(count, 1)
    return found
