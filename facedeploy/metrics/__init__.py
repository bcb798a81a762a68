"""How good faces are against labels, and how far two sets of faces differ. No file is read here, and no network run.

Average precision, landmarks, head pose, the matching of faces, and intervals from leaving pictures out.
"""

__all__ = [
    "average_precision",
    "face_loss",
    "face_matching",
    "interval",
    "jackknife",
    "labelled_images",
    "landmarks",
    "pose",
    "resampled",
    "student",
    "widerface_ap",
]
