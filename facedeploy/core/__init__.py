"""What every room uses: faces, pictures, targets, network specifications, errors. It knows nothing above it."""

__all__ = [
    "drawn",
    "errors",
    "face",
    "hashing",
    "images",
    "network_spec",
    "optional_imports",
    "paths",
    "picture_check",
    "preprocess",
    "progress",
    "serialization",
    "synthetic_faces",
    "system",
    "target",
]
