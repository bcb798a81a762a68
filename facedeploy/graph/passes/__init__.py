"""Rewrites of an ONNX graph, one a file."""

__all__ = [
    "annotations",
    "channel_equalization",
    "deform_conv",
    "flat_split",
    "float16",
    "hoist_qdq",
    "insert_qdq",
    "merge_convolutions",
    "simplify",
    "upgrade_opset",
]
