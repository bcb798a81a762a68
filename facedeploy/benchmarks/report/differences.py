"""Which faces an artifact lost or gained against the first one of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedeploy.benchmarks.record import Found, Measurement, Record
from facedeploy.benchmarks.report.table import Column, ReportTable, TableCell
from facedeploy.core.boxes import iou_matrix
from facedeploy.metrics.box_matching import SAME_FACE, match_by_score

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Difference:
    """A face that some artifacts lost, or gained.

    Attributes:
        box: (x1, y1, x2, y2), pixels.
        score: With which the first artifact found what was lost, or the highest of what was gained, 0..1.
        lost: Whether it was lost and not gained.
        names: Of the artifacts that lost or gained it.
    """

    box: Box
    score: float
    lost: bool
    names: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """What artifacts found in one picture.

    Attributes:
        picture: Its name.
        kept: Boxes that all of them found.
        differences: Faces that some lost or gained.
    """

    picture: str
    kept: tuple[Box, ...]
    differences: tuple[Difference, ...]

    @property
    def count(self) -> int:
        return sum(len(d.names) for d in self.differences)


def lost_and_gained(record: Record) -> tuple[Compared, ...]:
    """Every picture of every model with a difference, most differences first."""
    made = []
    for group in _by_model(record):
        for i, picture in enumerate(record.pictures):
            found = {m.name: m.found[i] for m in group if i < len(m.found)}
            if len(found) == len(group):
                made.append(_compare(picture, found))
    return tuple(sorted((c for c in made if c.differences), key=lambda c: -c.count))


def face_changes(first: Measurement, other: Measurement) -> tuple[int, int]:
    """How many faces of the first the other one lost, and how many it gained."""
    pairs = list(zip(first.found, other.found, strict=False))
    return sum(len(_unmatched(a, b)) for a, b in pairs), sum(len(_unmatched(b, a)) for a, b in pairs)


def difference_table(record: Record, called: Mapping[str, str]) -> ReportTable | None:
    """How many faces each artifact found, lost and gained. None where there is nothing to compare."""
    rows = []
    for group in _by_model(record):
        first = group[0]
        for m in group:
            lost, gained = face_changes(first, m)
            shown = (TableCell("-"), TableCell("-")) if m is first else (TableCell(str(lost)), TableCell(str(gained)))
            rows.append((TableCell(called[m.name]), TableCell(str(sum(map(len, m.found)))), *shown))
    if len(record.measurements) < 2 or not any(m.found for m in record.measurements):
        return None
    columns = (Column("artifact", kind="text"), Column("faces found"), Column("lost"), Column("gained"))
    about = "Against the model's first artifact, which is no truth: a face is the same one from an IoU of"
    return ReportTable("Faces lost and gained", columns, tuple(rows), f"{about} {SAME_FACE:g}.")


def _by_model(record: Record) -> list[list[Measurement]]:
    models = dict.fromkeys(m.model for m in record.measurements)
    return [[m for m in record.measurements if m.model == model] for model in models]


def _compare(picture: str, found: Mapping[str, Sequence[Found]]) -> Compared:
    first, *others = found
    reference = found[first]
    losers: dict[int, list[str]] = {}
    gained: list[tuple[Found, list[str]]] = []
    for name in others:
        for i in _unmatched(reference, found[name]):
            losers.setdefault(i, []).append(name)
        for j in _unmatched(found[name], reference):
            _add(gained, found[name][j], name)
    lost = [Difference(reference[i].box, reference[i].score, True, tuple(names)) for i, names in losers.items()]
    new = [Difference(face.box, face.score, False, tuple(names)) for face, names in gained]
    kept = tuple(face.box for i, face in enumerate(reference) if i not in losers)
    return Compared(picture, kept, tuple(sorted([*lost, *new], key=lambda d: -d.score)))


def _unmatched(faces: Sequence[Found], others: Sequence[Found]) -> list[int]:
    """Those of `faces` that have no partner among `others`."""
    scores = np.array([face.score for face in faces])
    taken = match_by_score(_boxes(faces), scores, _boxes(others), SAME_FACE)
    return np.flatnonzero(taken < 0).tolist()


def _add(gained: list[tuple[Found, list[str]]], face: Found, name: str) -> None:
    """One entry for a face that several gained; it shows the highest score."""
    for i, (known, names) in enumerate(gained):
        if name not in names and iou_matrix(_boxes([known]), _boxes([face]))[0, 0] >= SAME_FACE:
            gained[i] = (max(known, face, key=lambda f: f.score), [*names, name])
            return
    gained.append((face, [name]))


def _boxes(faces: Sequence[Found]) -> Floats:
    return np.array([face.box for face in faces], float).reshape(-1, 4)
