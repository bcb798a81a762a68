"""What a report says to ship: the fastest of what is as accurate as the first, and nothing where nothing is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedeploy.benchmarks.record import Found, Measurement, Record, Score
from facedeploy.benchmarks.report.display_names import display_names
from facedeploy.benchmarks.report.label_places import Box
from facedeploy.benchmarks.report.markdown import markdown
from facedeploy.benchmarks.report.page import page
from facedeploy.benchmarks.report.recommendation import recommend
from facedeploy.benchmarks.report.standing import from_faces, from_labels
from facedeploy.benchmarks.report.summary import leads, verdicts
from facedeploy.benchmarks.report.tradeoff import Point, accuracy_axis
from facedeploy.metrics.interval import Interval, Unbounded
from tests.support.records import make_record

FP32, INT8, FP16 = "mos-tiny-openvino-fp32", "mos-tiny-openvino-int8", "mos-tiny-ncnn-fp16"


def some(count: int, start: int = 0) -> tuple[Found, ...]:
    return tuple(Found((40.0 * i, 0.0, 40.0 * i + 30, 30.0), 0.9) for i in range(start, start + count))


def record(
    found: Sequence[tuple[Found, ...]],
    *,
    speeds: Sequence[float] = (1.0, 2.0, 0.5),
    sizes: Sequence[tuple[int, int]] = ((240, 320),) * 3,
    rounds: int = 24,
) -> Record:
    """One picture, no labels. The times of each artifact are the first one's over its speed, with 1 % of noise."""
    made = make_record(rounds=rounds, boxes={"a.jpg": [(0.0, 0.0, 30.0, 30.0)]})
    times = [(10.0 + 0.1 * (i % 3),) for i in range(rounds)]
    measurements: list[Measurement] = []
    for m, faces, speed, size in zip(made.measurements, found, speeds, sizes, strict=False):
        ratio = Interval(speed, 0.99 * speed, 1.01 * speed) if measurements else Interval(1, 1, 1)
        samples = {"whole": tuple((t / speed,) for (t,) in times)}
        changes = {"found": (faces,), "ratio": ratio, "samples": samples, "input_sizes": {"detector": size}}
        measurements.append(replace(m, **changes, lost=0.0))  # type: ignore[arg-type]
    return replace(made, measurements=tuple(measurements), scores=())


def shipped(of: Record) -> str | None:
    return recommend(of, display_names(of)).name


def said(of: Record) -> tuple[str, ...]:
    return verdicts(of, display_names(of))


# --- from faces ---


@pytest.mark.parametrize(
    ("faces", "lost", "gained", "alike", "kind"),
    [
        (34, 0, 0, True, "same"),
        (34, 0, 1, True, "same"),
        (1000, 5, 0, True, "same"),  # Half a percent may be lost.
        (1000, 60, 55, True, "unknown"),
        (1000, 20, 0, True, "worse"),
        (34, 1, 0, True, "unknown"),  # One face may have been near the threshold.
        (34, 5, 0, True, "unknown"),
        (34, 6, 0, True, "worse"),
        (5, 5, 5, True, "worse"),  # None of its faces, and others in their place.
        (1000, 500, 500, False, "worse"),
        (34, 0, 55, True, "unknown"),  # A copy that fires everywhere is no better one.
        (34, 1, 55, False, "better"),
        (34, 0, 7, False, "better"),
        (34, 20, 90, False, "unknown"),
        (34, 20, 90, True, "worse"),
        (88, 55, 1, False, "worse"),
        (0, 0, 9, False, "unknown"),
    ],
)
def test_faces_lost_and_gained(faces: int, lost: int, gained: int, alike: bool, kind: str) -> None:
    standing = from_faces(faces, lost, gained, alike=alike, max_drop=0.5, first="a")
    assert standing.kind == kind
    assert standing.reason
    assert not standing.labelled


@given(st.integers(1, 500), st.data(), st.booleans(), st.floats(0, 2))
def test_who_loses_more_than_is_allowed_is_never_called_the_same(
    faces: int, data: st.DataObject, alike: bool, max_drop: float
) -> None:
    lost, gained = data.draw(st.integers(0, faces)), data.draw(st.integers(0, 500))
    kind = from_faces(faces, lost, gained, alike=alike, max_drop=max_drop, first="a").kind
    if 100 * lost > max_drop * faces:
        assert kind != "same"
    if not lost:
        assert kind != "worse"
    if gained <= lost or alike:
        assert kind != "better"


# --- from labels ---


