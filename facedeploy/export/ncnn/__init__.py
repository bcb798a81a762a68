"""ONNX to ncnn: pnnx, and what it gets wrong put right."""

__all__ = ["convert", "int8"]
