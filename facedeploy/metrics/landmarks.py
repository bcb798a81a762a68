"""Errors of landmarks, relative to the size of the face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facedeploy.core.boxes import areas
from facedeploy.core.errors import InputError
from facedeploy.metrics.labelled_images import Floats


@dataclass(frozen=True)
class LandmarkError:
    """How far landmarks are from the labelled points.

    Attributes:
        mean: Mean distance over all points of all faces, as a fraction of sqrt(w * h) of the box; NaN without faces.
        points: The same for each of the five points.
        faces: How many faces were measured.
    """

    mean: float
    points: tuple[float, ...]
    faces: int


def point_errors(found: Floats, labelled: Floats, scale: Floats) -> Floats:
    """Distances (N, K) of points (N, K, 2) from labelled ones (N, K, 2), in units of each face's `scale` (N,)."""
    errors: Floats = np.linalg.norm(found - labelled, axis=2) / scale[:, None]
    return errors


def landmark_error(found: ArrayLike, labelled: ArrayLike, boxes: ArrayLike) -> LandmarkError:
    """Compare landmarks with labels, relative to the labelled boxes.

    The box stands in for the distance of the eyes, which vanishes in profile (Zhu et al. 2016, "Face Alignment Across
    Large Poses"). Faces whose label is not a number are left out.

    Args:
        found: (N, 5, 2) in pixels.
        labelled: (N, 5, 2) in pixels.
        boxes: Labelled boxes (N, 4) in pixels.

    Returns:
        The errors, as fractions of the box's size.

    Raises:
        InputError: shapes that do not fit, or a labelled box without an area.
    """
    points, truth = (np.asarray(v, float).reshape(-1, 5, 2) for v in (found, labelled))
    corners = np.asarray(boxes, float).reshape(-1, 4)
    if not len(points) == len(truth) == len(corners):
        msg = f"landmarks of {len(points)} faces, labels of {len(truth)} and boxes of {len(corners)}"
        raise InputError(msg)
    known = ~np.isnan(truth).any(axis=(1, 2))
    area = areas(corners[known])
    if (area == 0).any():
        msg = "a labelled box has no area"
        raise InputError(msg)
    errors = point_errors(points[known], truth[known], np.sqrt(area))
    if len(errors) == 0:
        return LandmarkError(float("nan"), (float("nan"),) * 5, 0)
    return LandmarkError(float(errors.mean()), tuple(errors.mean(axis=0).tolist()), len(errors))
