"""ONNX operators that are layers: sums of products of what they read with a weight, which is their second input."""

from __future__ import annotations

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Those that have a form in int8, with a scale for each output channel of the weight.
INT8_LAYERS = LAYERS - {"ConvTranspose"}
