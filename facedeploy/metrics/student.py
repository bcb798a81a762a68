"""Student's t, without SciPy: a device computes its intervals itself."""

from __future__ import annotations

import math

NORMAL = 1.959964
# At 97.5 % for 1, 2, ... degrees of freedom; `student` goes on from there.
_TABLE = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def student(freedom: float) -> float:
    """Student's t at 97.5 %.

    Args:
        freedom: Degrees, 1 or more. Whole numbers are right to 0.0005; between those under 10, its logarithm is taken
            as straight in 1 / freedom, right to 3 % (from 2 on, to 1 %).
    """
    whole = math.floor(freedom)
    if whole < len(_TABLE):
        low, high = (math.log(_TABLE[max(n, 1) - 1]) for n in (whole, whole + 1))
        part = (freedom - whole) * (whole + 1) / freedom if freedom > 1 else 0.0
        return math.exp(low + part * (high - low))
    z = NORMAL
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / math.pow(freedom, power) for power, term in enumerate(terms, 1))
