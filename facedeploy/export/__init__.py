"""Checkpoint to artifact: ONNX, its passes, and one compiler per backend.

`facedeploy.export` is the verb, `exporter.export`; `build.build` finishes a TensorRT artifact on its device;
`inspection.inspect` says what a network is before it is exported.
"""

__all__ = ["build", "compiler", "exporter", "inspection"]
