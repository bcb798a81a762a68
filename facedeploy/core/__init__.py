"""What every room uses: faces, pictures, targets, network specifications, errors. It knows nothing above it."""

__all__ = [
    "errors",
    "face",
    "hashing",
    "images",
    "network_spec",
    "optional_imports",
    "preprocess",
    "progress",
    "serialization",
    "synthetic_faces",
    "target",
]
