"""What an export starts from: a published model, an ONNX file, or a callable that makes a PyTorch network.

Start at `open.open_source`, which gives a `source.Source`. `families` holds what is known of published heads.
"""

__all__ = ["families", "onnx_file", "open", "published", "settings", "settings_file", "source", "torch_callable"]
