"""Read pictures and videos, whatever their format, as (H, W, 3) uint8 BGR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from facedeploy.core.errors import InputError
from facedeploy.core.paths import StrPath, as_paths
from facedeploy.core.preprocess import Image

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}


class Frame(NamedTuple):
    """A picture, and where it comes from.

    Attributes:
        path: The file.
        image: (H, W, 3) uint8, BGR.
        number: Of a video's frame, from 0; None for a picture.
    """

    path: Path
    image: Image
    number: int | None = None


def read_picture(path: StrPath) -> Image:
    """Read one picture. Grey becomes BGR, alpha is dropped, 16 bits become 8, EXIF rotation is applied.

    Args:
        path: The file.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        InputError: the file is missing or is not a picture that OpenCV reads.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"there is no picture {path}"
        raise InputError(msg)
    try:
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        msg = f"{path} is a picture that OpenCV refuses: {error.err}"
        raise InputError(msg) from error
    # OpenCV fills the rest of a truncated JPEG with grey: there must be an end marker after the last scan began.
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        msg = f"{path} is truncated: copy it again"
        raise InputError(msg)
    if image is None:
        msg = f"{path} is not a picture: give a file of type {', '.join(sorted(PICTURES))}"
        raise InputError(msg)
    return image  # type: ignore[return-value]  # IMREAD_COLOR gives uint8


def expand(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Replace each folder by the pictures in it and its subfolders, sorted.

    Args:
        paths: Files and folders, or one of them.

    Returns:
        Files only, in order.

    Raises:
        InputError: a path does not exist, or a folder holds no picture.
    """
    files: list[Path] = []
    for path in as_paths(paths):
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
            if not found:
                msg = f"the folder {path} holds no picture ({', '.join(sorted(PICTURES))})"
                raise InputError(msg)
            files += found
        elif path.is_file():
            files.append(path)
        else:
            msg = f"there is no file or folder {path}"
            raise InputError(msg)
    return files


def frames(files: Sequence[Path]) -> Iterator[Frame]:
    """Read pictures and the frames of videos.

    Args:
        files: Pictures and videos.

    Returns:
        Each picture and frame, in order, read when it is asked for.

    Raises:
        InputError: a file cannot be read.
    """
    for path in files:
        if path.suffix.lower() in VIDEOS:
            yield from _video(path)
        else:
            yield Frame(path, read_picture(path))


def _video(path: Path) -> Iterator[Frame]:
    capture = cv2.VideoCapture(str(path))
    try:
        index = 0
        while True:
            more, image = capture.read()
            if not more:
                break
            yield Frame(path, image, index)  # type: ignore[arg-type]  # frames are uint8
            index += 1
        if index == 0:
            msg = f"{path} is not a video that OpenCV reads"
            raise InputError(msg)
    finally:
        capture.release()
