"""A user's own network: an ONNX file, or a callable that makes a PyTorch module."""
