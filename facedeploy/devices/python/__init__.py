"""A device with Python: this package is sent there as one file, works, and answers in JSON."""

__all__ = ["remote", "request", "requirements"]
