"""Data sets by name: `KIND:PATH`, with options after commas, such as `csv:faces.csv,images=photos`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from facedeploy.benchmarks.accuracy.readers.aflw2000 import read_aflw2000
from facedeploy.benchmarks.accuracy.readers.boxes_csv import read_csv
from facedeploy.benchmarks.accuracy.readers.coco import read_coco, read_landmarks
from facedeploy.benchmarks.accuracy.readers.pytorch import read_pytorch
from facedeploy.benchmarks.accuracy.readers.widerface import read_widerface
from facedeploy.benchmarks.accuracy.tasks import Task
from facedeploy.core.errors import InputError
from facedeploy.metrics.labelled_images import LabelledImage

Reader = Callable[[Path, Mapping[str, str]], tuple[tuple[LabelledImage, ...], Task]]


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        path: What its path names, for the help.
        title: What it is and measures, on one line.
        read: Reads it from a path and options.
        options: Names of the options that it takes.
    """

    path: str
    title: str
    read: Reader
    options: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "widerface": Kind("DIR", "WIDER FACE: AP easy, medium, hard", read_widerface, ("images",)),
    "aflw2000": Kind("DIR", "AFLW2000-3D: yaw, pitch, roll, NME", read_aflw2000),
    "csv": Kind("FILE", "a table of boxes: AP", read_csv, ("images",)),
    "coco": Kind("FILE", "boxes as in COCO: AP", read_coco, ("images", "category")),
    "landmarks": Kind(
        "FILE", "5, 68 or 106 points as in COCO: NME", read_landmarks, ("images", "category", "normalise")
    ),
    "pytorch": Kind("DIR", "any pictures: how far from PyTorch", read_pytorch, ("weights", "factory")),
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that was read.

    Attributes:
        text: What the user called it.
        kind: Its kind.
        path: Where it is.
        pictures: Pictures and labels.
        task: What is measured on it.
    """

    text: str
    kind: str
    path: Path
    pictures: tuple[LabelledImage, ...]
    task: Task

    @property
    def name(self) -> str:
        """Kind and last part of the path."""
        return f"{self.kind}:{self.path.resolve().name}"

    def limited(self, limit: int | None) -> Dataset:
        """The same with at most `limit` pictures, evenly spread: neighbours tend to be alike.

        Raises:
            InputError: the limit is not positive.
        """
        count = len(self.pictures)
        if limit is not None and limit < 1:
            msg = f"the limit of pictures must be at least 1, not {limit}"
            raise InputError(msg)
        if limit is None or limit >= count:
            return self
        return replace(self, pictures=tuple(self.pictures[i * count // limit] for i in range(limit)))


def parse_dataset(text: str) -> Dataset:
    """Read the data set that `text` names.

    Raises:
        InputError: there is no such kind or option, or the files are missing or not what they must be.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS or not rest:
        kinds = "; ".join(f"{name}:{k.path} ({k.title})" for name, k in KINDS.items())
        msg = f"{text!r} is no data set; give one of {kinds}"
        raise InputError(msg)
    found = KINDS[kind]
    path, *pairs = re.split(r",(?=[a-z]+=)", rest)
    options = dict(pair.split("=", 1) for pair in pairs)
    if unknown := sorted(set(options) - set(found.options)):
        known = f"options are {', '.join(found.options)}" if found.options else "it has none"
        msg = f"the data set kind {kind} has no option {unknown[0]!r}; {known}"
        raise InputError(msg)
    pictures, task = found.read(Path(path), options)
    return Dataset(text, kind, Path(path), pictures, task)