def score(
    change: Interval | Unbounded | None, *, higher: bool = True, value: float = 60.0, measure: str = "AP"
) -> Score:
    unit = "points" if higher else "degrees"
    return Score("b", "wider", measure, unit, higher, Interval(value, value - 1, value + 1), change, 300, 3000)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ([score(Interval(-0.1, -0.3, 0.1))], "same"),
        ([score(Interval(-0.4, -0.45, -0.35))], "same"),  # Certain, and allowed.
        ([score(Interval(-0.6, -0.7, -0.5))], "worse"),
        ([score(Interval(-0.6, -1.5, 0.3))], "unknown"),
        ([score(Interval(2.0, 1.5, 2.5))], "better"),
        ([score(Interval(2.0, -0.5, 4.5))], "same"),
        ([score(Interval(2.0, 1.5, 2.5)), score(Interval(-3, -4, -2), measure="hard")], "worse"),
        ([score(Interval(0.01, 0.005, 0.015), higher=False, value=3.6)], "same"),
        ([score(Interval(0.5, 0.4, 0.6), higher=False, value=3.6)], "worse"),
        ([score(Interval(-0.5, -0.6, -0.4), higher=False, value=3.6)], "better"),
        ([score(Interval(0.0, 0.0, 0.0)), score(Unbounded(-9.0)), score(None)], "same"),
    ],
)
def test_labels_decide(changes: list[Score], kind: str) -> None:
    standing = from_labels(changes, 0.5)
    assert (standing.kind, standing.labelled) == (kind, True)


def test_nothing_may_be_lost_and_noise_is_still_noise() -> None:
    assert from_labels([score(Interval(-0.05, -0.1, 0.02))], 0.0).kind == "same"
    assert from_labels([score(Interval(-0.05, -0.1, -0.02))], 0.0).kind == "worse"


def test_labels_outweigh_faces() -> None:
    """What finds the same faces is out where labels say that it is worse."""
    unlabelled = record([some(40)] * 3)
    assert shipped(unlabelled) == INT8
    lost = replace(score(Interval(-3, -4, -2)), artifact=INT8)
    assert shipped(replace(unlabelled, scores=(lost,))) == FP32


# --- the choice ---


def test_the_fastest_of_the_same_faces_is_shipped() -> None:
    of = record([some(40), some(40), some(40)])
    assert shipped(of) == INT8
    first, *_ = said(of)
    assert first.startswith("Ship openvino-int8, the fastest of those that keep the faces of openvino-fp32: 2.00 times")
    assert first.endswith("it finds all 40 faces.")


def test_a_larger_input_that_finds_more_is_no_loss_and_is_told() -> None:
    of = record([some(40), some(40), some(95)], speeds=(1, 2, 0.1), sizes=((240, 320), (240, 320), (480, 640)))
    assert shipped(of) == INT8
    text = " ".join(said(of))
    assert "ncnn-fp16 finds 55 more faces than openvino-fp32 (55 new, 0 lost)" in text
    assert "takes 20 times as long as openvino-int8" in text
    assert "not as accurate" not in text
    table = markdown([of], "Title")
    assert "other input size" in table
    assert "Slower than" not in text


def test_a_smaller_input_that_loses_them_is_not_shipped() -> None:
    of = record([some(95), some(95), some(40)], speeds=(1, 1.5, 9), sizes=((480, 640), (480, 640), (240, 320)))
    assert shipped(of) == INT8
    assert "not as accurate: ncnn-fp16 loses 55 of 95 faces and finds no new one." in " ".join(said(of))


def test_a_larger_input_that_is_faster_and_finds_more_is_shipped() -> None:
    of = record([some(40), some(40), some(95)], speeds=(1, 2, 4), sizes=((240, 320), (240, 320), (480, 640)))
    assert shipped(of) == FP16


def test_what_may_have_lost_a_face_is_told_and_not_shipped() -> None:
    of = record([some(40), some(39), some(40)])
    assert shipped(of) == FP32
    first, *rest = said(of)
    assert first == "Ship openvino-fp32: of those known to be as accurate, none is measurably faster."
    assert "openvino-int8 is faster, but loses 1 of 40 faces and finds no new one, which may be noise or not." in rest


def test_of_equally_fast_ones_the_first_or_the_smallest_is_shipped() -> None:
    level = record([some(40)] * 3, speeds=(1, 1.001, 0.5))
    measured = replace(level.measurements[1], ratio=Interval(1.001, 0.99, 1.01))
    of = replace(level, measurements=(level.measurements[0], measured, level.measurements[2]))
    assert shipped(of) == FP32
    assert "(openvino-int8: as fast, within noise)" in said(of)[0]
    of = record([some(40)] * 3, speeds=(1, 2, 2))
    sizes = {m.name: m.size for m in of.measurements}
    assert shipped(of) == min((INT8, FP16), key=lambda name: sizes[name])


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (record([some(40)] * 3, rounds=3), "3 rounds prove nothing about times, at least 6 are needed"),
        (record([some(0), some(0), some(3)]), "openvino-fp32 finds no face in these pictures"),
    ],
    ids=["rounds", "faces"],
)
def test_nothing_is_said_where_nothing_is_known(of: Record, why: str) -> None:
    assert shipped(of) is None
    assert said(of)[0].startswith("Nothing says which artifact to ship: ")
    assert why in said(of)[0]
    assert "to ship</small>" not in page([of], "Title", {})


