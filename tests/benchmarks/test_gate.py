"""The ship gate: what it reads, what it lets pass, and what it refuses to judge."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facedeploy.benchmarks.gate import Gate, Limits, check, read_gate
from facedeploy.benchmarks.record import Measurement, Record, Score
from facedeploy.core.errors import InputError
from facedeploy.metrics.interval import Interval, Unbounded
from tests.support.records import make_record

RECORD = make_record()  # openvino-fp32, openvino-int8, ncnn-fp16 of mos-tiny
INT8, FP16 = "mos-tiny-openvino-int8", "mos-tiny-ncnn-fp16"
finite = st.floats(-50, 50)


def written(folder: Path, text: str) -> Path:
    path = folder / "gate.toml"
    path.write_text(text)
    return path


def with_measurement(name: str, **changes: Any) -> Record:
    return with_all({name: changes})


def with_all(changes: dict[str, dict[str, Any]]) -> Record:
    made = tuple(replace(m, **changes.get(m.name, {})) for m in RECORD.measurements)
    return replace(RECORD, measurements=made)


def with_change(artifact: str, measure: str, change: Interval | Unbounded | None, record: Record = RECORD) -> Record:
    def changed(s: Score) -> Score:
        return replace(s, change=change) if (s.artifact, s.measure) == (artifact, measure) else s

    return replace(record, scores=tuple(map(changed, record.scores)))


def measurement(name: str) -> Measurement:
    return next(m for m in RECORD.measurements if m.name == name)


# --- reading ---


def test_everything_that_a_gate_can_say(tmp_path: Path) -> None:
    text = """
        min_speedup = 1.5
        max_p99 = 60
        max_size = 5.0
        max_memory = 300
        max_lost = 0.5
        [max_drop]
        "AP hard" = 0.5
        "aflw2000 yaw" = 0.1
        [only."ncnn-*"]
        max_p99 = 90
        [only.openvino-int8.max_drop]
        "AP easy" = 1
    """
    gate = read_gate(written(tmp_path, text))
    assert gate == Gate(
        max_drop={"AP hard": 0.5, "aflw2000 yaw": 0.1},
        max_lost=0.5,
        min_speedup=1.5,
        max_p99=60.0,
        max_size=5.0,
        max_memory=300.0,
        only={"ncnn-*": Limits(max_p99=90.0), "openvino-int8": Limits(max_drop={"AP easy": 1.0})},
    )
    assert gate.measures == ("AP hard", "aflw2000 yaw", "AP easy")


def test_the_gate_of_the_documentation(tmp_path: Path) -> None:
    """It shows every key, and it can be judged."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / "gate.md").read_text()
    gate = read_gate(written(tmp_path, text.split("```toml\n")[1].split("```")[0]))
    assert all(getattr(gate, f.name) for f in fields(gate))
    assert {r.split(":")[0] for r in check(gate, RECORD)} == {INT8, FP16}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_p98 = 60", "max_p98 is not a known key; known are max_drop, max_lost, min_speedup, max_p99"),
        ("max_p99 = '60'", "max_p99 must be a value of type float"),
        ("max_p99 = true", "max_p99 must be a value of type float"),
        ("max_p99 = -1", "max_p99 must be a finite number of 0 or more, not -1"),
        ("max_p99 = nan", "max_p99 must be a finite number"),
        ("min_speedup = inf", "min_speedup must be a finite number"),
        ("max_drop = 0.5", "max_drop must be an object"),
        ("[max_drop]\n'AP hard' = -0.5", r'max_drop\."AP hard" must be a finite number'),
        ("[only.x]\nmax_speed = 1", r"only\.x\.max_speed is not a known key"),
        ("[only.x.only.y]\nmax_p99 = 1", r"only\.x\.only is not a known key"),
        ("[only.x]\nmax_p99 = -1", r'only\."x"\.max_p99 must be a finite number'),
        ("max_p99 = 60\n[only.x]", r'only\."x" sets no limit; limits are max_drop, max_lost'),
        ("", "sets no limit; limits are max_drop, max_lost"),
        ("[max_drop]", "sets no limit"),
        ("max_p99 = ", "is not valid TOML"),
    ],
)
def test_a_gate_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as error:
        read_gate(written(tmp_path, text))
    assert "gate.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_gate() -> None:
    with pytest.raises(InputError, match=r"cannot read the file of settings missing\.toml"):
        read_gate(Path("missing.toml"))


