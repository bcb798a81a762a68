"""Two records: what became faster, what is noise, and what may not be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from facedeploy.benchmarks.compare import Comparison, compare_records
from facedeploy.benchmarks.record import Measurement, Record
from facedeploy.core.errors import InputError
from facedeploy.metrics.interval import Interval
from tests.support.records import make_record


@pytest.fixture
def old() -> Record:
    return make_record(rounds=24)


def slower(record: Record, index: int, factor: float) -> Record:
    """The same record, in which one artifact took `factor` times as long."""
    changed = list(record.measurements)
    m = changed[index]
    p50 = m.spread["whole"].p50
    whole = replace(m.spread["whole"], p50=Interval(factor * p50.value, factor * p50.low, factor * p50.high))
    ratio = Interval(m.ratio.value / factor, m.ratio.low / factor, m.ratio.high / factor)
    changed[index] = replace(m, digest="ee" * 32, spread={**m.spread, "whole": whole}, ratio=ratio)
    return replace(record, measurements=tuple(changed))


def changed(record: Record, index: int, **values: Any) -> Record:
    measurements = list(record.measurements)
    measurements[index] = replace(measurements[index], **values)
    return replace(record, measurements=tuple(measurements))


def refusal(old: Record, new: Record) -> str:
    with pytest.raises(InputError) as said:
        compare_records(old, new)
    assert "\n" not in str(said.value)
    return str(said.value)


def test_a_record_against_itself_shows_nothing(old: Record) -> None:
    result = compare_records(old, old)
    assert [c.name for c in result.changes] == [m.name for m in old.measurements]
    assert all(c.same_files and c.times.value == 1 and 1 in c.times for c in result.changes)
    assert [c.relative is None for c in result.changes] == [True, False, False]
    assert result.remarks == result.only_old == result.only_new == ()
    assert all("no difference beyond the noise" in line for line in result.lines)


def test_what_became_slower_is_said_and_the_rest_is_not(old: Record) -> None:
    result = compare_records(old, slower(old, 1, 2.0))
    first, second, third = result.changes
    assert second.times.value == pytest.approx(0.5)
    assert second.relative is not None
    assert second.relative.value == pytest.approx(0.5)
    assert not second.same_files
    name = old.measurements[1].name
    assert result.lines[1].startswith(f"{name} (other files): 2.00 times slower (")
    assert 1 in first.times
    assert 1 in third.times


def test_a_busy_machine_moves_times_and_not_what_they_are_relative_to(old: Record) -> None:
    """All times are three times as long: something else ran. The artifacts among themselves are as before."""
    busy = old
    for i in range(len(old.measurements)):
        busy = slower(busy, i, 3.0)
    as_before = [replace(a, spread=b.spread) for a, b in zip(old.measurements, busy.measurements, strict=True)]
    busy = replace(busy, measurements=tuple(as_before), conditions=replace(old.conditions, elsewhere=0.9))
    result = compare_records(old, busy)
    assert all(c.times.high < 0.5 for c in result.changes)
    assert all(c.relative is not None and 1 in c.relative for c in result.changes[1:])
    (remark,) = result.remarks
    assert "0.90" in remark


def test_the_interval_is_that_of_both(old: Record) -> None:
    sure = [replace(m.spread["whole"], p50=Interval(10.0, 10.0, 10.0)) for m in old.measurements]
    unsure = [replace(m.spread["whole"], p50=Interval(8.0, 7.0, 9.0)) for m in old.measurements]

    def spread(wholes: list[Any]) -> Record:
        pairs = zip(old.measurements, wholes, strict=True)
        return replace(old, measurements=tuple(replace(m, spread={**m.spread, "whole": w}) for m, w in pairs))

    times = compare_records(spread(sure), spread(unsure)).changes[0].times
    assert (times.value, times.low, times.high) == pytest.approx((10 / 8, 10 / 9, 10 / 7))


def test_artifacts_are_matched_by_their_files_and_then_by_their_names(old: Record) -> None:
    digests = ["aa" * 32, "bb" * 32, "cc" * 32]
    for i, digest in enumerate(digests):
        old = changed(old, i, digest=digest)
    renamed = changed(old, 1, name="candidate")
    assert [c.name for c in compare_records(old, renamed).changes] == [m.name for m in old.measurements]
    rebuilt = changed(old, 2, digest="dd" * 32)
    assert [c.same_files for c in compare_records(old, rebuilt).changes] == [True, True, False]
    # Turned round, the files still find each other, but not every run has the same first artifact.
    turned = replace(old, measurements=old.measurements[::-1])
    result = compare_records(old, turned)
    assert all(c.same_files and c.times.value == 1 and c.relative is None for c in result.changes)
    other = changed(changed(old, 2, digest="dd" * 32), 2, name="new")
    result = compare_records(old, other)
    assert (result.only_old, result.only_new) == ((old.measurements[2].name,), ("new",))


def test_the_same_artifact_twice_is_matched_in_order(old: Record) -> None:
    first = old.measurements[0]
    twice = replace(old, measurements=(first, replace(first, name=f"{first.name}#2")))
    assert [c.name for c in compare_records(twice, twice).changes] == [first.name, f"{first.name}#2"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 7}, "threads 2 and 7"),
        ({"pictures": "0" * 64}, "pictures"),
        ({"options": {"score_threshold": 0.1}}, "options"),
        ({"version": 9}, "version 1 and 9"),
        ({"seconds": 1.0, "seed": 4}, "seed 0 and 4"),
    ],
)
def test_other_protocols_are_refused(change: dict[str, Any], said: str, old: Record) -> None:
    protocol = replace(old.protocol, **change)
    message = refusal(old, replace(old, protocol=protocol, protocol_digest=protocol.digest))
    assert "different protocols" in message
    assert said in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "mtcnn"}, "model"),
        ({"target": "ncnn-fp32"}, "target"),
        ({"runtime": {"backend": "onnxruntime"}}, "backend"),
        ({"input_sizes": {"detector": (320, 320)}}, "detector 320x320"),
    ],
)
def test_rows_that_do_not_match_are_refused(values: dict[str, Any], said: str, old: Record) -> None:
    assert said in refusal(old, changed(old, 1, **values))


def test_records_without_anything_in_common_are_refused(old: Record) -> None:
    new = old
    for i, m in enumerate(old.measurements):
        new = changed(new, i, name=f"other{i}", digest=f"{i}" * 64)
        assert m.digest != f"{i}" * 64
    assert "no artifact in common" in refusal(old, new)


def test_too_few_rounds_are_refused(old: Record) -> None:
    def cut(m: Measurement) -> Measurement:
        return replace(m, samples={k: v[:3] for k, v in m.samples.items()})

    new = replace(old, measurements=tuple(map(cut, old.measurements)))
    assert "too few rounds (3" in refusal(old, new)


def test_other_machines_are_remarked(old: Record) -> None:
    machine = replace(old.conditions.machine, cpu="Another CPU", cores=2)
    result: Comparison = compare_records(old, replace(old, conditions=replace(old.conditions, machine=machine)))
    (remark,) = result.remarks
    assert "cpu, cores differ" in remark
