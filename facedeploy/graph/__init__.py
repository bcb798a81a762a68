"""ONNX graphs: written from PyTorch, checked, and rewritten by passes; and the ranges that int8 needs.

`from_torch.export_onnx` writes a graph, `passes` holds one rewrite a file, `lowering` chooses how an operator is
expressed for a backend.
"""

__all__ = ["from_torch", "lowering", "passes", "ranges", "sampling_positions", "torch_operators"]
