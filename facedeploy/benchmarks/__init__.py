"""What an artifact costs and what it is worth: latency, accuracy, and their report.

`record.Record` is what every benchmark writes. `compare` holds two records against each other, and `gate` holds them
against limits.
"""

__all__ = ["accuracy", "compare", "confidence", "gate", "latency", "matrix", "record", "report"]
