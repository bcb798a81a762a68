"""How good faces are against labels, and how far two sets of faces differ. No file is read here, and no network run.

Average precision, landmarks, head pose, the matching of faces, and intervals by resampling pictures.
"""

__all__ = [
    "average_precision",
    "bootstrap",
    "face_loss",
    "face_matching",
    "interval",
    "labelled_images",
    "landmarks",
    "pose",
    "resampled",
    "widerface_ap",
]
