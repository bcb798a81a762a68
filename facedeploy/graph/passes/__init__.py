"""Rewrites of an ONNX graph, one a file."""
