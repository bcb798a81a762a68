"""Rewrites of an ONNX graph, one a file."""

__all__ = [
    "annotations",
    "channel_equalization",
    "deform_conv",
    "flat_split",
    "float16",
    "fold_scales",
    "hoist_qdq",
    "insert_qdq",
    "merge_convolutions",
    "qoperator",
    "remove_qdq",
    "simplify",
    "upgrade_opset",
    "widen",
]
