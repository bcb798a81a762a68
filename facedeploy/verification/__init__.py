"""Is an artifact what it was made from? Compared in its configuration, in tensors, output by output, and in faces.

Start at `verify.verify`; `tensors` holds the tolerances of each precision.
"""

__all__ = ["tensors", "verify"]