def test_another_model_is_compared_by_labels_only() -> None:
    of = record([some(40), some(40), some(40)])
    other = replace(of.measurements[1], model="mtcnn")
    apart = replace(of, measurements=(of.measurements[0], other, of.measurements[2]))
    assert shipped(apart) == FP32
    assert "only labelled pictures compare them" in " ".join(said(apart))
    paired = replace(score(Interval(0.0, -0.1, 0.1)), artifact=INT8)
    assert shipped(replace(apart, scores=(paired,))) == INT8


@settings(max_examples=20, deadline=None)  # Each draws rounds anew.
@given(
    st.tuples(*[st.tuples(st.sampled_from([0.5, 0.9, 1.0, 1.1, 3.0]), st.integers(0, 60), st.booleans())] * 2),
    st.integers(0, 60),
)
def test_what_is_shipped_is_as_accurate_and_none_that_is_so_is_faster(
    kinds: tuple[tuple[float, int, bool], ...], faces: int
) -> None:
    speeds, counts, larger = zip(*kinds, strict=True)
    sizes = [(240, 320), *((480, 640) if big else (240, 320) for big in larger)]
    of = record([some(faces), *map(some, counts)], speeds=(1.0, *speeds), sizes=sizes)
    choice = recommend(of, display_names(of))
    if choice.name is None:
        assert not faces
        return
    able = [m for m in of.measurements if choice.standings[m.name].kind in ("first", "same", "better")]
    chosen = next(m for m in able if m.name == choice.name)
    assert all(m.ratio.value <= chosen.ratio.value * 1.001 for m in able)


# --- on the page ---


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_the_first_sentence_says_what_to_ship() -> None:
    of = record([some(40), some(40), some(40)])
    html = page([of], "Title", {}, notes=["beware"])
    header = words(html[html.index("</h1>") : html.index("</header>")])
    assert 0 < header.index("Ship openvino-int8, the fastest") < header.index("beware")
    assert html.count("Ship openvino-int8") == 1
    lines = markdown([of], "Title", ["beware"]).split("\n\n")
    assert lines[1].startswith("Ship openvino-int8, the fastest")


def test_each_of_several_records_has_its_sentence_until_they_are_too_many() -> None:
    records = [record([some(40)] * 3), record([some(9), some(0), some(9)])]
    first, second = leads(records, ("a", "b"))
    assert first.startswith("a: Ship openvino-int8")
    assert second.startswith("b: Ship openvino-fp32")
    assert leads(records * 5, ["x"] * 10) == (
        "Which artifact to ship of each of the 10 models and sizes stands in the first table.",
    )


def test_one_artifact_is_compared_with_nothing() -> None:
    assert said(make_record(("onnx-fp32",))) == (
        "Only onnx-fp32 was measured, so there is nothing to compare it with.",
    )


# --- its plot ---


PLOT = Box(50, 30, 600, 350)


def points(*values: float) -> list[Point]:
    return [Point(str(v), Interval(1, 1, 1), Interval(v, v, v), "", "") for v in values]


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (61.3,), (61.3, 61.31), (0.0, 7.3), (100.0, 100.0), (-2.0, 3.0)])
def test_an_axis_does_not_make_something_of_nothing(values: tuple[float, ...], higher: bool) -> None:
    axis = accuracy_axis(points(*values), higher, PLOT)
    assert axis.high - axis.low >= 1 - 1e-9
    ticks = axis.ticks(6)
    assert len(ticks) >= 2
    assert min(values) < 0 or min(ticks) >= 0
    assert all(PLOT.y1 <= axis(v) <= PLOT.y2 for v in values)
    assert (axis(axis.low) > axis(axis.high)) == higher


def test_an_axis_shows_a_difference_that_is_one() -> None:
    """The control: the floor does not flatten what matters."""
    axis = accuracy_axis(points(60.0, 67.0), True, PLOT)
    assert abs(axis(60.0) - axis(67.0)) > 200


def chart_titles(of: Record) -> list[str]:
    return re.findall(r'<figure class="chart">\s*<h4>(.*?)</h4>', page([of], "Title", {}))


def test_faces_of_several_input_sizes_are_counted_and_not_called_lost() -> None:
    mixed = record([some(40), some(40), some(95)], sizes=((240, 320), (240, 320), (480, 640)))
    assert chart_titles(mixed) == ["Faces found"]
    assert chart_titles(record([some(40)] * 3)) == ["AP lost"]


def test_an_artifact_marked_in_the_table_is_the_one_to_ship() -> None:
    of = record([some(40)] * 3)
    row = re.findall(r'<tr class="marked">.*?</tr>', page([of], "Title", {}), re.DOTALL)
    assert len(row) == 1
    assert "openvino-int8" in words(row[0])
    assert "to ship" in words(row[0])
