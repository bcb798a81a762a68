"""What an export starts from: a published model, an ONNX file, or a callable that makes a PyTorch network.

Start at `open.open_source`, which gives a `source.Source`.
"""

__all__ = ["onnx_file", "open", "published", "settings", "source", "torch_callable"]
