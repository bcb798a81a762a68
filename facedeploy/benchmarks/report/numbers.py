"""Numbers as a reader wants them: as many digits as they deserve, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable

from facedeploy.metrics.interval import Interval, Unbounded

MINUS = "\N{MINUS SIGN}"
MEGABYTE = 1_000_000
TOO_FEW = "no interval: too few pictures"


def digits(values: Iterable[float]) -> int:
    """Decimals with which the smallest of a column has three significant digits, 3 at most."""
    smallest = min((abs(v) for v in values if v), default=1.0)
    return min(max(2 - math.floor(math.log10(smallest)), 0), 3)


def number(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def bounds(interval: Interval | Unbounded, decimals: int) -> str:
    if isinstance(interval, Unbounded):
        return TOO_FEW
    return f"[{number(interval.low, decimals)}, {number(interval.high, decimals)}]"


def signed(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return text if text.startswith(MINUS) or not float(text.replace(",", "")) else f"+{text}"


def percent(value: float, decimals: int = 0) -> str:
    return f"{number(100 * value, decimals)} %"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def listed(names: Iterable[str], most: int = 6) -> str:
    """The first of some names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
