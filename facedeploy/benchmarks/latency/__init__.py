"""How long a pipeline takes, from picture to faces, measured side by side. Start at `benchmark.benchmark`."""

__all__ = ["benchmark", "protocol"]
