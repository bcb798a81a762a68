"""Checkpoint to artifact: ONNX, its passes, and one compiler per backend."""
