"""Every value that differs is named, with both, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from facedeploy.core.plain_differences import Difference, differences

LONG = [[float(i), float(i + 1), 0.0] for i in range(68)]


def with_one(value: float) -> list[list[float]]:
    changed = [list(row) for row in LONG]
    changed[40][1] = value
    return changed


@pytest.mark.parametrize(
    ("want", "have", "found"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1.0, 2.0]}, "a": 1.0}, []),
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5, "d": 4}}, [("b.c", "2", "5"), ("b.d", "3", "4")]),
        ({"a": [1, 2, 3]}, {"a": [1, 2, 4]}, [("a", "[1, 2, 3]", "[1, 2, 4]")]),
        ({"a": [1, 2]}, {"a": [1, 2, 4]}, [("a", "[1, 2]", "[1, 2, 4]")]),
        ({"a": LONG}, {"a": with_one(-7.5)}, [("a[40]", "[40.0, 41.0, 0.0]", "[40.0, -7.5, 0.0]")]),
        ({"a": True}, {"a": 1}, [("a", "true", "1")]),
        ({"a": None}, {}, []),
        ({"a": None}, {"a": {"b": 1}}, [("a", "nothing", '{"b": 1}')]),
        ({}, {"a": 1}, [("a", "nothing", "1")]),
        ({"a": "x" * 100}, {"a": "y"}, [("a", '"' + "x" * 59 + "…", '"y"')]),
    ],
    ids=["equal", "nested", "list", "length", "long list", "bool", "none", "none and object", "extra", "long text"],
)
def test_differences(want: Any, have: Any, found: list[tuple[str, str, str]]) -> None:
    assert differences(want, have) == [Difference(*each) for each in found]


def test_keys_stand_below_where_they_are_from() -> None:
    assert differences({"a": 1}, {"a": 2}, "settings") == [Difference("settings.a", "1", "2")]
