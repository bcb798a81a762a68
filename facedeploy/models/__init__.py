"""The published systems as PyTorch modules, and the facts about them.

Start at `registry.get`, which gives a `model.Model`. Neither needs PyTorch to import; the modules of a model do.
"""

__all__ = ["architecture", "checkpoint", "model", "model_size", "network_specs", "registry"]