# --- judging ---


def test_what_has_no_interval_is_not_judged() -> None:
    """Neither as good, nor as bad: too few pictures say nothing, whatever the value."""
    record = with_change(INT8, "AP hard", Unbounded(0.0))
    with pytest.raises(InputError, match="too few pictures of widerface:val have faces that count") as error:
        check(Gate(max_drop={"AP hard": 100.0}), record)
    assert "measure more pictures" in str(error.value)
    assert not check(Gate(max_drop={"AP easy": 100.0}), record)


def test_what_keeps_its_limits_ships() -> None:
    gate = Gate(
        max_drop={"AP hard": 1.1, "widerface AP easy": 1.0, "aflw2000:AFLW2000 yaw": 0.5},
        max_lost=1.0,
        min_speedup=0.5,
        max_p99=1000.0,
        max_size=10.0,
        max_memory=100.0,
    )
    assert check(gate, RECORD) == ()


@given(finite, st.floats(0, 5), st.floats(0, 5), st.floats(0, 10))
def test_a_drop_ships_only_if_its_whole_interval_may(value: float, below: float, above: float, limit: float) -> None:
    """AP is better when higher, an angle when lower: the worse bound is another one."""
    interval = Interval(value, value - below, value + above)
    gate = Gate(only={"*int8": Limits(max_drop={"AP hard": limit})})
    assert bool(check(gate, with_change(INT8, "AP hard", interval))) == (-interval.low > limit)
    gate = Gate(only={"*int8": Limits(max_drop={"yaw": limit})})
    assert bool(check(gate, with_change(INT8, "yaw", interval))) == (interval.high > limit)


def test_the_reason_says_what_was_measured() -> None:
    record = with_change(INT8, "AP hard", Interval(-0.35, -0.625, -0.125))
    # Its value would pass: a gate that looked at that alone would ship what may be too bad.
    assert check(Gate(only={INT8: Limits(max_drop={"AP hard": 0.5})}), record) == (
        "mos-tiny-openvino-int8: AP hard on widerface:val may be 0.625 points worse than the first artifact's (95 % "
        "interval of the change: -0.625 to -0.125); at most 0.5 ships",
    )
    record = with_measurement(INT8, ratio=Interval(1.75, 1.625, 1.875))
    assert check(Gate(only={INT8: Limits(min_speedup=1.7)}), record) == (
        "mos-tiny-openvino-int8: may be only 1.625 times as fast as mos-tiny-openvino-fp32 (95 % interval: 1.625 to "
        "1.875); at least 1.7 ships",
    )
    assert check(Gate(max_size=4.5), RECORD) == ("mos-tiny-openvino-fp32: 4.6 MB in files; at most 4.5 ships",)


def test_a_reason_never_says_that_a_number_is_above_itself() -> None:
    (reason,) = check(Gate(max_size=4.6), with_measurement("mos-tiny-openvino-fp32", size=4_600_001))
    assert "4.600001 MB in files; at most 4.6 ships" in reason


@pytest.mark.parametrize(
    ("limits", "broken"),
    [
        ({"min_speedup": 1.5}, [FP16]),
        ({"max_lost": 0.2}, [INT8]),
        ({"max_p99": 0.0}, ["mos-tiny-openvino-fp32", INT8, FP16]),
        ({"max_size": 2.0}, ["mos-tiny-openvino-fp32", FP16]),
        ({"max_memory": 20.0}, ["mos-tiny-openvino-fp32", FP16]),
        ({"max_drop": {"AP hard": 0.2}}, [INT8]),
    ],
)
def test_each_limit_is_judged_of_each_artifact(limits: dict[str, Any], broken: list[str]) -> None:
    """The first artifact is not compared with itself, and judged like any other where nothing is compared."""
    assert [reason.split(":")[0] for reason in check(Gate(**limits), RECORD)] == broken


def test_values_are_held_against_their_own_limits() -> None:
    p99 = measurement(INT8).spread["whole"].p99
    assert check(Gate(only={INT8: Limits(max_p99=p99)}), RECORD) == ()
    assert len(check(Gate(only={INT8: Limits(max_p99=p99 * 0.999)}), RECORD)) == 1


