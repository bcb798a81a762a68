"""Checkpoint to artifact: ONNX, its passes, and one compiler per backend.

`facedeploy.export` is the verb, `exporter.export`; `build.build` finishes a TensorRT artifact on its device.
"""

__all__ = ["build", "compiler", "exporter"]
