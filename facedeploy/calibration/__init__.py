"""From pictures to ranges, and from ranges to the layers that an int8 target quantises.

`session` calibrates, `quantize_plan` decides which layers are int8, `sensitivity` measures which ones INT8 hurts,
`table` holds the ranges.
"""

__all__ = ["quantize_plan", "report", "sensitivity", "session", "table"]
