"""Operators in forms that pnnx reads: what it takes for another operator, or does not know, said in other words."""

__all__ = ["arithmetic", "outputs", "picking", "pooling", "prepare", "resizing", "writer"]