def test_limits_of_some_replace_those_of_all() -> None:
    all_broken = check(Gate(max_size=1.0), RECORD)
    assert len(all_broken) == 3
    looser = Gate(max_size=1.0, only={"openvino-*": Limits(max_size=9.0)})
    assert [r.split(":")[0] for r in check(looser, RECORD)] == [FP16]
    other = Gate(max_size=1.0, only={"openvino-*": Limits(max_p99=999.0)})
    assert check(other, RECORD) == all_broken
    later = Gate(only={"*": Limits(max_size=9.0), "*int8": Limits(max_size=1.0)})
    assert [r.split(":")[0] for r in check(later, RECORD)] == [INT8]
    by_model = Gate(only={"mos-tiny": Limits(max_size=1.0)})
    assert check(by_model, RECORD) == all_broken


def test_a_measure_of_one_data_set_goes_before_one_of_all() -> None:
    assert len(check(Gate(max_drop={"AP hard": 0.1}), RECORD)) == 2
    assert check(Gate(max_drop={"widerface AP hard": 9.0, "AP hard": 0.1}), RECORD) == ()
    # A scope goes before both.
    assert (
        len(check(Gate(max_drop={"widerface AP hard": 9.0}, only={INT8: Limits(max_drop={"AP hard": 0.1})}), RECORD))
        == 1
    )


def test_one_gate_judges_all_records_of_a_matrix() -> None:
    other = make_record(model="mtcnn", milliseconds=40.0)
    other = replace(other, scores=tuple(s for s in other.scores if s.measure != "yaw"))
    assert check(Gate(max_drop={"yaw": 1.0}), RECORD, other) == ()
    assert check(Gate(only={"mtcnn": Limits(max_size=9.0)}), RECORD, other) == ()
    assert {r.split(":")[0] for r in check(Gate(max_size=4.0), RECORD, other)} == {
        "mos-tiny-openvino-fp32",
        "mtcnn-openvino-fp32",
    }


# --- refusing to judge ---


@pytest.mark.parametrize(
    ("gate", "record", "said"),
    [
        (
            Gate(max_drop={"AP hrad": 1}),
            RECORD,
            r'max_drop\."AP hrad".*not measured; measured are AP easy, AP medium, AP',
        ),
        (Gate(max_drop={"coco AP hard": 1}), RECORD, "which was not measured"),
        (Gate(max_drop={"AP hard": 1}), replace(RECORD, scores=()), "no accuracy was measured: give --dataset"),
        (Gate(max_drop={"AP hard": 1}), with_change(INT8, "AP hard", None), "same pictures of widerface:val"),
        (
            Gate(only={"trt-*": Limits(max_size=1)}),
            RECORD,
            r"no artifact is called that; there are mos-tiny-openvino-fp32",
        ),
        (Gate(min_speedup=1), make_record(("openvino-fp32",)), "nothing to compare with the first artifact"),
        (Gate(only={"*fp32": Limits(max_lost=1)}), RECORD, "nothing to compare with the first artifact"),
        (
            Gate(max_lost=1),
            with_measurement(INT8, lost=None),
            "does not hold it for mos-tiny-openvino-int8: give pictures",
        ),
        (Gate(max_memory=1), with_measurement(INT8, cold=None), "measure cold starts"),
        (Gate(max_p99=1), with_measurement(INT8, spread={}), "does not hold it"),
    ],
)
def test_what_was_not_measured_is_refused(gate: Gate, record: Record, said: str) -> None:
    """A limit that nothing is held against would ship everything."""
    with pytest.raises(InputError, match=said) as error:
        check(gate, record)
    assert "\n" not in str(error.value)


def test_an_artifact_without_a_measure_that_the_first_has_is_refused() -> None:
    scores = tuple(s for s in RECORD.scores if (s.artifact, s.measure) != (INT8, "AP hard"))
    with pytest.raises(InputError, match="mos-tiny-openvino-int8 and the first artifact do not both have it"):
        check(Gate(max_drop={"AP hard": 9.0}), replace(RECORD, scores=scores))
