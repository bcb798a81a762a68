"""The numbering of landmarks in data sets, and what their errors are divided by."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from facedeploy.core.boxes import areas
from facedeploy.metrics.labelled_images import Floats

# outer-eyes: distance of the outer corners of the eyes, as in 300-W (Sagonas et al. 2013); eyes: of the eyes' centres;
# box: sqrt(w * h) of the labelled box, as RetinaFace has it (Deng et al. 2020); hull: sqrt(w * h) of the box around all
# labelled points, as in 3DDFA (Zhu et al. 2016) and the Grand Challenge of 106-Point Facial Landmark Localization.
Normalisation = Literal["outer-eyes", "eyes", "box", "hull"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)

# 68: the mark-up of Multi-PIE and 300-W. 106: that of the Grand Challenge, JD-landmark and LaPa.
SIZES = (5, 68, 106)
DEFAULT: dict[int, Normalisation] = {5: "box", 68: "outer-eyes", 106: "hull"}
_OUTER_EYES = {68: (36, 45), 106: (66, 79)}
# Left eye, right eye, nose, left and right mouth corner, as seen in the picture; the mean of these points is each.
_FIVE: dict[int, tuple[slice | int, ...]] = {
    5: (0, 1, 2, 3, 4),
    68: (slice(36, 42), slice(42, 48), 30, 48, 54),
    106: (104, 105, 54, 84, 90),
}


def five_of(points: Floats) -> Floats:
    """The five points (N, 5, 2) in labels of 5, 68 or 106 (N, K, 2); NaN where one that is needed is not labelled."""
    groups = [points[:, part] for part in _FIVE[points.shape[1]]]
    return np.stack([g.mean(axis=1) if g.ndim == 3 else g for g in groups], axis=1)


def scale_of(points: Floats, boxes: Floats, normalisation: Normalisation) -> Floats | None:
    """What errors of labelled points (N, K, 2) are divided by (N,), pixels; None where K points have no such thing.

    NaN or 0 where the points that it takes are not labelled, or coincide.
    """
    if normalisation == "box":
        return np.sqrt(areas(boxes))
    if normalisation == "hull":
        known = ~np.isnan(points)
        low = np.where(known, points, np.inf).min(axis=1)
        around = np.concatenate([low, np.where(known, points, -np.inf).max(axis=1)], axis=1)
        return np.sqrt(areas(around))
    if normalisation == "eyes":
        left, right = five_of(points)[:, 0], five_of(points)[:, 1]
    elif points.shape[1] in _OUTER_EYES:
        first, second = _OUTER_EYES[points.shape[1]]
        left, right = points[:, first], points[:, second]
    else:
        return None
    found: Floats = np.linalg.norm(left - right, axis=1)
    return found


def hull(points: Floats) -> Floats:
    """The box (N, 4) around points (N, K, 2), all labelled."""
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
