"""File formats of backends, read and written without the backend."""

__all__ = ["ncnn"]
