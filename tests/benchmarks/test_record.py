"""Records of benchmarks: written whole, read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facedeploy.benchmarks.record import VERSION, Record
from facedeploy.benchmarks.record_file import check_place, read_record, write_record
from facedeploy.core.errors import InputError
from facedeploy.core.serialization import to_plain
from facedeploy.metrics.interval import Interval, Unbounded
from tests.support.records import make_record

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def record() -> Record:
    return replace(make_record(rounds=8), openings=(4, 4))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as said:
        read_record(path)
    message = str(said.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_was_written_is_read(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_record(record, path)
    assert read_record(path) == record
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_scores_of_too_few_pictures_have_a_value_alone(record: Record, tmp_path: Path) -> None:
    scores = tuple(replace(s, value=Unbounded(90.0), change=Unbounded(-0.5)) for s in record.scores)
    path = tmp_path / "r.json"
    write_record(replace(record, scores=scores), path)
    assert read_record(path).scores == scores
    assert json.loads(path.read_text())["scores"][0]["value"] == {"value": 90.0}
    data = to_plain(record)
    data["scores"][0]["value"] = {"value": 90.0, "low": 80.0}
    path.write_text(json.dumps(data))
    assert "high is missing" in refusal(path)


def test_a_record_that_cannot_be_written_leaves_nothing(record: Record, tmp_path: Path) -> None:
    place = tmp_path / "folder"
    place.mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_record(record, place)
    with pytest.raises(InputError, match="cannot write"):
        write_record(record, tmp_path / "absent" / "r.json")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert list(place.iterdir()) == []


def test_a_place_is_checked_before_the_work(tmp_path: Path) -> None:
    check_place(tmp_path / "r.json")
    for wrong in (tmp_path, tmp_path / "absent" / "r.json"):
        with pytest.raises(InputError, match="cannot write"):
            check_place(wrong)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"version": NaN}', b"{}"], ids=lambda c: c[:9]
)
def test_what_is_no_record(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert "record of a benchmark" in refusal(path)


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    refusal(tmp_path / "absent.json")
    refusal(tmp_path)


def _set(*place: Any) -> Change:
    *where, last, value = place

    def change(data: dict[str, Any]) -> None:
        target: Any = data
        for key in where:
            target = target[key]
        target[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("version", VERSION + 1), f"version {VERSION + 1}"),
        (_set("protocol", "threads", 64), "measure again"),
        (_set("protocol_digest", "0" * 64), "measure again"),
        (_set("measurements", 0, "size", "large"), r"measurements[0].size"),
        (_set("surprise", 1), "surprise"),
        (_set("measurements", 1, "spread", "whole", "p50", "low", 0), "p50"),
        (_set("measurements", 1, "spread", "whole", "p50", "high", 0.001), "p50"),
        (_set("measurements", 1, "ratio", "value", -1), "ratio"),
        (_set("measurements", 0, "samples", "network", 3, [1.0]), "8 rounds of 5 times of network"),
        (_set("measurements", 0, "samples", {}), "nothing about whole"),
        (_set("openings", [4, 5]), "9 rounds"),
    ],
)
def test_a_record_that_was_changed_by_hand(change: Change, said: str, record: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    data = to_plain(record)
    change(data)
    path.write_text(json.dumps(data))
    assert said in refusal(path)


def test_a_time_that_is_no_number_is_refused(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    text = json.dumps(to_plain(record)).replace('"max_drop": 0.5', '"max_drop": NaN')
    path.write_text(text)
    assert "NaN" in refusal(path)


def test_the_digest_is_of_every_rule(record: Record) -> None:
    protocol = record.protocol
    changed = [
        replace(protocol, version=2),
        replace(protocol, pictures="0"),
        replace(protocol, threads=77),
        replace(protocol, streams=7),
        replace(protocol, seconds=0.7),
        replace(protocol, rounds=77),
        replace(protocol, seed=1),
        replace(protocol, options={}),
        replace(protocol, openings=9),
    ]
    digests = {p.digest for p in (protocol, *changed)}
    assert len(digests) == 1 + len(changed)
    assert replace(protocol).digest == protocol.digest
    assert len(protocol.digest) == 64


def test_an_interval_holds_its_bounds() -> None:
    interval = Interval(1.5, 1, 2)
    assert 1 in interval
    assert 2 in interval
    assert 2.1 not in interval
