"""ONNX graphs: written from PyTorch, checked, and rewritten by passes; and the ranges that int8 needs.

`from_torch.export_onnx` writes a graph, `passes` holds one rewrite a file, `lowering` chooses how an operator is
expressed for a backend. `interface` gives somebody's network the one input and the outputs that all else knows;
`quantized_file` says in which form a file is quantised already.
"""

__all__ = [
    "facts",
    "from_torch",
    "interface",
    "lowering",
    "passes",
    "quantized_file",
    "ranges",
    "sampling_positions",
    "torch_operators",
]
