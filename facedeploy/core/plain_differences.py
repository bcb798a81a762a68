"""Where two values of plain data, as JSON holds it, differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SHOWN = 60  # Letters of a value in a sentence.
_SHORT = 4  # A list of so many numbers is shown whole.


@dataclass(frozen=True)
class Difference:
    """One value that differs.

    Attributes:
        where: Its key, as in "preprocess.scale".
        want: What it should be, as JSON, cut where it is long; "nothing" where there should be none.
        have: What it is, likewise.
    """

    where: str
    want: str
    have: str


def differences(want: Any, have: Any, where: str = "") -> list[Difference]:
    """Every key whose values differ; of a long list the first place alone.

    Args:
        want: Plain data.
        have: Plain data that should be the same.
        where: What stands before the keys.
    """
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        keys = dict.fromkeys((*want, *have))
        inside = ((key, f"{where}.{key}" if where else str(key)) for key in keys)
        return [d for key, place in inside for d in differences(want.get(key), have.get(key), place)]
    if _same(want, have):
        return []
    if isinstance(want, list) and isinstance(have, list) and len(want) == len(have) > _SHORT:
        first = next(i for i, pair in enumerate(zip(want, have, strict=True)) if not _same(*pair))
        return differences(want[first], have[first], f"{where}[{first}]")
    return [Difference(where, _shown(want), _shown(have))]


def _same(want: Any, have: Any) -> bool:
    """Whether two values are equal; 1 and true are not."""
    if isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) and all(map(_same, want, have))
    return bool(want == have) and isinstance(want, bool) == isinstance(have, bool)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
