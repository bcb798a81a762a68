"""Error of the head pose on pictures with one labelled face each, as on AFLW2000."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facedeploy.core.errors import InputError
from facedeploy.core.face import Face
from facedeploy.metrics.average_precision import boxes_and_scores
from facedeploy.metrics.box_matching import nearest
from facedeploy.metrics.labelled_images import Bools, Floats

# The 66 bins of Hopenet and MOS end there; MOS's AFLW2000 script leaves out pictures with a label beyond.
ANGLE_LIMIT = 99.0


@dataclass(frozen=True)
class PoseError:
    """How far angles are from the labelled ones. All errors are NaN where no face was found, or faces come without
    angles.

    Attributes:
        yaw: Mean absolute error over the faces that were found, degrees.
        pitch: Mean absolute error over the faces that were found, degrees.
        roll: Mean absolute error over the faces that were found, degrees.
        faces: Faces with a label that counts.
        detected: How many of those were found.
    """

    yaw: float
    pitch: float
    roll: float
    faces: int
    detected: int

    @property
    def mean(self) -> float:
        """Mean of the three errors, degrees."""
        return (self.yaw + self.pitch + self.roll) / 3

    @property
    def detection_rate(self) -> float:
        return self.detected / self.faces if self.faces else float("nan")


def angle_distance(a: ArrayLike, b: ArrayLike) -> Floats:
    """How far angles in degrees are apart, the shorter way round: 359 and 1 are 2 apart, not 358."""
    found: Floats = np.abs((np.asarray(a, float) - np.asarray(b, float) + 180) % 360 - 180)
    return found


def labelled_face(faces: Sequence[Face], box: ArrayLike) -> Face | None:
    """Find the face that overlaps a labelled box most.

    Args:
        faces: Of one picture.
        box: (x1, y1, x2, y2) in pixels.

    Returns:
        The face; None where none overlaps that much.
    """
    (row,) = nearest(boxes_and_scores(faces)[0], np.asarray(box, float).reshape(1, 4)).tolist()
    return faces[row] if row >= 0 else None


def countable(angles: ArrayLike) -> Bools:
    """Whether labels (..., 3) count: yaw, pitch and roll are known, and none is beyond 99 degrees."""
    return np.asarray((np.abs(np.asarray(angles, float)) <= ANGLE_LIMIT).all(axis=-1))


def pose_error(found: Sequence[Face | None], labelled: ArrayLike) -> PoseError:
    """Compare the pose of faces with labels.

    Args:
        found: One face per label; None for one that was missed.
        labelled: Yaw, pitch and roll (N, 3) in degrees.

    Returns:
        Mean absolute errors in degrees.

    Raises:
        InputError: numbers of faces and labels that differ.
    """
    angles = np.asarray(labelled, float).reshape(-1, 3)
    if len(found) != len(angles):
        msg = f"{len(found)} faces and {len(angles)} labels"
        raise InputError(msg)
    pairs = [(f, a) for f, a in zip(found, angles, strict=True) if countable(a)]
    seen = [(f, a) for f, a in pairs if f is not None]
    errors = np.full(3, np.nan)
    if seen and all(None not in (f.yaw, f.pitch, f.roll) for f, _ in seen):
        got = np.array([[f.yaw, f.pitch, f.roll] for f, _ in seen], float)
        errors = np.abs(got - np.array([a for _, a in seen])).mean(axis=0)
    yaw, pitch, roll = errors.tolist()
    return PoseError(yaw, pitch, roll, len(pairs), len(seen))
